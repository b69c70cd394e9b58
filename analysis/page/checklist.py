"""Records -> a reproducibility checklist: what a machine can know is filled in, the rest is left to the author.

Items follow the NeurIPS paper checklist and the machine learning reproducibility checklist (Pineau et al., 2021).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from analysis.blocks.block import Block
from analysis.blocks.words import code_version, whole
from analysis.claims.finding import Judged
from analysis.read.results import Results, Run
from analysis.tables.costs import hours, is_cpu
from analysis.tables.render import PaperTable, escape_markdown
from benchmark.runs.folder import CONFIG_FILE

AUTHOR = "to be said by the author"


@dataclass(frozen=True)
class Item:
    """A question with what the records answer."""

    question: str
    answers: tuple[str, ...] = ()
    links: tuple[Run, ...] = field(default=())
    """Runs whose configuration is linked."""

    @property
    def is_open(self) -> bool:
        return not self.answers


@dataclass(frozen=True)
class Section:
    title: str
    items: tuple[Item, ...]


def checklist(
    results: Results, blocks: Sequence[Block], tables: Sequence[PaperTable], judged: Sequence[Judged], command: str
) -> list[Section]:
    runs = results.runs
    return [
        Section("Claims", _claims(judged)),
        Section("Data", _data(runs)),
        Section("Method and settings", _settings(blocks)),
        Section("Runs and statistics", _statistics(results, tables)),
        Section("Compute", _compute(results)),
        Section("Code", _code(results, command)),
    ]


def _claims(judged: Sequence[Judged]) -> tuple[Item, ...]:
    verdicts = tuple(
        f"{one.claim.id}: {one.at_paper.verdict} (paper's scale), {one.here.verdict} (these records)"
        for one in judged
    )
    return (
        Item(
            "Does each claim have a test with a written rule (analysis/claims.yaml)? Which verdict has it?",
            verdicts,
        ),
        Item("Are the limitations told: scale, assumptions, what was not tested?"),
        Item("Are departures from the paper told?", ("listed in the report under Departures, from the source",)),
    )


def _data(runs: Sequence[Run]) -> tuple[Item, ...]:
    pools: dict[tuple[str, str, int], Counter[str]] = {}
    for run in runs:
        facts = run.record["pool_facts"]
        skipped = pools.setdefault((run.record["pool"], facts["fingerprint"], facts["num_samples"]), Counter())
        for reason, count in facts["skipped"].items():
            skipped[reason] = max(skipped[reason], count)
    told = [
        f"{pool}: {whole(count)} samples, fingerprint {fingerprint}; skipped at most: "
        + (", ".join(f"{number} {reason}" for reason, number in sorted(skipped.items())) or "none")
        for (pool, fingerprint, count), skipped in sorted(pools.items())
    ]
    tests = {(m["dataset"], m["n"]) for run in runs for m in run.record["metrics"]}
    sizes = tuple(f"{dataset}: {whole(n)} test items" for dataset, n in sorted(tests))
    return (
        Item("Which data, how many samples, what was left out and why?", tuple(told)),
        Item("Which test sets and sizes?", sizes),
        Item("How were splits and pre-processing made?", ("by source, as docs/data.md says",)),
        Item("Licences of the data, and consent where people are shown?"),
    )


def _settings(blocks: Sequence[Block]) -> tuple[Item, ...]:
    first = tuple(run for block in blocks if (run := _one(block)) is not None)
    methods = Counter(row.method for block in blocks for row in block.rows if row.runs)
    protocols = sorted({column.protocol for block in blocks for column in block.columns})
    listed = tuple(f"{name}: {count} configurations" for name, count in sorted(methods.items()))
    return (
        Item(
            "All hyper-parameters",
            (f"resolved in {CONFIG_FILE} of each run; one a table:",) if first else (),
            first,
        ),
        Item("Which methods, with which options?", listed),
        Item("Which metrics, measured how?", tuple(protocols)),
        Item("How were hyper-parameters chosen, over which ranges, with how many trials?"),
    )


def _one(block: Block) -> Run | None:
    return next((run for row in block.rows for run in row.runs), None)


def _statistics(results: Results, tables: Sequence[PaperTable]) -> tuple[Item, ...]:
    seeds = sorted({run.record["seed"] for run in results.runs})
    counts = []
    for table in tables:
        found = [cell.facts["n"] for row in table.rows for cell in row.cells if cell.facts.get("n")]
        if table.kind in ("main", "coresets", "ablations") and found:
            span = f"n = {min(found)}" if min(found) == max(found) else f"n = {min(found)} to {max(found)}"
            counts.append(f"{table.title}: {span}")
    missing = Counter(one.short_state for one in results.missing)
    absent = ", ".join(f"{count} {state}" for state, count in sorted(missing.items())) or "none missing"
    return (
        Item(
            "How many runs and seeds?",
            (
                f"{len(results.runs)} records, {results.num_planned} planned, {absent}",
                f"seeds {', '.join(map(str, seeds)) or 'none'}",
            ),
        ),
        Item("How many seeds stand behind each table?", tuple(counts)),
        Item(
            "What are error bars, over what, computed how?",
            (
                "over pre-training seeds: sd with ddof 1; 95 % interval: Student's t, also of averages;"
                " none for 1 seed or where all are equal; differences are paired by seed",
                '"over test items": Wilson\'s interval of one run, for one seed alone',
            ),
        ),
        Item("What was excluded, and by which rule?"),
    )


def _compute(results: Results) -> tuple[Item, ...]:
    once = {run.record["run"]: run for run in results.runs}
    by_device: dict[str, list[Run]] = {}
    for run in once.values():
        by_device.setdefault(f"{run.record['device']} × {run.record['num_ranks']}", []).append(run)
    told: list[str] = []
    total: dict[str, float] = {}
    for device, runs in sorted(by_device.items()):
        unit = "core hours" if is_cpu(runs[0].record["device"]) else "GPU hours"
        each = [hours(run.record) for run in runs]
        total[unit] = total.get(unit, 0) + sum(each)
        told.append(f"{device}: {len(runs)} runs, {min(each):.2g} to {max(each):.2g} {unit} of training a run")
    again = sum(run.record["training"]["attempts"] > 1 for run in once.values())
    lost = sum(one.short_state in ("failed", "partial") for one in results.missing)
    sums = [f"{value:.3g} {unit}" for unit, value in sorted(total.items())]
    all_told = [f"training of finished runs: {' and '.join(sums)}"] if sums else []
    if once:
        all_told.append(
            f"runs of several attempts: {again}; failed or partial runs: {lost}; their hours: not recorded"
        )
    return (
        Item("Which hardware, how long a run?", tuple(told)),
        Item("How much compute in all, failed and partial runs among them?", tuple(all_told)),
        Item("How much compute went into runs that are not reported, such as preliminary ones?"),
    )


def _code(results: Results, command: str) -> tuple[Item, ...]:
    records = [run.record for run in results.runs]
    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in record["versions"].items():
            versions.setdefault(name, set()).add(version)
    code = Counter(code_version(record["code"]) for record in records)
    dates = sorted(str(record["finished"])[:10] for record in records)
    return (
        Item("Which code?", tuple(f"{name}: {count} records" for name, count in sorted(code.items()))),
        Item("Which versions of what it uses?", tuple(_versions(versions))),
        Item("When?", (f"{dates[0]} to {dates[-1]}",) if dates else ()),
        Item(
            "Which command makes the runs, which the tables?",
            (*(f"python -m benchmark.sweep sweeps/{name}.yaml" for name in results.sweeps), command),
        ),
        Item("Where is the code, under which licence?"),
    )


def _versions(versions: Mapping[str, Iterable[str]]) -> list[str]:
    return [f"{name} {', '.join(sorted(found))}" for name, found in sorted(versions.items())]


def checklist_markdown(sections: Sequence[Section]) -> str:
    """With a box a question: ticked where the records answer it."""
    parts = ["# Reproducibility checklist", "Filled from the records where they know; the rest is the author's."]
    for section in sections:
        lines = [f"## {section.title}", ""]
        for item in section.items:
            lines.append(f"- [{' ' if item.is_open else 'x'}] {escape_markdown(item.question)}")
            lines += [f"  - {escape_markdown(answer)}" for answer in item.answers or (AUTHOR,)]
            lines += [f"  - {escape_markdown(_place(run))}" for run in item.links]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _place(run: Run) -> str:
    return f"{run.record['sweep']}/{run.record['run']}/{CONFIG_FILE}"
