"""Registry and records -> a verdict a claim, at the paper's scale and at that of the records, and its runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.blocks.block import Block
from analysis.blocks.rows import Row
from analysis.blocks.statistics import BySeed, averaged
from analysis.blocks.words import percent, points
from analysis.claims.configuration import Configuration
from analysis.claims.finding import Finding, Gap, Judged, Part, finding_of, nothing, seeds_text
from analysis.claims.registry import Claim, Registry
from analysis.claims.verdicts import (
    DIRECTION,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    SAME_LEVEL,
    SUPPORTED,
    above,
    all_of,
    at_most,
    inside,
    same,
    unsettled,
)
from analysis.read.methods import FULL, is_planted, is_shorter
from analysis.read.results import Results, Run
from analysis.tables.cells import pruned_share

_Values = Callable[[Configuration, Row], tuple[BySeed, Sequence[Row]]]


def judge(registry: Registry, blocks: Sequence[Block], results: Results) -> list[Judged]:
    """A verdict a claim, in the order of the registry.

    Pools with planted faults take no part, nor does the published arm, which is each configuration once more.
    """
    at_paper: list[Configuration] = []
    here: list[Configuration] = []
    for whole in blocks:
        block = replace(whole, rows=tuple(row for row in whole.rows if not is_shorter(row.method)))
        runs = block.runs
        dataset = registry.dataset_of(runs[0]) if runs else None
        if runs and not is_planted(runs[0]) and not block.is_published:
            (here if dataset is None else at_paper).append(Configuration(block, dataset, registry))
    by_name = {run.record["run"]: run for run in results.runs}
    wanted = registry.paper_keys()
    judged = []
    for claim in registry.claims:
        paper = _Judge(claim, registry, at_paper, by_name).finding(len(wanted), claim.configurations)
        small = _Judge(claim, registry, here, by_name).finding(len(here), 1)
        paper = replace(paper, gaps=(*_unseen(claim, wanted, paper, at_paper), *paper.gaps))
        judged.append(Judged(claim, paper, small))
    return judged


def _unseen(
    claim: Claim, wanted: Sequence[tuple[str, str, str]], found: Finding, known: Sequence[Configuration]
) -> list[Gap]:
    """The paper's configurations that a claim which needs all of them lacks, in one line."""
    covered = {configuration.key for configuration in known if configuration.title in found.covered}
    absent = [" · ".join(key) for key in wanted if key not in covered]
    if len(covered) >= claim.configurations:
        return []
    named = ", ".join(absent[:4]) + (f", and {len(absent) - 4} more" if len(absent) > 4 else "")
    needed = f" ({claim.configurations} needed)" if claim.configurations < len(wanted) else ""
    return [Gap(f"{len(absent)} of the paper's {len(wanted)} configurations{needed}: {named}", claim.command)]


