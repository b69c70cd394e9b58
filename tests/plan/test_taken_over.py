"""One run in two sweeps: what one has done the other takes over, and nothing is trained twice."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from rank_processes import on_ranks
from tiny import clip_grid

from analysis import report
from analysis.read.results import load
from benchmark import sweep
from benchmark.config.sweepfile import read_sweep
from benchmark.coreset.coreset import load_coreset
from benchmark.evaluate import command
from benchmark.job import process, work
from benchmark.launch.todo import to_do
from benchmark.plan.estimate import estimate
from benchmark.plan.plan import PlannedRun, make_plan, write_plan
from benchmark.runs.lease import lease
from benchmark.runs.record import read_record, write_record

WriteSweep = Callable[..., Path]
Output = pytest.CaptureFixture[str]
RETRIEVAL = {"retrieval": {"dataset": "shapes"}}
ZERO_SHOT = {"zero_shot": {"dataset": "shapes"}}
SCAN: dict[str, Any] = {"scan": {"warmup_threshold": 1.0}}
OF_SCAN = {"coreset": {"runs": {"pruner": SCAN}, "keep_fraction": 0.5}}
BY_FULL: dict[str, Any] = {
    "pruner": ["full", {"density": {"clusters": 4, "keep_fraction": 0.5}}],
    "features": {"run": {"pruner": "full"}},
}


def short(**changes: Any) -> dict[str, Any]:
    return clip_grid(**{"train": {"epochs": 1}, **changes})


def plan_of(path: Path) -> list[PlannedRun]:
    return make_plan(read_sweep(path), path.parent / "results")


def run_sweep(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), "--cluster", "inline", *words])


def states(path: Path) -> list[str]:
    return [run.state.words for run in plan_of(path)]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is trained in this process: sweep and method."""
    names: list[str] = []
    original = work._train

    def counting(folder: Path, config: Any, *arguments: Any) -> Any:
        names.append(f"{config.sweep} {config.pruner.name}")
        return original(folder, config, *arguments)

    monkeypatch.setattr(work, "_train", counting)
    return names


