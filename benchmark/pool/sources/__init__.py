"""Sources of data: one file each, found by its name (``benchmark.pool.Source`` is the interface)."""
