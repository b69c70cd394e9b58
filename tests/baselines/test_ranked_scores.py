"""Scores that stand in for a loss: against slow versions, in every method that ranks, and in runs."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rank_processes import die_at
from tiny import TINY_CLIP, clip_grid, moco_grid

from baselines._scores import Scored, correlation
from baselines.big_loss import BigLoss
from baselines.infobatch import Infobatch
from baselines.order_dp import OrderDP
from baselines.repb import RePB
from baselines.scan import Scan
from baselines.seta import SeTa
from baselines.small_loss import SmallLoss
from benchmark import contract, plugins
from benchmark.config.run import Choice
from benchmark.contract import Make
from benchmark.job import process
from benchmark.models.clip.objective import Clip
from benchmark.models.clip.objective import make as make_clip
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.pool.held_out import held_out_pool
from benchmark.pool.samples import PoolError, PoolView, Sample
from benchmark.pool.sources.shapes import Shapes
from benchmark.pruner import Pruner
from benchmark.runs.record import read_record
from benchmark.seeds import seed_of
from benchmark.training.order import epoch_batches

Plan = Callable[..., list[PlannedRun]]
N, B = 24, 6
ALIGNMENT = {"score": "alignment", "reference": {"shapes": {"seed": 7}}}
RANKS_LOSSES = [
    name
    for name in plugins.names("baselines")
    if issubclass(plugins.load("baselines", name, Pruner, ""), Scored)  # type: ignore[type-abstract]
]


def ready(method: Any, num_samples: int = N, num_epochs: int = 8) -> Any:
    method.setup(PoolView(num_samples, "test"), num_epochs=num_epochs, seed=0)
    return method


def visits(epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches that leave some samples out, with losses."""
    rng = np.random.default_rng(epoch)
    ids = rng.permutation(N)[: 3 * B].reshape(-1, B)
    return [(part, rng.exponential(size=(B, 2)).astype(np.float32)) for part in ids]


def test_every_method_that_looks_at_losses_takes_another_score() -> None:
    assert set(RANKS_LOSSES) == {
        *("scan", "scan_random", "infobatch", "seta", "small_loss", "big_loss", "repb", "order_dp")
    }


@pytest.mark.parametrize("question", contract.QUESTIONS, ids=lambda question: question.__name__)
@pytest.mark.parametrize("options", [{"score": "batch"}, ALIGNMENT], ids=["batch", "alignment"])
@pytest.mark.parametrize("name", RANKS_LOSSES)
def test_methods_keep_to_the_contract_with_every_score(
    name: str, options: dict[str, Any], question: Callable[[Make], None]
) -> None:
    question(contract.maker(name, options))


@pytest.mark.parametrize("alpha", [0.0, 0.7, 0.9])
def test_the_batch_score_is_the_running_mean_of_a_slow_version(alpha: float) -> None:
    method = ready(Infobatch(score="batch", score_decay=alpha))
    mean: dict[int, float] = {}
    for epoch in range(6):
        for ids, losses in visits(epoch):
            of_batch = statistics.fmean(float(x) for row in losses for x in row)
            for i in ids.tolist():
                mean[i] = alpha * mean[i] + (1 - alpha) * of_batch if i in mean else of_batch
            found = method.scored(ids, losses)
            assert found.dtype == np.float32
            assert found.tolist() == [[pytest.approx(mean[i], rel=1e-5)] * 2 for i in ids.tolist()]


def slow_correlation(pairs: list[tuple[float, float]]) -> float:
    return statistics.correlation(*zip(*pairs, strict=True)) if len(pairs) >= 3 else 0.0


@pytest.mark.parametrize("window", [3, 4])
def test_alignment_is_the_correlation_over_the_last_epochs_of_a_slow_version(window: int) -> None:
    method = ready(OrderDP(score="alignment", window_epochs=window, reference="shapes"))
    seen: dict[int, list[tuple[int, float]]] = {i: [] for i in range(N)}
    reference: list[float] = []
    compared = 0
    for epoch in range(8):
        reference.append(float(np.random.default_rng(100 + epoch).exponential()))
        method.observe_reference(epoch, reference[-1])
        for ids, losses in visits(epoch):
            found = method.scored(ids, losses)
            for i, (a, b), score in zip(ids.tolist(), losses, found, strict=True):
                seen[i].append((epoch, (float(a) + float(b)) / 2))
                pairs = [(loss, reference[at]) for at, loss in seen[i] if at > epoch - window]
                compared += len(pairs) >= 3
                assert score.tolist() == pytest.approx([slow_correlation(pairs)] * 2, abs=1e-5)
    assert compared > 50


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (5, 4), elements=st.floats(-100, 100) | st.just(np.nan)), st.integers(0, 10))
def test_correlation_stays_in_its_range_and_knows_nothing_of_few_or_constant_losses(
    losses: np.ndarray, seed: int
) -> None:
    reference = np.random.default_rng(seed).normal(size=5)
    found = correlation(losses, reference)
    assert ((found >= -1) & (found <= 1)).all()
    for column, value in zip(losses.T, found, strict=True):
        known = column[~np.isnan(column)]
        if len(known) < 3 or np.ptp(known) == 0:
            assert value == 0
    assert (correlation(losses, np.ones(5)) == 0).all()


