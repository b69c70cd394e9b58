"""Coreset files: what goes in comes out, and nothing else is taken for one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata
from tiny import clip_grid

from benchmark.config.run import Choice
from benchmark.coreset import command
from benchmark.coreset.coreset import Coreset, CoresetError, ensemble, load_coreset, save_coreset
from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.pool.source import make_source
from benchmark.pool.storage.shards import ShardPool
from benchmark.runs.record import read_record
from benchmark.tracking.epoch_files import load_marks, save_marks

SHAPES = Choice(name="shapes", options={"num_samples": 64})


def test_a_coreset_survives_the_disk(tmp_path: Path) -> None:
    keep = np.random.default_rng(0).random(37) < 0.5
    save_coreset(tmp_path / "c.npz", Coreset(keep, "abc", "random", 3, "run-1"))
    found = load_coreset(tmp_path / "c.npz", "abc")
    assert np.array_equal(found.keep, keep)
    assert (found.method, found.seed, found.made_by) == ("random", 3, "run-1")


def test_a_coreset_of_another_pool_is_refused(tmp_path: Path) -> None:
    save_coreset(tmp_path / "c.npz", Coreset(np.ones(3, dtype=bool), "abc", "random", 0, "run"))
    with pytest.raises(CoresetError, match="chosen from pool abc, but this pool is xyz"):
        load_coreset(tmp_path / "c.npz", "xyz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", b"hello"])
def test_any_other_file_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(CoresetError, match=r"c\.npz: not a coreset file"):
        load_coreset(tmp_path / "c.npz")


def test_a_static_run_leaves_its_coreset_and_a_dynamic_one_does_not(
    planned: Callable[..., list[PlannedRun]],
) -> None:
    grid = clip_grid(pruner=[{"random_subset": {"keep_fraction": 0.5}}, "scan"], train={"epochs": 1})
    static, dynamic = planned(grid)
    for run in (static, dynamic):
        process.run(run.folder)
    assert load_coreset(static.folder / "coreset.npz").keep.sum() == 32
    assert not (dynamic.folder / "coreset.npz").exists()


def ranked(fingerprint: str = "abc", seed: int = 0, n: int = 200) -> Coreset:
    score = np.random.default_rng(seed).random(n, dtype=np.float32)
    return Coreset(score < np.quantile(score, 0.7), fingerprint, "scan", seed, f"run-{seed}", score)


@given(fraction=st.floats(0.005, 1), levels=st.integers(1, 300))
def test_a_cut_keeps_the_least_dispensable_at_any_budget(fraction: float, levels: int) -> None:
    score = (np.random.default_rng(levels).integers(0, levels, 200) / levels).astype(np.float32)
    coreset = Coreset(np.ones(200, dtype=bool), "abc", "scan", 0, "run", score)
    keep = coreset.cut(fraction)
    assert keep.sum() == round(fraction * 200)
    if keep.any() and not keep.all():
        assert score[keep].max() <= score[~keep].min()
    assert np.array_equal(keep, coreset.cut(fraction))


def test_ties_are_drawn_from_the_whole_pool() -> None:
    coreset = Coreset(np.ones(1000, dtype=bool), "abc", "scan", 0, "run", np.zeros(1000, dtype=np.float32))
    kept = np.flatnonzero(coreset.cut(0.5))
    assert abs(kept.mean() - 499.5) < 40


def test_a_choice_without_an_order_cannot_be_cut_to_another_budget() -> None:
    coreset = dataclasses.replace(ranked(), score=None)
    assert np.array_equal(coreset.cut(None), coreset.keep)
    assert np.array_equal(coreset.cut(0.7), coreset.keep)
    with pytest.raises(CoresetError, match=r"choice of 0\.700 of its pool, without order"):
        coreset.cut(0.5)


def test_an_ensemble_goes_by_mean_ranks() -> None:
    one, two = ranked(seed=1), ranked(seed=2)
    both = ensemble([one, two])
    assert one.score is not None
    assert two.score is not None
    order = np.argsort(rankdata(one.score) + rankdata(two.score), kind="stable")
    assert set(np.flatnonzero(both.cut(0.3))) <= set(order[:62].tolist())
    assert both.keep.sum() == 140
    assert ensemble([one]) is one
    votes = ensemble([dataclasses.replace(one, score=None), dataclasses.replace(two, score=None)])
    agreed = one.keep & two.keep
    assert votes.keep[agreed].all()
    assert not votes.keep[~one.keep & ~two.keep].any()
    with pytest.raises(CoresetError, match="of different pools"):
        ensemble([one, ranked("xyz")])


def test_a_dynamic_run_that_ranks_leaves_as_many_samples_as_it_saw(
    planned: Callable[..., list[PlannedRun]],
) -> None:
    (run,) = planned(clip_grid(pruner={"scan": {"warmup_threshold": 1.0}}, train={"epochs": 6}))
    process.run(run.folder)
    found = load_coreset(run.folder / "coreset.npz")
    assert found.score is not None
    training = read_record(run.folder / "record.json")["training"]
    assert found.keep.sum() == round(64 * training["samples_seen"] / training["samples_full"])
    marked = np.load(run.folder / "marks" / "epoch-0002.npy") >= 64
    assert found.score[found.keep].max() <= found.score[~found.keep].min()
    assert np.array_equal(found.score >= 1, marked)


@pytest.mark.parametrize("damage", ["truncated", "other size"])
def test_damaged_marks_are_named(planned: Callable[..., list[PlannedRun]], damage: str) -> None:
    (run,) = planned(clip_grid())
    path = run.folder / "marks" / "epoch-0001.npy"
    save_marks(run.folder, 1, np.zeros(64 if damage == "truncated" else 5, dtype=np.uint8))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CoresetError, match=r"epoch-0001\.npy"):
        list(load_marks(run.folder, 64))


@pytest.fixture
def exported(planned: Callable[..., list[PlannedRun]]) -> Path:
    """The coreset of a run on rendered shapes."""
    (run,) = planned(clip_grid(pruner={"random_subset": {"keep_fraction": 0.25}}, train={"epochs": 1}))
    process.run(run.folder)
    return run.folder / "coreset.npz"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_lists_the_kept_samples(exported: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"kept{suffix}"
    assert command.main(["export", str(exported), "--out", str(out)]) == 0
    table = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    assert list(table.columns) == ["id", "shard", "key"]
    assert table["id"].tolist() == np.flatnonzero(load_coreset(exported).keep).tolist()


def test_exported_shards_hold_the_kept_samples_and_can_be_trained_on(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    assert command.main(["export", str(exported), "--out", str(out), "--shard-samples", "6"]) == 0
    assert [p.name for p in sorted(out.glob("*.tar"))] == ["00000.tar", "00001.tar", "00002.tar"]
    pool, whole = ShardPool.open(str(out / "*.tar")), make_source(SHAPES, "pool").training_pool()
    ids = np.flatnonzero(load_coreset(exported).keep).tolist()
    assert pool.num_samples == 16
    for i, sample_id in enumerate(ids):
        assert pool.key(i) == f"{sample_id:09d}"
        assert pool.read(i).caption == whole.read(sample_id).caption
        assert np.array_equal(pool.read(i).image, whole.read(sample_id).image)
    # of a pool of shards the bytes are copied, and a second export refuses the folder
    again = Coreset(np.arange(16) < 4, pool.fingerprint, "hand", 0, "hand")
    save_coreset(tmp_path / "again.npz", again)
    words = ["export", str(tmp_path / "again.npz"), "--pool", f"webdataset: {{name: x, shards: '{out}/*.tar'}}"]
    assert command.main([*words, "--out", str(tmp_path / "second")]) == 0
    second = ShardPool.open(str(tmp_path / "second" / "*.tar"))
    assert [second.read_bytes(i) for i in range(4)] == [pool.read_bytes(i) for i in range(4)]
    assert command.main([*words, "--out", str(tmp_path / "table.csv")]) == 0
    assert pd.read_csv(tmp_path / "table.csv")["shard"].str.endswith("00000.tar").all()
    assert command.main([*words, "--out", str(out)]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x.json"], "expected a name in .parquet, .csv, .txt, .npy, or a folder"),
        (["--out", "x.csv", "--keep-fraction", "0.9"], "without order"),
        (["--out", "x.csv", "--keep-fraction", "1.5"], "must lie in (0, 1]"),
        (["--out", "x.csv", "--pool", "shapes: {num_samples: 128}"], "but this pool is"),
        (["--out", "x.csv", "--pool", "shappes"], "did you mean 'shapes'"),
    ],
)
def test_a_wrong_export_is_one_error_and_leaves_nothing(
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(["export", str(exported), *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("x.*"))
