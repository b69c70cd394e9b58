"""``pruned.npz`` of the runs -> what the page shows of it: samples, classes, and who left them out how often."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from analysis.blocks.block import Block
from analysis.blocks.rows import BASELINE
from analysis.blocks.statistics import Spread, spread
from analysis.read.methods import is_shorter
from analysis.read.results import Problem, Results, Run
from benchmark.runs.pruned import Pruned, PrunedError, Shown, read_pruned

PREFERRED = (("redundant", "ill_matched"), ("lowest_loss", "highest_loss"), ("left_out",))
"""Of the methods of a block, one with the first of these kinds is shown on the page."""
MOST_GALLERIES = 2
MOST_CLASSES = 24
"""Of more classes the page shows the largest and the smallest."""
LEAST_CLASSES = 4
"""Fewer have no rarest quarter."""


@dataclass(frozen=True)
class Pruning:
    """What the runs of a report left."""

    of_run: Mapping[Path, Pruned]
    """By the run's folder."""
    absent: tuple[str, ...]
    """Runs without the file: made before there was one, or it was lost."""
    problems: tuple[Problem, ...]

    def seeds(self, block: Block, method: str) -> dict[int, Pruned]:
        """What a method's runs left, by seed."""
        runs = [run for row in block.rows if row.method == method for run in row.runs]
        return {run.record["seed"]: self.of_run[run.folder] for run in runs if run.folder in self.of_run}

    def methods(self, block: Block) -> list[str]:
        """Those of a block of which a run left something; a shorter run leaves nothing out of its own epochs."""
        return [row.method for row in block.rows if self.seeds(block, row.method) and not is_shorter(row.method)]


@dataclass(frozen=True)
class Gallery:
    """Samples of one run and one kind."""

    method: str
    seed: int
    kind: str
    places: tuple[int, ...]
    """Where they stand in ``pruned.gallery`` and in its thumbnails."""
    pruned: Pruned

    @property
    def samples(self) -> list[Shown]:
        return [self.pruned.gallery[place] for place in self.places]


@dataclass(frozen=True)
class ClassRow:
    """A class, or several together: what share of their possible visits each method left out, over seeds."""

    name: str
    samples: int
    left_out: Mapping[str, Spread | None]
    """By method."""


@dataclass(frozen=True)
class ClassTable:
    """The classes of a block, the largest first."""

    rows: tuple[ClassRow, ...]
    summary: tuple[ClassRow, ...]
    """The rarest quarter of the classes, and the others; empty for few classes."""
    correlation: Mapping[str, Spread | None]
    """Spearman's, of the size of a class and the share left out, by method; over seeds. Of ``full`` there is none:
    what its incomplete batches leave out says nothing."""


def read_pruning(results: Results) -> Pruning:
    """All files of all runs. One that cannot be read, or is of another pool, is a problem and no more."""
    found: dict[Path, Pruned] = {}
    absent: list[str] = []
    problems: list[Problem] = []
    for run in results.runs:
        path = run.folder.pruned
        try:
            pruned = read_pruned(path)
            _check_run(pruned, run, path)
            found[run.folder] = pruned
        except FileNotFoundError:
            absent.append(f"{run.folder.parent.name}/{run.folder.name}")
        except (PrunedError, OSError) as error:
            problems.append(Problem(str(path), str(error).removeprefix(f"{path}: ")))
    for problem in problems:
        print(f"warning: {problem.where}: {problem.message}", file=sys.stderr)
    return Pruning(found, tuple(absent), tuple(problems))


def _check_run(pruned: Pruned, run: Run, path: Path) -> None:
    facts = run.record["pool_facts"]
    told = {
        "fingerprint": (pruned.fingerprint, facts["fingerprint"]),
        "num_samples": (pruned.num_samples, facts["num_samples"]),
        "epochs": (pruned.epochs, run.record["training"]["epochs"]),
    }
    for key, (found, expected) in told.items():
        if found != expected:
            raise PrunedError(f"{path}: {key}: {found}, but the record beside it says {expected}")


def galleries(pruned: Pruned, method: str, seed: int) -> list[Gallery]:
    """One a kind, in the order of the file."""
    kinds = dict.fromkeys(sample.kind for sample in pruned.gallery)
    return [
        Gallery(method, seed, kind, tuple(i for i, s in enumerate(pruned.gallery) if s.kind == kind), pruned)
        for kind in kinds
    ]


