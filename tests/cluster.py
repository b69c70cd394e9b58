"""A real SLURM of two nodes on this machine's loopback: ``python tests/cluster.py COMMAND...`` runs in it.

Needs root and Debian's packages slurm-wlm, slurm-wlm-basic-plugins and munge. Everything it starts is told
apart by its own folder, ports and munge socket, and ended by process id.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from patience import patience

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "scontrol")
NODES = ("n1", "n2")

CONFIG = """\
ClusterName=scanbench
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port1} CPUs=2 RealMemory=4000 Gres=gpu:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port2} CPUs=2 RealMemory=4000 Gres=gpu:2
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10
"""
OVER_MEMORY = """\
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill"""
"""Lines for ``cluster(extra=...)``: a step that takes more memory than its job asked for is killed."""
GRES = "NodeName=n[1-2] Name=gpu Count=2 File=/dev/null,/dev/zero\n"


def why_not() -> str | None:
    """Why no cluster can be started here, or None."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"SLURM is not installed ({', '.join(absent)} missing)"
    return None if os.geteuid() == 0 else "a test cluster needs root"


@contextmanager
def cluster(extra: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """Start it; yields the environment its clients need; ends every process it started.

    ``extra`` lines of configuration take the place of those that set the same thing.
    """
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    started: list[subprocess.Popen[bytes]] = []
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    try:
        _configure(folder, extra)
        munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket"]
        munge += [f"--key-file={folder}/munge.key", f"--pid-file={folder}/munged.pid"]
        munge += [f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"]
        started.append(_start(munge, environment))
        _wait(lambda: (folder / "munge.socket").exists(), "munged", folder)
        started.append(_start(["slurmctld", "-D", "-f", str(folder / "slurm.conf")], environment))
        for node in NODES:
            started.append(start_node(node, environment))
        _wait(lambda: _idle_nodes(environment) == len(NODES), "nodes", folder)
        yield environment
    finally:
        end_jobs(environment)
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in reversed(started):
            try:
                process.wait(timeout=patience(15))
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def end_jobs(environment: dict[str, str], seconds: float = 30) -> None:
    """Cancel what is left and let the nodes clean up after it, so that no step outlives them."""
    end = time.monotonic() + patience(seconds)
    while time.monotonic() < end:
        for partition in ("main", "urgent"):
            subprocess.run(["scancel", f"--partition={partition}"], env=environment, capture_output=True)
        done = subprocess.run(["squeue", "-h"], env=environment, capture_output=True, text=True)
        if done.returncode != 0 or not done.stdout.strip():
            return
        time.sleep(0.5)


def start_node(node: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A node's daemon; of a running cluster for one whose daemon was killed, which the caller then ends."""
    return _start(["slurmd", "-D", "-N", node, "-f", environment["SLURM_CONF"]], environment)


def node_daemon(node: str, environment: dict[str, str]) -> int:
    """Process id of a node's daemon."""
    return int((Path(environment["SLURM_CONF"]).parent / f"slurmd-{node}.pid").read_text())


def _configure(folder: Path, extra: Sequence[str]) -> None:
    host = socket.gethostname().split(".")[0]
    ports = dict(zip(("port", "port1", "port2"), _free_ports(3), strict=True))
    lines = CONFIG.format(host=host, folder=folder, **ports).splitlines()
    settings = [line for text in extra for line in text.splitlines()]
    replaced = {_setting(line) for line in settings}
    lines = [line for line in lines if _setting(line) not in replaced] + settings
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")
    (folder / "gres.conf").write_text(GRES)
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)


def _setting(line: str) -> str:
    """What a line of configuration sets; a partition or node counts with its name."""
    return line.split()[0] if line.startswith(("PartitionName", "NodeName")) else line.split("=")[0]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def _start(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet, stdin=quiet)


def _idle_nodes(environment: dict[str, str]) -> int:
    sinfo = ["sinfo", "-h", "-N", "-p", "main", "-o", "%t"]
    done = subprocess.run(sinfo, env=environment, capture_output=True, text=True)
    return done.stdout.split().count("idle")


def _wait(condition: object, what: str, folder: Path, seconds: float = 60) -> None:
    assert callable(condition)
    end = time.monotonic() + patience(seconds)
    while not condition():
        if time.monotonic() > end:
            logs = "".join(f"\n--- {p.name}\n{p.read_text()[-2000:]}" for p in sorted(folder.glob("*.log")))
            raise RuntimeError(f"{what} did not come up in {seconds} s{logs}")
        time.sleep(0.2)


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(reason)
    with cluster() as env:
        sys.exit(subprocess.call(sys.argv[1:] or [os.environ.get("SHELL", "bash")], env=env))