def learned(method: Any, epochs: int = 6) -> Any:
    """Told that even samples fall with the reference data and odd ones, always lower, rise against it."""
    ready(method, 16)
    ids = np.arange(16)
    for epoch in range(epochs):
        clean = 1 / (epoch + 1)
        method.observe_reference(epoch, clean)
        jitter = np.random.default_rng(epoch).random(16) / 100
        loss = np.where(ids % 2 == 0, 2 + clean, 1 - clean) + jitter
        losses = np.stack([loss, loss], axis=1).astype(np.float32)
        if isinstance(method, SmallLoss | BigLoss):
            method.chosen = method.choose(epoch, 0, ids, losses, np.zeros(16, dtype=np.float32), 8)
        else:
            method.observe(ids, losses)
            method.end_epoch(epoch)
    return method


def test_what_runs_against_the_reference_is_what_methods_leave_out_as_noise() -> None:
    """High alignment means clean, whichever end of the losses a method drops."""
    options: dict[str, Any] = {"score": "alignment", "reference": "shapes"}
    odd = [1, 3, 5, 7, 9, 11, 13, 15]
    even = [i - 1 for i in odd]
    assert learned(SmallLoss(**options)).chosen.tolist() == even
    assert learned(BigLoss(**options)).chosen.tolist() == odd
    assert np.flatnonzero(learned(Infobatch(**options)).candidates()["ill_matched"]).tolist() == odd
    assert np.flatnonzero(learned(RePB(**options, rho=0)).plan(6).keep).tolist() == list(range(16))
    assert set(np.flatnonzero(learned(OrderDP(1.0, 0.5, **options)).plan(6).keep)) == set(even)
    slid = learned(SeTa(groups=2, window=0.5, delta=1.0, **options))
    windows = [np.flatnonzero(slid._in_window(epoch)).tolist() for epoch in (0, 1)]
    assert windows == [odd, even]  # from the end that its low losses were to the other
    scan = learned(Scan(warmup_threshold=1.0, cycle=7, **options))
    found = {kind: set(np.flatnonzero(mask).tolist()) for kind, mask in scan.candidates().items()}
    # its preparation was epoch 2, the first with three points to compare
    assert found["ill_matched"] <= set(odd)
    assert found["redundant"] <= set(even)
    assert all(found.values())


def test_a_loss_that_is_not_a_number_leaves_scores_as_they_were() -> None:
    losses = np.array([[1, 1], [np.nan, 1], [2, 4]], dtype=np.float32)
    batch = ready(Infobatch(score="batch"), 3)
    assert batch.scored(np.arange(3), losses)[:, 0].tolist() == pytest.approx([2, np.nan, 2], nan_ok=True)
    aligned = ready(Infobatch(score="alignment", reference="shapes"), 3)
    aligned.observe_reference(0, 1.0)
    assert aligned.scored(np.arange(3), losses)[:, 0].tolist() == pytest.approx([0, np.nan, 0], nan_ok=True)
    nothing = np.full((3, 2), np.nan, dtype=np.float32)
    assert np.isnan(batch.scored(np.arange(3), nothing)).all()


def test_scan_ends_its_warm_up_by_losses_whatever_it_ranks() -> None:
    starts = []
    for options in ({}, {"score": "batch"}, {"score": "alignment", "reference": "shapes"}):
        method = ready(Scan(**options))
        for epoch, loss in enumerate((4.0, 2.0, 1.9, 1.8)):
            method.observe_reference(epoch, loss) if method.reference else None
            method.observe(np.arange(N), np.full((N, 2), loss, dtype=np.float32))
            method.end_epoch(epoch)
        starts.append(method.start)
    assert starts == [3, 3, 3]


