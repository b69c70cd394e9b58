"""Checkpoints: whole or passed over, and never at the cost of the one before."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import states
from benchmark.files import TEMPORARY_PREFIX
from benchmark.models import weights_file
from benchmark.training import checkpoint


@pytest.fixture
def small_files() -> Iterator[None]:
    """The system refuses files above 64 KiB, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_state_comes_back_with_its_types(tmp_path: Path) -> None:
    state = {
        "weights": torch.arange(3.0),
        "mask": np.array([1, 0, 255], dtype=np.uint8),
        "numbers": [1, 2.5, None, "text", True],
        "nested": {"ids": np.arange(4)},
    }
    checkpoint.save(tmp_path, state, 7)
    found = checkpoint.load_newest(tmp_path)
    assert found is not None
    assert torch.equal(found["weights"], torch.arange(3.0))
    arrays = states.to_arrays(found)
    assert arrays["mask"].dtype == np.uint8
    assert arrays["nested"]["ids"].tolist() == [0, 1, 2, 3]
    assert arrays["numbers"] == [1, 2.5, None, "text", True]


@pytest.mark.usefixtures("small_files")
def test_a_write_that_fails_names_what_is_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"x": torch.zeros(3)}, 1)
    with pytest.raises(
        checkpoint.CheckpointError, match=r"step-000000002.pt: .*File too large.*step-000000001.pt"
    ):
        checkpoint.save(tmp_path, {"x": torch.zeros(1_000_000)}, 2)
    assert [p.name for p in checkpoint.whole_checkpoints(tmp_path)] == ["step-000000001.pt"]
    assert not list(tmp_path.glob(f"{TEMPORARY_PREFIX}*"))


def test_without_a_whole_checkpoint_there_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert checkpoint.load_newest(tmp_path) is None
    checkpoint.save(tmp_path, {"x": 1}, 1)
    (tmp_path / "step-000000001.pt").write_bytes(b"garbage")
    assert checkpoint.load_newest(tmp_path) is None
    assert "does not match its digest" in caplog.text


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("ran",)

    path = tmp_path / "step-000000001.pt"
    torch.save({"x": Evil()}, path)
    path.with_suffix(".sha256").write_text(checkpoint._digest(path))
    assert checkpoint.load_newest(tmp_path) is None
    assert "falling back" in caplog.text


def test_final_weights_load_into_a_module(tmp_path: Path) -> None:
    one, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    weights_file.save_weights(tmp_path / "final.safetensors", one)
    weights_file.load_weights(tmp_path / "final.safetensors", other)
    assert torch.equal(one.weight, other.weight)
