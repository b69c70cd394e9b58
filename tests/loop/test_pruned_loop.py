"""A method in one's own loop makes our trainer's choices: on one process, on ranks, over restarts."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rank_processes import on_ranks
from tiny import clip_grid
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from baselines.random_subset import RandomSubset
from baselines.scan import Scan
from benchmark import contract, dist, plugins
from benchmark.coreset import Coreset, save_coreset
from benchmark.job import process
from benchmark.loop import Pruned
from benchmark.plan.plan import PlannedRun
from benchmark.pruner import Pruner, plan_of
from benchmark.training import trainer
from benchmark.training.order import epoch_batches, super_batch_size

N, B, EPOCHS = 96, 16, 6
Step = tuple[int, list[int], float]
"""Epoch, ids in the order of one process, and the loss."""
OPTIONS: dict[str, dict[str, Any]] = {
    "scan": {},
    "infobatch": {"correct_negatives": True},
    "dissect": {},
    "random_subset": {"keep_fraction": 0.6},
}


def made(name: str) -> Pruner:
    return contract.maker(name, OPTIONS[name])()


def least(name: str) -> dict[str, Any]:
    """A value for each option without a default."""
    options = dataclasses.fields(plugins.load("baselines", name, Pruner, "test"))  # type: ignore[type-abstract]
    return {f.name: 0.5 for f in options if f.default is f.default_factory is dataclasses.MISSING}


def ids_of(num_samples: int = N) -> TensorDataset:
    """A data set whose items are their ids."""
    return TensorDataset(torch.arange(num_samples))


def losses_at(epoch: int, ids: Any) -> Tensor:
    base = np.random.default_rng(1).exponential(size=(N, 2)).astype(np.float32)
    return torch.from_numpy(base[np.asarray(ids)] + np.float32(1 / (epoch + 1)))


def similarity_at(epoch: int, ids: Any) -> Tensor:
    return torch.from_numpy(np.random.default_rng(epoch).uniform(-1, 1, N).astype(np.float32)[np.asarray(ids)])


def drive(pruned: Pruned, steps: int | None = None, **options: Any) -> list[Step]:
    """The loop of a user, to its end or for some steps, on whatever ranks there are."""
    size = round(B * pruned.super_batch) // dist.world()
    loader = DataLoader(pruned, batch_size=size, sampler=pruned.sampler, drop_last=True, **options)
    seen: list[Step] = []
    while (epoch := pruned.epoch) < pruned.num_epochs:
        for (ids,) in loader:
            if pruned.super_batch != 1:
                (ids,) = pruned.choose(losses_at(epoch, ids), similarity_at(epoch, ids), ids)
            pruned.log_negative(len(ids))
            loss = pruned.update(losses_at(epoch, ids))
            every = dist.gather(ids).view(dist.world(), -1)
            order = every.flatten().sort().values if pruned.super_batch != 1 else every.T.flatten()
            seen.append((epoch, order.tolist(), float(dist.gather(loss[None]).mean())))
            if len(seen) == steps:
                return seen
    return seen


def as_the_trainer(method: Pruner) -> list[tuple[int, list[int]]]:
    """The same by the calls that ``Trainer`` makes."""
    seen = []
    for epoch in range(method.num_epochs):
        plan = plan_of(method, epoch)
        size = super_batch_size(B, plan.super_batch, 1)
        for step, batch in enumerate(epoch_batches(plan.keep, seed=0, epoch=epoch, batch_size=size)):
            ids = batch.astype(np.int64)
            if plan.super_batch != 1:
                scores = losses_at(epoch, ids).numpy(), similarity_at(epoch, ids).numpy()
                ids = np.sort(ids[method.choose(epoch, step, ids, *scores, B)])
            if plan.observe:
                method.observe(ids, losses_at(epoch, ids).numpy())
            seen.append((epoch, ids.tolist()))
        method.end_epoch(epoch)
    return seen


def assert_same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for key, value in one.items():
        np.testing.assert_array_equal(other[key], value, err_msg=key)


@pytest.mark.parametrize("name", OPTIONS)
def test_it_chooses_what_our_trainer_chose_on_the_same_losses(
    name: str, planned: Callable[..., list[PlannedRun]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the trainer showed the method is shown again, and masks, batches, choices and the state agree."""
    (run,) = planned(clip_grid(pruner={name: OPTIONS[name]}, train={"epochs": EPOCHS}))
    kept: list[np.ndarray] = []
    observed: list[Any] = []
    scored: list[Any] = []
    methods: list[Pruner] = []
    kind = type(made(name))
    observe, choose = kind.observe, kind.choose

    def noted(found: list[Any], given: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*arguments: Any) -> Any:
            found.append(arguments[given])
            return call(*arguments)

        return calling

    def note_plan(method: Pruner, epoch: int) -> Any:
        methods.append(method)
        kept.append((plan := plan_of(method, epoch)).keep)
        return plan

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "plan_of", note_plan)
        if observe is not Pruner.observe:
            patch.setattr(kind, "observe", noted(observed, slice(1, 3), observe))
        if choose is not Pruner.choose:
            patch.setattr(kind, "choose", noted(scored, slice(3, 6), choose))
        process.run(run.folder)
    pruned = Pruned(ids_of(64), made(name), EPOCHS)
    loader = DataLoader(pruned, round(8 * pruned.super_batch), sampler=pruned.sampler, drop_last=True)
    for epoch in range(EPOCHS):
        batches = iter(epoch_batches(kept[epoch], seed=0, epoch=epoch, batch_size=loader.batch_size or 0))
        for (ids,) in loader:
            assert ids.tolist() == next(batches).tolist()
            if scored:
                was, losses, similarity = scored.pop(0)
                assert ids.tolist() == was.tolist()
                pruned.choose(torch.from_numpy(losses), torch.from_numpy(similarity))
                losses = np.zeros((8, 2), dtype=np.float32)
            elif pruned.method.plan(epoch).observe:
                was, losses = observed.pop(0)
                assert ids.tolist() == was.tolist()
            else:
                losses = np.zeros((8, 2), dtype=np.float32)
            pruned.log_negative(8)
            pruned.update(torch.from_numpy(losses))
        assert next(batches, None) is None
    pruned.end_epoch()
    assert not observed
    assert not scored
    assert_same_state(pruned.method.state_dict(), methods[-1].state_dict())


