"""Everything random derives from (seed, purpose, epoch, ...): no state to save, none to restore."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


def seed_of(seed: int, purpose: str, *position: int) -> int:
    """A 63-bit seed that depends on all its arguments, the same on every machine."""
    key = ":".join([str(seed), purpose, *map(str, position)])
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, purpose: str, *position: int) -> np.random.Generator:
    """A fresh generator for one purpose at one position, for example ``generator(seed, "order", epoch)``."""
    return np.random.default_rng(seed_of(seed, purpose, *position))
