"""The loop: what is recorded, what methods share, and what a fault leaves behind."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import clip_grid, moco_grid

from benchmark.job import process, work
from benchmark.models.clip import objective as clip
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import PoolError
from benchmark.runs.lease import lease
from benchmark.runs.record import read_record
from benchmark.runs.state import state_of
from benchmark.training import checkpoint, trainer

Plan = Callable[..., list[PlannedRun]]


def log_lines(run: PlannedRun, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def test_a_record_tells_what_was_seen(planned: Plan) -> None:
    (run,) = planned(clip_grid(pruner={"random_subset": {"keep_fraction": 0.5}}))
    assert process.run(run.folder) == "done"
    record = read_record(run.folder / "record.json")
    assert record["training"]["samples_full"] == 3 * 64
    assert record["training"]["samples_seen"] == 3 * 32
    assert record["training"]["pruning_rate"] == 0.5
    assert [row["kept"] for row in record["training"]["by_epoch"]] == [32] * 3
    assert record["run"] == run.folder.name
    steps = log_lines(run, "step")
    assert len(steps) == 3 * 4
    epoch_losses = [np.mean([s["loss"] for s in steps if s["epoch"] == e]) for e in range(3)]
    assert np.allclose(epoch_losses, [row["loss"] for row in record["training"]["by_epoch"]])
    assert (run.folder / "checkpoint" / "final.safetensors").exists()


def test_a_run_that_is_done_is_not_run_again(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = planned(clip_grid())
    process.run(run.folder)
    before = (run.folder / "record.json").read_bytes()
    monkeypatch.setattr(work, "_train", lambda *_: pytest.fail("trained again"))
    assert process.run(run.folder) == "done"
    assert (run.folder / "record.json").read_bytes() == before


@pytest.mark.slow
def test_asking_for_another_evaluation_evaluates_and_does_not_train(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(clip_grid())
    process.run(run.folder)
    assert read_record(run.folder / "record.json")["metrics"] == []
    (wider,) = planned(clip_grid(evaluate=[{"retrieval": {"dataset": "shapes"}}]))
    assert wider.folder == run.folder
    assert wider.state.name == "partial"
    monkeypatch.setattr(trainer.Trainer, "_step", lambda *_: pytest.fail("trained again"))
    process.run(run.folder)
    assert {m["task"] for m in read_record(run.folder / "record.json")["metrics"]} == {"retrieval"}


def test_methods_start_from_one_initialisation_and_see_common_samples_in_one_order(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[int]] = {}
    starts: dict[str, torch.Tensor] = {}
    original = trainer.Trainer._step

    def spy(self: trainer.Trainer, model: Any, batch: Any, plan: Any, steps: int) -> None:
        name = self.folder.name
        if name not in starts:
            starts[name] = torch.cat([p.detach().flatten().clone() for p in self.objective.parameters()])
        seen.setdefault(name, []).extend(batch.ids.tolist())
        original(self, model, batch, plan, steps)

    monkeypatch.setattr(trainer.Trainer, "_step", spy)
    runs = planned(clip_grid(pruner=["full", {"random_subset": {"keep_fraction": 0.75}}], train={"epochs": 1}))
    for run in runs:
        process.run(run.folder)
    full, subset = (seen[run.folder.name] for run in runs)
    assert [i for i in full if i in set(subset)] == subset
    assert torch.equal(*starts.values())


@pytest.mark.slow
def test_workers_do_not_change_a_run(planned: Plan) -> None:
    (alone,) = planned(clip_grid(), results="alone")
    (helped,) = planned(clip_grid(train={"num_workers": 2}), results="helped")
    assert alone.folder.name == helped.folder.name
    for run in (alone, helped):
        process.run(run.folder)
    assert [s["loss"] for s in log_lines(alone, "step")] == [s["loss"] for s in log_lines(helped, "step")]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_trains(planned: Plan, precision: str) -> None:
    (run,) = planned(clip_grid(train={"precision": precision}))
    process.run(run.folder)
    losses = [row["loss"] for row in read_record(run.folder / "record.json")["training"]["by_epoch"]]
    assert all(np.isfinite(losses))


def test_moco_trains_and_its_losses_fall(planned: Plan) -> None:
    (run,) = planned(moco_grid(train={"epochs": 4, "lr": 3e-3}))
    process.run(run.folder)
    losses = [row["loss"] for row in read_record(run.folder / "record.json")["training"]["by_epoch"]]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_samples(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(clip_grid(train={"checkpoint_minutes": 0.0}))
    original, calls = clip.Clip.forward, iter(range(1000))

    def poisoned(self: clip.Clip, *args: Any, **kwargs: Any) -> torch.Tensor:
        losses = original(self, *args, **kwargs)
        return (
            torch.where(torch.arange(len(losses))[:, None] == 2, torch.nan, losses) if next(calls) == 5 else losses
        )

    monkeypatch.setattr(clip.Clip, "forward", poisoned)
    with pytest.raises(trainer.NonFiniteLossError, match=r"epoch 0, step 5, for 1 of 8 samples: \d+ \(shapes-"):
        process.run(run.folder)
    state = checkpoint.load_newest(run.folder / "checkpoint")
    assert state is not None
    assert state["progress"]["total_steps"] == 5
    assert all(torch.isfinite(value).all() for value in state["objective"].values())
    found = state_of(run.folder, run.config)
    assert found.name == "failed"
    assert "loss is not finite" in found.detail
    monkeypatch.setattr(clip.Clip, "forward", original)
    assert process.run(run.folder) == "done"  # what --retry does


@pytest.mark.slow
def test_a_full_disk_stops_with_the_last_checkpoint_whole(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = planned(clip_grid(train={"checkpoint_minutes": 0.0}))
    original, calls = checkpoint.write_atomic, iter(range(1000))

    def full(path: Path, write: Any) -> None:
        if next(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(path, write)

    monkeypatch.setattr(checkpoint, "write_atomic", full)
    with pytest.raises(
        checkpoint.CheckpointError, match=r"No space left on device; whole checkpoints: step-000000003.pt"
    ):
        process.run(run.folder)
    monkeypatch.setattr(checkpoint, "write_atomic", original)
    assert process.run(run.folder) == "done"


@pytest.mark.slow
def test_only_two_checkpoints_are_kept(planned: Plan) -> None:
    (run,) = planned(clip_grid(train={"checkpoint_minutes": 0.0}))
    process.run(run.folder)
    assert len(list((run.folder / "checkpoint").glob("step-*.pt"))) == checkpoint.KEPT


def test_a_run_held_by_another_process_is_left_alone(planned: Plan) -> None:
    (run,) = planned(clip_grid())
    with lease(run.folder / "job/run.lock"):
        assert state_of(run.folder, run.config).name == "running"
        assert process.run(run.folder) == "held"
    assert not (run.folder / "record.json").exists()
    assert not (run.folder / "error.json").exists()


def test_a_failed_run_leaves_its_traceback(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = planned(clip_grid())
    monkeypatch.setattr(clip.Clip, "forward", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        process.run(run.folder)
    error = json.loads((run.folder / "error.json").read_text())
    assert error["type"] == "ZeroDivisionError"
    assert "lambda" in error["traceback"]


def test_a_pool_whose_data_is_absent_says_how_to_get_it(planned: Plan) -> None:
    (run,) = planned(clip_grid(pool={"webdataset": {"name": "nowhere_to_be_found"}}))
    with pytest.raises(PoolError, match=r"nowhere_to_be_found.*docs/data\.md"):
        process.run(run.folder)
    assert state_of(run.folder, run.config).name == "failed"


def test_training_leaves_the_global_generator_alone(planned: Plan) -> None:
    (run,) = planned(clip_grid(train={"epochs": 1}))
    before = torch.get_rng_state()
    process.run(run.folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_that_are_not_finite_are_never_saved(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    (run,) = planned(clip_grid(train={"checkpoint_minutes": 0.0}))
    calls = iter(range(10**6))

    def spoil(self: clip.Clip) -> None:
        if next(calls) == 10:  # after the step's own loss was found finite
            with torch.no_grad():
                self.model.visual.proj[0, 0] = float("nan")

    monkeypatch.setattr(clip.Clip, "after_step", spoil)
    with pytest.raises(trainer.NonFiniteLossError, match=r"weights are not finite .*model\.visual\.proj \(1 of"):
        process.run(run.folder)
    assert state_of(run.folder, run.config).name == "failed"
    assert checkpoint.whole_checkpoints(run.folder / "checkpoint")[0].stem == "step-000000010"
    monkeypatch.undo()
    assert process.run(run.folder) == "done"
