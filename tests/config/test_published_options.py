"""The published arm: one word in a grid sets every option, each of which can be set by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import clip_grid, moco_grid

from benchmark.config import published
from benchmark.config.run import RunConfig
from benchmark.config.sweepfile import read_sweep
from benchmark.options import ConfigError
from benchmark.plan.plan import make_plan

WriteSweep = Callable[..., Path]


def planned(path: Path, *words: str) -> list[RunConfig]:
    runs = make_plan(read_sweep(path, words), path.parent / "results")
    return [run.config for run in runs if isinstance(run.config, RunConfig)]


def test_one_word_sets_every_option_of_the_arm(write_sweep: WriteSweep) -> None:
    path = write_sweep(
        clip_grid(published=True, pruner=["full", "scan"]),
        moco_grid(published=True, pruner=["scan", "scan_random", {"random_dynamic": {"keep_fraction": 0.5}}]),
    )
    full, clip, moco, control, other = planned(path)
    names = ("lr_clock", "batch_norm", "feature_gradient", "logits", "warmup_from_zero")
    for run in (full, clip):
        assert [getattr(run.train, name) for name in names] == ["reference", "rank", "mean", "autocast", False]
    for run in (moco, control, other):
        assert [getattr(run.train, name) for name in names] == ["progress", "global", "sum", "autocast", True]
    for run in (moco, control):
        assert {k: run.pruner.options[k] for k in ("rank_within", "redundant_share", "ill_matched_share")} == {
            "rank_within": "rank", "redundant_share": 0.35, "ill_matched_share": 0.35,
        }  # fmt: skip
    assert clip.pruner.options["rank_within"] == "global"
    assert "rank_within" not in other.pruner.options


def test_a_name_says_that_a_run_is_the_published_arm_also_where_its_options_were_set_one_by_one(
    write_sweep: WriteSweep,
) -> None:
    (by_word,) = planned(write_sweep(clip_grid(published=True, pruner="scan")))
    (by_hand,) = planned(write_sweep(clip_grid(pruner="scan", train=published.TRAIN["clip"])))
    (ours,) = planned(write_sweep(clip_grid(pruner="scan")))
    assert by_word == by_hand
    assert "-scan-published-s0-" in by_word.name
    assert "published" not in ours.name


@pytest.mark.parametrize("name", published.TRAIN["clip"])
def test_each_option_by_itself_is_another_run_and_no_published_arm(name: str, write_sweep: WriteSweep) -> None:
    (ours,) = planned(write_sweep(clip_grid()))
    (one,) = planned(write_sweep(clip_grid(train={name: published.TRAIN["clip"][name]})))
    assert one.identity != ours.identity
    assert "published" not in one.name


def test_the_word_can_stand_in_defaults_and_on_the_command_line(write_sweep: WriteSweep) -> None:
    path = write_sweep(clip_grid(), clip_grid(seed=1))
    assert ["published" in run.name for run in planned(path, "grid[1].published=true")] == [False, True]
    assert ["published" in run.name for run in planned(path, "published=true")] == [True, True]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (clip_grid(published=True, train={"lr_clock": "progress"}), r"grid\[0\].train.lr_clock: 'progress', but"),
        (
            moco_grid(published=True, pruner={"scan": {"rank_within": "global"}}),
            r"grid\[0\].pruner.scan.rank_within: 'global', but 'published: true' sets 'rank'",
        ),
        (clip_grid(published="yes"), r"grid\[0\].published: true or false, not 'yes'"),
        (clip_grid(train={"batch_norm": "ranks"}), r"batch_norm: unknown value 'ranks'; did you mean 'rank'"),
        (clip_grid(train={"feature_gradient": "avg"}), "feature_gradient: unknown value"),
        (clip_grid(train={"logits": "fp16"}), "logits: unknown value"),
        (moco_grid(train={"feature_gradient": "mean"}), "MoCo v3's gathered keys have no gradient"),
    ],
)
def test_what_contradicts_the_arm_is_an_error_with_its_place(
    grid: dict[str, Any], message: str, write_sweep: WriteSweep
) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(write_sweep(grid))


def test_what_the_arm_sets_may_also_be_said_and_its_shares_changed(write_sweep: WriteSweep) -> None:
    options = {"rank_within": "rank", "redundant_share": 0.2}
    (run,) = planned(write_sweep(moco_grid(published=True, pruner={"scan": options})))
    assert run.method == "scan(redundant_share=0.2, ill_matched_share=0.35, rank_within=rank, revision=2)"


@pytest.mark.parametrize("grid", [clip_grid, moco_grid])
def test_a_method_takes_what_it_needs_from_runs_of_its_own_arm(
    grid: Callable[..., dict[str, Any]], write_sweep: WriteSweep
) -> None:
    coreset = {"coreset": {"runs": {"pruner": "scan"}, "keep_fraction": 0.5}}
    methods = {
        "pruner": ["full", "scan", {"semdedup": {"keep_fraction": 0.5, "clusters": 2}}, coreset],
        "features": {"run": {"pruner": "full"}},
    }
    path = write_sweep(grid(**methods), grid(**methods, published=True))
    runs = planned(path)
    for is_arm in (False, True):
        full, scan, semdedup, coreset_run = [run for run in runs if run.is_published == is_arm]
        assert coreset_run.pruner.options["runs"] == [scan.name]
        assert full.name != scan.name
        (features,) = (
            run.config
            for run in make_plan(read_sweep(path), path.parent / "results")
            if run.config.name == semdedup.features
        )
        assert features.waits_for == (full.name,)