@pytest.mark.parametrize("name", plugins.names("baselines"))
def test_any_method_gets_the_trainers_calls(name: str, tmp_path: Path) -> None:
    score = np.random.default_rng(2).random(N, dtype=np.float32)
    save_coreset(tmp_path / "a.npz", Coreset(score < 0.5, contract.FINGERPRINT, "scan", 0, "another run", score))
    np.save(tmp_path / "ids.npy", np.flatnonzero(score < 0.5))
    files = {"coreset": {"files": [str(tmp_path / "a.npz")]}, "keys": {"file": str(tmp_path / "ids.npy")}}
    options = files.get(name) or least(name)
    make = contract.maker(name, options)
    told = contract.ready(make)
    told.setup(told.pool, num_epochs=EPOCHS, seed=0)
    pruned = Pruned(
        ids_of(),
        make(),
        EPOCHS,
        features=told.pool.features,
        truth=told.pool.truth,
        fingerprint=contract.FINGERPRINT,
    )
    assert [(epoch, ids) for epoch, ids, _ in drive(pruned)] == as_the_trainer(told)
    pruned.end_epoch()
    assert_same_state(pruned.method.state_dict(), told.state_dict())


def through_a_file(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_same_steps(found: list[Step], due: list[Step]) -> None:
    assert [step[:2] for step in found] == [step[:2] for step in due]
    np.testing.assert_allclose([step[2] for step in found], [step[2] for step in due], rtol=1e-6)


@pytest.mark.parametrize("steps", [4, 6, 14], ids=["in mid-epoch", "at an epoch's end", "later"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_checkpoint_goes_on_where_its_epoch_stood(name: str, steps: int) -> None:
    whole = drive(one := Pruned(ids_of(), made(name), EPOCHS))
    begun = Pruned(ids_of(), made(name), EPOCHS)
    before = drive(begun, steps)
    resumed = Pruned(ids_of(), made(name), EPOCHS)
    resumed.load_state_dict(through_a_file(begun.state_dict()))
    assert_same_steps(before + drive(resumed), whole)
    assert_same_state(resumed.state_dict()["method"], one.state_dict()["method"])


def test_workers_that_read_ahead_mix_nothing_up() -> None:
    options = {"num_workers": 1, "persistent_workers": True, "prefetch_factor": 8}
    assert drive(Pruned(ids_of(), Scan(), EPOCHS), **options) == drive(Pruned(ids_of(), Scan(), EPOCHS))


def test_two_ranks_choose_what_one_process_does_also_from_a_checkpoint_of_one() -> None:
    alone = {name: drive(Pruned(ids_of(), made(name), EPOCHS)) for name in OPTIONS}
    begun = {name: Pruned(ids_of(), made(name), EPOCHS) for name in OPTIONS}
    states = {name: (drive(pruned, 5), through_a_file(pruned.state_dict()))[1] for name, pruned in begun.items()}

    def work(rank: int) -> dict[str, Any]:
        found = {}
        for name in OPTIONS:
            pruned, resumed = (Pruned(ids_of(), made(name), EPOCHS) for _ in range(2))
            resumed.load_state_dict(states[name])
            found[name] = drive(pruned), drive(resumed), pruned.state_dict()["method"]
        return found

    first, second = on_ranks(2, work)
    assert isinstance(first, dict), first
    for name, due in alone.items():
        whole, rest, state = first[name]
        assert_same_steps(whole, due)
        assert_same_steps(rest, due[5:])
        assert_same_state(second[name][2], state)


def test_a_static_choice_on_two_ranks_is_rank_0s() -> None:
    class Rounds(RandomSubset):
        def select(self, pool: Any) -> np.ndarray:
            return np.roll(super().select(pool), dist.rank())

    first, second = on_ranks(2, lambda rank: drive(Pruned(ids_of(), Rounds(keep_fraction=0.6), 2)))
    assert first == second != []


def test_reference_data_is_looked_at_before_the_first_step_of_an_epoch_that_is_observed() -> None:
    asked: list[int] = []
    method = Scan(score="alignment", reference="mine")
    with pytest.raises(ValueError, match="give a function as reference_loss"):
        Pruned(ids_of(), method, EPOCHS)
    pruned = Pruned(ids_of(), method, EPOCHS, reference_loss=lambda: asked.append(len(asked)) or 1.0)  # type: ignore[func-returns-value]
    drive(pruned, 1)
    again = Pruned(ids_of(), Scan(score="alignment", reference="mine"), EPOCHS, reference_loss=lambda: 1 / 0)
    again.load_state_dict(through_a_file(pruned.state_dict()))
    drive(again, 1)  # of the same epoch
    assert asked == [0]
    drive(pruned)
    observed = [epoch for epoch in range(EPOCHS) if pruned.method.plan(epoch).observe]
    assert len(asked) == len(observed)


def test_losses_that_are_not_the_samplers_batch_are_refused() -> None:
    pruned = Pruned(ids_of(), Scan(), EPOCHS)
    for (ids,) in DataLoader(pruned, B, shuffle=True):
        with pytest.raises(RuntimeError, match=r"the sampler gave 0: give the DataLoader sampler=pruned\.sampler"):
            pruned.update(losses_at(0, ids))
    loader = DataLoader(pruned, B, sampler=pruned.sampler, drop_last=True)
    assert len(list(loader)) == 6
    with pytest.warns(UserWarning, match=r"gave 96 samples and update\(losses\) came for 0"):
        assert len(list(loader)) == 6
    assert pruned.epoch == 0


def test_a_method_that_gets_less_than_it_needs_is_told() -> None:
    with pytest.raises(ValueError, match="ClipScore needs image_embedding, text_embedding: give arrays of 96"):
        Pruned(ids_of(), contract.maker("clip_score", least("clip_score"))(), EPOCHS)
    chosen = Pruned(ids_of(), contract.maker("small_loss", {})(), EPOCHS)
    next(iter(DataLoader(chosen, B, sampler=chosen.sampler)))
    with pytest.raises(RuntimeError, match="on what choose gives"):
        chosen.update(losses_at(0, range(B)))
    corrected = Pruned(ids_of(), made("infobatch"), EPOCHS)
    drive(corrected, 7)
    with pytest.raises(RuntimeError, match="corrects negatives"):
        corrected.update(losses_at(1, range(B)))


def test_another_data_set_and_an_epoch_too_many_are_refused() -> None:
    drive(pruned := Pruned(ids_of(), Scan(), 1))
    with pytest.raises(ValueError, match="num_samples 96, this is 64"):
        Pruned(ids_of(64), Scan(), 1).load_state_dict(pruned.state_dict())
    with pytest.raises(ValueError, match="all 1 epochs are over"):
        list(pruned.sampler)
