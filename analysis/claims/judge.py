"""Registry and records -> a verdict a claim, at the paper's scale and at that of the records, and its runs.

Beside a verdict stand what SCAN's control does by the same rule, the measures that the registry did not choose,
and second opinions on the interval.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.blocks.block import Block
from analysis.claims.claimtest import ClaimTest
from analysis.claims.finding import Alternative, Finding, Gap, Judged, configurations, opinions
from analysis.claims.registry import Registry
from analysis.claims.scales import Scales
from analysis.claims.schedule import told_by_schedule
from analysis.claims.verdicts import NO_RECORDS, SUPPORTED
from analysis.read.methods import CONTROL
from analysis.read.results import Results


def judge(registry: Registry, blocks: Sequence[Block], results: Results) -> list[Judged]:
    """A verdict a claim, in the order of the registry. Pools with planted faults take no part."""
    scales = Scales.of(registry, blocks)
    by_name = {run.record["run"]: run for run in results.runs}
    judged = []
    for claim in registry.claims:
        at_paper = _whole(
            ClaimTest(claim, registry, scales.at_paper, by_name), len(registry.paper), claim.configurations
        )
        if claim.test == "share":
            schedule = told_by_schedule(registry.paper.values(), claim.within)
            at_paper = replace(at_paper, told=(*at_paper.told, *schedule))
        here = _whole(ClaimTest(claim, registry, scales.here, by_name), len(scales.here) + scales.planned_here, 1)
        judged.append(Judged(claim, scales.completed(claim, at_paper), here))
    return judged


def _whole(test: ClaimTest, of: int, needed: int) -> Finding:
    """The verdict with what stands beside it; ``of``: how many configurations there are."""
    found = replace(test.finding(needed), of=of, planned_seeds=test.registry.plan.seeds)
    if not found.covered:
        return found
    found = replace(found, control=_control(test, found, needed), gaps=(*found.gaps, *_seeds_missing(test, found)))
    if not test.is_difference:
        return found
    return replace(
        found,
        alternatives=tuple(_alternatives(test, needed)),
        measure="; ".join(sorted({c.measure for c in test.configurations if c.measure})),
        second=tuple(_opinions(test)),
        told=(*found.told, *_left_out(test)),
    )


def _control(test: ClaimTest, found: Finding, needed: int) -> str:
    """What the claim's rule says of SCAN's schedule with random samples."""
    claim = test.claim
    if CONTROL in (claim.method, *claim.required):
        return ""
    rivals = tuple(rival for rival in claim.rivals if rival != CONTROL)
    other = replace(test, claim=replace(claim, method=CONTROL, rivals=rivals)).finding(needed)
    if other.verdict == NO_RECORDS:
        return f"no record of {CONTROL} to hold it against: whether it is specific to SCAN is not known"
    told = f"{CONTROL} by the same rule: {other.line}, {other.said}"
    return f"{told}: not specific to SCAN" if found.verdict == other.verdict == SUPPORTED else told


def _alternatives(test: ClaimTest, needed: int) -> Iterator[Alternative]:
    """The same by the measures that the registry did not choose."""
    for name in test.registry.alternatives(dict.fromkeys(c.key[0] for c in test.configurations)):
        theirs = [c for c in test.configurations if test.registry.endpoint.get(c.key[0]) != name]
        found = replace(test, configurations=[replace(c, other_measure=name) for c in theirs]).finding(needed)
        if found.covered:
            line = f"{found.line}, {configurations(len(found.covered))}"
            yield Alternative(name, found.said, line, found.n, found.mean, found.interval)


def _opinions(test: ClaimTest) -> Iterator[str]:
    contrasts = [contrast for contrast, _ in test.contrasts()]
    for contrast in contrasts:
        yield from opinions(contrast, contrast.part.name if len(contrasts) > 1 else "")


def _left_out(test: ClaimTest) -> list[str]:
    names = sorted({f"{c.block.title}: {told}" for c in test.configurations for told in c.left_out})
    return [f"left out by the rule of analysis/informative.yaml: {'; '.join(names)}"] if names else []


def _seeds_missing(test: ClaimTest, found: Finding) -> list[Gap]:
    least = test.registry.minimum_seeds
    if found.n is None or found.n >= least:
        return []
    seeds = f"seed=[{','.join(map(str, range(least)))}]"
    sweeps = sorted({run.record["sweep"] for run in found.runs})
    command = "; ".join(f"python -m benchmark.sweep {shlex.quote(f'sweeps/{s}.yaml')} '{seeds}'" for s in sweeps)
    return [Gap(f"{found.n} common seed{'s' * (found.n > 1)} of at least {least}", command)]
