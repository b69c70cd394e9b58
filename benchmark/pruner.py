"""The pruning interface. A method is one file in ``baselines/``; it owns no model, optimiser, loader or rank.

Every rank holds a copy that gets the same calls with the same arguments, so methods never communicate.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmark import plugins
from benchmark.config.run import Choice
from benchmark.options import ConfigError, build
from benchmark.pool.samples import PoolView
from benchmark.seeds import generator

State = dict[str, Any]
"""Arrays, numbers, strings and None by name: what a checkpoint holds."""


@dataclass(frozen=True)
class EpochPlan:
    """What an epoch trains on."""

    keep: np.ndarray
    """bool [N]: samples to visit."""
    weight: np.ndarray | None = None
    """float32 [N]: factor on each sample's loss; None means 1."""
    observe: bool = False
    """Whether ``observe`` wants this epoch's losses."""
    log_negative: np.ndarray | None = None
    """float32 [N]: added to a sample's logit where it is a negative of another; None means 0.

    The log of a sample's weight makes the kept negatives stand for those that were left out. A sample's own
    positive stays as it is.
    """
    super_batch: float = 1.0
    """How many times larger the batch is from which ``choose`` takes each global batch; at 1 it is not asked."""

    def checksum(self) -> int:
        """One number that ranks compare: 32 bits over all that an epoch trains on."""
        value = zlib.crc32(np.packbits(self.keep).tobytes())
        for name in ("weight", "log_negative"):
            array = getattr(self, name)
            if array is not None:
                value = zlib.crc32(np.ascontiguousarray(array).tobytes(), zlib.crc32(name.encode(), value))
        return value if self.super_batch == 1 else zlib.crc32(repr(float(self.super_batch)).encode(), value)


class PlanError(ValueError):
    """A method that breaks its contract; the message names it, what came and what is due."""


class Pruner(ABC):
    """A pruning method. Subclasses are dataclasses whose fields are hyper-parameters and nothing else."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Features that must exist before ``setup``: the pool's ``image_embedding`` and ``text_embedding``, [N, d];
    ``target_embedding`` of another data set's images, [M, d]. A property where it depends on an option."""
    uses_truth: ClassVar[bool] = False
    """Whether it is a control that sees planted truth (``PoolView.truth``): no method may, and a table says so."""
    revision: ClassVar[int | None] = None
    """Set to 2, and up, where the same options choose other samples than in an earlier version: it then enters the
    run's name and label. A property where that holds for some options alone."""

    pool: PoolView
    num_epochs: int
    seed: int
    num_ranks: int
    runs_folder: Path = Path()
    """Where the runs that options name (``options.RUNS``) have their folders."""

    def __post_init__(self) -> None:  # noqa: B027 (optional)
        """Check the options. Raises ValueError; extend it, as one base class may check some and another others."""

    def setup(self, pool: PoolView, *, num_epochs: int, seed: int, num_ranks: int = 1) -> None:
        """Called once before training, also before ``load_state_dict``. Extend to allocate state."""
        self.pool, self.num_epochs, self.seed, self.num_ranks = pool, num_epochs, seed, num_ranks

    @property
    def family(self) -> str:
        """``static`` for a method that chooses once, else ``dynamic``: how a record and a report file it."""
        return "static" if isinstance(self, StaticPruner) else "dynamic"

    @property
    def uses_target_data(self) -> bool:
        """Whether it looks at images of the task that is evaluated: a table must say so."""
        return "target_embedding" in self.needs

    @property
    def reference_data(self) -> Any:
        """The source, a name or a name with its options, whose held-out clean samples it watches; None for none.

        A table must say so. ``observe_reference`` is then called in each epoch whose losses the method gets.
        """
        return None

    @property
    def super_batch(self) -> float:
        """The largest ``super_batch`` of any epoch's plan: the planner checks that pool and ranks can hold it."""
        return 1.0

    @abstractmethod
    def plan(self, epoch: int) -> EpochPlan:
        """What ``epoch`` (from 0) trains on. Pure: asking twice, or after a restart, gives the same answer."""

    def choose(
        self, epoch: int, step: int, ids: np.ndarray, losses: np.ndarray, similarity: np.ndarray, count: int
    ) -> np.ndarray:
        """The ``count`` samples of a super-batch to train on: int64 [count], positions in it, rising.

        ids int64 [S]; losses float32 [S, 2], a column a direction, and similarity float32 [S], a sample's
        cosine with its own positive, are those of the whole super-batch under the present model. Called once
        a step, in order; what it keeps of them belongs into ``state_dict``.
        """
        raise NotImplementedError(f"{type(self).__name__} plans super-batches, so it must define choose")

    def observe_reference(self, epoch: int, loss: float) -> None:  # noqa: B027 (optional)
        """Mean loss of the reference data under the model as it is before the first step of ``epoch``."""

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:  # noqa: B027 (optional)
        """A global batch, in order: ids int64 [B], losses float32 [B, 2], a column a direction."""

    def end_epoch(self, epoch: int) -> None:  # noqa: B027 (optional)
        """Every batch of ``epoch`` was observed."""

    def candidates(self) -> Mapping[str, np.ndarray]:
        """Samples the method would leave out at present, bool [N] by reason: for the report alone."""
        return {}

    def marks(self, epoch: int) -> np.ndarray | None:
        """What ``epoch``, just ended, found of every sample: uint8 [N], kept on disk for ``ranking``; or None."""
        return None

    def ranking(self, history: Iterable[np.ndarray]) -> np.ndarray | None:
        """After training, the most dispensable samples highest: float [N], from all epochs' ``marks`` in order.

        None if the method ranks nothing. It makes the run's coreset, at any budget.
        """
        return None

    def state_dict(self) -> State:
        """Everything ``load_state_dict`` needs to go on as if never interrupted; masks packed to bits."""
        return {}

    def load_state_dict(self, state: State) -> None:  # noqa: B027 (optional)
        """Take up the state of a checkpoint."""

    def rng(self, epoch: int, *position: int) -> np.random.Generator:
        """A fresh generator for ``epoch`` (and a batch in it), the same on every rank and after every restart."""
        return generator(self.seed, "pruner", epoch, *position)


