"""The second campaign's records are those that docs/mini_protocol.md planned, and began after it was written."""

from __future__ import annotations

import csv
import datetime
import itertools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import contrasts
from analysis.contrasts import read_registered
from benchmark.config.run import RunConfig
from benchmark.config.sweepfile import read_sweep
from benchmark.plan.plan import make_plan
from benchmark.runs.record import read_record

PROTOCOL = Path("docs/mini_protocol.md")
CONTRASTS = Path("docs/mini/contrasts.yaml")
ROW = re.compile(r"\| `(mini_\w+)` \| (\d+) \| (\d+)–(\d+) \|")
PLANNED = {sweep: (int(runs), range(int(first), int(last) + 1)) for sweep, runs, first, last in
           ROW.findall(PROTOCOL.read_text(encoding="utf-8"))}  # fmt: skip


def plan_of(sweep: str, results: Path) -> list[RunConfig]:
    """The campaign's runs of a sweep: its fresh seeds."""
    runs = [run.config for run in make_plan(read_sweep(Path(f"sweeps/{sweep}.yaml")), results)]
    return [run for run in runs if isinstance(run, RunConfig) and run.seed in PLANNED[sweep][1]]


def records() -> Iterator[dict[str, Any]]:
    for sweep, (_, seeds) in PLANNED.items():
        for path in sorted(Path("results", sweep).glob("*/record.json")):
            record = read_record(path)
            if record["seed"] in seeds:
                yield record


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        pytest.skip("no history of the project here")
    return done.stdout.strip()


def test_the_protocol_plans_seven_sweeps_and_fresh_seeds_alone() -> None:
    first = {"mini_noise", "mini_coresets", "mini_dose", "mini_equal_compute", "mini_main"}
    assert set(PLANNED) == first | {"mini_after", "mini_chance"}
    assert all(min(seeds) == (8 if sweep == "mini_chance" else 3) for sweep, (_, seeds) in PLANNED.items())


@pytest.mark.parametrize("sweep", sorted(PLANNED))
def test_the_sweep_plans_as_many_runs_as_the_protocol_says_the_same_for_every_seed(
    sweep: str, tmp_path: Path
) -> None:
    count, seeds = PLANNED[sweep]
    runs = plan_of(sweep, tmp_path)
    assert len(runs) == count
    assert {run.seed for run in runs} == set(seeds)
    arms = {seed: sorted((r.model.name, r.method) for r in runs if r.seed == seed) for seed in seeds}
    assert all(arm == arms[seeds[0]] for arm in arms.values())


@pytest.mark.parametrize("sweep", sorted(PLANNED))
def test_every_clip_run_is_measured_by_the_twelve_recalls(sweep: str, tmp_path: Path) -> None:
    for run in plan_of(sweep, tmp_path):
        retrieval = [task.options["dataset"] for task in run.evaluate if task.name == "retrieval"]
        if run.framework == "clip":
            assert {"emoji": {"vendors": "both"}} in retrieval
            # clip art's pairs are not measured on where they are the reference, nor where none is trained on
            is_reference = run.pruner.options.get("reference") is not None
            assert ("clipart" in retrieval) == ("clipart" in run.pool_label and not is_reference)


def test_every_arm_of_the_contrasts_is_planned_for_all_their_seeds(tmp_path: Path) -> None:
    for question in read_registered(CONTRASTS).questions:
        runs = [run for sweep in question.sweeps for run in plan_of(sweep, tmp_path)]
        planned = {(run.framework, run.model.name, run.pool_label, run.method, run.seed) for run in runs}
        arms = [arm for contrast in question.contrasts for pair in contrast.pairs for arm in pair]
        for arm, model, pool, seed in itertools.product(arms, question.models, question.pools, question.seeds):
            for method in arm.methods:
                assert (question.framework, model, pool, method, seed) in planned, (question.id, method)


def test_the_contrasts_are_those_of_the_protocol() -> None:
    told = set(re.findall(r"\b[NCDEMWX]\d\b", PROTOCOL.read_text(encoding="utf-8")))
    assert {one.id for question in read_registered(CONTRASTS).questions for one in question.contrasts} == told


@pytest.mark.slow
def test_every_record_is_of_a_planned_run_and_holds_what_the_plan_asks_for(tmp_path: Path) -> None:
    """A run's name is a hash of all that changes its numbers."""
    known = {sweep: {run.name for run in plan_of(sweep, tmp_path)} for sweep in PLANNED}
    for record in records():
        assert record["run"] in known[record["sweep"]]
        assert record["evaluation_skipped"] == []
        assert record["pool_facts"]["skipped"] == {}


def test_every_record_was_begun_after_the_protocol_was_committed_and_by_code_that_holds_it() -> None:
    written = git("log", "--diff-filter=A", "--format=%cI", "--", str(PROTOCOL)).splitlines()[-1]
    for record in records():
        started = datetime.datetime.fromisoformat(re.sub(r"([+-]\d\d)(\d\d)$", r"\1:\2", record["started"]))
        assert started > datetime.datetime.fromisoformat(written), record["run"]
        assert record["code"]["dirty"] is False, record["run"]
    for commit in {record["code"]["git_sha"] for record in records()}:
        if has(commit):  # a clone may lack what was rebased away; the dates still count
            assert has(f"{commit}:{PROTOCOL}"), commit


def has(name: str) -> bool:
    return subprocess.run(["git", "cat-file", "-e", name], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_the_answers_on_the_page_are_those_of_the_records(tmp_path: Path) -> None:
    assert contrasts.main([str(CONTRASTS), "--out", str(tmp_path)]) == 0
    for name in ("contrasts.md", "contrasts.csv"):
        assert (CONTRASTS.parent / "contrasts" / name).read_text() == (tmp_path / name).read_text()


TOLD = re.compile(r"\b([NCDEMWX]\d):? ([+−]\d+\.\d)(?: points)? \(([+−]\d+\.\d) to ([+−]\d+\.\d)\)")


@pytest.mark.parametrize(("page", "least"), [("docs/mini.md", 12), ("README.md", 4)])
def test_every_number_of_a_contrast_on_a_page_is_the_tables(page: str, least: int) -> None:
    """Written as ``N2 +2.4 (+1.7 to +3.1)``: mean and 95 % interval, points, of any question that has it."""
    known: dict[str, list[tuple[str, ...]]] = {}
    with (CONTRASTS.parent / "contrasts" / "contrasts.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["low95"]:
                shown = [f"{100 * float(row[key]):+.1f}".replace("-", "−") for key in ("mean", "low95", "high95")]
                known.setdefault(row["contrast"], []).append(tuple(shown))
    told = TOLD.findall(Path(page).read_text(encoding="utf-8"))
    assert len({name for name, *_ in told}) >= least
    for name, *numbers in told:
        assert tuple(numbers) in known[name], f"{page}: {name} {numbers}; the table has {known[name]}"
