"""Models: what is trained, and what a trained one is measured through."""

from benchmark.models.encoder import Encoder, Tower
from benchmark.models.objective import Objective

__all__ = ["Encoder", "Objective", "Tower"]