def test_losses_without_the_reference_of_their_epoch_are_one_clear_error() -> None:
    with pytest.raises(ValueError, match="needs observe_reference before"):
        ready(SeTa(score="alignment", reference="shapes")).observe(*visits(0)[0])


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("infobatch", {"score": "lot"}, "score: unknown value 'lot'"),
    ("infobatch", {"score": "batch", "score_decay": 1.0}, "score_decay"),
    ("infobatch", {"score_decay": 0.8}, "score_decay is an option of score: batch"),
    ("seta", {"score": "batch", "window_epochs": 4}, "window_epochs is an option of score: alignment"),
    ("seta", {**ALIGNMENT, "window_epochs": 2}, "window_epochs must be at least 3"),
    ("scan", {"score": "alignment"}, "reference"),
    ("scan", {"reference": "shapes"}, "reference"),
    ("scan", {**ALIGNMENT, "redundant_below": 0.1}, "score: alignment makes no sense with redundant_below"),
    ("infobatch", {"score": "batch", "subtract_batch_mean": True}, "score: batch makes no sense with subtract"),
    ("infobatch", {**ALIGNMENT, "subtract_batch_mean": True}, "score: alignment makes no sense with subtract"),
    ("dissect", {"score": "batch"}, "score: unknown option"),
    ("random_dynamic", {"keep_fraction": 0.5, "score": "batch"}, "score: unknown option"),
    ("rs2", {"keep_fraction": 0.5, "score": "alignment"}, "score: unknown option"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSED)
