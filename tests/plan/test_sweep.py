"""The sweep command: what it plans, what it runs, what bad input gets."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from patience import patience
from tiny import clip_grid, moco_grid

from benchmark import sweep
from benchmark.config.run import Choice, RunConfig
from benchmark.config.sweepfile import read_sweep
from benchmark.job import process
from benchmark.models.clip import objective as clip
from benchmark.plan.plan import make_plan
from benchmark.pool.source import make_source
from benchmark.pool.sources import emoji
from benchmark.runs.record import read_record
from benchmark.training import trainer

WriteSweep = Callable[..., Path]


def command(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


def records(path: Path) -> list[Path]:
    return sorted(path.parent.glob("results/*/*/record.json"))


@pytest.mark.slow
def test_a_grid_is_a_product_and_a_second_call_runs_only_what_is_missing(
    write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["full", {"random_subset": {"keep_fraction": 0.5}}]
    path = write_sweep(clip_grid(pruner=methods, seed=[0, 1], train={"epochs": 1}))
    assert command(path, "--cluster", "inline") == 0
    assert len(records(path)) == 4
    ran: list[Path] = []
    monkeypatch.setattr(process, "run", lambda folder, report: ran.append(folder))
    assert command(path, "--cluster", "inline") == 0
    assert ran == []
    records(path)[2].unlink()
    command(path, "--cluster", "inline")
    assert len(ran) == 1


@pytest.mark.slow
def test_only_takes_what_fits_and_what_it_waits_for(
    write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ["full", {"coreset": {"runs": {"pruner": "scan"}, "keep_fraction": 0.5}}, "scan"]
    path = write_sweep(clip_grid(pruner=methods, seed=[0, 1], train={"epochs": 4}))
    assert command(path, "--cluster", "inline", "--only", "*-coreset-s1-*") == 0
    found = [read_record(record) for record in records(path)]
    assert sorted((record["config"]["pruner"]["name"], record["seed"]) for record in found) == [
        ("coreset", 1),
        ("scan", 1),
    ]
    plan = json.loads((path.parent / "results" / "tiny" / "plan.json").read_text())
    assert len(plan["runs"]) == 6
    capsys.readouterr()
    assert command(path, "--status", "--only", "*-full-*") == 0
    assert "2 runs, 2 absent" in capsys.readouterr().out
    assert command(path, "--only", "*-ful-*") == 2
    assert "--only '*-ful-*' fits no run" in capsys.readouterr().err


def test_a_search_for_settings_says_so_in_its_plan(
    write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(train={"epochs": 1}))
    path.write_text("compare: false\n" + path.read_text())
    assert command(path, "--cluster", "inline") == 0
    assert json.loads((path.parent / "results" / "tiny" / "plan.json").read_text())["compare"] is False
    path.write_text(path.read_text().replace("compare: false", "compare: maybe"))
    assert command(path, "--dry-run") == 2
    assert "compare: true or false, not 'maybe'" in capsys.readouterr().err


@pytest.mark.slow
def test_local_runs_are_processes_of_their_own(write_sweep: WriteSweep) -> None:
    path = write_sweep(clip_grid(train={"epochs": 1}), moco_grid(train={"epochs": 1}))
    assert command(path, "--cluster", "local") == 0
    assert len(records(path)) == 2
    assert list(path.parent.glob("results/tiny/clip-*/job/*_log.out"))


def test_a_failed_run_stops_nothing_else_and_retry_takes_it_again(
    write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1], train={"epochs": 1}))
    original = clip.make

    def fails_for_seed_0(choice: Any, seed: int) -> Any:
        if seed == 0:
            raise RuntimeError("no luck")
        return original(choice, seed)

    monkeypatch.setattr(clip, "make", fails_for_seed_0)
    assert command(path, "--cluster", "inline") == sweep.EXIT_FAILED
    assert len(records(path)) == 1
    assert "no luck" in capsys.readouterr().err
    monkeypatch.setattr(clip, "make", original)
    assert command(path, "--cluster", "inline") == sweep.EXIT_FAILED  # failed runs wait to be asked for
    assert len(records(path)) == 1
    assert command(path, "--cluster", "inline", "--retry") == 0
    assert len(records(path)) == 2


def test_fail_fast_starts_nothing_after_a_failure(
    write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1], train={"epochs": 1}))

    def fail(*_: Any) -> Any:
        raise RuntimeError("no luck")

    monkeypatch.setattr(clip, "make", fail)
    assert command(path, "--cluster", "inline", "--fail-fast") == sweep.EXIT_FAILED
    assert len(list(path.parent.glob("results/*/*/error.json"))) == 1


@pytest.mark.slow
def test_planning_loads_no_framework_once_the_flops_of_its_models_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path))
    code = "import sys; from benchmark import sweep; sweep.main(['sweeps/mini_main.yaml', '--dry-run']);"
    code += "print({'open_clip', 'timm', 'torchvision', 'transformers', 'matplotlib'} & set(sys.modules))"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(60))
    assert done.stdout.endswith("\nset()\n"), done.stderr


@pytest.mark.slow
def test_two_sweeps_started_at_once_never_run_a_run_twice(write_sweep: WriteSweep) -> None:
    path = write_sweep(clip_grid(seed=[0, 1], train={"epochs": 2}))
    words = [sys.executable, "-m", "benchmark.sweep", str(path), "--results", str(path.parent / "results")]
    both = [
        subprocess.Popen([*words, "--cluster", "local", "--jobs", "1"], stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    ends = {p.wait(timeout=patience(120)) for p in both}
    assert ends <= {0, sweep.EXIT_LEFT}  # one may end while the other still works
    assert 0 in ends
    assert len(records(path)) == 2
    for record in records(path):
        assert read_record(record)["training"]["attempts"] == 1
        steps = [json.loads(line) for line in (record.parent / "log.jsonl").read_text().splitlines()]
        assert sum(line["kind"] == "step" for line in steps) == 2 * 8


@pytest.mark.slow
def test_a_run_without_some_data_is_done_incomplete_and_made_up_for_once_the_data_is_there(
    write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = [{"knn": {"dataset": "digits"}}, {"retrieval": {"dataset": {"emoji": {"root": str(tmp_path / "e")}}}}]
    path = write_sweep(clip_grid(train={"epochs": 1}, evaluate=tasks, seed=[0, 1]))
    assert command(path, "--cluster", "inline") == 0
    assert "2 done (2 incomplete)" in capsys.readouterr().err
    for words in (["--status"], ["--dry-run"]):
        assert command(path, *words) == 0
        assert capsys.readouterr().out.count("done (incomplete: 1 task skipped)") == 2
    before = [file.read_bytes() for file in records(path)]
    monkeypatch.setattr(process, "run", lambda *_: pytest.fail("started while the data is missing"))
    assert command(path, "--cluster", "inline") == 0
    assert [file.read_bytes() for file in records(path)] == before
    monkeypatch.undo()

    monkeypatch.setattr(emoji.Emoji, "pairs", lambda self: make_source(Choice(name="shapes"), "").pairs())
    monkeypatch.setattr(trainer.Trainer, "fit", lambda *_: pytest.fail("trained again"))
    assert command(path, "--dry-run") == 0
    assert command(path, "--cluster", "inline") == 0
    for file in records(path):
        record = read_record(file)
        assert record["evaluation_skipped"] == []
        assert [row["task"] for row in record["metrics"]] == ["knn"] + ["retrieval"] * 10
        assert [task["name"] for later in record["later_evaluations"] for task in later["tasks"]] == ["retrieval"]
    assert "2 done" in (said := capsys.readouterr().err)
    assert said.splitlines()[-1].endswith("2 runs, 2 done")


def test_dry_run_prints_the_plan_and_writes_nothing(
    write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(pruner=["full", "scan"]))
    assert command(path, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "absent" in shown
    assert "-scan-s0-" in shown
    assert "1 CPU, 60 min" in shown
    assert not (path.parent / "results").exists()


def test_status_tells_done_from_absent(write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(clip_grid(train={"epochs": 1}))
    command(path, "--cluster", "inline")
    capsys.readouterr()
    assert command(path, "--status", "seed=[0,1]") == 0
    assert "2 runs, 1 absent, 1 done" in capsys.readouterr().out


def test_a_record_of_another_schema_is_named_and_never_written_over(
    write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(train={"epochs": 1}))
    command(path, "--cluster", "inline")
    (record,) = records(path)
    foreign = json.dumps({**json.loads(record.read_text()), "schema": 2})
    record.write_text(foreign)
    assert command(path, "--cluster", "inline") == sweep.EXIT_FAILED
    assert "record of schema 2" in capsys.readouterr().err.replace("\n", " ")
    assert record.read_text() == foreign


@pytest.mark.parametrize("name", sorted(p.name for p in Path("sweeps").glob("*.yaml")))
def test_every_sweep_in_the_repository_can_be_planned_without_data(name: str, tmp_path: Path) -> None:
    assert make_plan(read_sweep(Path("sweeps") / name), tmp_path)


def test_a_line_in_each_list_of_paper_main_switches_the_newer_methods_on(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "sweeps" / "paper_main.yaml").read_text()
    assert text.count("# - *newer_") == 2
    named: list[dict[str, list[str]]] = []
    for content in (text, text.replace("# - *newer_", "- *newer_")):
        (tmp_path / "paper_main.yaml").write_text(content)
        methods: dict[str, list[str]] = {}
        for run in make_plan(read_sweep(tmp_path / "paper_main.yaml"), tmp_path / "results"):
            if isinstance(run.config, RunConfig):
                methods.setdefault(run.config.method, []).append(run.config.name)
        named.append(methods)
    off, on = named
    assert {method: on[method] for method in off} == off, "what was there keeps its names"
    newer = {name.partition("(")[0] for name in on.keys() - off.keys()}
    assert newer == {"rs2", "repb", "order_dp", "ccs", "infobatch"}
    assert any("score=batch" in method for method in on.keys() - off.keys())


def test_a_list_of_methods_may_hold_lists(write_sweep: WriteSweep) -> None:
    more = [{"random_subset": {"keep_fraction": 0.5}}, "scan"]
    (grid,) = read_sweep(write_sweep(clip_grid(pruner=["full", more, "infobatch"]))).grids
    assert [choice.name for choice in grid.pruners] == ["full", "random_subset", "scan", "infobatch"]
