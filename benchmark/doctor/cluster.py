"""What SLURM's own commands say of a cluster, as lines of a doctor's report."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from benchmark.files import told
from benchmark.slurm.cluster import DEFAULT_ARRAY_SIZE, ask, setting


@dataclass(frozen=True)
class Finding:
    """One line: ``level`` is ok, warn or fail; a warning or failure says what to do."""

    level: str
    what: str
    text: str


def guarded(what: str, part: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """What a part finds; if it fails, that, and the next part can go on."""
    try:
        yield from part()
    except OSError as error:
        yield Finding("fail", what, told(error))
    except Exception as error:
        yield Finding("fail", what, f"cannot be told: {type(error).__name__}: {error}")


def cluster_findings() -> Iterator[Finding]:
    """Version, limits, requeue, preemption, accounting, partitions. One failure if the controller is silent."""
    code, config = ask("scontrol", "show", "config")
    if code != 0:
        yield Finding("fail", "controller", f"scontrol does not answer ({_last(config)}): is SLURM_CONF right?")
        return
    yield Finding("ok", "SLURM", setting(config, "SLURM_VERSION") or _last(ask("scontrol", "--version")[1]))
    yield from guarded("arrays", lambda: [_arrays(config)])
    yield from guarded("requeue", lambda: [_requeue(config)])
    yield from guarded("preemption", lambda: [_preemption(config)])
    yield from guarded("accounting", lambda: [_accounting()])
    yield from guarded("partitions", _partitions)


def _arrays(config: str) -> Finding:
    size = int(setting(config, "MaxArraySize") or DEFAULT_ARRAY_SIZE)
    if size > 1:
        return Finding(
            "ok", "arrays", f"at most {size} tasks in one (MaxArraySize); larger sweeps go out in several"
        )
    return Finding("warn", "arrays", "none (MaxArraySize): every run is a job of its own")


def _requeue(config: str) -> Finding:
    if setting(config, "JobRequeue") == "1":
        return Finding("ok", "requeue", "jobs are requeued (JobRequeue=1)")
    return Finding("ok", "requeue", "jobs are requeued if they ask for it (JobRequeue=0), and ours do")


def _preemption(config: str) -> Finding:
    mode = setting(config, "PreemptMode") or "OFF"
    told = re.search(r"send_user_signal", config) is not None
    grace = f"KillWait {setting(config, 'KillWait') or '30 sec'}"
    if "OFF" in mode.upper():
        return Finding("ok", "preemption", "off")
    how = "jobs are told by USR2 first" if told else f"jobs are told by TERM, then killed ({grace})"
    if "REQUEUE" in mode.upper():
        return Finding("ok", "preemption", f"{mode}; {how}; a run goes on from its checkpoint")
    return Finding("warn", "preemption", f"{mode}; {how}; nothing comes back by itself: call the sweep again")


def _accounting() -> Finding:
    code, said = ask("sacct", "-n", "-X", "-j", "1")
    if code == 0:
        return Finding("ok", "accounting", "sacct answers (not needed)")
    return Finding("ok", "accounting", f"no sacct ({_last(said)}): not needed")


def _partitions() -> list[Finding]:
    code, said = ask("sinfo", "-h", "-o", "%P|%a|%l|%D|%c|%m|%G")
    if code != 0:
        return [Finding("fail", "partitions", f"sinfo does not answer ({_last(said)})")]
    found = []
    for line in said.splitlines():
        name, state, limit, nodes, cores, memory, gpus = (line.split("|") + [""] * 7)[:7]
        default = " (the default)" if name.endswith("*") else ""
        devices = "no GPU" if gpus in ("", "(null)") else gpus
        text = f"{nodes} nodes of {cores} cores, {memory} MB, {devices}; time limit {limit}"
        what = f"partition {name.rstrip('*')}{default}"
        found.append(
            Finding("ok" if state == "up" else "warn", what, text + ("" if state == "up" else f"; {state}"))
        )
    return found or [Finding("fail", "partitions", "none that this user may see")]


def _last(text: str) -> str:
    return text.strip().splitlines()[-1] if text.strip() else "no word"
