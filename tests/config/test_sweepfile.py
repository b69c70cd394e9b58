"""Sweep files: overrides, identities, and what bad input gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY_CLIP, clip_grid, moco_grid

from benchmark import sweep
from benchmark.config.run import RunConfig
from benchmark.config.sweepfile import read_sweep
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun, make_plan

WriteSweep = Callable[..., Path]


def command(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


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
