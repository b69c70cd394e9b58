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
from tiny import TINY_CLIP, clip_grid, moco_grid

from benchmark import sweep
from benchmark.config.run import Choice, RunConfig
from benchmark.config.sweepfile import read_sweep
from benchmark.job import process
from benchmark.models.clip import objective as clip
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun, make_plan
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
def test_planning_loads_no_framework() -> None:
    code = "import sys; from benchmark import sweep; sweep.main(['sweeps/mini_main.yaml', '--dry-run']);"
    code += "print({'open_clip', 'timm', 'torchvision', 'transformers', 'matplotlib'} & set(sys.modules))"
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


def test_overrides_hold_for_every_grid_or_for_one(write_sweep: WriteSweep) -> None:
    path = write_sweep(clip_grid(), moco_grid())
    read = read_sweep(path, ["train.epochs=7", "grid[1].train.lr=0.5", "seed=[3,4]", "pruner=scan"])
    assert [grid.train.epochs for grid in read.grids] == [7, 7]
    assert [grid.train.lr for grid in read.grids] == [1e-3, 0.5]
    assert read.grids[0].seeds == (3, 4)
    assert read.grids[0].pruners[0].name == "scan"


def test_identity_follows_what_changes_numbers_and_nothing_else(write_sweep: WriteSweep, tmp_path: Path) -> None:
    def name(**changes: Any) -> str:
        (run,) = make_plan(read_sweep(write_sweep(clip_grid(**changes))), tmp_path)
        return run.config.name

    same = {"launch": {"minutes": 5}, "evaluate": [{"knn": {"dataset": "digits"}}], "train": {"num_workers": 2}}
    assert {name(**{key: value}) for key, value in same.items()} == {name()}
    assert name(pruner={"scan": {"cycle": 3}}) == name(pruner="scan")  # a default written out
    for change in (
        {"train": {"lr": 2e-3}},
        {"seed": 1},
        {"pruner": "scan"},
        {"pool": {"shapes": {"num_samples": 72}}},
    ):
        assert name(**change) != name()


def test_an_option_added_later_leaves_the_names_of_older_runs_alone() -> None:
    from dataclasses import field, make_dataclass

    from benchmark.config.identity import identity_of
    from benchmark.options import LATER_OPTION

    before = make_dataclass("Method", [("cycle", int, 3)])
    after = make_dataclass(
        "Method", [("cycle", int, 3), ("shape", str, field(default="a", metadata=LATER_OPTION))]
    )
    assert identity_of({"m": after()}) == identity_of({"m": before()})
    assert identity_of({"m": after(shape="b")}) != identity_of({"m": after()})


def test_a_config_survives_the_disk_whatever_its_hash_looks_like(
    planned: Callable[..., list[PlannedRun]], tmp_path: Path
) -> None:
    import dataclasses

    (run,) = planned(clip_grid(evaluate=[{"retrieval": {"dataset": "shapes"}}]))
    for identity in (run.config.identity, "373e85", "123456", "0x12ab", "1_0e10"):
        config = dataclasses.replace(run.config, identity=identity)
        path = tmp_path / "config.yaml"
        path.write_text(config.to_yaml())
        assert RunConfig.load(path) == config


BAD_INPUT = [
    ({"framework": "clop"}, "grid[0].framework: unknown framework 'clop'; did you mean 'clip'?"),
    ({"model": "ViT-B-33"}, "grid[0].model: unknown CLIP model 'ViT-B-33'; did you mean"),
    ({"model": {"x": {"embed_dim": 8}}}, "grid[0].model.x.vision_cfg: missing"),
    (
        {"model": {"x": {**TINY_CLIP["tiny"], "vision_cfg": {"widht": 8}}}},
        "grid[0].model.x.vision_cfg.widht: unknown option; did you mean 'width'?",
    ),
    ({"pool": "shape"}, "grid[0].pool: unknown name 'shape'; did you mean 'shapes'?"),
    ({"pool": {"shapes": {"num_sample": 8}}}, "grid[0].pool.shapes.num_sample: unknown option; did you mean"),
    ({"pruner": "scam"}, "grid[0].pruner: unknown name 'scam'; did you mean 'scan'?"),
    ({"pruner": {"scan": {"cylce": 3}}}, "grid[0].pruner.scan.cylce: unknown option; did you mean 'cycle'?"),
    ({"pruner": {"scan": {"cycle": "three"}}}, "grid[0].pruner.scan.cycle: Value 'three'"),
    ({"pruner": {"scan": {"mode": "red"}}}, "grid[0].pruner.scan: mode: unknown value 'red'"),
    ({"pruner": "random_subset"}, "grid[0].pruner.random_subset.keep_fraction: missing"),
    ({"train": {"epochz": 3}}, "grid[0].train.epochz: unknown option; did you mean 'epochs'?"),
    ({"train": {"epochs": 0}}, "grid[0].train: epochs must be at least 1, got 0"),
    ({"train": {"lr": "fast"}}, "grid[0].train.lr: Value 'fast'"),
    ({"train": {"batch_size": 128}}, "grid[0].train.batch_size: 128 is more than the pool's 64 samples"),
    ({"evaluate": ["zero_shoot"]}, "grid[0].evaluate[0]: unknown name 'zero_shoot'; did you mean 'zero_shot'?"),
    ({"evaluate": [{"knn": {"dataset": "digit"}}]}, "grid[0].evaluate[0].knn.dataset: unknown name 'digit'"),
    ({"launch": {"gpu": 1}}, "grid[0].launch.gpu: unknown option; did you mean 'gpus'?"),
    ({"sead": 1}, "grid[0].sead: unknown key; did you mean 'seed'?"),
    ({"seed": -1}, "grid[0].seed: expected whole numbers from 0"),
    ({"pruner": {"full": {}, "scan": {}}}, "grid[0].pruner: expected a name, or one name with its options"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_INPUT)
def test_a_mistake_is_one_error_with_its_path(
    changes: dict[str, Any], message: str, write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(**changes))
    assert command(path, "--cluster", "inline") == sweep.EXIT_USAGE
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"error: {path}: {message}")
    assert "Traceback" not in error
    assert not (path.parent / "results").exists()


def test_text_tasks_are_refused_for_a_framework_without_text(write_sweep: WriteSweep) -> None:
    path = write_sweep(moco_grid(evaluate=[{"zero_shot": {"dataset": "digits"}}]))
    with pytest.raises(ConfigError, match=r"grid\[0\].evaluate\[0\].zero_shot: needs captions"):
        make_plan(read_sweep(path), path.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("grid: [", "cannot be read as YAML"),
        ("- 1", "expected 'key: value' at the top"),
        ("grid: []", "grid: must be a list with at least one entry"),
        ("grid: [3]", "grid[0]: expected options"),
        ("girds: []", "girds: unknown key; did you mean 'grid'?"),
        (
            "name: ../x\ngrid: [{framework: clip, model: RN50, pool: shapes, pruner: full, train: {epochs: 1}}]",
            "name:",
        ),
    ],
)
def test_a_malformed_file_is_one_error(
    text: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    if text is not None:
        path.write_text(text)
    assert command(path, "--dry-run") == sweep.EXIT_USAGE
    assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize("override", ["train.epochs", "trian.epochs=1", "grid[9].seed=1", "train.epochs=[1"])
def test_a_wrong_override_is_one_error(
    override: str, write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(write_sweep(clip_grid()), "--dry-run", override) == sweep.EXIT_USAGE
    assert capsys.readouterr().err.startswith("error: ")


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
