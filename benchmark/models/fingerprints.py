"""Hashes that tell models apart: of weights, and of an encoder with its preprocessing."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.metadata import version
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

LIBRARIES = ("torch", "torchvision", "open_clip_torch", "timm")
"""Whose version may change a feature's last bits."""

_KNOWN: WeakKeyDictionary[nn.Module, tuple[Any, str]] = WeakKeyDictionary()
"""The last hash of a module with the state of its tensors: hashing 600 MB takes a second."""


def weights_hash(module: nn.Module) -> str:
    """``sha256:…`` over the names, types, shapes and bytes of all parameters and buffers."""
    tensors = sorted(module.state_dict(keep_vars=True).items())
    # a tensor written in place has another version; one put in its place lies elsewhere
    state = tuple((name, t.data_ptr(), -1 if t.is_inference() else t._version) for name, t in tensors)
    known = _KNOWN.get(module)
    if known is not None and known[0] == state:
        return known[1]
    total = hashlib.sha256()
    for name, tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        total.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        total.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    found = f"sha256:{total.hexdigest()}"
    _KNOWN[module] = (state, found)
    return found


def encoder_fingerprint(module: nn.Module, *preprocessing: object) -> str:
    """A hash of weights, kind of device, libraries and ``preprocessing``, which is known by what it prints."""
    told = {
        "weights": weights_hash(module),
        "network": _described(module),
        "device": next(module.parameters()).device.type,
        "preprocessing": [_described(part) for part in preprocessing],
        "libraries": {name: version(name) for name in LIBRARIES},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _described(part: object) -> str:
    """Type and options; addresses in memory are left out. What does not print its options tells its attributes."""
    text = repr(part)
    if re.fullmatch(r"<[\w.]+ object at 0x[0-9a-f]+>", text):
        options = getattr(part, "__dict__", {}).items()
        plain = {k: v for k, v in options if isinstance(v, str | int | float | bool | tuple | None)}
        text = f"{type(part).__qualname__} {sorted(plain.items())}"
    return re.sub(r" at 0x[0-9a-f]+", "", text)
