"""Methods multiply what they say they will, and long ones tell how long that takes and how far it is."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from baselines import _cost, _gpu
from baselines.d2 import D2
from baselines.density import Density
from baselines.neg_clip_loss import NegClipLoss
from baselines.prototypes import Prototypes
from baselines.sas import Sas
from baselines.semdedup import SemDeDup
from benchmark.pool.samples import PoolView

CPU, WIDTH = torch.device("cpu"), 16


def pool_of(total: int) -> PoolView:
    rng = np.random.default_rng(0)
    names = ("image_embedding", "text_embedding", "target_embedding")
    features = {name: rng.normal(size=(total, WIDTH)).astype(np.float32) for name in names}
    return PoolView(total, "test", features)


@pytest.mark.parametrize(
    "method",
    [
        SemDeDup(keep_fraction=0.5, clusters=4, iterations=3),
        SemDeDup(keep_fraction=0.5, clusters=1, iterations=1),
        Density(keep_fraction=0.5, iterations=3, duplicate_above=0.9999),
        Prototypes(keep_fraction=0.5, clusters=8, iterations=2),
        D2(keep_fraction=0.5),
        D2(keep_fraction=0.5, exact_below=0, cells=12, probes=3),
        D2(keep_fraction=0.5, exact_below=0, cells=12, probes=3, score="prototypes"),
        Sas(keep_fraction=0.5, iterations=2, classes=3),
        NegClipLoss(keep_fraction=0.5, batch_size=100, partitions=3),
        NegClipLoss(keep_fraction=0.5),
        NegClipLoss(keep_fraction=0.5, norm_sim="inf"),
    ],
    ids=str,
)
def test_a_method_multiplies_what_it_says(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_gpu, "device", lambda: CPU)  # torch's products are counted, faiss's and numpy's are not
    counter = FlopCounterMode(display=False)
    with counter:
        method.setup(pool_of(1200), num_epochs=1, seed=0)
        method.plan(0)
    targets = {"targets": 1200} if isinstance(method, NegClipLoss) else {}
    # clusters are not of equal size, and products of pairs alone of two triangles
    assert counter.get_total_flops() / 2 == pytest.approx(method.multiply_adds(1200, WIDTH, **targets), rel=0.35)


@pytest.mark.parametrize(
    ("method", "power"),
    [
        (SemDeDup(keep_fraction=0.5), 2),  # a cluster for 1,000 samples
        (Density(keep_fraction=0.5), 1),  # centroids are trained on so many samples each
        (Prototypes(keep_fraction=0.5), 1),
        (D2(keep_fraction=0.5), 1.5),
        (Sas(keep_fraction=0.5), 2),  # 1,000 classes of any size
        (Sas(keep_fraction=0.5, variant="greedy"), 2),
        (NegClipLoss(keep_fraction=0.5), 1),
    ],
    ids=str,
)
def test_the_cost_of_a_large_pool_grows_as_its_card_says(method: Any, power: float) -> None:
    few, many = (method.multiply_adds(total, 512) for total in (10**10, 4 * 10**10))
    assert np.log(many / few) / np.log(4) == pytest.approx(power, abs=0.05)


def test_a_long_method_says_how_long_it_takes_and_a_short_one_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    method, pool = SemDeDup(keep_fraction=0.5, clusters=3), pool_of(300)
    method.setup(pool, num_epochs=1, seed=0)
    short = method.select(pool)
    assert not caplog.messages
    monkeypatch.setattr(_cost, "LONG", 0)
    monkeypatch.setattr(_cost, "rate", lambda device: method.multiply_adds(300, WIDTH) / 90)
    monkeypatch.setattr(_cost, "EVERY_SECONDS", 0)
    assert np.array_equal(method.select(pool), short)
    assert caplog.messages[0].startswith("semdedup: ")
    assert "about 1.5 minutes on this machine's cores" in caplog.messages[0]
    assert "clusters compared within: 2 of 3" in caplog.messages


def test_the_probe_gives_a_rate() -> None:
    assert _cost.rate(CPU) > 1e8
