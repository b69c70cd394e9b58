"""How a run stands when its files are not what they should be: never done, and never stuck."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable

import pytest
from tiny import clip_grid

from analysis.read.results import load
from benchmark import sweep
from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.runs.attempts import attempts_of
from benchmark.runs.errors import has_new_error, write_error
from benchmark.runs.folder import RunFolder
from benchmark.runs.lease import lease
from benchmark.runs.log import LogError
from benchmark.runs.state import state_of
from benchmark.tracking.epoch_files import EpochFileError

Plan = Callable[..., list[PlannedRun]]


def test_the_record_of_another_run_is_no_result(planned: Plan) -> None:
    one, other = planned(clip_grid(train={"epochs": 1}, seed=[0, 1]))
    process.run(one.folder)
    shutil.copy(one.folder.record, other.folder.record)
    state = state_of(other.folder, other.config)
    assert state.name == "unreadable"
    assert f"it is the record of {one.config.name}, not of this run" in state.detail
    with pytest.raises(ValueError, match="not of this run"):
        process.run(other.folder)
    found = load(one.folder.parents[1])
    assert [run.record["seed"] for run in found.runs] == [0]
    assert [missing.short_state for missing in found.missing] == ["unreadable record"]
    assert [problem.where for problem in found.problems] == [str(other.folder.record)]
    assert state_of(one.folder, one.config).name == "done"


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_an_error_belongs_to_its_attempt_whatever_the_clocks_say(planned: Plan, ahead: int) -> None:
    (run,) = planned(clip_grid())
    folder = RunFolder(run.folder)
    folder.job.mkdir(parents=True, exist_ok=True)
    folder.started.write_text('{"time": "first", "pid": 1}')
    write_error(folder, RuntimeError("no luck"))
    os.utime(folder.error, (time.time() + ahead,) * 2)
    assert has_new_error(folder)
    assert state_of(folder, run.config).name == "failed"
    folder.started.write_text('{"time": "second", "pid": 2}')
    assert not has_new_error(folder)
    assert state_of(folder, run.config).name == "absent"


@pytest.mark.slow
def test_bytes_that_are_no_text_in_attempts_and_digests_are_passed_over(planned: Plan) -> None:
    (run,) = planned(clip_grid(train={"checkpoint_minutes": 0.0}))
    process.run(run.folder)
    run.folder.record.unlink()
    run.folder.final_weights.unlink()
    newest, before = sorted(run.folder.checkpoint.glob("*.sha256"), reverse=True)
    newest.write_bytes(b"\xff\xfe" + newest.read_bytes())
    run.folder.attempts.write_bytes(run.folder.attempts.read_bytes() + b"\xff\xfe\n")
    assert process.run(run.folder) == "done"
    assert [a.steps_start for a in attempts_of(run.folder)] == [0, 24]
    assert before.exists()


def test_a_log_that_lost_lines_is_told_and_not_written_on(planned: Plan) -> None:
    (run,) = planned(clip_grid())
    process.run(run.folder)
    run.folder.record.unlink()
    run.folder.final_weights.unlink()
    whole = run.folder.log.read_bytes()
    run.folder.log.write_bytes(whole[:-100])
    with pytest.raises(LogError, match=r"log\.jsonl: lines are lost: it holds \d+ bytes, and \d+ when"):
        process.run(run.folder)
    assert state_of(run.folder, run.config).name == "failed"
    run.folder.log.write_bytes(whole)
    assert process.run(run.folder) == "done"
    assert run.folder.log.read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize("name", ["epoch", "losses", "candidates"])
@pytest.mark.parametrize("damage", ["gone", "flipped"])
def test_a_file_of_an_epoch_that_is_gone_or_damaged_ends_a_run_in_an_error(
    planned: Plan, name: str, damage: str
) -> None:
    (run,) = planned(clip_grid(pruner={"scan": {"warmup_threshold": 1.0}}, train={"epochs": 4}))
    process.run(run.folder)
    coreset = run.folder.coreset.read_bytes()
    for path in (run.folder.record, run.folder.final_weights, run.folder.coreset):
        path.unlink()
    path = sorted(run.folder.marks.glob(f"{name}-*.npy"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    if damage == "gone":
        path.unlink()
    with pytest.raises(EpochFileError, match=rf"{path.name} is (gone|damaged): what the run found"):
        process.run(run.folder)
    assert state_of(run.folder, run.config).name == "failed"
    assert not run.folder.coreset.exists()
    path.write_bytes(whole)
    assert process.run(run.folder) == "done"
    assert run.folder.coreset.read_bytes() == coreset


def test_runs_that_remain_are_no_success(planned: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = planned(clip_grid(train={"epochs": 1}))
    words = [str(run.folder.parents[1].parent / "tiny.yaml"), "--results", str(run.folder.parents[1])]
    with lease(run.folder.lease):
        assert sweep.main([*words, "--cluster", "inline"]) == sweep.EXIT_LEFT
    assert f"1 runs remain ({run.config.name}: running): the same command goes on" in capsys.readouterr().err
    assert sweep.main([*words, "--cluster", "inline"]) == 0
    assert json.loads(run.folder.record.read_text())["run"] == run.config.name
