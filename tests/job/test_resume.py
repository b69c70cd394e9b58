"""A run killed at any moment goes on to bit-equal losses and the same metrics."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY_CLIP, clip_grid, moco_grid

from baselines.scan import Scan
from benchmark import files
from benchmark.job import process, work
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import PoolError
from benchmark.pool.sources.shapes import Shapes
from benchmark.pruner import PlanError
from benchmark.runs.record import read_record
from benchmark.runs.state import state_of
from benchmark.training import super_batch, trainer

pytestmark = pytest.mark.slow

EACH_STEP = {"checkpoint_minutes": 0.0}
SCAN_GRID = clip_grid(
    pruner={"scan": {"warmup_threshold": 1.0}},  # prepare in epoch 2, mutate from epoch 3
    train={"epochs": 5, **EACH_STEP},
    evaluate=[{"retrieval": {"dataset": "shapes"}}],
)
DISSECT_GRIDS = {
    "dissect": clip_grid(pruner={"dissect": {"warmup_epochs": 1}}, train={"epochs": 3, **EACH_STEP}),
    "dissect_momentum": clip_grid(pruner={"dissect": {"variant": "momentum"}}, train={"epochs": 3, **EACH_STEP}),
}
"""4 steps an epoch, each of 8 samples out of 16."""
VISION = {**TINY_CLIP["tiny"]["vision_cfg"], "patch_dropout": 0.5}
DRAWING_GRID = clip_grid(
    model={"tiny": {**TINY_CLIP["tiny"], "vision_cfg": VISION}}, train={"epochs": 1, "accumulate": 2, **EACH_STEP}
)
MOCO_GRID = moco_grid(pruner={"random_subset": {"keep_fraction": 0.8}}, train={"epochs": 2, **EACH_STEP})


def run_and_die(folder: Path, arm: Callable[[], None]) -> None:
    """Work on a run in a forked process, which ``arm`` has prepared to kill itself."""
    child = os.fork()
    if child == 0:
        try:
            arm()
            process.run(folder)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the run was to be killed, but it came to an end"


def die_at_call(owner: Any, name: str, call: int) -> Callable[[], None]:
    """Replace a function by one that kills the process with SIGKILL at its n-th call, before it acts.

    A trainer's checkpoint is whole by then; other tests kill while it is written.
    """

    def arm() -> None:
        original, calls = getattr(owner, name), iter(range(10**6))

        def deadly(*args: Any, **kwargs: Any) -> Any:
            if next(calls) == call:
                if args and isinstance(args[0], trainer.Trainer):
                    args[0].checkpoints.wait()
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        setattr(owner, name, deadly)

    return arm


def story(run: PlannedRun) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What must not depend on interruptions: the logged losses, and the record without times."""
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in line.items() if "seconds" not in k} for line in lines]
    record = read_record(run.folder / "record.json")
    training = record["training"]
    for row in training["by_epoch"]:
        del row["seconds"]
    counts = ("samples_seen", "samples_scored", "optimizer_steps")
    numbers = {k: training[k] for k in (*counts, "pruning_rate", "final_loss", "by_epoch")}
    return kept, {"training": numbers, "metrics": record["metrics"], "truth": record["pruning_truth"]}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same runs, never killed."""
    from benchmark.config.sweepfile import read_sweep
    from benchmark.plan.plan import make_plan, write_plan

    folder, stories = tmp_path_factory.mktemp("whole"), {}
    grids = {"clip": SCAN_GRID, "drawing": DRAWING_GRID, "moco": MOCO_GRID, **DISSECT_GRIDS}
    for name, grid in grids.items():
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps({"name": name, "grid": [grid]}))
        sweep = read_sweep(path)
        (run,) = make_plan(sweep, folder)
        write_plan([run], sweep, folder, "")
        assert process.run(run.folder) == "done"
        stories[name] = story(run)
    return stories


@pytest.mark.parametrize("step", [0, 1, 17, 30])
def test_killed_at_a_step_of_a_scan_run(
    planned: Callable[..., list[PlannedRun]], uninterrupted: dict[str, Any], step: int
) -> None:
    (run,) = planned(SCAN_GRID)
    run_and_die(run.folder, die_at_call(trainer.Trainer, "_step", step))
    assert state_of(run.folder, run.config).name == ("partial" if step else "absent")
    assert process.run(run.folder) == "done"
    assert story(run) == uninterrupted["clip"]
    assert read_record(run.folder / "record.json")["training"]["attempts"] == (2 if step else 1)


@pytest.mark.parametrize("call", [1, 2, 10, 41])
def test_killed_while_a_file_is_put_in_place(
    planned: Callable[..., list[PlannedRun]], uninterrupted: dict[str, Any], call: int
) -> None:
    (run,) = planned(SCAN_GRID)
    run_and_die(run.folder, die_at_call(files.os, "replace", call))
    assert process.run(run.folder) == "done"
    assert story(run) == uninterrupted["clip"]
    assert list(run.folder.rglob(f"{files.TEMPORARY_PREFIX}*")) == []


def test_a_pool_that_changed_meanwhile_is_refused_by_name(
    planned: Callable[..., list[PlannedRun]], uninterrupted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(SCAN_GRID)
    run_and_die(run.folder, die_at_call(trainer.Trainer, "_step", 17))
    original = Shapes.training_pool
    for changes in ({"num_samples": 63}, {"fingerprint": "other"}):

        def changed(self: Shapes, changes: dict[str, Any] = changes) -> Any:
            pool = original(self)
            for name, value in changes.items():
                setattr(pool, name, value)
            return pool

        monkeypatch.setattr(Shapes, "training_pool", changed)
        with pytest.raises(
            PoolError, match=rf"{run.config.name}: its checkpoint was trained on a pool of 64 samples"
        ):
            process.run(run.folder)
        assert state_of(run.folder, run.config).name == "failed"
    monkeypatch.undo()
    assert process.run(run.folder) == "done"
    assert story(run) == uninterrupted["clip"]


def test_a_method_that_would_go_on_with_another_plan_is_refused(
    planned: Callable[..., list[PlannedRun]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(SCAN_GRID)
    run_and_die(run.folder, die_at_call(trainer.Trainer, "_step", 30))  # in a mutation epoch

    def forgetful(self: Scan, state: dict[str, Any]) -> None:
        pass

    monkeypatch.setattr(Scan, "load_state_dict", forgetful)
    with pytest.raises(PlanError, match="Scan: epoch 3 was begun with another plan than it would go on with"):
        process.run(run.folder)


def test_killed_again_and_again(planned: Callable[..., list[PlannedRun]], uninterrupted: dict[str, Any]) -> None:
    (run,) = planned(SCAN_GRID)
    for _ in range(4):
        run_and_die(run.folder, die_at_call(trainer.Trainer, "_step", 5))
    assert process.run(run.folder) == "done"
    assert story(run) == uninterrupted["clip"]


def test_killed_while_evaluating_trains_no_step_again(
    planned: Callable[..., list[PlannedRun]], uninterrupted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(SCAN_GRID)
    run_and_die(run.folder, die_at_call(work, "_evaluate", 0))
    monkeypatch.setattr(trainer.Trainer, "_step", lambda *_: pytest.fail("trained again"))
    assert process.run(run.folder) == "done"
    assert story(run) == uninterrupted["clip"]


@pytest.mark.parametrize("step", [1, 6])
def test_killed_moco_run_goes_on_with_its_momentum_encoder(
    planned: Callable[..., list[PlannedRun]], uninterrupted: dict[str, Any], step: int
) -> None:
    (run,) = planned(MOCO_GRID)
    run_and_die(run.folder, die_at_call(trainer.Trainer, "_step", step))
    assert process.run(run.folder) == "done"
    assert story(run) == uninterrupted["moco"]


def test_killed_run_in_micro_batches_draws_the_same_dropout_again(
    planned: Callable[..., list[PlannedRun]], uninterrupted: dict[str, Any]
) -> None:
    (run,) = planned(DRAWING_GRID)
    run_and_die(run.folder, die_at_call(trainer.Trainer, "_step", 3))
    assert process.run(run.folder) == "done"
    assert story(run) == uninterrupted["drawing"]


@pytest.mark.parametrize("name", list(DISSECT_GRIDS))
@pytest.mark.parametrize("owner", [(trainer.Trainer, "_step"), (super_batch, "dealt")], ids=["step", "chosen"])
@pytest.mark.parametrize("call", [2, 5, 10])
def test_killed_among_super_batches_chooses_as_if_it_had_not_been(
    planned: Callable[..., list[PlannedRun]],
    uninterrupted: dict[str, Any],
    name: str,
    owner: tuple[Any, str],
    call: int,
) -> None:
    (run,) = planned(DISSECT_GRIDS[name])
    run_and_die(run.folder, die_at_call(*owner, call))
    assert state_of(run.folder, run.config).name == "partial"
    assert process.run(run.folder) == "done"
    assert story(run) == uninterrupted[name]


@pytest.mark.parametrize("damage", ["cut", "flip", "digest"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    planned: Callable[..., list[PlannedRun]],
    uninterrupted: dict[str, Any],
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (run,) = planned(SCAN_GRID)
    run_and_die(run.folder, die_at_call(trainer.Trainer, "_step", 12))
    newest = max((run.folder / "checkpoint").glob("step-*.pt"))
    content = bytearray(newest.read_bytes())
    if damage == "cut":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 2] ^= 0xFF
        newest.write_bytes(content)
    else:
        newest.with_suffix(".sha256").unlink()
    assert process.run(run.folder) == "done"
    assert f"{newest}: its" in caplog.text
    assert "falling back" in caplog.text
    assert story(run) == uninterrupted["clip"]