def shown_galleries(block: Block, pruning: Pruning) -> list[Gallery]:
    """At most two, of one method and its lowest seed: of one that marks candidates before others."""
    found: list[tuple[int, list[Gallery]]] = []
    for method in pruning.methods(block):
        by_seed = pruning.seeds(block, method)
        for seed in sorted(by_seed):
            if own := galleries(by_seed[seed], method, seed):
                found.append((_preference(own), own))
                break
    if not found:
        return []
    return min(found, key=lambda entry: entry[0])[1][:MOST_GALLERIES]


def _preference(own: Sequence[Gallery]) -> int:
    kinds = {gallery.kind for gallery in own}
    return next((i for i, wanted in enumerate(PREFERRED) if kinds & set(wanted)), len(PREFERRED))


def left_out(pruned: Pruned | None, sample_id: int) -> float | None:
    """Share of a run's epochs that did not train on a sample; None where the run does not tell."""
    if pruned is None:
        return None
    if pruned.visits is not None:
        return 1 - int(pruned.visits[sample_id]) / pruned.epochs
    return next((1 - s.visits / pruned.epochs for s in pruned.gallery if s.id == sample_id), None)


def compared_methods(block: Block, pruning: Pruning, seed: int) -> dict[str, Pruned]:
    """The methods but ``full`` with a run of this seed."""
    found = {method: pruning.seeds(block, method).get(seed) for method in pruning.methods(block)}
    return {method: pruned for method, pruned in found.items() if pruned is not None and method != BASELINE}


def class_table(block: Block, pruning: Pruning) -> ClassTable | None:
    """None where the pool knows no classes."""
    methods = pruning.methods(block)
    runs = {method: list(pruning.seeds(block, method).values()) for method in methods}
    sizes = {one.name: one.samples for own in runs.values() for pruned in own for one in pruned.classes}
    if not sizes:
        return None
    names = sorted(sizes, key=lambda name: (-sizes[name], name))
    rows = tuple(_class_row(name, [name], sizes, runs) for name in names)
    if len(names) < LEAST_CLASSES:
        return ClassTable(rows, (), {})
    cut = len(names) - len(names) // 4
    summary = (
        _class_row(f"rarest quarter ({len(names) - cut} classes)", names[cut:], sizes, runs),
        _class_row(f"the others ({cut} classes)", names[:cut], sizes, runs),
    )
    return ClassTable(
        rows, summary, {method: _correlation(own) for method, own in runs.items() if method != BASELINE}
    )


def _class_row(
    title: str, names: Sequence[str], sizes: Mapping[str, int], runs: Mapping[str, Sequence[Pruned]]
) -> ClassRow:
    def shares(own: Sequence[Pruned]) -> Iterator[float]:
        for pruned in own:
            classes = [one for one in pruned.classes if one.name in names]
            if possible := sum(one.samples for one in classes) * pruned.epochs:
                yield 1 - sum(one.visits for one in classes) / possible

    return ClassRow(
        title,
        sum(sizes[name] for name in names),
        {method: spread(shares(own)) for method, own in runs.items()},
    )


def _correlation(own: Sequence[Pruned]) -> Spread | None:
    found = []
    for pruned in own:
        size = [one.samples for one in pruned.classes]
        share = [1 - one.visits / (one.samples * pruned.epochs) for one in pruned.classes]
        if len(set(size)) > 1 and len(set(share)) > 1:
            found.append(float(spearmanr(size, share).statistic))
    return spread(found)


def with_candidates(block: Block, pruning: Pruning) -> tuple[str, dict[int, Pruned]] | None:
    """The first method of a block that marks candidates, and what its runs left by seed."""
    for method in pruning.methods(block):
        by_seed = {seed: one for seed, one in sorted(pruning.seeds(block, method).items()) if one.preparations}
        if by_seed:
            return method, by_seed
    return None


def jaccard_at_random(one: int, other: int, total: int) -> float:
    """The overlap that two sets of these sizes have if drawn at random of ``total`` samples, nearly."""
    both = one * other / total
    return both / (one + other - both) if one + other else 0.0


def cycles_at_random(pruned: Pruned, kind: str) -> np.ndarray:
    """Of the samples, the share in 0, 1, ... preparations had each drawn its candidates at random, [P + 1]."""
    found: np.ndarray = np.ones(1)
    for one in pruned.preparations:
        share = one.counts[kind] / pruned.num_samples
        found = np.convolve(found, [1 - share, share])
    return found
