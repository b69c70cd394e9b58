"""``python -m benchmark.sweep SWEEP [key=value ...]``: plan a sweep, run what is missing, say how it stands."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmark import plugins, signals
from benchmark.config import profiles
from benchmark.config.run import RunConfig
from benchmark.config.sweepfile import cost_of, own_sweeps, read_sweep
from benchmark.doctor import doctor
from benchmark.files import told
from benchmark.launch.cancel import at_work, cancel, local_sweeps
from benchmark.launch.fit import unfit
from benchmark.launch.local import LocalQueue, run_inline
from benchmark.launch.slots import Slots
from benchmark.launch.submit import Sent, recover, submit_slurm
from benchmark.launch.todo import choose, take_over, to_do
from benchmark.options import ConfigError, Parser, did_you_mean
from benchmark.plan.checks import ahead_of
from benchmark.plan.data import absent_data
from benchmark.plan.estimate import estimate
from benchmark.plan.plan import PlannedRun, make_plan, write_plan
from benchmark.runs.lease import HeldError, lease
from benchmark.runs.snapshot import SnapshotError
from benchmark.slurm.commands import call, unused_options
from benchmark.status.queue import look
from benchmark.status.standing import with_states
from benchmark.status.table import counts_of, plan_table, status_table, watch

WIDTH = 500
"""Columns of what is printed to no terminal: a run stays on one line, for grep."""
EXIT_FAILED, EXIT_USAGE, EXIT_LEFT, EXIT_STOPPED = 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code.

    0; 1 if a run failed or cannot be read; 2 for a mistake in the input; 3 if runs remain, since SLURM took only
    some or another process works on them; 130 if a signal stopped it.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    console = Console(stderr=True, emoji=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        folders, words = _methods(words)
        if words[:1] == ["doctor"]:
            return doctor.main(words[1:], Console(width=None if sys.stdout.isatty() else WIDTH, emoji=False))
        if words[:1] == ["check"]:
            from benchmark import contract

            return contract.main(words[1:], Console(width=None if sys.stdout.isatty() else WIDTH, emoji=False))
        return _sweep(parser().parse_intermixed_args([*words, *(f"--methods={one}" for one in folders)]), console)
    except (ConfigError, HeldError, SnapshotError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except OSError as error:
        console.print(f"error: {told(error)}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except signals.Stopped:
        console.print("stopped; the same command goes on from here")
        return EXIT_STOPPED
    except KeyboardInterrupt:
        console.print("ended at once; the same command goes on from what was saved before")
        return EXIT_STOPPED


def _methods(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The folders that ``--methods`` names, told to this process and those that it starts; and the other words."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--methods", action="append", default=[])
    options, others = parser.parse_known_args(words)
    if options.methods:
        before = [os.environ[plugins.METHODS]] if plugins.METHODS in os.environ else []
        os.environ[plugins.METHODS] = os.pathsep.join([*map(os.path.abspath, options.methods), *before])
    plugins.folders("baselines")
    return options.methods, others


def _sweep(options: argparse.Namespace, console: Console) -> int:
    own = own_sweeps()
    file = options.sweep if options.sweep.is_file() else own.get(str(options.sweep), options.sweep)
    if not file.exists():
        known = ["doctor", "check", *own, *map(str, options.sweep.parent.glob("*.yaml"))]
        raise ConfigError(f"{options.sweep}: no such file{did_you_mean(str(options.sweep), known)}")
    profile = [f"launch.{profiles.KEY}={options.profile}"] if options.profile else []
    sweep = read_sweep(file, [*options.overrides, *profile])
    plan = make_plan(sweep, options.results)
    chosen = choose(plan, options.only)
    folder = options.results / sweep.name
    if options.rehearse and not options.dry_run:
        return _rehearse(options, [run for run in plan if run.config.name in chosen], console)
    if options.dry_run or options.status or options.watch or options.cancel:
        return _look(options, plan, chosen, folder)
    cluster = options.cluster or _default_cluster()
    slots, sent = Slots(options.jobs) if cluster == "local" else None, Sent()
    with lease(folder / "sweep.lock", wait_seconds=60):  # two sweeps at once submit one after the other
        if cluster == "slurm":
            for line in recover(folder):
                console.print(line, markup=False, soft_wrap=True)
        take_over(run for run in plan if run.config.name in chosen)
        queue = look(plan)
        runs = with_states(plan, queue)
        todo = to_do(runs, options.retry, chosen)
        if slots is not None:
            slots.check(todo)
        _check_desk(todo, cluster, options.anyway, console)
        write_plan(runs, sweep, options.results, _command(options))
        console.print(_title(runs) + f"; {len(todo)} to run ({cluster})", soft_wrap=True)
        if queue.silent:
            console.print(
                f"SLURM does not answer ({queue.silent}): runs it may hold are left alone", soft_wrap=True
            )
        if todo and (cost := cost_of(file)):
            console.print(f"{file.name} says of all its runs: {cost}", markup=False, soft_wrap=True)
        _print_estimate(todo, options.results, console)
        if cluster == "slurm" and todo:
            _report(sent := submit_slurm(todo, folder), console)
    if cluster != "slurm" and todo:
        with at_work(folder, console):
            if slots is None:
                run_inline(todo, console, options.fail_fast)
            else:
                LocalQueue(todo, slots, options.fail_fast, console).work()
    started = set() if cluster == "slurm" else chosen  # what the command was to bring to its end
    return _conclude(plan, started, console) or (EXIT_LEFT if sent.left else 0)


def _check_desk(todo: Sequence[PlannedRun], cluster: str, anyway: bool, console: Console) -> None:
    """Raise ConfigError for what would fail when it begins, or wait for ever; ``anyway`` tells it alone."""
    refused, left_out = _hindrances(todo, cluster)
    for line in left_out:
        console.print(f"not on this machine: {line}", style="yellow", markup=False, soft_wrap=True)
    if refused and not anyway:
        told = "\n".join(refused)
        raise ConfigError(f"{told}\nnothing was started; --anyway starts it all the same, where jobs have it")
    for line in refused:
        console.print(f"anyway: {line}", style="yellow", markup=False, soft_wrap=True)


def _hindrances(todo: Sequence[PlannedRun], cluster: str) -> tuple[list[str], list[str]]:
    """What keeps runs from coming to their end here, and what they would leave out."""
    absent, left_out = absent_data(todo)
    return [*(unfit(todo) if cluster == "slurm" else []), *absent], left_out


def _rehearse(options: argparse.Namespace, runs: Sequence[PlannedRun], console: Console) -> int:
    """What comes before the runs; their own folders are not touched."""
    from benchmark.rehearsal.command import Rehearsal  # loads all that trains

    out = Console(width=None if sys.stdout.isatty() else WIDTH, emoji=False)
    rehearsal = Rehearsal(runs, options.results, console if console.is_terminal else out)
    if options.cancel:
        return rehearsal.cancel(out)
    if options.status or options.watch:
        return rehearsal.show(options.watch, out, _command(options))
    return rehearsal.rehearse(options.cluster or _default_cluster(), Slots(options.jobs), _command(options))


def _report(sent: Sent, console: Console) -> None:
    """What SLURM took, and what it did not."""
    if sent.ids:
        said = f"submitted {len(sent.ids)} runs as {shortened(sent.ids)}; see --status or --watch"
        console.print(said, soft_wrap=True)
    if sent.left:
        said = f"SLURM takes no more for now ({sent.reason}): {sent.left} runs remain; later, the same command"
        console.print(f"{said} submits them", style="yellow", markup=False, soft_wrap=True)
    if ignored := unused_options():
        said = f"not used: {', '.join(ignored)}; say it in the sweep's launch section or a profile"
        console.print(said, style="yellow", markup=False, soft_wrap=True)


def _look(options: argparse.Namespace, plan: Sequence[PlannedRun], chosen: set[str], folder: Path) -> int:
    """What starts nothing: the plan, the status, and ending what was started."""
    out = Console(width=None if sys.stdout.isatty() else WIDTH, emoji=False)
    if options.watch:
        shown = [run for run in plan if run.config.name in chosen]
        watch(shown, out, _title, lambda: bool(local_sweeps(folder)))
        return 0
    queue = look(plan)
    everything = with_states(plan, queue)
    runs = [run for run in everything if run.config.name in chosen]
    if options.cancel:
        return 0 if cancel(runs, queue, folder, out) else EXIT_FAILED
    if options.status:
        out.print(status_table(runs, queue, _title(runs), out, show_all=options.all), crop=False)
    else:
        out.print(plan_table(runs, _title(runs), out, options.all), crop=False)
        _print_estimate(todo := to_do(everything, options.retry, chosen), options.results, out)
        refused, left_out = _hindrances(todo, options.cluster or ("slurm" if shutil.which("sbatch") else "local"))
        for line in (*refused, *(f"not on this machine: {line}" for line in left_out)):
            out.print(line, style="yellow", markup=False, soft_wrap=True)
        if ahead := max((ahead_of(run.config) for run in runs if isinstance(run.config, RunConfig)), default=0):
            out.print(f"shared memory: loader workers read up to {ahead / 1e9:.1f} GB ahead on a machine")
    return 0


def _print_estimate(todo: Sequence[PlannedRun], results: Path, console: Console) -> None:
    for line in estimate(todo, results):
        console.print(f"estimate: {line}", markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _default_cluster() -> str:
    """SLURM where its controller answers, this machine where there is no SLURM; raises ConfigError in between."""
    if shutil.which("sbatch") is None:
        return "local"
    if call(["sinfo", "-h"]).code != 0:
        raise ConfigError(
            "SLURM is installed here but does not answer (sinfo); choose with --cluster slurm or local"
        )
    return "slurm"


def _conclude(plan: Sequence[PlannedRun], started: set[str], console: Console) -> int:
    """Say what is wrong, and how to go on; also where one of ``started`` remains, since another process has it."""
    runs = with_states(plan, look(plan))
    for run in runs:
        if run.state.name in ("failed", "unreadable"):
            console.print(f"{run.state.name}: {run.config.name}", style="red", markup=False, soft_wrap=True)
            console.print(f"  {run.state.detail}\n  in {run.folder}", markup=False, soft_wrap=True)
    if any(run.state.name == "failed" for run in runs):
        console.print("the same command with --retry takes failed runs again")
    console.print(_title(runs), soft_wrap=True)
    if any(run.state.name in ("failed", "unreadable") for run in runs):
        return EXIT_FAILED
    left = [run for run in runs if run.config.name in started and run.state.name != "done"]
    if left:
        said = f"{len(left)} runs remain ({left[0].config.name}: {left[0].state.name}): the same command goes on"
        console.print(said, style="yellow", markup=False, soft_wrap=True)
    return EXIT_LEFT if left else 0


def _title(runs: Sequence[PlannedRun]) -> str:
    return f"{runs[0].config.sweep}: {len(runs)} runs, {counts_of(runs)}"


def shortened(ids: Sequence[str]) -> str:
    """``12_[0-999], 13``: array tasks by their array."""
    arrays: dict[str, list[int]] = {}
    for job_id in ids:
        array, _, task = job_id.partition("_")
        arrays.setdefault(array, []).extend([int(task)] if task else [])
    return ", ".join(f"{a}_[{min(tasks)}-{max(tasks)}]" if tasks else a for a, tasks in arrays.items())


def _command(options: argparse.Namespace) -> str:
    results = [] if options.results == Path("results") else ["--results", str(options.results)]
    methods = [word for folder in options.methods for word in ("--methods", folder)]
    words = ["python", "-m", "benchmark.sweep", str(options.sweep), *options.overrides, *results, *methods]
    return shlex.join([*words, *(["--profile", options.profile] if options.profile else [])])


class _Parser(Parser):
    """Lists the plug-ins where help is asked for, and only there: all their files are imported."""

    def format_help(self) -> str:
        from benchmark.catalogue import listing

        self.epilog = (
            "`python -m benchmark.sweep doctor` says what a cluster supports,\n"
            f"`python -m benchmark.sweep check METHOD` whether a pruning method keeps its contract.\n\n{listing()}"
        )
        return super().format_help()


def parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m benchmark.sweep",
        description="Plan a sweep and run what is missing of it; what is done is never run twice.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", type=Path, help="sweep file, or the name of one that comes along: quickstart")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="for every grid, or grid[0].key=value for one"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("results"), help="folder of all sweeps (default: results)"
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="take the runs alone whose names fit ('*-ViT-S-8-*-s0-*'; again for more), and those they wait for",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="run one job of each kind, in small, where it would go: say what the sweep will take and whether it"
        " fits (with --status, --watch, --cancel: of the rehearsal)",
    )
    parser.add_argument("--status", action="store_true", help="print where each run stands and start nothing")
    parser.add_argument("--watch", action="store_true", help="--status, refreshed until nothing changes any more")
    parser.add_argument(
        "--all",
        action="store_true",
        help="with --dry-run and --status on a terminal: a row for every run (else one for all seeds, 40 lines)",
    )
    parser.add_argument("--cancel", action="store_true", help="end what this sweep has queued or running")
    parser.add_argument(
        "--cluster",
        choices=("slurm", "local", "inline"),
        help="where to run; default: slurm if this machine has it, else local. inline is this very process",
    )
    parser.add_argument(
        "--methods",
        action="append",
        default=[],
        metavar="DIR",
        help=f"a folder of further pruning methods, a file each; again for more, or ${plugins.METHODS}",
    )
    parser.add_argument("--profile", help="cluster profile for every grid: a name in clusters/, or a path")
    parser.add_argument(
        "--jobs", type=int, help="runs side by side with --cluster local (default: as GPUs and cores allow)"
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="start runs whose data is not on this machine, or that ask for more than SLURM says any node has",
    )
    parser.add_argument("--retry", action="store_true", help="take failed runs again")
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failed run")
    return parser


if __name__ == "__main__":
    sys.exit(main())
