"""States of methods between numpy and torch: what a checkpoint holds, and what a method gets back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def to_arrays(state: Any) -> Any:
    """Tensors to numpy arrays, all through nested lists and mappings: what pruners save and get back."""
    if isinstance(state, torch.Tensor):
        return state.numpy()
    if isinstance(state, Mapping):
        return {key: to_arrays(value) for key, value in state.items()}
    return [to_arrays(value) for value in state] if isinstance(state, list | tuple) else state


def to_tensors(state: Any) -> Any:
    """numpy arrays to tensors, so that a checkpoint loads with ``weights_only=True``."""
    if isinstance(state, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(state))
    if isinstance(state, np.generic):
        return state.item()
    if isinstance(state, dict):
        return {key: to_tensors(value) for key, value in state.items()}
    return [to_tensors(value) for value in state] if isinstance(state, list | tuple) else state
