"""What a run asks of the machine."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import Any

from benchmark.config.memory import OPTIONS, megabytes
from benchmark.options import build, read_by, require

SAID_ELSEWHERE = {
    "nodes": "launch.nodes",
    "ntasks-per-node": "launch.ranks",
    "cpus-per-task": "launch.cpus",
    "gpus-per-node": "launch.gpus",
    "time": "launch.minutes",
    "partition": "launch.partition",
    "account": "launch.account",
    "qos": "launch.qos",
    "constraint": "launch.constraint",
    "array": "launch.at_once",
    "job-name": "the sweep's name",
    "cpus-per-gpu": "launch.cpus",
}
"""Options of sbatch that have a name of their own here, or exclude one that has."""
OTHER_CLUSTERS = ("clusters", "cluster", "M")
"""Options of sbatch that send a job where squeue would not look for it."""


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """What a run asks of the machine; none of it changes a result."""

    nodes: int = 1
    gpus: int = 0
    """GPUs a node."""
    ranks: int | None = None
    """Ranks a node; None means one a GPU, or one without GPUs."""
    cpus: int = 1
    """Cores a rank; on the CPU also its threads."""
    memory_gb: int | None = None
    minutes: int = field(default=60, metadata=read_by(lambda text: minutes_of(text)))
    """The limit of an attempt. Texts are read as by SLURM: ``24:00:00``, ``2-00``; ``90:00`` is 90 minutes."""
    signal_seconds: int = 90
    """How long before the time limit SLURM tells a run to save and go back into the queue; SLURM may be a minute
    early. It must suffice for a step and a checkpoint, and is at most half the limit."""
    at_once: int | None = None
    """Most runs of one shape that SLURM runs at a time; None leaves it to the cluster."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    hang_minutes: float = 20.0
    """How long a step of training may take; then what each rank is at goes to its log and the job back into the
    queue. 0 waits for ever. A process's first step, choices, checkpoints and evaluations are not counted."""
    setup: list[str] = field(default_factory=list)
    """Shell lines before the job, such as ``module load cuda``."""
    sbatch: dict[str, Any] = field(default_factory=dict)
    """Any other sbatch option, ``{mail-type: END}``; true stands for an option without a value, false leaves out
    one that a profile has. ``{requeue: false}`` declines what every job asks for: to go back into the queue."""
    srun: dict[str, Any] = field(default_factory=dict)
    """Any option of the srun that starts the ranks, ``{cpu-bind: none}``."""
    evaluate: dict[str, Any] = field(default_factory=dict)
    """Options of this section for the evaluation, ``{gpus: 1, minutes: 2880}``, which is then a job of its own;
    what it does not say is as for the training, but for one node. Empty: the run's own job does it."""

    def __post_init__(self) -> None:
        for name in ("nodes", "cpus", "minutes"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        require(self.signal_seconds >= 0, "signal_seconds", "at least 0", self.signal_seconds)
        require(self.gpus >= 0, "gpus", "at least 0", self.gpus)
        for name in ("ranks", "at_once"):
            require(
                getattr(self, name) is None or getattr(self, name) >= 1, name, "at least 1", getattr(self, name)
            )
        for name in ("partition", "account", "qos", "constraint"):
            _check_line(name, getattr(self, name) or "")
        for name in ("sbatch", "srun"):
            for key, value in getattr(self, name).items():
                _check_slurm_option(name, str(key), value)
        require(self.hang_minutes >= 0, "hang_minutes", "at least 0", self.hang_minutes)
        self._check_memory()
        if self._of_sbatch("requeue") and self._of_sbatch("no-requeue"):
            raise ValueError("sbatch: requeue and no-requeue exclude one another: say one")
        if self.evaluate:
            require("evaluate" not in self.evaluate, "evaluate", "options but itself", self.evaluate)
            self.of_evaluation  # noqa: B018 (a wrong option is told when the sweep is read)

    def _check_memory(self) -> None:
        """Raise ValueError for what sbatch would refuse, since it is said twice, or cannot read."""
        said = ["memory_gb"] * (self.memory_gb is not None)
        said += [f"sbatch.{name}" for name in OPTIONS if self._of_sbatch(name) is not None]
        if len(said) > 1:
            raise ValueError(f"{' and '.join(said)} both say how much memory a job gets: say one")
        if self._of_sbatch("mem-per-gpu") is not None and not self.gpus:
            raise ValueError("sbatch.mem-per-gpu: asks for nothing without gpus: say memory_gb")
        for name in OPTIONS:
            if (value := self._of_sbatch(name)) is not None:
                try:
                    megabytes(value)
                except ValueError as error:
                    raise ValueError(f"sbatch.{name}: {error}") from None

    def _of_sbatch(self, name: str) -> Any:
        """What ``sbatch`` says of an option; None if nothing."""
        return {key.replace("_", "-"): value for key, value in self.sbatch.items()}.get(name)

    @property
    def sbatch_options(self) -> dict[str, Any]:
        """``sbatch`` as the script says it. SLURM queues no job again that does not ask for it (JobRequeue=0)."""
        asks = not self._of_sbatch("no-requeue") and self._of_sbatch("requeue") is not False
        others = {
            key: value
            for key, value in self.sbatch.items()
            if value is not False and key.replace("_", "-") not in ("requeue", "no-requeue")
        }
        return {**others, "requeue" if asks else "no-requeue": True}

    @property
    def cores_per_node(self) -> int:
        return self.cpus * self.ranks_per_node

    @property
    def of_evaluation(self) -> LaunchConfig:
        """What the evaluation asks for where it is a job of its own. Raises ConfigError for a wrong option."""
        as_training = {f.name: getattr(self, f.name) for f in fields(self)}
        own = {"nodes": 1, "ranks": None, "evaluate": {}, **self.evaluate}
        return build(LaunchConfig, {**as_training, **own}, "evaluate")

    @property
    def ranks_per_node(self) -> int:
        return self.ranks or max(self.gpus, 1)

    @property
    def num_ranks(self) -> int:
        return self.nodes * self.ranks_per_node

    @property
    def warning_seconds(self) -> int:
        """``signal_seconds``, but never so long that a short job is told to stop as it starts."""
        return min(self.signal_seconds, self.minutes * 30)

    @property
    def srun_words(self) -> list[str]:
        """``srun`` as it stands on a command line, after what every run needs.

        srun does not take the job's cores by itself (since SLURM 22.05), lets ranks wait for one that failed, and
        under ``sbatch --export=NONE`` would give them an empty environment.
        """
        words = {"kill-on-bad-exit": 1, "cpus-per-task": self.cpus, "export": "ALL", **self.srun}
        return [f"--{k}" if v is True else f"--{k}={v}" for k, v in words.items() if v is not False]


def minutes_of(text: str) -> int:
    """A time limit as SLURM reads it (``man sbatch``, --time), in minutes, of which a part counts as a whole one.

    ``M``, ``M:S``, ``H:M:S``, ``D-H``, ``D-H:M`` or ``D-H:M:S``. Raises ValueError for other texts.
    """
    if not re.fullmatch(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", text):
        raise ValueError(f"expected minutes, H:M:S, D-H or D-H:M:S, as SLURM writes times, got '{text}'")
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if not dash and len(parts) < 3:
        parts = [0, *parts]
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return (int(days or 0) * 24 + hours) * 60 + minutes + -(-seconds // 60)


def _check_slurm_option(kind: str, key: str, value: Any) -> None:
    """Raise ValueError for an option that sbatch or srun would be given twice, or could not be given."""
    if key.startswith("-"):
        raise ValueError(f"{kind}.{key}: write it without its dashes, '{key.lstrip('-')}'")
    if kind == "sbatch" and key.replace("_", "-") in SAID_ELSEWHERE:
        raise ValueError(f"{kind}.{key}: say {SAID_ELSEWHERE[key.replace('_', '-')]} instead")
    if kind == "sbatch" and key in OTHER_CLUSTERS:
        raise ValueError(
            f"{kind}.{key}: a sweep asks one cluster about its jobs; call it on a login node of that cluster,"
            " or with SLURM_CONF naming its slurm.conf"
        )
    if not isinstance(value, str | int | float):
        raise ValueError(f"{kind}.{key}: expected one value, got {value!r}")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", key):
        raise ValueError(f"{kind}.{key!r}: no option of SLURM's is written like this")
    _check_line(f"{kind}.{key}", str(value))


def _check_line(name: str, text: str) -> None:
    """Raise ValueError for a text that would become several lines of the script."""
    if not text.isprintable():
        raise ValueError(f"{name}: expected one line of printable text, got {text!r}")