def test_a_score_that_makes_no_sense_is_one_error_at_the_desk(
    planned: Plan, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(clip_grid(pruner={name: options}))


def test_a_run_that_ranks_its_losses_has_the_name_that_it_had(planned: Plan) -> None:
    pruners = ["infobatch", {"infobatch": {"score": "sample"}}, {"infobatch": {"score": "batch"}}]
    (plain,), (told,), (other,) = (planned(clip_grid(pruner=pruner)) for pruner in pruners)
    assert plain.config.name == told.config.name != other.config.name
    assert "infobatch(score=batch)" in other.config.method


def test_a_method_that_watches_reference_data_says_so_where_it_is_shown(planned: Plan) -> None:
    (run,) = planned(clip_grid(pruner={"seta": ALIGNMENT}))
    assert run.config.method.endswith("(uses reference data)")
    (run,) = planned(clip_grid(pruner={"seta": {"score": "batch"}}))
    assert "reference" not in run.config.method


def test_what_a_run_is_evaluated_on_cannot_be_its_reference(planned: Plan) -> None:
    pruner = {"seta": {"score": "alignment", "reference": "shapes"}}
    tasks = [{"retrieval": {"dataset": "shapes"}}]
    with pytest.raises(ConfigError, match=r"retrieval measures on shapes too"):
        planned(clip_grid(pruner=pruner, evaluate=tasks))
    planned(clip_grid(pruner={"seta": ALIGNMENT}, evaluate=tasks))
    planned(moco_grid(pruner=pruner, evaluate=[{"knn": {"dataset": "shapes"}}]))  # MoCo's is the train split
    with pytest.raises(ConfigError, match="shapes is the pool too"):
        planned(moco_grid(pruner=pruner, pool="shapes"))
    with pytest.raises(ConfigError, match=r"reference: unknown name 'shape'; did you mean 'shapes'"):
        planned(clip_grid(pruner={"seta": {"score": "alignment", "reference": "shape"}}))


def test_the_reference_is_held_out_pairs_or_images_of_the_train_split() -> None:
    source = Shapes(seed=7)
    pairs, split = source.pairs(), source.train_set()
    pool = held_out_pool({"shapes": {"seed": 7}}, "here", with_text=True, at_least=8)
    assert [pool.read(i).caption for i in range(pool.num_samples)] == pairs.captions
    assert pool.read(5).image.tobytes() == pairs.images[5].tobytes()
    images = held_out_pool({"shapes": {"seed": 7}}, "here", with_text=False, at_least=8)
    assert images.num_samples == min(1000, len(split.images))
    assert images.read(5).image.tobytes() == split.images[5].tobytes()


def watched(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """From here on, the losses of reference data that methods are told."""
    told: list[float] = []
    observe = Scored.observe_reference

    def spy(self: Scored, epoch: int, loss: float) -> None:
        assert epoch == len(told)
        told.append(loss)
        observe(self, epoch, loss)

    monkeypatch.setattr(Scored, "observe_reference", spy)
    return told


def augmented(clip: Clip, sample: Sample, sample_id: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(seed_of(0, "augment", 0, sample_id))
    return clip.transform(sample)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_first_reference_loss_is_that_of_the_initial_model_on_the_held_out_pairs(
    planned: Plan, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    told = watched(monkeypatch)
    (run,) = planned(clip_grid(pruner={"repb": ALIGNMENT}, train={"accumulate": accumulate}))
    assert process.run(run.folder) == "done"
    clip = make_clip(Choice(name="tiny", options=TINY_CLIP["tiny"]), seed=0).train()
    pool = held_out_pool(ALIGNMENT["reference"], "here", with_text=True, at_least=8)
    means = []
    for ids in epoch_batches(np.ones(pool.num_samples, dtype=bool), seed=0, epoch=0, batch_size=8):
        examples = zip(*(augmented(clip, pool.read(i), i) for i in ids.tolist()), strict=True)
        with torch.no_grad():
            means.append(float(clip(tuple(torch.stack(column) for column in examples)).mean()))
    assert len(told) == 3
    assert told[0] == pytest.approx(statistics.fmean(means), abs=1e-5)
    assert len(set(told)) == 3
    training = read_record(run.folder / "record.json")["training"]
    assert training["samples_scored"] == 3 * 8 * (pool.num_samples // 8)


def test_a_reference_smaller_than_a_batch_is_refused(planned: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    small = held_out_pool("shapes", "here", with_text=True, at_least=8)
    small.num_samples = 7
    monkeypatch.setattr("benchmark.job.work.held_out_pool", lambda *_, **__: small)
    (run,) = planned(clip_grid(pruner={"repb": ALIGNMENT}))
    with pytest.raises(PoolError, match=r"reference data has 7 samples, fewer than the 8 of train.batch_size"):
        process.run(run.folder)


VISION = {**TINY_CLIP["tiny"]["vision_cfg"], "patch_dropout": 0.5}
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "head_width": 32}
NO_TRACE = {
    "clip with patch dropout": clip_grid(model={"tiny": {**TINY_CLIP["tiny"], "vision_cfg": VISION}}),
    "clip in micro-batches": clip_grid(train={"accumulate": 2}),
    "clip resnet": clip_grid(
        model={"small": {**TINY_CLIP["tiny"], "vision_cfg": RESNET}},
        pool={"shapes": {"num_samples": 64, "image_size": 32}},
    ),
    "moco": moco_grid(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(NO_TRACE))
def test_watching_reference_data_leaves_no_trace_in_what_is_trained(planned: Plan, name: str) -> None:
    found = []
    for options in ({}, ALIGNMENT):
        grid = {**NO_TRACE[name], "pruner": {"infobatch": {"prune_ratio": 0.0, **options}}}
        (run,) = planned(grid, results=f"with_{len(options)}")
        process.run(run.folder)
        lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
        weights = (run.folder / "checkpoint" / "final.safetensors").read_bytes()
        found.append(([line["loss"] for line in lines], weights))
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "score", [{"score": "batch"}, {**ALIGNMENT, "window_epochs": 3}], ids=["batch", "aligned"]
)
@pytest.mark.parametrize("method", ["scan", "seta", "small_loss", "repb", "order_dp"])
def test_a_run_killed_between_any_two_steps_goes_on_to_equal_losses(
    planned: Plan, method: str, score: dict[str, Any]
) -> None:
    options = {**score, **({"warmup_threshold": 1.0} if method == "scan" else {})}
    grid = clip_grid(pruner={method: options}, train={"epochs": 5})
    (whole,) = planned(grid, results="whole")
    process.run(whole.folder)
    (cut,) = planned(grid, results="cut")
    for step in (1, 4, 1, 2):  # more of those that are left: some in mid-epoch, some between two
        killed_at(cut.folder, step)
    assert process.run(cut.folder) == "done"
    logs = [[json.loads(x) for x in (r.folder / "log.jsonl").read_text().splitlines()] for r in (whole, cut)]
    losses = [[line["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1]
    scored = [read_record(r.folder / "record.json")["training"]["samples_scored"] for r in (whole, cut)]
    assert scored[0] == scored[1]


def killed_at(folder: Path, step: int) -> None:
    """Work on a run in another process, which saves before its n-th step and is killed."""
    child = os.fork()
    if child == 0:
        die_at(step)
        try:
            process.run(folder)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the run was to be killed, but it came to an end"
