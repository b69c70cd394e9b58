"""Records put side by side: blocks of rows and columns, with their statistics and words."""
