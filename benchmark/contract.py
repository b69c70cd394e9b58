"""What every pruning method must keep to, as questions: the tests ask them of ``baselines/``, and
``python -m benchmark.sweep check METHOD`` of any method, also of a file that lies elsewhere.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmark import plugins
from benchmark.config.run import Choice
from benchmark.options import ConfigError, Parser, build, value_in
from benchmark.pool.samples import PoolView
from benchmark.pruner import PlanError, Pruner, StaticPruner, forgets, make_pruner, plan_of
from benchmark.states import to_arrays, to_tensors

N, B, EPOCHS = 96, 16, 12
"""Samples, batch and epochs of the run that is played through."""
FINGERPRINT = "contract"
Make = Callable[[], Pruner]
"""The method under question with its options, without ``setup``."""
Epoch = list[np.ndarray]
"""What an epoch trains on: its mask, then the ids of each batch."""


class BrokenError(Exception):
    """An answer that is wrong; the message says what the method did."""


def main(words: Sequence[str], console: Console) -> int:
    """0 if the method keeps to all, else 1. Raises ConfigError for an unknown method or wrong options."""
    parser = Parser(
        prog="python -m benchmark.sweep check",
        description=f"Ask a pruning method what every method must keep to, on {N} made-up samples.",
    )
    parser.add_argument("method", help="a name in baselines/ or --methods DIR, or the path of a .py file")
    parser.add_argument("options", nargs="*", metavar="key=value", help="options of the method")
    asked = parser.parse_intermixed_args(list(words))
    make = maker(asked.method, dict(_option(text) for text in asked.options))
    make()  # wrong options are told once, and not at every question
    broken = 0
    for question in QUESTIONS:
        problem = answer(question, make)
        broken += bool(problem)
        console.print("BROKEN" if problem else "kept  ", style="red" if problem else "green", end="  ")
        told = (question.__doc__ or "").partition("\n")[0].rstrip(".")
        console.print(told + (f": {problem}" if problem else ""), markup=False, highlight=False, soft_wrap=True)
    return 1 if broken else 0


def maker(method: str, options: dict[str, Any]) -> Make:
    """How to make the method, each time anew. Raises ConfigError for a file that cannot be loaded."""
    if not method.endswith(".py"):
        return lambda: make_pruner(Choice(name=method, options=options), "check")
    cls = plugins.load_file(Path(method), Pruner, "check")  # type: ignore[type-abstract]
    return lambda: build(cls, options, f"check: {method}")


def answer(question: Callable[[Make], None], make: Make) -> str:
    """What is wrong, "" if nothing."""
    try:
        question(make)
    except (BrokenError, PlanError) as error:
        return str(error)
    except Exception as error:  # the method's own
        return f"{type(error).__name__}: {error}"
    return ""


def plans_are_well_formed(make: Make) -> None:
    """Every plan has the right types and lengths, keeps something, and is the same when asked again"""
    pruner = ready(make)
    for epoch in range(EPOCHS):
        before = plan_of(pruner, epoch)
        if not before.keep.any():
            raise BrokenError(f"plan({epoch}) keeps no sample")
        step(pruner, epoch)
        if pruner.plan(epoch).checksum() != before.checksum():
            raise BrokenError(f"plan({epoch}) changes while the epoch's losses are observed")
        pruner.end_epoch(epoch)


def seed_decides(make: Make) -> None:
    """The same seed gives the same masks and choices"""
    for epoch, (one, other) in enumerate(zip(play(ready(make)), play(ready(make)), strict=True)):
        _same(one, other, f"two runs with one seed differ in epoch {epoch}")


def restarts_change_nothing(make: Make) -> None:
    """A restart in mid-epoch, from state_dict through a checkpoint, changes nothing"""
    if problem := forgets(type(make())):
        raise BrokenError(problem)
    whole = play(ready(make))
    for cut in (0, 3, 6, EPOCHS - 1):
        pruner = ready(make)
        play(pruner, range(cut))
        step(pruner, cut, slice(0, 2))
        resumed = ready(make)
        resumed.load_state_dict(_through_a_checkpoint(pruner.state_dict()))
        keep, *rest = step(resumed, cut, slice(2, None))
        _same([keep, *rest], [whole[cut][0], *whole[cut][3:]], f"restarted in epoch {cut}, that epoch differs")
        resumed.end_epoch(cut)
        for epoch, one in zip(range(cut + 1, EPOCHS), play(resumed, range(cut + 1, EPOCHS)), strict=True):
            _same(one, whole[epoch], f"restarted in epoch {cut}, epoch {epoch} differs")


def options_are_fields(make: Make) -> None:
    """It is a dataclass whose fields are its options, and can be pickled"""
    pruner = make()
    if not dataclasses.is_dataclass(pruner):
        raise BrokenError("it is no dataclass")
    if "pool" in {field.name for field in dataclasses.fields(pruner)}:
        raise BrokenError("'pool' is what setup is given: it cannot be an option")
    pickle.dumps(ready(make))


def generators_are_left_alone(make: Make) -> None:
    """numpy's and torch's global generators are left alone"""
    before = pickle.dumps(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002 (its state is looked at)
    play(ready(make))
    if pickle.dumps(np.random.get_state()) != before[0]:  # noqa: NPY002
        raise BrokenError("it draws from numpy's global generator: use self.rng(epoch)")
    if not torch.equal(torch.get_rng_state(), before[1]):
        raise BrokenError("it draws from torch's global generator: use self.rng(epoch)")


def static_methods_choose_once(make: Make) -> None:
    """A static method chooses once"""
    pruner = ready(make)
    if isinstance(pruner, StaticPruner) and len({pruner.plan(epoch).checksum() for epoch in range(EPOCHS)}) > 1:
        raise BrokenError("its mask differs from epoch to epoch")


QUESTIONS: tuple[Callable[[Make], None], ...] = (
    plans_are_well_formed,
    seed_decides,
    restarts_change_nothing,
    options_are_fields,
    generators_are_left_alone,
    static_methods_choose_once,
)


def ready(make: Make, seed: int = 0) -> Pruner:
    """The method, set up on ``N`` samples with features, and with planted truth if it may see that."""
    pruner = make()
    rng = np.random.default_rng(0)
    sizes = {"image_embedding": N, "text_embedding": N, "target_embedding": 24}
    features = {name: rng.normal(size=(rows, 8)).astype(np.float32) for name, rows in sizes.items()}
    truth = {"ill_matched": np.arange(N) % 3 == 0} if pruner.uses_truth else {}
    pruner.setup(PoolView(N, FINGERPRINT, features, truth), num_epochs=EPOCHS, seed=seed)
    return pruner


def play(pruner: Pruner, epochs: range = range(EPOCHS)) -> list[Epoch]:
    """Whole epochs, one after the other."""
    found = []
    for epoch in epochs:
        found.append(step(pruner, epoch))
        pruner.end_epoch(epoch)
    return found


def step(pruner: Pruner, epoch: int, batches: slice = slice(None)) -> Epoch:
    """Drive an epoch, or some of its batches, as the trainer does."""
    plan = pruner.plan(epoch)
    size = round(B * plan.super_batch)
    ids = np.random.default_rng(epoch).permutation(N)
    ids = ids[plan.keep[ids]]
    whole = list(enumerate(ids[: len(ids) - len(ids) % size].reshape(-1, size)))
    seen = [plan.keep]
    if pruner.reference_data is not None and not batches.start and (plan.observe or plan.super_batch != 1):
        pruner.observe_reference(epoch, 1 / (epoch + 1))
    for number, part in whole[batches]:
        if plan.super_batch != 1:
            part = part[_chosen(pruner, epoch, number, part)]
        if plan.observe:
            pruner.observe(part, _losses(epoch, part))
        seen.append(part)
    return seen


def _chosen(pruner: Pruner, epoch: int, number: int, ids: np.ndarray) -> np.ndarray:
    found = pruner.choose(epoch, number, ids, _losses(epoch, ids), _similarity(epoch, ids), B)
    is_whole = isinstance(found, np.ndarray) and found.dtype.kind in "iu" and found.shape == (B,)
    if not is_whole or not (np.diff(found) > 0).all() or found[0] < 0 or found[-1] >= len(ids):
        raise BrokenError(f"choose must return {B} different positions below {len(ids)} in rising order")
    return found


def _losses(epoch: int, ids: np.ndarray) -> np.ndarray:
    base = np.random.default_rng(1).random((N, 2)).astype(np.float32)
    return base[ids] + np.float32(1 / (epoch + 1))


def _similarity(epoch: int, ids: np.ndarray) -> np.ndarray:
    cosine = np.random.default_rng(3).uniform(-1, 1, N).astype(np.float32)
    return cosine[ids] * np.float32(1 - 1 / (epoch + 2))


def _same(one: Epoch, other: Epoch, problem: str) -> None:
    if len(one) != len(other) or not all(map(np.array_equal, one, other)):
        raise BrokenError(problem)


def _through_a_checkpoint(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(to_tensors(state), file)
    file.seek(0)
    return to_arrays(torch.load(file, weights_only=True))


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"check: {text}: expected key=value")
    return key, value_in(text, value)
