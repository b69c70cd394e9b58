"""Classifiers on frozen features: how linear probes are fitted."""
