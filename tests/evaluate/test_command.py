"""The evaluate command: records are extended and never lost; a foreign model gets a file of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from patience import patience
from tiny import clip_grid, moco_grid

from benchmark.evaluate import command
from benchmark.evaluate import run as evaluation
from benchmark.evaluate.pending import pending
from benchmark.evaluate.task import Task
from benchmark.job import process, work
from benchmark.plan.plan import PlannedRun
from benchmark.runs.lease import lease
from benchmark.runs.predictions import read_predictions
from benchmark.runs.record import read_evaluation, read_record
from benchmark.runs.state import state_of
from benchmark.training.trainer import Trainer

Plan = Callable[..., list[PlannedRun]]
KNN = {"knn": {"dataset": {"shapes": {"image_size": 16}}}}


@pytest.fixture
def run(planned: Plan) -> PlannedRun:
    """A finished run of CLIP with one evaluation."""
    (made,) = planned(clip_grid(train={"epochs": 1}, evaluate=[KNN]))
    assert process.run(made.folder) == "done"
    return made


def told(folder: Path) -> dict[str, float]:
    rows = read_record(folder / "record.json")["metrics"]
    return {f"{row['task']} {row['dataset']} {row['metric']}": row["value"] for row in rows}


@pytest.mark.slow
def test_a_run_gets_the_rows_of_new_tasks_and_keeps_the_others(run: PlannedRun) -> None:
    before = read_record(run.folder / "record.json")
    assert command.main([str(run.folder), "--tasks", "zero_shot:shapes", "knn:digits"]) == 0
    after = read_record(run.folder / "record.json")
    assert after["metrics"][: len(before["metrics"])] == before["metrics"]
    assert {"knn digits top1", "zero_shot shapes top1", "knn shapes-16px top1"} <= told(run.folder).keys()
    for key in ("training", "pool_facts", "code", "weights", "started", "finished"):
        assert after[key] == before[key]
    (later,) = after["later_evaluations"]
    assert [task["name"] for task in later["tasks"]] == ["zero_shot", "knn"]
    assert len(after["config"]["evaluate"]) == 3
    assert state_of(run.folder, run.config).name == "done"
    kept = {one.key[:3] for one in read_predictions(run.folder / "predictions.npz")}
    assert {("knn", "digits", "top1"), ("zero_shot", "shapes", "top1"), ("knn", "shapes-16px", "top1")} <= kept


@pytest.mark.slow
def test_asked_again_a_task_replaces_its_rows_and_reads_its_features(
    run: PlannedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = told(run.folder)
    monkeypatch.setattr(
        "benchmark.models.clip.encoder.ClipEncoder.embed_images", lambda *_: pytest.fail("features computed twice")
    )
    assert command.main([str(run.folder)]) == 0  # by default the tasks of its sweep
    assert told(run.folder) == values
    assert len(read_record(run.folder / "record.json")["metrics"]) == len(values)


@pytest.mark.slow
def test_features_are_kept_only_where_they_are_wanted(run: PlannedRun, tmp_path: Path) -> None:
    kept = set((run.folder / "features").iterdir())
    assert len(kept) == 2  # train and test split
    assert command.main([str(run.folder), "--tasks", "knn:digits", "--features", "off"]) == 0
    assert set((run.folder / "features").iterdir()) == kept
    command.main([str(run.folder), "--tasks", "knn:digits", "--features", str(tmp_path / "f")])
    assert len(list((tmp_path / "f").iterdir())) == 2


def test_an_evaluation_that_fails_leaves_the_record_as_it_was(
    run: PlannedRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run.folder / "record.json").read_bytes()
    monkeypatch.setattr(evaluation, "write_record", lambda *_: (_ for _ in ()).throw(ValueError("disk full")))
    assert command.main([str(run.folder), "--tasks", "knn:digits"]) == 2
    assert "disk full" in capsys.readouterr().err
    assert (run.folder / "record.json").read_bytes() == before


@pytest.mark.slow
def test_weights_of_another_run_are_refused(
    run: PlannedRun, planned: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    (other,) = planned(clip_grid(train={"epochs": 1}, seed=1))
    process.run(other.folder)
    weights = "checkpoint/final.safetensors"
    (run.folder / weights).write_bytes((other.folder / weights).read_bytes())
    before = (run.folder / "record.json").read_bytes()
    assert command.main([str(run.folder)]) == 2
    assert "one of the two comes from another run" in capsys.readouterr().err
    (run.folder / weights).write_bytes(b"no weights")
    assert command.main([str(run.folder)]) == 2
    assert "final.safetensors: cannot be loaded" in capsys.readouterr().err
    (run.folder / weights).unlink()
    assert command.main([str(run.folder)]) == 2
    assert "no final weights" in capsys.readouterr().err
    assert (run.folder / "record.json").read_bytes() == before


@pytest.mark.slow
def test_a_run_that_is_worked_on_is_left_alone(run: PlannedRun, capsys: pytest.CaptureFixture[str]) -> None:
    with lease(run.folder / "job/run.lock"):
        assert command.main([str(run.folder)]) == 2
    assert "is being worked on by" in capsys.readouterr().err


@pytest.mark.slow
def test_out_leaves_the_record_alone(run: PlannedRun, tmp_path: Path) -> None:
    before = (run.folder / "record.json").read_bytes()
    out = tmp_path / "elsewhere" / "evaluation.json"
    assert command.main([str(run.folder), "--tasks", "knn:digits", "--out", str(out)]) == 0
    assert (run.folder / "record.json").read_bytes() == before
    found = read_evaluation(out)
    assert found["weights"] == read_record(run.folder / "record.json")["weights"]
    assert [row["dataset"] for row in found["metrics"]] == ["digits"]


@pytest.fixture
def small_open_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an open_clip model small enough for a test, with a file of weights."""
    (tmp_path / "models").mkdir()
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "models" / "mini.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "models")
    torch.manual_seed(0)
    model: Any = open_clip.create_model("mini")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    monkeypatch.chdir(tmp_path)
    return f"open_clip:mini:{tmp_path / 'weights.pt'}"


