"""The AdamW probe against CLIP_benchmark's own functions, run on the CPU, and against a plain transcription."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from benchmark.evaluate.probes.adamw import DECAYS, LinearLayer, fit, search, train
from benchmark.evaluate.scores import unit


@lru_cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = load_digits(return_X_y=True)
    return unit(pixels), labels.astype(np.int64)


def transcription(features: np.ndarray, labels: np.ndarray, decay: float, seed: int) -> tuple[Any, Any]:
    """The published loop with torch's own layer, loader and optimiser, 10 epochs of batches of 64 at rate 0.1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(features.shape[1], 10)
        data = torch.utils.data.TensorDataset(torch.from_numpy(features), torch.from_numpy(labels))
        loader = torch.utils.data.DataLoader(data, batch_size=64, shuffle=True)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=decay)
        for epoch in range(10):
            for i, (x, y) in enumerate(loader):
                step = i + epoch * len(loader)
                optimizer.param_groups[0]["lr"] = 0.5 * (1 + math.cos(math.pi * step / (10 * len(loader)))) * 0.1
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(layer(x), y).backward()
                optimizer.step()
    return layer.weight.detach(), layer.bias.detach()


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_a_layer_is_the_transcriptions(decay: float) -> None:
    features, labels = digits()
    ours = train(features[:300], labels[:300], 10, [decay], seed=3)[0]
    weight, bias = transcription(features[:300], labels[:300], decay, seed=3)
    assert torch.allclose(ours.weight, weight, atol=1e-3)
    assert torch.allclose(ours.bias, bias, atol=1e-3)


def test_layers_trained_at_once_are_those_trained_one_by_one() -> None:
    features, labels = digits()
    decays = [1e-6, 1e-2, 1.0]
    together = train(features[:300], labels[:300], 10, decays)
    for decay, layer in zip(decays, together, strict=True):
        alone = train(features[:300], labels[:300], 10, [decay])[0]
        assert layer.weight_decay == decay
        assert torch.allclose(layer.weight, alone.weight, atol=1e-4)


def test_the_global_generator_is_left_alone_and_the_seed_decides() -> None:
    features, labels = digits()
    before = torch.get_rng_state()
    one, same, other = (train(features[:99], labels[:99], 10, [0.0], seed=s)[0] for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.weight, same.weight)
    assert not torch.allclose(one.weight, other.weight)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Any:
    """CLIP_benchmark's module, with the calls that want CUDA doing nothing."""
    module = pytest.importorskip("clip_benchmark.metrics.linear_probe")
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda self, *_: self)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self, *_: self)
    monkeypatch.setattr(module, "tqdm", lambda x: x)
    return module


def loader(module: Any, features: np.ndarray, labels: np.ndarray) -> Any:
    return torch.utils.data.DataLoader(module.FeatureDataset(features, labels), batch_size=64, shuffle=True)


def test_a_layer_is_clip_benchmarks(published: Any, capsys: pytest.CaptureFixture[str]) -> None:
    features, labels = digits()
    with torch.random.fork_rng(devices=[]):
        theirs = published.train(
            loader(published, features[:300], labels[:300]), 64, 10, 0.01, 0.1, 10, False, "cpu", 5
        )
        theirs_logits, _ = published.infer(
            theirs, [(torch.from_numpy(features[300:]), torch.from_numpy(labels[300:]))], False, "cpu"
        )
    ours = train(features[:300], labels[:300], 10, [0.01], seed=5)[0]
    mine = torch.nn.functional.linear(torch.from_numpy(features[300:]), ours.weight, ours.bias)
    assert torch.allclose(mine, theirs_logits, atol=2e-3)
    assert (ours.predict(features[300:]) == theirs_logits.argmax(dim=1).numpy()).mean() >= 0.999


@pytest.mark.slow
def test_the_search_chooses_clip_benchmarks_decay(published: Any, capsys: pytest.CaptureFixture[str]) -> None:
    features, labels = digits()
    a, b, val, of_val = features[:200], labels[:200], features[200:400], labels[200:400]
    grid = DECAYS.tolist()
    with torch.random.fork_rng(devices=[]):

        def peak(indices: list[int]) -> int:
            loaders = loader(published, a, b), loader(published, val, of_val)
            return int(published.find_peak(grid, indices, *loaders, 64, 10, 0.1, 10, False, "cpu", False, 0))

        theirs = peak(list(range(0, 97, 16)))
        for span in (8, 4, 2, 1):
            theirs = peak([max(theirs - span, 0), theirs, min(theirs + span, 96)])

    def accuracies(indices: list[int]) -> list[float]:
        layers: list[LinearLayer] = train(a, b, 10, [grid[i] for i in indices])
        return [float((layer.predict(val) == of_val).mean()) for layer in layers]

    assert search(accuracies) == theirs


def test_search_finds_the_peak_of_a_hill() -> None:
    for best in range(97):
        assert search(lambda indices, best=best: [1 - abs(i - best) / 97 for i in indices]) == best  # type: ignore[misc]


def test_of_equal_accuracies_the_first_is_taken_and_nothing_right_gives_index_0() -> None:
    assert search(lambda indices: [0.5] * len(indices)) == 0
    assert search(lambda indices: [0.0] * len(indices)) == 0


def test_the_final_layer_is_trained_on_all_images_with_the_chosen_decay() -> None:
    features, labels = digits()
    held = np.arange(300) % 5 == 0
    ours = fit(features[:300], labels[:300], 10, held)
    order = np.concatenate([np.flatnonzero(~held), np.flatnonzero(held)])
    assert ours.weight_decay in DECAYS
    again = train(features[:300][order], labels[:300][order], 10, [ours.weight_decay])[0]
    assert torch.equal(ours.weight, again.weight)
    assert fit(features[:300], labels[:300], 10, None).weight_decay == 0