class StaticPruner(Pruner):
    """A method that chooses once, before training: with ``needs`` in a job of its own, where ``num_ranks`` is 1.

    Its runs then take up that job's ``state_dict``, and none of them calls ``select``.
    """

    _keep: np.ndarray | None = None

    @abstractmethod
    def select(self, pool: PoolView) -> np.ndarray:
        """bool [N]: samples to keep for the whole run."""

    def multiply_adds(self, total: int, width: int) -> float | None:
        """Of ``select`` on features [total, width]: what its time is reckoned by before; None where none tells."""
        return None

    def plan(self, epoch: int) -> EpochPlan:
        if self._keep is None:
            keep = np.asarray(self.select(self.pool))
            _check_array(f"{type(self).__name__}.select", keep, np.bool_, self.pool.num_samples)
            self._keep = keep
        return EpochPlan(self._keep)

    def state_dict(self) -> State:
        return {"keep": pack(self.plan(0).keep)}

    def load_state_dict(self, state: State) -> None:
        self._keep = unpack(state["keep"], self.pool.num_samples)


def plan_of(pruner: Pruner, epoch: int) -> EpochPlan:
    """What ``epoch`` trains on, checked. Raises PlanError for a plan of another shape, or of another each time."""
    name, due = type(pruner).__name__, pruner.pool.num_samples
    plan = pruner.plan(epoch)
    if not isinstance(plan, EpochPlan):
        raise PlanError(f"{name}.plan({epoch}) must return an EpochPlan, got {type(plan).__name__}")
    _check_array(f"{name}.plan({epoch}): keep", plan.keep, np.bool_, due)
    for key in ("weight", "log_negative"):
        if (values := getattr(plan, key)) is not None:
            _check_array(f"{name}.plan({epoch}): {key}", values, np.float32, due)
            if not np.isfinite(values).all():
                bad = np.flatnonzero(~np.isfinite(values))
                raise PlanError(
                    f"{name}.plan({epoch}): {key} must be finite, got {values[bad[0]]} for {len(bad)} of {due}"
                    f" samples, the first {bad[0]}"
                )
    if not 1 <= plan.super_batch <= pruner.super_batch:
        raise PlanError(
            f"{name}.plan({epoch}): super_batch must lie between 1 and {pruner.super_batch:g} (the method's"
            f" property super_batch), got {plan.super_batch!r}"
        )
    if pruner.plan(epoch).checksum() != plan.checksum():
        raise PlanError(
            f"{name}.plan({epoch}) gives another answer when it is asked again: a run that is restarted would"
            " become another run. Draw from self.rng(epoch), and change nothing in plan"
        )
    return plan


def _check_array(what: str, array: object, dtype: type[np.generic], due: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != (due,):
        came = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise PlanError(f"{what} must be {np.dtype(dtype).name} [{due}], got {came}")


def make_pruner(choice: Choice, where: str) -> Pruner:
    """Build a method from its name and options. Raises ConfigError that opens with ``where``."""
    cls = plugins.load("baselines", choice.name, Pruner, where)  # type: ignore[type-abstract]
    pruner = build(cls, choice.options, f"{where}.{choice.name}")
    if problem := forgets(cls):
        raise ConfigError(f"{where}.{choice.name}: {problem}")
    return pruner


def forgets(cls: type[Pruner]) -> str:
    """What a method that learns from losses lacks to be restarted; "" if nothing."""
    learns = [name for name in ("observe", "end_epoch") if _defines(cls, name)]
    lacks = [name for name in ("state_dict", "load_state_dict") if not _defines(cls, name)]
    if not learns or not lacks:
        return ""
    return (
        f"{cls.__name__} defines {' and '.join(learns)} and not {' and '.join(lacks)}: a run that is restarted"
        " would go on without what it learned. Save it there (or return an empty state if nothing is to be saved)"
    )


def _defines(cls: type[Pruner], name: str) -> bool:
    """Whether a class, or one between it and the interface, has a method of its own."""
    return getattr(cls, name) not in (getattr(Pruner, name), getattr(StaticPruner, name))


def pack(mask: np.ndarray) -> np.ndarray:
    """bool [N] -> uint8 [ceil(N / 8)]."""
    return np.packbits(mask)


def unpack(bits: np.ndarray, num_samples: int) -> np.ndarray:
    """uint8 [ceil(N / 8)] -> bool [N]."""
    return np.unpackbits(bits, count=num_samples).astype(bool)