@pytest.mark.slow
def test_a_foreign_model_gets_a_file_of_its_own_that_grows(small_open_clip: str, tmp_path: Path) -> None:
    assert command.main([small_open_clip, "--tasks", "zero_shot:shapes", "retrieval:shapes"]) == 0
    (path,) = tmp_path.glob("results/evaluations/*/evaluation.json")
    first = read_evaluation(path)
    assert (first["model"], first["weights"][:7]) == ("mini", "sha256:")
    assert {row["task"] for row in first["metrics"]} == {"zero_shot", "retrieval"}
    assert command.main([small_open_clip, "--tasks", "knn:{dataset: digits}"]) == 0
    both = read_evaluation(path)
    assert both["metrics"][: len(first["metrics"])] == first["metrics"]
    assert both["metrics"][-1]["task"] == "knn"
    assert (path.parent / "predictions.npz").exists()


def test_a_file_of_another_model_is_not_written_over(
    small_open_clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "evaluation.json"
    assert command.main([small_open_clip, "--tasks", "knn:digits", "--out", str(out)]) == 0
    before = out.read_bytes()
    torch.manual_seed(1)
    other: Any = open_clip.create_model("mini")
    torch.save(other.state_dict(), tmp_path / "weights.pt")
    assert command.main([small_open_clip, "--tasks", "knn:digits", "--out", str(out)]) == 2
    assert "with other weights; choose another file" in capsys.readouterr().err
    assert out.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "CHECKPOINT: missing"),
        (["nowhere", "--tasks", "knn:digits"], "nowhere/config.yaml: no such file"),
        (["x", "--tasks", "knn"], "--tasks knn: expected TASK:DATASET"),
        (["x", "--tasks", "kn:digits"], "--tasks kn:digits: unknown name 'kn'; did you mean 'knn'?"),
        (["x", "--tasks", "knn:digit"], "unknown name 'digit'; did you mean 'digits'?"),
        (["x", "--tasks", "knn:{dataset: digits, kay: 3}"], "knn.kay: unknown option"),
        (["x", "--tasks", "knn:{dataset: {digits: {size: 3}}}"], "size: unknown option"),
        (["x", "--tasks", "knn:{}"], "knn.dataset: missing"),
        (["x", "--tasks", "knn:{dataset: "], "cannot be read as YAML"),
        (["open_clip:ViT-B-32"], "expected open_clip:MODEL:PRETRAINED"),
        (["open_clip:ViT-B-3:openai"], "unknown open_clip model 'ViT-B-3'; did you mean"),
        (["open_clip:ViT-B-32:nowhere.pt"], "is neither a file nor a tag of ViT-B-32"),
        (["open_clip:ViT-B-32:openai"], "say --tasks TASK:DATASET"),
    ],
)
def test_a_mistake_is_one_error_before_any_work(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(words) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("error:") == 1


def test_text_tasks_are_refused_for_a_model_without_text(
    planned: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    (moco,) = planned(moco_grid(train={"epochs": 1}))
    assert command.main([str(moco.folder), "--tasks", "zero_shot:shapes"]) == 2
    assert "zero_shot: needs captions, which moco does not read" in capsys.readouterr().err
    assert command.main([str(moco.folder)]) == 2
    assert "its sweep asks for no evaluation" in capsys.readouterr().err
    assert command.main([str(moco.folder), "--tasks", "knn:digits"]) == 2
    assert "no record.json to put the results into" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_lists_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.evaluate", "--list"],
        capture_output=True,
        text=True,
        timeout=patience(60),
    )
    assert done.returncode == 0, done.stderr
    assert "linear_probe" in done.stdout
    assert "emoji" in done.stdout


MISSING = {"knn": {"dataset": {"emoji": {"root": "nowhere"}}}}


@pytest.mark.slow
def test_a_task_without_data_is_skipped_and_made_up_for_when_the_data_comes(
    planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(clip_grid(train={"epochs": 1}, evaluate=[KNN, MISSING]))
    process.run(run.folder)
    record = read_record(run.folder / "record.json")
    (skipped,) = record["evaluation_skipped"]
    assert "emoji is not in nowhere" in skipped["reason"]
    assert skipped["options"] == {"dataset": {"emoji": {"root": "nowhere"}}}
    state = state_of(run.folder, run.config)
    assert state.words == "done (incomplete: 1 task skipped)"

    before = (run.folder / "record.json").read_bytes()
    monkeypatch.setattr(evaluation, "evaluate", lambda *_: pytest.fail("evaluated while the data is missing"))
    assert process.run(run.folder) == "done"
    assert (run.folder / "record.json").read_bytes() == before
    monkeypatch.undo()

    ran: list[str] = []
    original = Task.source

    def now_there(self: Task) -> Any:
        ran.append(str(self.dataset))
        from benchmark.config.run import Choice
        from benchmark.pool.source import make_source

        return make_source(Choice(name="digits"), "") if "emoji" in str(self.dataset) else original(self)

    monkeypatch.setattr(Task, "source", now_there)
    monkeypatch.setattr(Trainer, "fit", lambda *_: pytest.fail("trained again"))
    assert process.run(run.folder) == "done"
    after = read_record(run.folder / "record.json")
    assert after["evaluation_skipped"] == []
    assert after["metrics"][:-1] == record["metrics"]
    assert after["metrics"][-1]["dataset"] == "digits"
    assert not any("shapes" in name for name in ran), "only the missing task is run"
    assert state_of(run.folder, run.config).words == "done"


@pytest.mark.slow
def test_an_older_record_that_names_its_skipped_tasks_without_options_loses_none(planned: Plan) -> None:
    absent = {"knn": {"dataset": {"clipart": {"root": "nowhere"}}}}
    (run,) = planned(clip_grid(train={"epochs": 1}, evaluate=[MISSING, KNN, absent]))
    process.run(run.folder)
    path = run.folder / "record.json"
    record = read_record(path)
    reasons = [entry["reason"] for entry in record["evaluation_skipped"]]
    old = [{key: entry[key] for key in ("task", "reason")} for entry in record["evaluation_skipped"]]
    path.write_text(json.dumps({**record, "evaluation_skipped": old}))
    assert state_of(run.folder, run.config).detail == "incomplete: 2 tasks skipped"
    assert pending(run.folder, run.config) == []
    assert command.main([str(run.folder), "--tasks", "knn:{dataset: {shapes: {image_size: 16}}}"]) == 0
    after = read_record(path)["evaluation_skipped"]
    assert [entry["reason"] for entry in after] == reasons
    assert [next(iter(entry["options"]["dataset"])) for entry in after] == ["emoji", "clipart"]


def test_without_final_weights_an_incomplete_run_is_not_trained_again(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(clip_grid(train={"epochs": 1}, evaluate=[MISSING]))
    process.run(run.folder)
    (run.folder / "checkpoint" / "final.safetensors").unlink()
    monkeypatch.setattr(Task, "check_data", lambda self: None)
    monkeypatch.setattr(work, "_train", lambda *_: pytest.fail("trained again"))
    assert process.run(run.folder) == "done"


def test_a_task_that_fails_on_data_that_is_there_is_not_tried_for_ever(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(clip_grid(train={"epochs": 1}, evaluate=[MISSING]))
    monkeypatch.setattr(Task, "check_data", lambda self: None)  # it opens, and then an image is damaged
    process.run(run.folder)
    (skipped,) = read_record(run.folder / "record.json")["evaluation_skipped"]
    assert skipped["data_found"] is True
    monkeypatch.setattr(evaluation, "evaluate", lambda *_: pytest.fail("tried again by itself"))
    assert process.run(run.folder) == "done"
