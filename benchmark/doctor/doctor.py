"""``python -m benchmark.sweep doctor``: send a probe where runs would go, and say what is supported there."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import submitit
from rich.console import Console

from benchmark.config.launch import LaunchConfig
from benchmark.config.profiles import as_launch
from benchmark.doctor import probe
from benchmark.doctor.cluster import Finding, cluster_findings, guarded
from benchmark.files import absolute, try_lock
from benchmark.launch import slots
from benchmark.launch.sbatch import advice, job_number, refusal, sbatch
from benchmark.launch.script import for_slurm, slurm_parameters
from benchmark.options import ConfigError, Parser
from benchmark.slurm.cluster import ask

STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}
PROBE_MINUTES = 5
"""The probe's time limit; it takes seconds once it runs."""
ANSWER_SECONDS = 120.0
STAND_IN = "names in lock files, living processes and heartbeats stand in for locks (docs/slurm.md)"
LOCKS = {
    False: Finding("ok", "locks", "what is locked here is locked there"),
    True: Finding("warn", "locks", f"what is locked here is free there: {STAND_IN}"),
    None: Finding("warn", "locks", f"the file system has none: {STAND_IN}"),
}
"""By whether the probe got a lock that this process holds."""
LOW_BYTES = 20 * 1024**3
ROOT = Path(__file__).parents[2]


def main(words: Sequence[str], console: Console) -> int:
    """0 if runs can be expected to work there, else 1. Raises ConfigError for wrong options."""
    options = parser().parse_intermixed_args(list(words))
    launch = as_launch(options.overrides, options.profile)
    cluster = options.cluster or ("slurm" if shutil.which("sbatch") else "local")
    levels = []
    for finding in _examine(cluster, launch, options.results, options.wait):
        levels.append(finding.level)
        console.print(f"{finding.level:4}", style=STYLES[finding.level], end="  ")
        console.print(f"{finding.what}: {finding.text}", markup=False, highlight=False, soft_wrap=True)
    return 1 if "fail" in levels else 0


def _examine(cluster: str, launch: LaunchConfig, results: Path, wait: float) -> Iterator[Finding]:
    """What is found, part after part: one that fails is told and leaves the others to be tried."""
    has_failed = False
    for finding in _surroundings(cluster):
        has_failed = has_failed or finding.level == "fail"
        yield finding
    if has_failed and cluster == "slurm":
        cluster = "local"
        yield Finding("warn", "probe", "tries this machine, since SLURM's does not work")
    yield from guarded("results", lambda: _results(cluster, launch, absolute(results), wait))


def _surroundings(cluster: str) -> Iterator[Finding]:
    if cluster != "slurm":
        yield from guarded("machine", _machine)
    elif shutil.which("sbatch") is None:
        yield Finding("fail", "SLURM", "sbatch is not installed on this machine: use --cluster local")
    else:
        yield from cluster_findings()


def _machine() -> Iterator[Finding]:
    yield Finding("ok", "machine", f"{len(os.sched_getaffinity(0))} cores, {len(slots.machine_gpus())} GPUs")


