"""How far runs agree on what they keep: their ``coreset.npz``, compared in pairs at equal budgets.

Agreement is Cohen's kappa of the two masks: 0 is what chance gives, 1 is the same samples; it is the same for what
is kept and for what is left out. N below is the number of samples of a pool.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from analysis.blocks.block import Block
from analysis.pruned.read import jaccard_at_random
from analysis.read.results import Problem, Run

NEAR = 0.02
"""Shares of the pool this far apart are one budget."""
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)


@dataclass(frozen=True)
class Member:
    """A run's coreset, not yet read as a whole."""

    block: Block
    run: Run
    path: Path
    fingerprint: str
    share: float
    """Of the pool that it keeps."""
    is_ordered: bool
    """It ranks samples, so it can be cut at any budget."""

    @property
    def method(self) -> str:
        return str(self.run.record["method"])

    @property
    def seed(self) -> int:
        return int(self.run.record["seed"])


@dataclass(frozen=True)
class Overlap:
    """Two runs at one budget."""

    one: Member
    other: Member
    kind: str
    """``methods`` of one table and seed, ``seeds`` of one method and table, ``models`` of one method and seed."""
    budget: float
    sizes: tuple[int, int]
    jaccard: float
    jaccard_at_random: float
    kappa: float | None
    """None where one of the two keeps all or nothing."""

    def row(self) -> dict[str, Any]:
        told: dict[str, Any] = {"pool": self.one.run.record["pool"], "fingerprint": self.one.fingerprint}
        told |= {"compared": self.kind, "budget": self.budget}
        for name, member in (("a", self.one), ("b", self.other)):
            told |= {f"table_{name}": member.block.title, f"method_{name}": member.method}
            told |= {f"seed_{name}": member.seed}
        kept = {"kept_a": self.sizes[0], "kept_b": self.sizes[1], "jaccard": self.jaccard}
        return {**told, **kept, "jaccard_at_random": self.jaccard_at_random, "kappa": self.kappa}


def overlaps(blocks: Sequence[Block]) -> tuple[list[Overlap], list[Problem]]:
    """All pairs that differ in one thing alone, at every budget of their pool; files that cannot be read."""
    members, problems = _members(blocks)
    found: list[Overlap] = []
    for fingerprint in dict.fromkeys(member.fingerprint for member in members):
        of_pool = [member for member in members if member.fingerprint == fingerprint]
        for budget in budgets(of_pool):
            near = [m for m in of_pool if m.is_ordered or abs(m.share - budget) <= NEAR]
            masks = {}
            for member in near:
                try:
                    masks[member.path] = _mask(member, budget)
                except Exception as error:  # damaged bytes lead zipfile, zlib and numpy to errors of every kind
                    problems.append(_problem(member.path, error))
            pairs = itertools.combinations([m for m in near if m.path in masks], 2)
            found += [
                _compared(one, other, kind, budget, masks[one.path], masks[other.path])
                for one, other in pairs
                if (kind := _kind(one, other))
            ]
    return found, list(dict.fromkeys(problems))


def budgets(members: Iterable[Member]) -> list[float]:
    """Shares at which members are compared: those of methods that cannot be cut, else the one in the middle."""
    members = list(members)
    fixed = sorted(member.share for member in members if not member.is_ordered)
    if not fixed:
        return [float(np.median([member.share for member in members]))]
    found = [fixed[0]]
    found += [b for a, b in itertools.pairwise(fixed) if b - a > NEAR]
    return found


def agreement(one: np.ndarray, other: np.ndarray, total: int) -> tuple[float, float, float | None]:
    """Bits uint8 [ceil(N / 8)] of two masks -> Jaccard, what it is at random, and kappa."""
    a, b, both = (int(_ONES[bits].sum()) for bits in (one, other, one & other))
    either = a + b - both
    seen = (total - either + both) / total
    chance = (a * b + (total - a) * (total - b)) / total**2
    kappa = (seen - chance) / (1 - chance) if chance < 1 and 0 < a < total and 0 < b < total else None
    return both / either if either else 1.0, jaccard_at_random(a, b, total), kappa


def _members(blocks: Sequence[Block]) -> tuple[list[Member], list[Problem]]:
    """A seed that was run twice counts once: the last run holds."""
    found: dict[tuple[Any, ...], Member] = {}
    problems = []
    for block in blocks:
        for run in block.runs:
            path = run.folder.coreset
            try:
                with np.load(path, allow_pickle=False) as content:
                    facts = (str(content["fingerprint"]), float(content["fraction"]), "score" in content.files)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
                problems.append(_problem(path, error))
                continue
            if facts[0] == run.record["pool_facts"]["fingerprint"]:
                found[block.key, run.record["method"], run.record["seed"]] = Member(block, run, path, *facts)
            else:
                problems.append(Problem(str(path), f"fingerprint: {facts[0]}, but the record's pool is another"))
    return list(found.values()), problems


def _mask(member: Member, budget: float) -> np.ndarray:
    """Bits of what is kept at ``budget``, uint8 [ceil(N / 8)]; samples of one score are cut at random by seed."""
    with np.load(member.path, allow_pickle=False) as content:
        total = int(content["num_samples"])
        if not member.is_ordered or abs(member.share - budget) < 1 / (2 * total):
            bits = np.asarray(content["keep"])
        else:
            score = np.asarray(content["score"])
            chance = np.random.default_rng(member.seed).random(total)
            keep = np.zeros(total, dtype=bool)
            keep[np.lexsort((chance, score))[: round(budget * total)]] = True
            bits = np.packbits(keep)
    if total != member.run.record["pool_facts"]["num_samples"] or bits.shape != (-(-total // 8),):
        raise ValueError(f"keep: not a bit for each of {member.run.record['pool_facts']['num_samples']} samples")
    return bits


def _kind(one: Member, other: Member) -> str:
    is_same = (one.block.key == other.block.key, one.method == other.method, one.seed == other.seed)
    return {
        (True, False, True): "methods",
        (True, True, False): "seeds",
        (False, True, True): "models",
    }.get(is_same, "")


def _compared(one: Member, other: Member, kind: str, budget: float, a: np.ndarray, b: np.ndarray) -> Overlap:
    total = one.run.record["pool_facts"]["num_samples"]
    sizes = (int(_ONES[a].sum()), int(_ONES[b].sum()))
    return Overlap(one, other, kind, budget, sizes, *agreement(a, b, total))


def _problem(path: Path, error: Exception) -> Problem:
    return Problem(str(path), f"cannot be read ({type(error).__name__}: {error})")
