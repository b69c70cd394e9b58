"""Final weights as a file that loads without running code."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors

from benchmark.files import write_atomic


def save_weights(path: Path, module: torch.nn.Module) -> None:
    """Write the final weights as safetensors, atomically."""
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_atomic(path, lambda file: file.write(to_safetensors(weights)))


def load_weights(path: Path, module: torch.nn.Module) -> None:
    """Load what ``save_weights`` wrote."""
    module.load_state_dict(load_file(path))
