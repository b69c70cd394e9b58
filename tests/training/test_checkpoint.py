"""Checkpoints: whole or passed over, and never at the cost of the one before."""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def test_what_is_written_is_the_state_when_it_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {"weights": torch.zeros(3), "mask": np.zeros(3), "nested": [{"x": torch.ones(2)}]}
    may_write, original = threading.Event(), checkpoint.write_atomic
    monkeypatch.setattr(checkpoint, "write_atomic", lambda *a: (may_write.wait(), original(*a)))
    writer = checkpoint.Writer(tmp_path)
    writer.save(state, 1)
    state["weights"] += 1
    state["mask"] += 1
    state["nested"][0]["x"].zero_()
    state["new"] = 1
    assert checkpoint.load_newest(tmp_path) is None  # the training goes on before anything is written
    may_write.set()
    writer.wait()
    found = states.to_arrays(checkpoint.load_newest(tmp_path))
    assert set(found) == {"weights", "mask", "nested"}
    assert found["weights"].tolist() == found["mask"].tolist() == [0, 0, 0]
    assert found["nested"][0]["x"].tolist() == [1, 1]


def test_one_checkpoint_is_written_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, most, original = [0], [0], checkpoint.write_atomic

    def counted(path: Path, write: Any) -> None:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        original(path, write)
        at_work[0] -= 1

    monkeypatch.setattr(checkpoint, "write_atomic", counted)
    writer = checkpoint.Writer(tmp_path)
    for step in range(5):
        writer.save({"x": torch.full((1000,), step)}, step)
    writer.wait()
    assert most == [1]
    assert [path.stem for path in checkpoint.whole_checkpoints(tmp_path)] == ["step-000000004", "step-000000003"]


@pytest.mark.parametrize("look", ["check", "wait", "save"])
def test_a_write_that_failed_beside_the_training_is_raised_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = checkpoint.Writer(tmp_path)
    writer.save({"x": 1}, 1)
    writer.wait()
    monkeypatch.setattr(checkpoint, "write_atomic", full)
    writer.save({"x": 2}, 2)
    assert writer._writing is not None
    writer._writing.exception()  # waits
    with pytest.raises(checkpoint.CheckpointError, match=r"No space left.*step-000000001\.pt"):
        writer.save({"x": 3}, 3) if look == "save" else getattr(writer, look)()
    monkeypatch.undo()
    writer.check()
    writer.save({"x": 4}, 4)
    writer.close()
    assert checkpoint.load_newest(tmp_path) == {"x": 4}


@pytest.mark.usefixtures("small_files")
def test_a_write_that_failed_is_logged_where_another_error_ends_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = checkpoint.Writer(tmp_path)
    writer.save({"x": torch.zeros(1_000_000)}, 1)
    writer.close()
    assert "step-000000001.pt: cannot be written: File too large" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at", ["state", "digest"])
def test_a_kill_while_the_thread_writes_leaves_the_one_before(tmp_path: Path, at: str) -> None:
    child = os.fork()
    if child == 0:
        try:
            writer = checkpoint.Writer(tmp_path)
            writer.save({"x": 1}, 1)
            writer.wait()
            if at == "state":  # before it is put in place
                checkpoint._Hashed.flush = lambda self: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore
            else:
                checkpoint.write_text = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            writer.save({"x": torch.zeros(10_000)}, 2)
            writer.wait()
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert checkpoint.load_newest(tmp_path) == {"x": 1}
    checkpoint.save(tmp_path, {"x": 3}, 3)
    assert checkpoint.load_newest(tmp_path) == {"x": 3}
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
