"""A pruning method in somebody else's loop: ids go out by a sampler, losses come back, and the method gets what
our trainer would have given it.

Letters in shapes: N samples of the data set; b samples of a batch on this rank, B on all ranks; s and S of a
super-batch. Ranks take turns in the epoch's order: rank r of n has every n-th id, from the r-th on.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from benchmark import dist, states
from benchmark.pool.samples import PoolView
from benchmark.pruner import EpochPlan, Pruner, StaticPruner, plan_of
from benchmark.training import super_batch as super_batches
from benchmark.training.order import full_order

HAND_OVER = 10
"""Steps whose losses wait on the device: a look at each would stall a GPU."""


@dataclass(frozen=True)
class _Step:
    """The samples of a batch, on all ranks."""

    ids: np.ndarray
    """int64 [B], rank by rank."""
    turns: np.ndarray
    """int64 [B]: ``ids[turns]`` stand as one process would have had them."""


@dataclass
class _Epoch:
    """An epoch under way."""

    number: int
    plan: EpochPlan
    order: np.ndarray
    """int64: ids that it trains on, in order."""
    done: int = 0
    """Of them, what the loop has had, on all ranks."""
    step: int = 0
    batch: int = 0
    """Of them, what a step takes."""
    chosen: _Step | None = None
    """Of a super-batch."""
    is_corrected: bool = False
    """Whether the next losses were asked for with ``log_negative``."""

    @property
    def is_complete(self) -> bool:
        """Less than a batch is left, which a loader with ``drop_last`` drops."""
        return self.step > 0 and len(self.order) - self.done < self.batch


class PrunedSampler(DistributedSampler[Any]):
    """This rank's ids of each epoch. A ``DistributedSampler``, since frameworks put one in another's place."""

    def __init__(self, pruned: Pruned) -> None:
        super().__init__(pruned, num_replicas=1, rank=0)
        self._pruned = pruned

    def __iter__(self) -> Iterator[int]:
        return self._pruned._ids()

    def __len__(self) -> int:
        """Of a whole epoch, also where a pass goes on from its midst."""
        return self._pruned._length()

    def set_epoch(self, epoch: int) -> None:
        """Nothing: each pass is an epoch, and a checkpoint tells which is next."""


class Pruned(Dataset[Any]):
    """A data set with a pruning method.

    ::

        pruned = Pruned(dataset, Scan(), num_epochs=32)
        loader = DataLoader(pruned, batch_size=256, sampler=pruned.sampler, drop_last=True)
        for _ in range(pruned.epoch, 32):
            for images, texts in loader:
                loss = pruned.update(losses_of(model, images, texts))

    Items are those of ``dataset``, untouched. Each pass over the loader is an epoch and reads what the method
    keeps, in our trainer's order for ``seed``; on several ranks each reads its part. ``update`` knows the ids of a
    batch by their order, so every batch goes to it once and in turn. Batches have one size on all ranks.
    """

    def __init__(
        self,
        dataset: Any,
        method: Pruner,
        num_epochs: int,
        *,
        seed: int = 0,
        features: Mapping[str, np.ndarray] | None = None,
        truth: Mapping[str, np.ndarray] | None = None,
        fingerprint: str = "",
        reference_loss: Callable[[], float] | None = None,
    ) -> None:
        """``dataset`` has N items by number. Raises ValueError for what the method needs and is not given.

        ``features`` are arrays of N rows by the names in the method's ``needs``; ``truth`` is planted truth for a
        control; ``fingerprint`` that of the pool whose coreset files are read. ``reference_loss`` gives the mean
        loss of the reference data under the model as it is, the same on all ranks: it is called before the first
        step of each epoch whose losses the method looks at.
        """
        name, features = type(method).__name__, dict(features or {})
        if missing := [one for one in method.needs if one not in features]:
            raise ValueError(f"{name} needs {', '.join(missing)}: give arrays of {len(dataset)} rows as features")
        if method.reference_data is not None and reference_loss is None:
            raise ValueError(f"{name} watches reference data: give a function as reference_loss")
        self.dataset, self.method, self.num_epochs, self.seed = dataset, method, num_epochs, seed
        self._view = PoolView(len(dataset), fingerprint, features, truth or {})
        self.sampler = PrunedSampler(self)
        """For the ``DataLoader``."""
        self._reference_loss = reference_loss
        self._reference_epoch = -1
        self._is_set_up = self._is_under_way = False
        self._given = 0  # samples of the epoch that samplers have given, if those of all ranks went as far as this
        self._now: _Epoch | None = None
        self._pending: list[tuple[_Step, Tensor]] = []

    def __len__(self) -> int:
        return self._view.num_samples

    def __getitem__(self, sample_id: int) -> Any:
        return self.dataset[sample_id]

    def __getitems__(self, ids: list[int]) -> Any:
        """As torch's loaders ask for a batch, where the data set can give one."""
        many = getattr(self.dataset, "__getitems__", None)
        return many(ids) if many else [self.dataset[i] for i in ids]

    @property
    def epoch(self) -> int:
        """Epochs completed: the one that the next pass over the loader begins, or goes on with."""
        now = self._epoch()
        return now.number + now.is_complete

    @property
    def progress(self) -> float:
        """Share of the training done, in [0, 1]: for learning rates, since pruned epochs have fewer steps."""
        now = self._epoch()
        return (now.number + now.done / max(len(now.order), 1)) / self.num_epochs

    @property
    def super_batch(self) -> float:
        """How many times larger the loader's batches are than those trained on; at 1 nothing is to ``choose``."""
        return self.method.super_batch

    def update(self, losses: Tensor) -> Tensor:
        """The loss to call ``backward`` on, from those of a batch before its step.

        ``losses``, float [b] or [b, 2] (a column a direction), have their gradient and no weights. What comes back
        is their mean, weighted where the method weighs samples. Raises RuntimeError where they cannot be the batch
        that the sampler gave.
        """
        now = self._under_way()
        losses = _both(losses)
        if now.plan.log_negative is not None and not now.is_corrected:
            raise RuntimeError(f"{self._name} corrects negatives: add log_negative(b) to the logits of each batch")
        step = self._trained_on(now, len(losses))
        now.chosen, now.is_corrected = None, False
        now.step += 1
        if now.plan.observe:
            self._look_at_reference(now)
            self._pending.append((step, dist.gather(losses.float())))
            if now.plan.super_batch != 1 or len(self._pending) >= HAND_OVER:  # the next choice may rest on it
                self._hand_over()
        if now.plan.weight is None:
            return losses.mean()
        mine = np.split(step.ids, dist.world())[dist.rank()]
        return (losses * torch.from_numpy(now.plan.weight[mine]).to(losses.device)[:, None]).mean()

    def choose(self, losses: Tensor, similarity: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Of a super-batch the part to train on: of each tensor, [s, ...], this rank's rows, [b, ...].

        For methods whose ``super_batch`` is above 1, once a batch, before ``update``. ``losses``, float [s] or
        [s, 2], and ``similarity``, float [s], a sample's cosine with its own positive, are of the present model,
        without gradient. On several ranks rows cross from one to another.
        """
        now, ranks = self._under_way(), dist.world()
        count = round(ranks * len(losses) / now.plan.super_batch)
        if count % ranks:
            raise ValueError(f"{count} samples chosen from {ranks * len(losses)} are no multiple of {ranks} ranks")
        self._look_at_reference(now)
        step = self._next(now, len(losses))
        gathered = dist.gather_to_host(_both(losses).float(), similarity.float())
        scores = super_batches.Scores(*(x[step.turns] for x in (torch.from_numpy(step.ids), *gathered)))
        positions = super_batches.choose(self.method, now.number, now.step, scores, count)
        dist.assert_same(zlib.crc32(positions.tobytes()), f"what epoch {now.number}, step {now.step} chooses")
        places = positions[np.lexsort((positions, positions % ranks))]  # rank by rank
        now.chosen = _Step(scores.ids.numpy()[places], np.argsort(places))
        local = torch.from_numpy(places[places % ranks == dist.rank()] // ranks).to(losses.device)
        counts = np.bincount(places % ranks, minlength=ranks).tolist()
        return tuple(dist.deal(tensor[local], counts) for tensor in tensors)

    def log_negative(self, count: int) -> Tensor | None:
        """What to add to the logits of the next batch's samples as negatives of others: float32 [B], or None.

        ``count`` is b; the samples of rank 0 come first. A sample's own positive stays as it is.
        """
        now = self._under_way()
        now.is_corrected = True
        if now.plan.log_negative is None:
            return None
        step = now.chosen or _dealt(now.order[now.done : now.done + count * dist.world()])
        return torch.from_numpy(now.plan.log_negative[step.ids])

    def end_epoch(self) -> None:
        """The epoch is over. The next pass over the loader says so too; this at once, for ``len(loader)``."""
        if (now := self._epoch()).step:
            self._hand_over()
            self.method.end_epoch(now.number)
            self._now, self._is_under_way, self._given = self._begun(now.number + 1), False, 0

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers, the same on every rank: no rank waits for another, and one may call it alone."""
        now = self._epoch()
        self._hand_over()
        return {
            "num_samples": len(self),
            "seed": self.seed,
            "epoch": now.number,
            "done": now.done,
            "step": now.step,
            "batch": now.batch,
            "reference_epoch": self._reference_epoch,
            "plan": now.plan.checksum() if now.number < self.num_epochs else 0,
            "method": states.to_tensors(self.method.state_dict()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; the next pass over the loader gives what was left of its epoch.

        An epoch with less than a batch left counts as complete. Raises ValueError for a state of another data set
        or seed, or where the method would go on with another plan.
        """
        for name, here in (("num_samples", len(self)), ("seed", self.seed)):
            if state[name] != here:
                raise ValueError(f"the state has {name} {state[name]}, this is {here}: it is of another training")
        self._pending.clear()
        self._set_up(states.to_arrays(state["method"]))
        now = self._begun(state["epoch"])
        now.done, now.step, now.batch = state["done"], state["step"], state["batch"]
        if now.step and now.plan.checksum() != state["plan"]:
            raise ValueError(f"{self._name}: epoch {now.number} was begun with another plan: its options differ")
        self._now, self._is_under_way, self._given = now, False, 0
        self._reference_epoch = state["reference_epoch"]

    def _ids(self) -> Iterator[int]:
        """This rank's ids of the epoch that a pass over the loader begins, or goes on with."""
        now, ranks = self._epoch(), dist.world()
        if len(now.order) - self._given < ranks <= len(now.order) and not now.is_complete:
            warnings.warn(
                f"epoch {now.number}: the sampler gave {self._given} samples and update(losses) came for"
                f" {now.done}: call it for every batch, and leave the loader out of accelerate's prepare",
                stacklevel=2,
            )
        if self._is_under_way or now.is_complete:
            self.end_epoch()
            now = self._epoch()
        if now.number >= self.num_epochs:
            raise ValueError(f"all {self.num_epochs} epochs are over: num_epochs says how many there are")
        dist.assert_same(now.plan.checksum(), f"what epoch {now.number} trains on")
        self._given = now.done
        left = now.order[now.done :]
        for sample_id in left[: len(left) - len(left) % ranks][dist.rank() :: ranks].tolist():
            self._given += ranks
            yield sample_id

    def _length(self) -> int:
        return len(self._epoch().order) // dist.world()

    def _epoch(self) -> _Epoch:
        if self._now is None:
            self._set_up()
            self._now = self._begun(0)
        return self._now

    def _set_up(self, state: Any = None) -> None:
        """At the first use and not before: the ranks may meet after the data set is made."""
        if not self._is_set_up:
            ranks = dist.world()
            self.method.setup(self._view, num_epochs=self.num_epochs, seed=self.seed, num_ranks=ranks)
            if state is None and ranks > 1 and isinstance(self.method, StaticPruner):  # rank 0 chooses for all
                state = dist.broadcast(self.method.state_dict() if dist.rank() == 0 else None)
            self._is_set_up = True
        if state is not None:
            self.method.load_state_dict(state)

    def _begun(self, epoch: int) -> _Epoch:
        if epoch >= self.num_epochs:  # the training is over
            return _Epoch(epoch, EpochPlan(np.zeros(len(self), dtype=bool)), np.zeros(0, dtype=np.int64))
        plan = plan_of(self.method, epoch)
        if plan.super_batch != self.method.super_batch:
            raise ValueError(f"{self._name} plans super-batches of several sizes, which no one loader can hold")
        order = full_order(len(self), seed=self.seed, epoch=epoch).astype(np.int64)
        return _Epoch(epoch, plan, order[plan.keep[order]])  # as in our trainer: two methods keep one order

    def _under_way(self) -> _Epoch:
        now, self._is_under_way = self._epoch(), True
        return now

    def _trained_on(self, now: _Epoch, count: int) -> _Step:
        """The step whose losses, ``count`` on each rank, are at hand."""
        if now.plan.super_batch == 1:
            return self._next(now, count)
        if now.chosen is None or len(now.chosen.ids) != count * dist.world():
            raise RuntimeError(f"{self._name} trains on a part of each batch: on what choose gives, then update")
        return now.chosen

    def _next(self, now: _Epoch, count: int) -> _Step:
        """The next ``count`` samples of each rank."""
        end = now.done + count * dist.world()
        if end > self._given:
            raise RuntimeError(
                f"epoch {now.number}: losses of {end} samples, and the sampler gave {self._given}:"
                " give the DataLoader sampler=pruned.sampler and no shuffle, and call update once for each batch"
            )
        step = _dealt(now.order[now.done : end])
        now.batch, now.done = max(now.batch, end - now.done), end
        return step

    def _look_at_reference(self, now: _Epoch) -> None:
        if self._reference_loss is not None and self._reference_epoch != now.number:
            with torch.no_grad():
                self.method.observe_reference(now.number, self._reference_loss())
            self._reference_epoch = now.number

    def _hand_over(self) -> None:
        for step, losses in self._pending:
            self.method.observe(step.ids[step.turns], losses.cpu().numpy()[step.turns])
        self._pending.clear()

    @property
    def _name(self) -> str:
        return type(self.method).__name__


def _dealt(ids: np.ndarray) -> _Step:
    """int64 [B], as one process would have them -> the step in which ranks take turns."""
    turns = np.arange(len(ids)).reshape(dist.world(), -1).T.ravel()
    return _Step(ids.reshape(-1, dist.world()).T.ravel(), turns)


def _both(losses: Tensor) -> Tensor:
    """One loss a sample stands for both directions: [b] or [b, 2] -> [b, 2]."""
    return losses[:, None].expand(-1, 2) if losses.ndim == 1 else losses
