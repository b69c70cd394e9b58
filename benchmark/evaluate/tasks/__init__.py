"""Evaluation tasks: one file each, found by its name (``benchmark.evaluate.Task`` is the interface)."""
