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
from analysis.claims.finding import Finding, Gap, Judged, Part, configurations, finding_of, nothing, seeds_text
from analysis.claims.registry import Claim, Registry
from analysis.claims.scales import Scales
from analysis.claims.schedule import told_by_schedule
from analysis.claims.verdicts import (
    DIRECTION,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    ONE_SIDED,
    SUPPORTED,
    above,
    all_of,
    at_most,
    inside,
    loses_less,
    unsettled,
)
from analysis.read.methods import FULL
from analysis.read.results import Results, Run
from analysis.tables.cells import pruned_share

_Values = Callable[[Configuration, Row], tuple[BySeed, Sequence[Row]]]


def judge(registry: Registry, blocks: Sequence[Block], results: Results) -> list[Judged]:
    """A verdict a claim, in the order of the registry. Pools with planted faults take no part."""
    scales = Scales.of(registry, blocks)
    by_name = {run.record["run"]: run for run in results.runs}
    judged = []
    for claim in registry.claims:
        at_paper = _Judge(claim, registry, scales.at_paper, by_name).finding(
            len(registry.paper), claim.configurations
        )
        if claim.test == "share":
            schedule = told_by_schedule(registry.paper.values(), claim.within)
            at_paper = replace(at_paper, told=(*at_paper.told, *schedule))
        here = _Judge(claim, registry, scales.here, by_name).finding(len(scales.here), 1)
        judged.append(Judged(claim, scales.completed(claim, at_paper), here))
    return judged


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
            "share": self._share, "loses_less": self._loses_less, "loses_less_in_each": self._loses_less_in_each,
            "above_each": self._above_each, "coresets_above_each": self._above_each, "overhead": self._overhead,
        }[self.claim.test]  # fmt: skip
        found = replace(test(), of=of)
        if not found.covered:
            return replace(found, verdict=NOT_TESTABLE)
        short = len(found.covered) < needed
        refutes_alone = self.claim.test == "loses_less_in_each"  # one configuration that fails is enough
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
        told = [f"{percent(mean.mean)} % pruned{seeds_text(mean, percent)}; {claimed}"]
        verdict = inside(mean, (low, high), self.registry.minimum_seeds)
        within = averaged(self._each(lambda c, row: (c.pruned_in_cycles(row), [row])).strata)
        if within is not None:
            verdict_of_it = inside(within, (low, high), self.registry.minimum_seeds)
            words = f"{percent(within.mean)} %{seeds_text(within, percent)}"
            told.append(f"within whole cycles: {words}; the same rule on it: {verdict_of_it}")
        return finding_of(verdict, part, mean, *told)

    def _loses_less(self) -> Finding:
        part = self._to_full()
        mean = averaged(part.strata, ONE_SIDED)
        if mean is None:
            return nothing(part, self._gaps_of(FULL))
        relative = averaged(self._to_full(is_relative=True).strata, ONE_SIDED)
        margin, seeds = self.registry.margin, self.registry.minimum_seeds
        told = [
            f"difference to full data {points(mean.mean)} points{seeds_text(mean, points, 90)}",
            *self._measures(),
        ]
        if relative is not None:
            verdict = loses_less(relative, margin, seeds)
            words = f"{points(relative.mean)} % of full data's value{seeds_text(relative, points, 90)}"
            told.append(f"relative: {words}; the same rule on it: {verdict}")
        return finding_of(loses_less(mean, margin, seeds), part, mean, *told, *part.notes)

    def _loses_less_in_each(self) -> Finding:
        part = self._to_full()
        each = [(title, averaged([one], ONE_SIDED)) for title, one in zip(part.names, part.strata, strict=True)]
        verdicts, told = [], []
        for title, mean in each:
            assert mean is not None, "strata without a seed are not kept"
            verdicts.append(loses_less(mean, self.registry.margin, self.registry.minimum_seeds))
            told.append(f"{title}: {points(mean.mean)} points{seeds_text(mean, points, 90)}, {verdicts[-1]}")
        if not verdicts:
            return nothing(part, self._gaps_of(FULL))
        n = min(mean.n for _, mean in each if mean)
        return replace(finding_of(all_of(verdicts), part, None, *told), n=n)

    def _overhead(self) -> Finding:
        part = self._each(lambda c, row: (c.overhead(row), [row, *([c.full] if c.full else [])]))
        mean = averaged(part.strata, ONE_SIDED)
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
            note = "".join(f"; {note}" for note in (*part.notes, *part.arms_told()))
            told.append(f"against {part.name}: {points(mean.mean)} points{interval}, {verdicts[-1]}{note}")
            found.append(mean)
            covered |= dict.fromkeys(part.names)
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
            for own in c.rows(self.claim.method):
                other = c.nearest(rival, pruned_share(own.runs))
                if other is None:
                    continue
                part.add(c, c.differences(own, other), [own, other])
                shares = pruned_share(own.runs), pruned_share(other.runs)
                if abs(shares[0] - shares[1]) > self.registry.budget_tolerance + 1e-9:
                    part.rival_saw_fewer |= shares[1] > shares[0]
                    part.rival_saw_more |= shares[1] < shares[0]
                    told = f"{other.method} pruned {percent(shares[1])} %"
                    unequal.append(f"{told}, {self.claim.method} {percent(shares[0])} %")
        if unequal:
            count = f" in {configurations(len(unequal))}" if len(unequal) > 1 else ""
            part.notes.append(f"unequal budgets{count}: {unequal[0]}")
        return part

    def _to_full(self, is_relative: bool = False) -> Part:
        part, shares = Part(FULL), []
        for c in self.configurations:
            if (full := c.full) is None:
                if c.paper and c.rows(self.claim.method):
                    part.notes.append(f"{c.block.title}: no full data of these settings")
                continue
            for own in c.rows(self.claim.method):
                part.add(c, c.differences(own, full, is_relative), [own, full])
                shares.append(pruned_share(own.runs))
        if shares:
            part.notes.append(f"pruned by configuration: {percent(min(shares))} to {percent(max(shares))} %")
        return part

    def _each(self, values: _Values) -> Part:
        part = Part(self.claim.method)
        for c in self.configurations:
            for row in c.rows(self.claim.method):
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
