"""``python -m benchmark.sweep SWEEP [key=value ...]``: plan a sweep and run what is missing of it."""

from __future__ import annotations

import argparse
import logging
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmark import plugins
from benchmark.launch import LocalQueue, local_limit, run_inline
from benchmark.lease import HeldError, lease
from benchmark.options import ConfigError
from benchmark.plan import PlannedRun, make_plan, plan_table, with_states, write_plan
from benchmark.slurm import queue_states, submit_slurm
from benchmark.sweepfile import read_sweep

EXIT_FAILED, EXIT_USAGE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 if a run failed or cannot be read, 2 for a mistake in the input."""
    options = _parser().parse_intermixed_args(arguments)
    console = Console(stderr=True)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        return _sweep(options, console)
    except (ConfigError, HeldError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on from here")
        return 130


def _sweep(options: argparse.Namespace, console: Console) -> int:
    sweep = read_sweep(options.sweep, options.overrides)
    plan = make_plan(sweep, options.results)
    runs = with_states(plan, queue_states(plan))
    if options.dry_run or options.status:
        Console(width=None if sys.stdout.isatty() else 160).print(plan_table(runs, _title(sweep.name, runs)))
        return 0
    cluster = options.cluster or _default_cluster()
    folder = options.results / sweep.name
    with lease(folder / "sweep.lock", wait_seconds=60):  # two sweeps at once submit one after the other
        runs = with_states(plan, queue_states(plan))
        write_plan(runs, sweep, options.results, _command(options))
        todo = _to_do(runs, options.retry)
        console.print(_title(sweep.name, runs) + f"; {len(todo)} to run ({cluster})", soft_wrap=True)
        if cluster == "slurm" and todo:
            ids = submit_slurm(todo, folder)
            console.print(f"submitted {len(ids)} runs as {', '.join(ids)}; see --status", soft_wrap=True)
    if cluster == "inline":
        run_inline(todo, console, options.fail_fast)
    elif cluster == "local":
        LocalQueue(todo, options.jobs or local_limit(todo), options.fail_fast, console).work()
    return _conclude(plan, cluster, console)


def _default_cluster() -> str:
    """SLURM where its controller answers, this machine where there is no SLURM; raises ConfigError in between."""
    if shutil.which("sbatch") is None:
        return "local"
    if subprocess.run(["sinfo", "-h"], capture_output=True, timeout=60).returncode != 0:
        raise ConfigError(
            "SLURM is installed here but does not answer (sinfo); choose with --cluster slurm or local"
        )
    return "slurm"


def _to_do(runs: Sequence[PlannedRun], retry: bool) -> list[PlannedRun]:
    """What to start, in an order in which every run comes after those it waits for."""
    startable = ("absent", "partial", "waiting", "blocked") + (("failed",) if retry else ())
    coming = {run.config.name for run in runs if run.state.name in ("done", "queued", "running")}
    todo = []
    for run in runs:
        if run.state.name in startable and coming.issuperset(run.config.waits_for):
            coming.add(run.config.name)
            todo.append(run)
    return todo


def _conclude(plan: Sequence[PlannedRun], cluster: str, console: Console) -> int:
    """Say what is wrong, and how to go on."""
    runs = with_states(plan, queue_states(plan))
    for run in runs:
        if run.state.name in ("failed", "unreadable"):
            console.print(f"{run.state.name}: {run.config.name}", style="red", markup=False, soft_wrap=True)
            console.print(f"  {run.state.detail}\n  in {run.folder}", markup=False, soft_wrap=True)
    if any(run.state.name == "failed" for run in runs):
        console.print("the same command with --retry takes failed runs again")
    console.print(_title(plan[0].config.sweep, runs), soft_wrap=True)
    return EXIT_FAILED if any(run.state.name in ("failed", "unreadable") for run in runs) else 0


def _title(name: str, runs: Sequence[PlannedRun]) -> str:
    counts = {
        state: sum(run.state.name == state for run in runs) for state in sorted({r.state.name for r in runs})
    }
    return f"{name}: {len(runs)} runs, " + ", ".join(f"{count} {state}" for state, count in counts.items())


def _command(options: argparse.Namespace) -> str:
    results = [] if options.results == Path("results") else ["--results", str(options.results)]
    words = ["python", "-m", "benchmark.sweep", str(options.sweep), *options.overrides, *results]
    return shlex.join(words)


def _parser() -> argparse.ArgumentParser:
    methods = ", ".join(plugins.names("baselines"))
    pools = ", ".join(plugins.names("benchmark.sources"))
    tasks = ", ".join(plugins.names("benchmark.evaluate"))
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.sweep",
        description="Plan a sweep and run what is missing of it; what is done is never run twice.",
        epilog=f"methods: {methods}. pools: {pools}. evaluation tasks: {tasks}.",
    )
    parser.add_argument("sweep", type=Path, help="sweep file, for example sweeps/quickstart.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for every grid, or grid[0].key=value for one"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of all sweeps (default: results)"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument("--status", action="store_true", help="print where each run stands and start nothing")
    parser.add_argument(
        "--cluster",
        choices=("slurm", "local", "inline"),
        help="where to run; default: slurm if this machine has it, else local. inline is this very process",
    )
    parser.add_argument(
        "--jobs", type=int, help="runs side by side with --cluster local (default: as cores allow)"
    )
    parser.add_argument("--retry", action="store_true", help="take failed runs again")
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failed run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
