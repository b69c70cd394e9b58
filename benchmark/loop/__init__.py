"""Any pruning method in a training loop of one's own; for Lightning and Hugging Face's Trainer a file each."""

from benchmark.loop.pruned import Pruned

__all__ = ["Pruned"]
