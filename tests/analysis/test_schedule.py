"""The pruned share by arithmetic: it is what the pruner's plans leave out, and both readings are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from claim_trees import REGISTRY, here, judged, run
from hypothesis import given, settings
from hypothesis import strategies as st
from report_trees import epochs

from analysis.claims.schedule import measured_in_cycles, share_in_cycle, share_of_run
from analysis.claims.verdicts import NO_RECORDS, REFUTED, SUPPORTED
from baselines.scan import Scan
from benchmark.pool.samples import PoolView


def planned(num_samples: int, num_epochs: int, warmup: int, **options: Any) -> list[int]:
    """Samples that SCAN keeps in each epoch, if its warm-up ends after ``warmup`` of them."""
    scan = Scan(**options)
    scan.setup(PoolView(num_samples, "test"), num_epochs=num_epochs, seed=0)
    one = np.linspace(1, 2, num_samples, dtype=np.float32)
    losses = np.stack([one, one], axis=1)  # [N, 2]: both directions agree
    kept = []
    for epoch in range(num_epochs):
        plan = scan.plan(epoch)
        kept.append(int(plan.keep.sum()))
        if plan.observe:
            level = 0.5 ** min(epoch, warmup - 2)  # falls by half until the epoch before the last of warm-up
            scan.observe(np.flatnonzero(plan.keep), losses[plan.keep] * np.float32(level))
        scan.end_epoch(epoch)
    return kept


@settings(deadline=None, max_examples=30)
@given(st.integers(4, 110), st.integers(2, 7), st.sampled_from([0.1, 0.3, 0.35, 0.5]), st.integers(1, 6))
def test_the_share_by_schedule_is_what_the_pruners_plans_leave_out(
    num_epochs: int, warmup: int, share: float, cycle: int
) -> None:
    kept = planned(2000, num_epochs, warmup, redundant_share=share, ill_matched_share=share, cycle=cycle)
    told = share_of_run(num_epochs, min(warmup, num_epochs), 2 * share, cycle)
    assert 1 - sum(kept) / (2000 * num_epochs) == pytest.approx(told, abs=1e-3)
    whole = (num_epochs - warmup) // (cycle + 1)
    measured = measured_in_cycles({"training": {"by_epoch": epochs(kept)}}, cycle)
    if whole < 1:
        assert measured is None
    else:
        assert measured == pytest.approx(share_in_cycle(2 * share, cycle), abs=1e-3)


@pytest.mark.parametrize(
    ("epochs", "candidates", "seen"),
    [
        (32, 0.6, {2: 0.733, 3: 0.738, 4: 0.738, 5: 0.756}),
        (100, 0.7, {3: 0.664, 4: 0.664, 5: 0.671, 6: 0.676}),
    ],
    ids=["CLIP", "MoCo"],
)
def test_the_published_schedules_see_what_was_measured_on_the_released_code(
    epochs: int, candidates: float, seen: dict[int, float]
) -> None:
    for warmup, share in seen.items():
        assert 1 - share_of_run(epochs, warmup, candidates, 3) == pytest.approx(share, abs=6e-4)
    assert share_in_cycle(candidates, 3) == pytest.approx(candidates / 2)


def test_both_readings_are_told_without_any_record_of_the_papers(tmp_path: Path) -> None:
    found = judged(tmp_path / "results", run("full", 0, 0.5))["pruning-rate"]
    over, within = found.at_paper.told
    assert found.at_paper.verdict == NO_RECORDS, "arithmetic is no measurement"
    assert "clip 24.4 to 26.7 % of 32 epochs (warm-up of 5 to 2), not as claimed" in over
    assert "moco 32.4 to 33.8 % of 100 epochs (warm-up of 6 to 2), as claimed" in over
    assert within == "by the schedule alone, within a cycle: clip 30.0 %, as claimed; moco 35.0 %, as claimed"


def test_both_readings_of_a_record_are_told_and_the_run_decides(tmp_path: Path) -> None:
    kept = planned(2000, 16, 4)
    rate = 1 - sum(kept) / (2000 * 16)
    records = [
        run("scan", seed, 0.5, pruned=rate, training={"by_epoch": epochs(kept), "epochs": 16}) for seed in range(3)
    ]
    found = here(tmp_path / "results", "pruning-rate", *records)
    assert found.verdict == REFUTED
    assert found.told[1].startswith("within whole cycles: 30.0 %")
    assert found.told[1].endswith(f"the same rule on it: {SUPPORTED}")


def test_the_settings_reckoned_with_are_those_of_the_papers_configurations() -> None:
    assert {(one.framework, one.epochs, one.warmup_ends) for one in REGISTRY.paper.values()} == {
        ("clip", 32, (2, 5)),
        ("moco", 100, (2, 6)),
    }