@dataclass
class _Judge:
    """One claim over the configurations of one scale."""

    claim: Claim
    registry: Registry
    configurations: Sequence[Configuration]
    by_name: Mapping[str, Run]

    def finding(self, of: int, needed: int) -> Finding:
        """``of``: how many configurations there are; ``needed``: how many a settled verdict needs."""
        test = {
            "share": self._share, "same": self._same, "same_in_each": self._same_in_each,
            "above_each": self._above_each, "coresets_above_each": self._above_each, "overhead": self._overhead,
        }[self.claim.test]  # fmt: skip
        found = replace(test(), of=of)
        if not found.covered:
            return replace(found, verdict=NOT_TESTABLE)
        short = len(found.covered) < needed
        refutes_alone = self.claim.test == "same_in_each"  # one configuration that fails is enough
        if short and not (refutes_alone and found.verdict != SUPPORTED):
            found = replace(found, verdict=unsettled(found.verdict))
        return replace(found, gaps=(*found.gaps, *self._seeds_missing(found)))

    def _share(self) -> Finding:
        part = self._each(lambda c, row: (c.pruned(row), [row]))
        mean = averaged(part.strata)
        if mean is None:
            return nothing(part)
        low, high = self.claim.within
        claimed = f"claimed: {percent(low)} to {percent(high)} %"
        told = f"{percent(mean.mean)} % pruned{seeds_text(mean, percent)}; {claimed}"
        return finding_of(inside(mean, (low, high), self.registry.minimum_seeds), part, mean, told)

    def _same(self) -> Finding:
        part = self._to_full()
        mean = averaged(part.strata, SAME_LEVEL)
        if mean is None:
            return nothing(part, self._gaps_of(FULL))
        relative = averaged(self._to_full(is_relative=True).strata, SAME_LEVEL)
        margin, seeds = self.registry.margin, self.registry.minimum_seeds
        told = [
            f"difference to full data {points(mean.mean)} points{seeds_text(mean, points, 90)}",
            *self._measures(),
        ]
        if relative is not None:
            verdict = same(relative, margin, seeds)
            words = f"{points(relative.mean)} % of full data's value{seeds_text(relative, points, 90)}"
            told.append(f"relative: {words}; the same rule on it: {verdict}")
        return finding_of(same(mean, margin, seeds), part, mean, *told, *part.notes)

    def _same_in_each(self) -> Finding:
        part = self._to_full()
        each = [(title, averaged([one], SAME_LEVEL)) for title, one in zip(part.titles, part.strata, strict=True)]
        verdicts, told = [], []
        for title, mean in each:
            assert mean is not None, "strata without a seed are not kept"
            verdicts.append(same(mean, self.registry.margin, self.registry.minimum_seeds))
            told.append(f"{title}: {points(mean.mean)} points{seeds_text(mean, points, 90)}, {verdicts[-1]}")
        if not verdicts:
            return nothing(part, self._gaps_of(FULL))
        n = min(mean.n for _, mean in each if mean)
        return replace(finding_of(all_of(verdicts), part, None, *told), n=n)

    def _overhead(self) -> Finding:
        part = self._each(lambda c, row: (c.overhead(row), [row, *([f] if (f := c.row(FULL)) else [])]))
        mean = averaged(part.strata, SAME_LEVEL)
        if mean is None:
            return nothing(part, self._gaps_of(FULL))
        own = [run.record["training"] for run in part.runs if run.record["method"] != FULL]
        share = sum(t["pruning_seconds"] for t in own) / max(sum(t["seconds"] for t in own), 1e-9)
        told = (
            f"seconds fell {'less' if mean.mean > 0 else 'more'} than samples by {abs(100 * mean.mean):.1f} %"
            f"{seeds_text(mean, points, 90)}; at most {percent(self.claim.at_most)} % counts as negligible",
            f"bookkeeping as timed in the runs: {100 * share:.2f} % of the training time",
        )
        return finding_of(at_most(mean, self.claim.at_most, self.registry.minimum_seeds), part, mean, *told)

    def _above_each(self) -> Finding:
        parts = [self._against(rival) for rival in self.claim.rivals]
        known = [part for part in parts if part.strata]
        level = 1 - 0.05 / max(len(known), 1)
        verdicts, told, found = [], [], []
        runs: dict[Path, Run] = {}
        covered: dict[str, None] = {}
        for part in known:
            mean = averaged(part.strata, level)
            if mean is None:
                told.append(f"{part.name}: no seed in common over {len(part.strata)} configurations")
                verdicts.append(DIRECTION)
                continue
            verdict = above(mean, self.registry.minimum_seeds)
            helped = {SUPPORTED: part.rival_saw_fewer, NOT_SUPPORTED: part.rival_saw_more}.get(verdict, False)
            verdicts.append(unsettled(verdict) if helped else verdict)
            interval = seeds_text(mean, points, round(100 * level, 2))
            note = "".join(f"; {note}" for note in part.notes)
            told.append(f"against {part.name}: {points(mean.mean)} points{interval}, {verdicts[-1]}{note}")
            found.append(mean)
            covered |= dict.fromkeys(part.titles)
            runs |= {run.folder: run for run in part.runs}
        absent = [part.name for part in parts if not part.strata and part.name in self.claim.required]
        gaps = [gap for name in absent for gap in self._gaps_of(name)]
        if not found:
            return Finding(NOT_TESTABLE, gaps=tuple(gaps))
        verdict = all_of(verdicts)
        if absent and verdict == SUPPORTED:
            verdict = DIRECTION
        least = min(found, key=lambda mean: mean.mean)
        return Finding(
            verdict,
            (*told, *self._measures()),
            min(mean.n for mean in found),
            least.mean,
            least.ci95,
            tuple(covered),
            runs=tuple(runs.values()),
            gaps=tuple(gaps),
        )

    def _against(self, rival: str) -> Part:
        part, unequal = Part(rival), list[str]()
        for c in self.configurations:
            if self.claim.test == "coresets_above_each":
                values, rows = c.coresets_against(rival, self.by_name)
                part.add(c, values, rows)
                continue
            own = c.row(self.claim.method)
            other = c.nearest(rival, pruned_share(own.runs)) if own else None
            if own is None or other is None:
                continue
            part.add(c, c.differences(own, other), [own, other])
            shares = pruned_share(own.runs), pruned_share(other.runs)
            if abs(shares[0] - shares[1]) > self.registry.budget_tolerance + 1e-9:
                part.rival_saw_fewer |= shares[1] > shares[0]
                part.rival_saw_more |= shares[1] < shares[0]
                told = f"{other.method} pruned {percent(shares[1])} %, {self.claim.method} {percent(shares[0])} %"
                unequal.append(told)
        if unequal:
            count = f" in {len(unequal)} configurations" if len(unequal) > 1 else ""
            part.notes.append(f"unequal budgets{count}: {unequal[0]}")
        return part

    def _to_full(self, is_relative: bool = False) -> Part:
        part, shares = Part(FULL), []
        for c in self.configurations:
            own, full = c.row(self.claim.method), c.row(FULL)
            if own and full:
                part.add(c, c.differences(own, full, is_relative), [own, full])
                shares.append(pruned_share(own.runs))
        if shares:
            part.notes.append(f"pruned by configuration: {percent(min(shares))} to {percent(max(shares))} %")
        return part

    def _each(self, values: _Values) -> Part:
        part = Part(self.claim.method)
        for c in self.configurations:
            row = c.row(self.claim.method)
            if row is not None:
                part.add(c, *values(c, row))
        return part

    def _measures(self) -> list[str]:
        names = sorted({c.measure for c in self.configurations if c.measure})
        return [f"measured by {'; '.join(names)}"] if names else []

    def _seeds_missing(self, found: Finding) -> list[Gap]:
        least = self.registry.minimum_seeds
        if found.n is None or found.n >= least:
            return []
        seeds = f"seed=[{','.join(map(str, range(least)))}]"
        sweeps = sorted({run.record["sweep"] for run in found.runs})
        command = "; ".join(
            f"python -m benchmark.sweep {shlex.quote(f'sweeps/{s}.yaml')} '{seeds}'" for s in sweeps
        )
        return [Gap(f"{found.n} common seed{'s' * (found.n > 1)} of at least {least}", command)]

    def _gaps_of(self, method: str) -> list[Gap]:
        """A method that has no value: its planned runs and their command, or where to add it."""
        rows = [row for c in self.configurations for row in c.block.rows if row.method.partition("(")[0] == method]
        planned = [one for row in rows for one in row.missing]
        if planned:
            states = ", ".join(sorted({one.short_state for one in planned}))
            return [Gap(f"{method}: {len(planned)} runs are {states}", planned[0].command)]
        sweeps = sorted({run.record["sweep"] for c in self.configurations for run in c.block.runs})
        if not sweeps:
            return []
        file = shlex.quote(f"sweeps/{sweeps[0]}.yaml")
        return [Gap(f"no record of {method}: add it to `pruner` in {file}", f"python -m benchmark.sweep {file}")]
