"""What every method in ``baselines/`` must keep to; a new file is found and tested without being told."""

from __future__ import annotations

import dataclasses
import io
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmark import plugins
from benchmark.config.run import Choice
from benchmark.coreset.coreset import Coreset, save_coreset
from benchmark.options import ConfigError
from benchmark.pool.samples import PoolView
from benchmark.pruner import Pruner, StaticPruner, make_pruner
from benchmark.states import to_arrays, to_tensors

N, B, EPOCHS = 96, 16, 12
REQUIRED: dict[str, dict[str, Any]] = {
    name: {"keep_fraction": 0.5}
    for name in (
        "clip_score",
        "d2",
        "density",
        "neg_clip_loss",
        "prototypes",
        "random_dynamic",
        "random_subset",
        "sas",
        "semdedup",
    )
}
"""Options for methods that have one without a default."""

CORESET = Path(tempfile.mkdtemp()) / "coreset.npz"
REQUIRED["coreset"] = {"files": [str(CORESET)]}

METHODS = plugins.names("baselines")


@pytest.fixture(autouse=True, scope="module")
def _coreset() -> None:
    score = np.random.default_rng(2).random(N, dtype=np.float32)
    save_coreset(CORESET, Coreset(score < 0.5, "contract", "scan", 0, "another run", score))


def view(with_truth: bool = False) -> PoolView:
    rng = np.random.default_rng(0)
    sizes = {"image_embedding": N, "text_embedding": N, "target_embedding": 24}
    features = {name: rng.normal(size=(rows, 8)).astype(np.float32) for name, rows in sizes.items()}
    truth = {"ill_matched": np.arange(N) % 3 == 0} if with_truth else {}
    return PoolView(N, "contract", features, truth)


def make(name: str, seed: int = 0) -> Pruner:
    pruner = make_pruner(Choice(name=name, options=REQUIRED.get(name, {})), "test")
    pruner.setup(view(pruner.uses_truth), num_epochs=EPOCHS, seed=seed)
    return pruner


def losses_of(epoch: int, ids: np.ndarray) -> np.ndarray:
    base = np.random.default_rng(1).random((N, 2)).astype(np.float32)
    return base[ids] + np.float32(1 / (epoch + 1))


def similarity_of(epoch: int, ids: np.ndarray) -> np.ndarray:
    cosine = np.random.default_rng(3).uniform(-1, 1, N).astype(np.float32)
    return cosine[ids] * np.float32(1 - 1 / (epoch + 2))


Epoch = list[np.ndarray]
"""What an epoch trains on: its mask, then the ids of each batch."""


def step(pruner: Pruner, epoch: int, batches: slice = slice(None)) -> Epoch:
    """Drive an epoch, or some of its batches, as the trainer does."""
    plan = pruner.plan(epoch)
    size = round(B * plan.super_batch)
    ids = np.random.default_rng(epoch).permutation(N)
    ids = ids[plan.keep[ids]]
    whole = list(enumerate(ids[: len(ids) - len(ids) % size].reshape(-1, size)))
    seen = [plan.keep]
    for number, part in whole[batches]:
        if plan.super_batch != 1:
            part = part[chosen(pruner, epoch, number, part)]
        if plan.observe:
            pruner.observe(part, losses_of(epoch, part))
        seen.append(part)
    return seen


def chosen(pruner: Pruner, epoch: int, number: int, ids: np.ndarray) -> np.ndarray:
    positions = pruner.choose(epoch, number, ids, losses_of(epoch, ids), similarity_of(epoch, ids), B)
    assert np.issubdtype(positions.dtype, np.integer)
    assert positions.shape == (B,)
    assert (np.diff(positions) > 0).all()
    assert positions[0] >= 0
    assert positions[-1] < len(ids)
    return positions


def masks(pruner: Pruner, epochs: range) -> list[Epoch]:
    found = []
    for epoch in epochs:
        found.append(step(pruner, epoch))
        pruner.end_epoch(epoch)
    return found


def assert_same(one: Epoch, other: Epoch) -> None:
    for mine, theirs in zip(one, other, strict=True):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("name", METHODS)
def test_a_plan_is_well_formed_and_never_empty(name: str) -> None:
    pruner = make(name)
    for epoch in range(EPOCHS):
        plan = pruner.plan(epoch)
        assert plan.keep.dtype == np.bool_
        assert plan.keep.shape == (N,)
        assert plan.keep.any()
        for values in (plan.weight, plan.log_negative):
            if values is not None:
                assert values.dtype == np.float32
                assert values.shape == (N,)
                assert np.isfinite(values).all()
        assert 1 <= plan.super_batch <= pruner.super_batch
        step(pruner, epoch)
        pruner.end_epoch(epoch)


@pytest.mark.parametrize("name", METHODS)
def test_asking_twice_gives_the_same_plan(name: str) -> None:
    pruner = make(name)
    for epoch in range(EPOCHS):
        checksum = pruner.plan(epoch).checksum()
        assert pruner.plan(epoch).checksum() == checksum
        step(pruner, epoch)
        assert pruner.plan(epoch).checksum() == checksum  # also after the epoch's losses were observed
        pruner.end_epoch(epoch)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_masks_and_choices(name: str) -> None:
    for one, other in zip(masks(make(name), range(EPOCHS)), masks(make(name), range(EPOCHS)), strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("cut", [0, 3, 6, EPOCHS - 1])
def test_a_restart_in_mid_epoch_changes_nothing(name: str, cut: int) -> None:
    whole = masks(make(name), range(EPOCHS))
    pruner = make(name)
    masks(pruner, range(cut))
    step(pruner, cut, slice(0, 2))
    saved = through_a_checkpoint(pruner.state_dict())
    resumed = make(name)
    resumed.load_state_dict(saved)
    keep, *rest = step(resumed, cut, slice(2, None))
    assert_same([keep, *rest], [whole[cut][0], *whole[cut][3:]])
    resumed.end_epoch(cut)
    for one, other in zip(masks(resumed, range(cut + 1, EPOCHS)), whole[cut + 1 :], strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("name", METHODS)
def test_fields_are_options_and_a_wrong_one_is_refused(name: str) -> None:
    assert dataclasses.is_dataclass(make(name))
    with pytest.raises(ConfigError, match="no_such_option"):
        make_pruner(Choice(name=name, options={**REQUIRED.get(name, {}), "no_such_option": 1}), "test")
    pickle.dumps(make(name))


@pytest.mark.parametrize("name", METHODS)
def test_the_global_generators_are_left_alone(name: str) -> None:
    np_state, torch_state = np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002 (its state is the test)
    masks(make(name), range(EPOCHS))
    assert np.array_equal(np.random.get_state()[1], np_state)  # type: ignore[arg-type]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


@pytest.mark.parametrize("name", METHODS)
def test_static_methods_choose_once(name: str) -> None:
    pruner = make(name)
    if isinstance(pruner, StaticPruner):
        assert len({pruner.plan(epoch).checksum() for epoch in range(EPOCHS)}) == 1


def through_a_checkpoint(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(to_tensors(state), file)
    file.seek(0)
    return to_arrays(torch.load(file, weights_only=True))
