"""A job: everything it needs it reads from its run's folder when it starts, everything it leaves lies there.

``python -m benchmark.job FOLDER`` works on one run without submitit, also under ``torchrun``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

from benchmark import dist, signals
from benchmark.config.job import load_config
from benchmark.config.launch import LaunchConfig
from benchmark.evaluate.pending import pending
from benchmark.files import remove_leftovers, write_text
from benchmark.job import hang, peers, rehearsed, requeue
from benchmark.job.work import work
from benchmark.runs.attempts import ATTEMPT_MARK, attempt, attempts_of
from benchmark.runs.errors import has_new_error, write_error
from benchmark.runs.folder import RunFolder
from benchmark.runs.lease import HeldError, lease
from benchmark.runs.provenance import now
from benchmark.runs.record import RecordError
from benchmark.runs.state import has_record, measured, state_at_rest
from benchmark.runs.taken_over import find_origin, take_over
from benchmark.slurm import this_job
from benchmark.training.trainer import NEVER

logger = logging.getLogger(__name__)


def start(path: str) -> str:
    """Work on the run in the folder ``path`` in this process and its fellow ranks; ``done`` or ``held``.

    Raises SystemExit if a signal stopped it, after its job has been queued again where that was asked for.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    folder = RunFolder(path)
    with signals.listening() as sock:  # in place of submitit's handlers
        is_first = False
        try:
            with dist.process_group(folder / "job"):
                is_first = dist.rank() == 0
                launch = _launch(folder)
                with (
                    requeue.last_resort(folder, sock if is_first else None, _patience_seconds(launch)),
                    hang.watched(folder, launch.hang_minutes),
                ):
                    return run(folder)
        except signals.Stopped as stopped:
            # the others go without a word: rank 0's code is the job's, and a bad one would end rank 0 too soon
            raise SystemExit(requeue.leave(folder, stopped.how) if is_first else 0) from None


def run(path: Path, report: Callable[[float, str], None] = NEVER) -> str:
    """Bring the run in the folder ``path`` to its record, from wherever it stands; return what happened in a word.

    ``done`` (also if it was before) or ``held`` (another process works on it). Any error is written to the
    folder's ``error.json`` and raised. Raises signals.Stopped if a signal asked for it.
    """
    folder = RunFolder(path)
    with ExitStack() as held:
        started = now()
        verdict = _verdict(folder, held) if dist.rank() == 0 else ""
        if verdict == "go":  # before any rank works: a rank's error is then newer
            found = measured(folder, load_config(folder.config))
            for home in {folder, found[0] if found else folder}:
                for place in (home, home.marks, home.chunks, home.encoded, home.evaluating):
                    remove_leftovers(place, but=home.config.suffix)  # which a planner may be writing
            remove_leftovers(folder.job, but=folder.submitted.suffix)  # and a launcher this
            write_text(folder.started, json.dumps({"time": started, "pid": os.getpid()}) + "\n")
        verdict = dist.broadcast(verdict)  # ranks start together or not at all
        if verdict != "go":
            return verdict
        try:
            with peers.watched(folder), _attempt(folder), rehearsed.watched(folder, report) as told:
                work(folder, told, started)
        except signals.Stopped:
            raise
        except Exception as error:
            if dist.world() == 1:
                write_error(folder, error)
            elif not has_new_error(folder):  # else another rank failed first, and this one for want of it
                write_error(folder, error, f"rank {dist.rank()} of {dist.world()}: ")
            raise
        return "done"


def _attempt(folder: RunFolder) -> AbstractContextManager[Any]:
    """Rank 0 notes the attempt in the run's folder, and marks in the log where its words begin."""
    if dist.rank() != 0:
        return nullcontext()
    config = load_config(folder.config)
    logger.info(
        "%s %d of %s, job %s on %s: %d ranks, this one with %d CPUs",
        ATTEMPT_MARK,
        len(attempts_of(folder)) + 1,
        config.name,
        this_job.job_id(),
        this_job.node(),
        dist.world(),
        len(os.sched_getaffinity(0)),
    )
    return attempt(folder, config.launch)


def _launch(folder: RunFolder) -> LaunchConfig:
    try:
        return load_config(folder.config).launch
    except ValueError:  # the run itself says what is wrong
        return LaunchConfig()


def _patience_seconds(launch: LaunchConfig) -> float:
    """Half of what SLURM leaves between its signal and the end, but time for a step."""
    return max(10.0, launch.warning_seconds / 2)


def _verdict(folder: RunFolder, held: ExitStack) -> str:
    """``go`` with the lease held, or why there is nothing to do.

    What another sweep has done since the run was planned is taken over; work on it holds both leases.
    """
    try:
        held.enter_context(lease(folder.lease))
        config = load_config(folder.config)
        state = state_at_rest(folder, config)
        if state.name != "unreadable" and not has_record(folder) and (origin := find_origin(folder, config)):
            logger.info("%s has been done in %s: taken over", config.name, origin.parent)
            take_over(folder, origin)
            state = state_at_rest(folder, config)
        found = measured(folder, config)
        home = found[0].trained_in if found else folder.trained_in
        if home != folder and state.name not in ("done", "unreadable"):
            held.enter_context(lease(home.lease))
    except HeldError as error:
        logger.warning("%s; leaving it alone", error)
        return "held"
    except ValueError as error:
        write_error(folder, error)
        raise
    if state.name == "unreadable":  # somebody's result: never written over
        raise RecordError(state.detail)
    return "done" if state.name == "done" and not (state.is_incomplete and _can_go_on(folder)) else "go"


def _can_go_on(folder: RunFolder) -> bool:
    """Whether an evaluation that was skipped for want of data can be made up for now."""
    found = measured(folder, load_config(folder.config))
    return found is not None and bool(pending(*found))


def main(words: Sequence[str] | None = None) -> int:
    """0 if the run is done, 1 if another process holds it; exits with requeue.STOPPED if a signal stopped it."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.job", description="Work on one planned run.")
    parser.add_argument("folder", help="the run's folder, which holds its config.yaml")
    verdict = start(parser.parse_args(words).folder)
    return 0 if verdict == "done" else 1