@pytest.mark.slow
def test_a_run_done_in_one_sweep_is_done_in_the_next_at_once(
    write_sweep: WriteSweep, trained: list[str], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = (write_sweep(short(), name=name) for name in "ab")
    assert run_sweep(a) == 0
    capsys.readouterr()
    for words in (["--dry-run"], ["--status"]):  # both tell, and write nothing
        assert run_sweep(b, *words) == 0
        said = capsys.readouterr().out
        assert "done (of a)" in said
        assert "estimate" not in said
        assert not (b.parent / "results/b").exists()
    assert run_sweep(b) == 0
    assert "1 done (1 of other sweeps); 0 to run" in " ".join(capsys.readouterr().err.split())
    (one,), (other,) = plan_of(a), plan_of(b)
    assert trained == ["a full"]
    assert states(b) == ["done (of a)"]
    assert states(a) == ["done"]
    assert not (Path(other.folder) / "record.json").exists()
    assert read_record(other.folder.record) == read_record(one.folder.record)
    assert other.folder.final_weights == one.folder.final_weights
    monkeypatch.setattr("analysis.figures.sections.draw_blocks", lambda *_: [])
    for order in (["a", "b"], ["b", "a"], ["b"]):
        out = b.parent / "report"
        assert report.main(["--results", str(b.parent / "results"), "--out", str(out), *order]) == 0
        rows = csv.DictReader((out / "tables/main.csv").read_text().splitlines())
        assert {row["n"] for row in rows} == {"1"}
        found = load(b.parent / "results", order)
        assert (len(found.runs), found.num_planned, found.missing, found.problems) == (1, 1, (), ())


def test_a_folder_of_results_that_is_moved_still_knows_what_was_taken_over(write_sweep: WriteSweep) -> None:
    a, b = (write_sweep(short(), name=name) for name in "ab")
    assert run_sweep(a) == run_sweep(b) == 0
    moved = b.parent / "elsewhere" / "results"
    shutil.move(b.parent / "results", moved)
    (run,) = make_plan(read_sweep(b), moved)
    assert run.state.words == "done (of a)"
    assert run.folder.record.is_relative_to(moved / "a")


def test_only_the_same_training_is_taken_over(write_sweep: WriteSweep) -> None:
    a = write_sweep(short(), name="a")
    assert run_sweep(a) == 0
    for changes in ({"seed": 1}, {"train": {"epochs": 2}}, {"train": {"epochs": 1, "weight_decay": 0.2}}):
        assert states(write_sweep(short(**changes), name="b")) == ["absent"]
    assert states(write_sweep(short(train={"epochs": 1, "log_every": 5}), name="b")) == ["done (of a)"]


def test_only_what_was_chosen_is_taken_over(write_sweep: WriteSweep) -> None:
    a, b = (write_sweep(short(seed=[0, 1]), name=name) for name in "ab")
    assert run_sweep(a) == 0
    assert run_sweep(b, "--only", "*-s1-*") == 0
    assert [run.folder.origin for run in plan_of(b)] == ["", "a"]
    assert states(b) == ["done (of a)"] * 2


@pytest.mark.slow
def test_of_a_run_taken_over_only_the_missing_evaluation_is_made_up_for(
    write_sweep: WriteSweep, trained: list[str], capsys: Output
) -> None:
    a = write_sweep(short(evaluate=[ZERO_SHOT]), name="a")
    b = write_sweep(short(evaluate=[ZERO_SHOT, RETRIEVAL]), name="b")
    assert run_sweep(a) == 0
    assert states(b) == ["partial (of a)"]
    assert estimate(to_do(plan_of(b), False, {plan_of(b)[0].config.name}), b.parent / "results") == []
    before = read_record(plan_of(a)[0].folder.record)
    assert run_sweep(b) == 0
    assert trained == ["a full"]
    (one,), (other,) = plan_of(a), plan_of(b)
    after = read_record(one.folder.record)  # the one record of the run has both
    assert {row["task"] for row in before["metrics"]} == {"zero_shot"}
    assert {row["task"] for row in after["metrics"]} == {"zero_shot", "retrieval"}
    assert after["training"] == before["training"]
    assert (states(a), states(b)) == (["done"], ["done (of a)"])
    assert other.folder.attempts.exists()
    assert command.main([str(Path(other.folder)), "--tasks", "knn:shapes"]) == 0  # by hand, to the same record
    assert "knn" in {row["task"] for row in read_record(one.folder.record)["metrics"]}


def test_without_final_weights_a_run_is_taken_over_only_if_nothing_is_missing(
    write_sweep: WriteSweep, trained: list[str]
) -> None:
    a = write_sweep(short(evaluate=[ZERO_SHOT]), name="a")
    assert run_sweep(a) == 0
    shutil.rmtree(plan_of(a)[0].folder.checkpoint)
    assert states(write_sweep(short(evaluate=[ZERO_SHOT]), name="b")) == ["done (of a)"]
    assert states(write_sweep(short(), name="c")) == ["done (of a)"]
    d = write_sweep(short(evaluate=[RETRIEVAL]), name="d")
    assert states(d) == ["absent"]
    assert run_sweep(d) == 0
    assert trained == ["a full", "d full"]
    assert states(d) == ["done"]
    both = write_sweep(short(evaluate=[RETRIEVAL, ZERO_SHOT]), name="e")  # d's has weights
    assert states(both) == ["partial (of d)"]


def test_where_the_origin_is_lost_or_damaged_the_state_says_so_and_nothing_is_written(
    write_sweep: WriteSweep, trained: list[str], capsys: Output
) -> None:
    a, b = (write_sweep(short(), name=name) for name in "ab")
    assert run_sweep(a) == run_sweep(b) == 0
    (one,), (other,) = plan_of(a), plan_of(b)
    content = one.folder.record.read_bytes()
    one.folder.record.write_text("{ half")
    assert states(b) == ["unreadable (of a)"]
    assert str(Path(one.folder) / "record.json") in plan_of(b)[0].state.detail
    shutil.move(one.folder, one.folder.parent / "away")
    capsys.readouterr()
    assert run_sweep(b, "--retry") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{other.folder.taken_over}: the run is taken over from {one.folder}, which has no record" in said
    assert not one.folder.exists()
    with pytest.raises(ValueError, match="which has no record"):
        process.run(other.folder)
    (missing,) = load(b.parent / "results", ["b"]).missing
    assert missing.short_state == "unreadable record"
    assert "which has no record" in missing.state
    shutil.move(one.folder.parent / "away", one.folder)
    one.folder.record.write_bytes(content)
    assert states(b) == ["done (of a)"]
    other.folder.taken_over.write_text("{ half")
    assert states(b)[0].startswith("unreadable")
    other.folder.taken_over.unlink()
    assert trained == ["a full"]


def test_a_coreset_is_made_of_a_run_that_was_taken_over(write_sweep: WriteSweep, trained: list[str]) -> None:
    a = write_sweep(clip_grid(pruner=[SCAN]), name="a")
    b = write_sweep(clip_grid(pruner=[OF_SCAN, SCAN]), name="b")
    assert run_sweep(a) == 0
    scan = plan_of(a)[0].folder
    shutil.rmtree(scan.checkpoint)  # nobody needs it
    assert states(b) == ["done (of a)", "absent"]
    assert run_sweep(b) == 0
    assert trained == ["a scan", "b coreset"]
    of_a, of_b = (load_coreset(Path(run.folder) / "coreset.npz") for run in plan_of(b))
    assert (of_b.keep == of_a.cut(0.5)).all()
    scan.coreset.unlink()  # of a record without it, a run that waits for it could make nothing
    c = write_sweep(
        clip_grid(pruner=[{"coreset": {"runs": {"pruner": SCAN}, "keep_fraction": 0.7}}, SCAN]), name="c"
    )
    assert states(c) == ["absent", "absent"]


@pytest.mark.slow
def test_features_are_taken_over_while_their_arrays_are_there_and_weights_while_a_pass_needs_them(
    write_sweep: WriteSweep, trained: list[str]
) -> None:
    a = write_sweep(short(**BY_FULL), name="a")
    more = {**BY_FULL, "pruner": [*BY_FULL["pruner"], {"prototypes": {"clusters": 4, "keep_fraction": 0.5}}]}
    b = write_sweep(short(**more), name="b")
    assert run_sweep(a) == 0
    done = "done (of a)"
    assert states(b) == [done, done, done, done, "absent", "absent"]
    full, features, choice, _ = (run.folder for run in plan_of(a))
    shutil.move(full.checkpoint, full / "away")
    assert states(b) == [done, done, done, done, "absent", "absent"]
    array = features / "image_embedding.npy"
    array.rename(features / "away.npy")
    # the pass anew, and its encoder for it
    assert states(b) == ["absent", "absent", done, done, "absent", "absent"]
    c = write_sweep(short(**BY_FULL), name="c")
    assert states(c) == [done, done, done]  # nobody is left to need the pass
    choice.choice.rename(choice / "away.json")
    assert states(c) == [done, done]  # nor the choice, as in results from before there were any
    (choice / "away.json").rename(choice.choice)
    (features / "away.npy").rename(array)
    assert run_sweep(b) == 0
    assert trained == ["a full", "a density", "b prototypes"]


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["arrays", "state"])
def test_what_was_deleted_of_a_pass_or_a_choice_is_made_again_for_the_next_that_waits(
    lost: str, write_sweep: WriteSweep, trained: list[str], capsys: Output
) -> None:
    path = write_sweep(short(**BY_FULL), name="a")
    assert run_sweep(path) == 0
    full, features, choice, by_density = (run.folder for run in plan_of(path))
    for gone in features.glob("*.npy") if lost == "arrays" else [choice.choice_state]:
        gone.unlink()
    nobody_waits = ["done"] * 3  # as in a fresh clone of what git keeps: none of the sweep's runs needs it
    assert states(path) == nobody_waits
    capsys.readouterr()
    assert run_sweep(path) == 0
    assert "0 to run" in capsys.readouterr().err
    by_density.record.unlink()
    shutil.rmtree(by_density.checkpoint)
    choice_stands = "done" if lost == "arrays" else "absent"
    assert states(path) == ["done", "absent" if lost == "arrays" else "done", choice_stands, "absent"]
    assert run_sweep(path) == 0
    assert states(path) == ["done"] * 4
    assert trained == ["a full", "a density", "a density"]
    shutil.rmtree(full.checkpoint)  # now nothing can be computed again: it is said, and how to go on
    by_density.record.unlink()
    shutil.rmtree(by_density.checkpoint)
    (features / "image_embedding.npy").unlink()
    assert run_sweep(path) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "final.safetensors: no such file, though" in said
    assert "away to have it trained again" in said


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["embeddings", "state of its choice"])
def test_a_pass_or_a_choice_taken_over_that_lost_what_it_gave_matters_to_those_that_wait_alone(
    lost: str, write_sweep: WriteSweep, trained: list[str]
) -> None:
    a, b = (write_sweep(short(**BY_FULL), name=name) for name in "ab")
    assert run_sweep(a) == run_sweep(b) == 0
    _, features, choice, by_density = (run.folder for run in plan_of(a))
    for gone in features.glob("*.npy") if lost == "embeddings" else [choice.choice_state]:
        gone.unlink()
    assert states(b) == ["done (of a)"] * 3
    (b.parent / "results" / "b" / by_density.name / "taken_over.json").unlink()
    shutil.rmtree(by_density)
    (told,) = [run.state.detail for run in plan_of(b) if run.state.name == "unreadable"]
    assert f"which has no {lost}: put back what was there, or remove this file" in told
    assert trained == ["a full", "a density"]


