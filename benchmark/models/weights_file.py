"""Final weights as a file that loads without running code."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors

from benchmark.files import write_atomic
from benchmark.runs.folder import FINAL_FILE


def save_weights(folder: Path, module: torch.nn.Module) -> Path:
    """Write the final weights as safetensors."""
    path = folder / FINAL_FILE
    weights = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    write_atomic(path, lambda file: file.write(to_safetensors(weights)))
    return path


def load_weights(folder: Path, module: torch.nn.Module) -> None:
    """Load what ``save_weights`` wrote."""
    module.load_state_dict(load_file(folder / FINAL_FILE))
