"""Where samples lie: tar shards and image folders, indexed once and read by place."""
