"""Which configurations stand at the paper's scale and which at the records' own, and what keeps one out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from analysis.blocks.block import Block
from analysis.claims.configuration import Configuration
from analysis.claims.finding import Finding, Gap, configurations
from analysis.claims.registry import Claim, Registry
from analysis.read.methods import SCAN, is_planted, is_shorter


@dataclass(frozen=True)
class Scales:
    """The configurations of each scale."""

    registry: Registry
    at_paper: Sequence[Configuration]
    here: Sequence[Configuration]
    planned_here: int
    """Configurations of the records' own scale that have no record yet."""
    unlike: Sequence[str]
    """Of the paper's names but not trained as published: title, and each setting that differs."""

    @staticmethod
    def of(registry: Registry, blocks: Sequence[Block]) -> Scales:
        """Pools with planted faults, full data trained for less and the whole published arm take no part.

        The arm is each configuration once more: it tells a disagreement with the paper from one with its code.
        """
        at_paper: list[Configuration] = []
        here: list[Configuration] = []
        unlike: list[str] = []
        known = {block.key[:3] for block in blocks if block.runs} | registry.paper.keys()
        planned = {block.key[:3] for block in blocks} - known
        for whole in blocks:
            block = replace(whole, rows=tuple(row for row in whole.rows if not is_shorter(row.method)))
            runs = block.runs
            if not runs or is_planted(runs[0]) or block.is_published:
                continue
            paper = registry.paper.get(block.key[:3])
            departures = paper.departures(runs[0].record) if paper else []
            if refused := [str(one) for one in departures if not one.is_accepted]:
                unlike.append(f"{block.title}: {', '.join(refused)}")
                paper = None
            (at_paper if paper else here).append(Configuration(block, paper, registry))
        return Scales(registry, at_paper, here, len(planned), unlike)

    def completed(self, claim: Claim, found: Finding) -> Finding:
        """A finding at the paper's scale, with what is not as published and which configurations it lacks."""
        told = (*found.told, *self._departures(claim, found))
        return replace(found, told=told, gaps=(*self._unseen(claim, found), *found.gaps))

    def _unseen(self, claim: Claim, found: Finding) -> list[Gap]:
        """The paper's configurations that a claim which needs all of them lacks, in one line."""
        wanted = self.registry.paper
        covered = {one.key for one in self.at_paper if one.name in found.covered}
        absent = [" · ".join(key) for key in wanted if key not in covered]
        if len(covered) >= claim.configurations:
            return []
        needed = f" ({claim.configurations} needed)" if claim.configurations < len(wanted) else ""
        told = f"{len(absent)} of the paper's {len(wanted)} configurations{needed}: {_first(absent, ', ')}"
        return [Gap(told, claim.command)]

    def _departures(self, claim: Claim, found: Finding) -> Iterator[str]:
        """In the arms that count all the same, and in what therefore does not count."""
        covered = [one for one in self.at_paper if one.name in found.covered]
        accepted = [str(d) for one in covered if one.paper for d in one.paper.departures(one.block.runs[0].record)]
        for departure, count in Counter(accepted).items():
            yield f"counts, though not as published in {configurations(count)}: {departure}"
        unlike = [*self.unlike]
        if claim.method == SCAN and claim.test != "coresets_above_each":
            unlike += [f"{one.block.title}: {told}" for one in self.at_paper if (told := one.unlike_scan())]
        if unlike:
            yield f"not as published, so it does not count: {_first(unlike, '; ')}"


def _first(names: Sequence[str], between: str) -> str:
    return between.join(names[:4]) + (f"{between}and {len(names) - 4} more" if len(names) > 4 else "")
