"""One claim over the configurations of one scale: its comparisons, and the verdict by its rule."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from analysis.blocks.rows import Row
from analysis.blocks.statistics import Difference, averaged
from analysis.blocks.words import percent, points
from analysis.claims.configuration import Configuration
from analysis.claims.contrast import Arm, Contrast, Part
from analysis.claims.finding import Finding, Gap, configurations, finding_of, nothing, seeds_text, warnings_of
from analysis.claims.registry import Claim, Registry
from analysis.claims.verdicts import (
    NO_RECORDS,
    ONE_SIDED,
    REFUTED,
    SUPPORTED,
    UNRESOLVED,
    above,
    all_of,
    at_most,
    inside,
    loses_less,
    unsettled,
)
from analysis.read.methods import FULL
from analysis.read.results import Run
from analysis.tables.cells import pruned_share

_Rule = Callable[[Difference], str]


@dataclass
class ClaimTest:
    """One claim over the configurations of one scale."""

    claim: Claim
    registry: Registry
    configurations: Sequence[Configuration]
    by_name: Mapping[str, Run]

    def contrasts(self) -> list[tuple[Contrast, float]]:
        """Each comparison of methods that the claim rests on, and the true effect that it should settle.

        None for a claim about a share or seconds, and none without a seed in common.
        """
        if not self.is_difference:
            return []
        effect = self.registry.margin
        if self.claim.test == "loses_less":
            parts, level = [self._to_full()], ONE_SIDED
        elif self.claim.test == "loses_less_in_each":
            whole = self._to_full()
            parts, level = [whole.of(name) for name in whole.names], ONE_SIDED
        else:
            parts, level, effect = self._known, self._level, self.registry.plan.smallest_effect
        found = [Contrast.of(part, level) for part in parts]
        return [(contrast, effect) for contrast in found if contrast is not None]

    @property
    def is_difference(self) -> bool:
        """Between methods, of a measure: not of a share or seconds."""
        return self.claim.test not in ("share", "overhead")

    def finding(self, needed: int) -> Finding:
        """The verdict; ``needed``: how many configurations a settled one needs."""
        test = {
            "share": self._share, "loses_less": self._loses_less, "loses_less_in_each": self._loses_less_in_each,
            "above_each": self._above_each, "coresets_above_each": self._above_each, "overhead": self._overhead,
        }[self.claim.test]  # fmt: skip
        found = test()
        if not found.covered:
            return replace(found, verdict=NO_RECORDS)
        short = len(found.covered) < needed
        refutes_alone = self.claim.test == "loses_less_in_each"  # one configuration that fails is enough
        if short and not (refutes_alone and found.verdict == REFUTED):
            return replace(found, verdict=unsettled(found.verdict))
        return found

    def _share(self) -> Finding:
        contrast = self._over_runs(lambda c, row: Arm(c.block.note, c.pruned(row), (row,)), 0.95)
        if contrast is None:
            return nothing(Part(self.claim.method))
        mean, (low, high), least = contrast.found, self.claim.within, self.registry.minimum_seeds
        line = f"{percent(mean.mean)} % pruned{seeds_text(mean, percent)}"
        told = [f"{line}; claimed: {percent(low)} to {percent(high)} %"]
        within = self._over_runs(lambda c, row: Arm(c.block.note, c.pruned_in_cycles(row), (row,)), 0.95)
        if within is not None:
            verdict_of_it = inside(within.found, (low, high), least)
            words = f"{percent(within.found.mean)} %{seeds_text(within.found, percent)}"
            told.append(f"within whole cycles: {words}; the same rule on it: {verdict_of_it}")
        return finding_of(inside(mean, (low, high), least), contrast, line, *told)

    def _loses_less(self) -> Finding:
        part = self._to_full()
        contrast = Contrast.of(part, ONE_SIDED)
        if contrast is None:
            return nothing(part, self._gaps_of(FULL))
        line = f"{points(contrast.found.mean)} points{seeds_text(contrast.found, points, ONE_SIDED)}"
        verdict, doubts = self._settle(contrast, self._is_small)
        told = [f"difference to full data {line}", *doubts]
        relative = averaged(self._to_full(is_relative=True).strata, ONE_SIDED)
        if relative is not None:
            words = f"{points(relative.mean)} % of full data's value{seeds_text(relative, points, ONE_SIDED)}"
            told.append(f"relative: {words}; the same rule on it: {self._is_small(relative)}")
        found = finding_of(verdict, contrast, line, *told, *part.notes)
        margin = self.registry.margin
        return replace(found, margin=margin, needed=contrast.needed(margin))

    def _loses_less_in_each(self) -> Finding:
        part = self._to_full()
        margin = self.registry.margin
        contrasts = [contrast for contrast, _ in self.contrasts()]
        if not contrasts:
            return nothing(part, self._gaps_of(FULL))
        verdicts, told = [], []
        for contrast in contrasts:
            verdict, doubts = self._settle(contrast, self._is_small)
            line = f"{contrast.part.name}: {points(contrast.found.mean)} points"
            told.append(f"{line}{seeds_text(contrast.found, points, ONE_SIDED)}, {verdict}")
            told += doubts
            verdicts.append(verdict)
        return self._of_several(all_of(verdicts), contrasts, verdicts, told, margin, margin)

    def _overhead(self) -> Finding:
        contrast = self._over_runs(
            lambda c, row: Arm(c.block.note, c.overhead(row), (row, *([c.full] if c.full else []))), ONE_SIDED
        )
        if contrast is None:
            return nothing(Part(self.claim.method), self._gaps_of(FULL))
        mean = contrast.found
        own = [run.record["training"] for run in contrast.part.runs if run.record["method"] != FULL]
        share = sum(t["pruning_seconds"] for t in own) / max(sum(t["seconds"] for t in own), 1e-9)
        line = (
            f"seconds fell {'less' if mean.mean > 0 else 'more'} than samples by {abs(100 * mean.mean):.1f} %"
            f"{seeds_text(mean, points, ONE_SIDED)}"
        )
        told = (
            f"{line}; at most {percent(self.claim.at_most)} % counts as negligible",
            f"bookkeeping as timed in the runs: {100 * share:.2f} % of the training time",
        )
        verdict = at_most(mean, self.claim.at_most, self.registry.minimum_seeds)
        found = finding_of(verdict, contrast, line, *told)
        return replace(found, needed=contrast.needed(abs(mean.mean - self.claim.at_most)))

    def _above_each(self) -> Finding:
        known = {part.name for part in self._known}
        absent = [rival for rival in self.claim.required if rival not in known]
        gaps = tuple(gap for name in absent for gap in self._gaps_of(name))
        contrasts, verdicts, told = [], [], []
        for part in self._known:
            contrast = Contrast.of(part, self._level)
            if contrast is None:
                told.append(f"{part.name}: no seed in common over {len(part.strata)} configurations")
                continue
            verdict, doubts = self._settle(contrast, self._is_above)
            if (part.rival_saw_fewer and verdict != REFUTED) or (part.rival_saw_more and verdict != SUPPORTED):
                verdict = unsettled(verdict)
            interval = seeds_text(contrast.found, points, self._level)
            note = "".join(f"; {note}" for note in (*doubts, *part.notes, *part.arms_told()))
            told.append(f"against {part.name}: {points(contrast.found.mean)} points{interval}, {verdict}{note}")
            contrasts.append(contrast)
            verdicts.append(verdict)
        if not contrasts:
            return Finding(NO_RECORDS, gaps=gaps)
        is_short = absent or len(contrasts) < len(self._known)
        verdict = all_of([*verdicts, UNRESOLVED] if is_short else verdicts)
        effect = self.registry.plan.smallest_effect
        return replace(self._of_several(verdict, contrasts, verdicts, told, effect, effect), gaps=gaps)

    def _of_several(
        self,
        verdict: str,
        contrasts: Sequence[Contrast],
        verdicts: Sequence[str],
        told: Sequence[str],
        margin: float,
        effect: float,
    ) -> Finding:
        """Of a claim that says "each": the numbers are those of the comparison least on the claimed side."""
        least = min(contrasts, key=lambda contrast: contrast.found.mean)
        open_ones = [c for c, one in zip(contrasts, verdicts, strict=True) if one == UNRESOLVED]
        needed = [contrast.needed(effect) for contrast in open_ones]
        runs = {run.folder: run for contrast in contrasts for run in contrast.part.runs}
        covered = dict.fromkeys(name for contrast in contrasts for name in contrast.part.names)
        name = least.part.name if least.part.name in covered else f"against {least.part.name}"
        return Finding(
            verdict,
            tuple(told),
            f"{name}: {points(least.found.mean)} points{seeds_text(least.found, points, least.level)}",
            min(contrast.found.n for contrast in contrasts),
            least.found.mean,
            least.found.ci95,
            least.level,
            margin,
            None if None in needed else max((n for n in needed if n is not None), default=None),
            tuple(covered),
            runs=tuple(runs.values()),
            warnings=tuple(line for contrast in contrasts for line in warnings_of(contrast)),
        )

    def _settle(self, contrast: Contrast, rule: _Rule) -> tuple[str, list[str]]:
        """The verdict by the seeds' own interval, if the residual pooled over methods does not leave it open."""
        verdict, pooled = rule(contrast.found), contrast.pooled
        if verdict == UNRESOLVED or pooled is None or not pooled.is_homoscedastic:
            return verdict, []
        if rule(pooled.beside(contrast.found, contrast.level)) == verdict:
            return verdict, []
        return UNRESOLVED, [
            f"{contrast.part.name}: {verdict} by its own {contrast.found.n} seeds, which agree better than those"
            " of all methods do; by the pooled residual it is open"
        ]

    def _is_small(self, found: Difference) -> str:
        return loses_less(found, self.registry.margin, self.registry.minimum_seeds)

    def _is_above(self, found: Difference) -> str:
        least, same = self.registry.minimum_seeds, self.registry.plan.smallest_effect
        return above(found, least, same, self.claim.at_least)

    @cached_property
    def _known(self) -> list[Part]:
        """The comparisons with rivals that have any value."""
        parts = [self._against(rival) for rival in self.claim.rivals]
        return [part for part in parts if part.strata]

    @property
    def _level(self) -> float:
        """Bonferroni over the rivals that are known."""
        return 1 - 0.05 / max(len(self._known), 1)

    def _against(self, rival: str) -> Part:
        part, unequal = Part(rival), list[str]()
        for c in self.configurations:
            if self.claim.test == "coresets_above_each":
                part.add(c.name, c.coresets_against(rival, self.claim.method, self.by_name))
                continue
            for own in c.rows(self.claim.method):
                other = c.nearest(rival, pruned_share(own.runs))
                if other is None:
                    continue
                part.add(c.name, c.against(own, other))
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
                arm = c.against(own, full)
                part.add(c.name, replace(arm, values=c.differences(own, full, True)) if is_relative else arm)
                shares.append(pruned_share(own.runs))
        if shares:
            part.notes.append(f"pruned by configuration: {percent(min(shares))} to {percent(max(shares))} %")
        return part

    def _over_runs(self, arm: Callable[[Configuration, Row], Arm], level: float) -> Contrast | None:
        part = Part(self.claim.method)
        for c in self.configurations:
            for row in c.rows(self.claim.method):
                part.add(c.name, arm(c, row))
        return Contrast.of(part, level)

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