@pytest.mark.parametrize("is_held", [False, True])
def test_a_job_that_starts_after_another_sweep_has_done_its_run_takes_it_over(
    write_sweep: WriteSweep, trained: list[str], is_held: bool
) -> None:
    paths = [write_sweep(short(evaluate=[task]), name=name) for name, task in (("a", ZERO_SHOT), ("b", RETRIEVAL))]
    for path in paths:
        write_plan(plan_of(path), read_sweep(path), path.parent / "results", "")
    (one,), (other,) = (plan_of(path) for path in paths)
    assert process.run(one.folder) == "done"
    with lease(one.folder.lease) if is_held else nullcontext():  # then somebody writes the one record
        assert process.run(other.folder) == ("held" if is_held else "done")
    assert trained == ["a full"]
    assert states(paths[1]) == ["partial (of a)" if is_held else "done (of a)"]


@pytest.mark.slow
def test_all_ranks_of_a_job_take_a_run_over_and_one_evaluates(write_sweep: WriteSweep) -> None:
    a, b = write_sweep(short(), name="a"), write_sweep(short(evaluate=[RETRIEVAL]), name="b")
    write_plan(plan_of(b), read_sweep(b), b.parent / "results", "")
    assert run_sweep(a) == 0
    (one,), (other,) = plan_of(a), plan_of(b)
    before = read_record(one.folder.record)
    assert on_ranks(2, lambda rank: process.run(other.folder)) == ["done", "done"]
    after = read_record(one.folder.record)
    assert {row["task"] for row in after["metrics"]} == {"retrieval"}
    assert (after["training"], after["num_ranks"]) == (before["training"], 1)
    assert states(b) == ["done (of a)"]


def test_two_records_of_one_run_that_disagree_are_told_and_the_first_is_used(write_sweep: WriteSweep) -> None:
    a, b = (write_sweep(short(), name=name) for name in "ab")
    write_plan(plan_of(b), read_sweep(b), b.parent / "results", "")
    assert run_sweep(a) == 0
    (one,), (other,) = plan_of(a), plan_of(b)
    record = read_record(one.folder.record)
    results = b.parent / "results"
    own = Path(other.folder) / "record.json"
    write_record(own, {**record, "sweep": "b"})
    assert load(results).problems == ()
    write_record(own, {**record, "sweep": "b", "weights": "sha256:0"})
    for order, used, left in ((["a", "b"], one.folder.record, own), (["b", "a"], own, one.folder.record)):
        found = load(results, order)
        assert [run.folder.record for run in found.runs] == [used]
        assert (len(found.runs), found.num_planned) == (1, 1)
        (problem,) = found.problems
        assert problem.where == str(left)
        assert problem.message == f"the same run as {used}, with other weights; that one is used"
