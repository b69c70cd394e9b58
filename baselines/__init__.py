"""Pruning methods: one file each, found by its name (``benchmark.pruner.Pruner`` is the interface)."""
