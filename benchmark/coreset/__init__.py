"""The samples a run would keep, for any other run to train on."""

from benchmark.coreset.coreset import Coreset, CoresetError, ensemble, least, load_coreset, save_coreset

__all__ = ["Coreset", "CoresetError", "ensemble", "least", "load_coreset", "save_coreset"]
