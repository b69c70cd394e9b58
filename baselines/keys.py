"""Train on what a list from elsewhere names, or on the rest: DataComp's uids, a table of keys, a key a line."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.coreset.keylist import listed
from benchmark.pruner import PoolView, StaticPruner

logger = logging.getLogger(__name__)


@dataclass
class Keys(StaticPruner):
    file: str
    """``.npy`` of DataComp's uids, of ids or of a flag a sample; ``.csv``, ``.tsv`` or ``.parquet`` with a column
    of keys or ids; any other: a key a line."""
    keep: bool = True
    """Whether the list says what stays; false: what goes."""
    column: str = ""
    """Of a table; "" is the first there is of ``uid``, ``key`` and ``id``. Whole numbers in ``id`` are ids of the
    pool, all else are keys."""

    def select(self, pool: PoolView) -> np.ndarray:
        found = listed(Path(self.file), pool, self.column)
        logger.warning(
            "%s: %d of its %d entries name no sample of the pool; %d of %d samples are named, %d of them by a key"
            " that an earlier one has too",
            *(self.file, found.missing, found.entries, found.mask.sum(), pool.num_samples, found.repeated),
        )
        keep = found.mask if self.keep else ~found.mask
        if found.missing == found.entries or not keep.any():
            raise ValueError(
                f"{self.file}: {found.entries - found.missing} of its {found.entries} entries name samples of the"
                f" pool (its first key is '{next(iter(pool.keys), '')}'), which leaves {keep.sum()} to train on"
            )
        return keep