def _results(cluster: str, launch: LaunchConfig, results: Path, wait: float) -> Iterator[Finding]:
    """The folder of results, and a probe that meets this process there."""
    results.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".doctor-", dir=results))
    folder.chmod(0o755)
    try:
        with (folder / probe.LOCK).open("w") as lock:
            try_lock(lock.fileno())
            starter = _on_slurm(folder, launch) if cluster == "slurm" else _on_this_machine(folder)
            with starter as job:
                yield from _converse(job, folder, launch, wait)
    except ConfigError as error:
        yield Finding("fail", "submission", str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class _Probe:
    """A probe under way: a job of SLURM, or a process here."""

    job_id: str | None
    process: subprocess.Popen[bytes] | None = None

    def standing(self) -> str:
        """Why it has not begun; "" if it is gone."""
        if self.process is not None:
            return "started" if self.process.poll() is None else ""
        return ask("squeue", "-h", "-j", str(self.job_id), "-o", "%T, %r")[1].strip()

    def signal(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGUSR2)
        else:
            ask("scancel", "--signal=USR2", str(self.job_id))


def _converse(job: _Probe, folder: Path, launch: LaunchConfig, wait: float) -> Iterator[Finding]:
    where = f"job {job.job_id}" if job.job_id else "process"
    yield Finding("ok", "probe", f"submitted as {where}")
    started = time.monotonic()
    alive = _file(folder / probe.ALIVE, job, wait)
    if alive is None:
        standing = job.standing()
        if "RUNNING" in standing:
            text = (
                f"runs, but its files do not show here: put --results on a shared file system, not {folder.parent}"
            )
            yield Finding("fail", "shared folder", text)
        elif standing:
            text = f"has not begun after {wait:.0f} s ({standing}): --wait SECONDS waits longer"
            yield Finding("warn" if "PENDING" in standing else "fail", "probe", f"{text}. {_printed(folder)}")
        else:
            yield Finding("fail", "probe", f"ended without a word. {_printed(folder)}")
        return
    yield Finding("ok", "probe", f"began on {alive['host']} after {time.monotonic() - started:.1f} s")
    started = time.monotonic()
    (folder / probe.PING).write_text("")
    if _file(folder / probe.PONG, job, 60) is None:
        text = f"{folder.parent} is not the same folder on the node: put --results on a shared file system"
        yield Finding("fail", "shared folder", text)
    else:
        lag = time.monotonic() - started
        text = f"a file goes to the node and another comes back in {lag:.2f} s"
        yield Finding("ok" if lag < 10 else "warn", "shared folder", text)
    job.signal()
    if _file(folder / probe.SIGNAL, job, probe.SIGNAL_SECONDS) is None:
        text = "USR2 did not arrive: runs are not told of their time limit; lower train.checkpoint_minutes"
        yield Finding("warn", "signals", text)
    else:
        yield Finding("ok", "signals", "USR2 arrives at the ranks")
    yield LOCKS[alive["lock"]]
    facts = _file(folder / probe.FACTS, job, ANSWER_SECONDS)
    if facts is None:
        yield Finding("fail", "torch", f"no answer in {ANSWER_SECONDS:.0f} s. {_printed(folder)}")
        return
    yield from _facts(facts, launch, on_slurm=job.process is None)


def _facts(facts: dict[str, Any], launch: LaunchConfig, on_slurm: bool) -> Iterator[Finding]:
    if "torch_error" in facts:
        text = f"{facts['torch_error']}: set launch.setup to what makes this environment ready on a node"
        yield Finding("fail", "torch", text)
        return
    slow = facts["import_seconds"] > 60
    text = f"{facts['torch']}, Python {facts['python']}, imported in {facts['import_seconds']:.1f} s"
    yield Finding(
        "warn" if slow else "ok", "torch", text + ("; put the environment on a faster disk" if slow else "")
    )
    yield _cuda(facts, launch)
    if "ranks_error" in facts:
        hint = "set NCCL_SOCKET_IFNAME or GLOO_SOCKET_IFNAME in launch.setup"
        yield Finding("fail", "ranks", f"{facts['backend']}: {facts['ranks_error']}; {hint}")
    else:
        yield Finding("ok", "ranks", f"{facts['ranks_met']} of {facts['ranks']} met over {facts['backend']}")
    few = facts["cores"] < launch.cpus
    hint = "; set launch.srun={cpus-per-task: N}" if few and on_slurm else ""
    text = f"a rank sees {facts['cores']} and asked for {launch.cpus} (launch.cpus){hint}"
    yield Finding("warn" if few else "ok", "cores", text)
    for what, key in (("results", "free_bytes"), (facts["scratch"], "scratch_free_bytes")):
        low = key == "free_bytes" and facts[key] < LOW_BYTES
        hint = "; a checkpoint takes three times its model's size, and two are kept" if low else ""
        yield Finding("warn" if low else "ok", f"free disk, {what}", f"{facts[key] / 1024**3:,.0f} GiB{hint}")


def _cuda(facts: dict[str, Any], launch: LaunchConfig) -> Finding:
    gpus = facts["gpus"]
    if launch.gpus and len(gpus) < launch.gpus:
        hint = "is torch built for CUDA, and does the node's driver fit it?"
        return Finding(
            "fail", "CUDA", f"torch sees {len(gpus)} of {launch.gpus} GPUs (CUDA {facts['cuda']}): {hint}"
        )
    if not gpus:
        return Finding("warn", "CUDA", "not tested, the probe asked for no GPU: launch.gpus=1 does")
    bf16 = "bf16" if facts["bf16"] else "no bf16"
    return Finding("ok", "CUDA", f"{facts['cuda']}, {len(gpus)} x {gpus[0]}, {bf16}")


@contextmanager
def _on_slurm(folder: Path, launch: LaunchConfig) -> Iterator[_Probe]:
    """A job with the options of ``launch``; cancelled in the end. Raises ConfigError if sbatch refuses."""
    executor = submitit.SlurmExecutor(folder=for_slurm(folder))
    parameters = slurm_parameters(dataclasses.replace(launch, minutes=PROBE_MINUTES), "scan-bench-doctor")
    parameters["setup"] = [f"export PYTHONPATH={shlex.quote(str(ROOT))}:$PYTHONPATH", *parameters["setup"]]
    executor.update_parameters(**parameters)
    # a rank that has yet to start must not end of the signal that tests the first
    words = [
        "sh",
        "-c",
        'trap "" USR2; exec "$0" "$@"',
        sys.executable,
        "-m",
        "benchmark.doctor.probe",
        str(folder),
    ]
    script = folder / "probe.sh"
    script.write_text(executor._make_submission_file_text(shlex.join(words), "probe"))
    answer = sbatch(script, folder)
    job_id = job_number(answer)
    if not job_id:
        told = refusal(answer)
        raise ConfigError(f"sbatch refuses: {told}" + (f": {advice(told)}" if advice(told) else ""))
    try:
        yield _Probe(job_id)
    finally:
        ask("scancel", job_id)


@contextmanager
def _on_this_machine(folder: Path) -> Iterator[_Probe]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    environment["PYTHONPATH"] = f"{ROOT}:{environment.get('PYTHONPATH', '')}"
    with (folder / "probe_log.out").open("wb") as log:
        words = [sys.executable, "-m", "benchmark.doctor.probe", str(folder)]
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
        try:
            yield _Probe(None, process)
        finally:
            process.kill()
            process.wait()


def _file(path: Path, job: _Probe, seconds: float) -> dict[str, Any] | None:
    """What the probe wrote; None if it does not come in time, or the probe is gone."""
    end, next_look = time.monotonic() + seconds, time.monotonic() + 5
    while path.name not in os.listdir(path.parent):  # a listing makes network file systems look again
        if time.monotonic() > end:
            return None
        if time.monotonic() > next_look:
            next_look = time.monotonic() + 5
            if not job.standing() and path.name not in os.listdir(path.parent):
                return None
        time.sleep(0.02)
    content = json.loads(path.read_text() or "{}")
    assert isinstance(content, dict)
    return content


def _printed(folder: Path) -> str:
    """The last line that the probe printed."""
    texts = [path.read_text(errors="replace").strip() for path in sorted(folder.glob("*_log.*"))]
    lines = [line for text in texts for line in text.splitlines() if line.strip()]
    return f"It printed: {lines[-1]}" if lines else "It printed nothing."


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m benchmark.sweep doctor",
        description="Send a probe where runs would go and say what is supported there, a line each.",
    )
    parser.add_argument("overrides", nargs="*", metavar="launch.key=value", help="what runs would ask for")
    parser.add_argument("--cluster", choices=("slurm", "local"), help="default: slurm if this machine has it")
    parser.add_argument("--profile", help="cluster profile: a name or a path")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of all sweeps")
    parser.add_argument("--wait", type=float, default=300, help="seconds for the probe to begin (default: 300)")
    return parser
