"""What a report answers first: methods against full data by the claims' measure, and the sentence that says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.blocks.block import Block
from analysis.blocks.rows import Row
from analysis.blocks.statistics import BySeed
from analysis.blocks.words import points
from analysis.claims.configuration import Configuration
from analysis.claims.registry import Registry
from analysis.claims.scales import Scales
from analysis.figures.data import Effect, average_of
from analysis.read.methods import CONTROL, FULL, SCAN, family_of, is_planted, is_variant
from analysis.read.results import Run
from analysis.tables.cells import TASK_WORDS, pruned_share
from analysis.tables.costs import hours, is_cpu
from analysis.tables.names import FRAMEWORKS, method_name, metric_name

MOST_ARMS = 16
"""In the lead figure and the headline table; of more, the caption says how many there are."""


@dataclass(frozen=True)
class Arm:
    """A method over the configurations that have it, at the budget nearest to SCAN's."""

    family: str
    rows: Mapping[int, Row]
    """By number of the configuration."""
    effects: Mapping[int, BySeed]
    """seed -> difference to full, of the configurations that have any by the claims' measure."""

    @property
    def name(self) -> str:
        return method_name(self.family)

    @property
    def pruned(self) -> float:
        shares = [pruned_share(row.runs) for row in self.rows.values()]
        return sum(shares) / len(shares)

    @property
    def average(self) -> Effect | None:
        return average_of(list(self.effects.values()))


@dataclass(frozen=True)
class Headline:
    """The comparison that a report opens with."""

    registry: Registry
    configurations: tuple[Configuration, ...]
    arms: tuple[Arm, ...]
    """SCAN, its control, then the others, the best first."""
    num_methods: int
    """Of which ``arms`` are the first."""

    @staticmethod
    def of(registry: Registry, blocks: Sequence[Block]) -> Headline:
        """At the paper's scale if there is any record of it, else at the records'; planted pools where all are."""
        scales = Scales.of(registry, blocks)
        planted = [Configuration(b, None, registry) for b in blocks if b.runs and is_planted(b.runs[0])]
        own = next((found for found in map(_comparing, (scales.at_paper, scales.here, planted)) if found), ())
        rows = [rows_by_family(c) for c in own]
        families = dict.fromkeys(family for found in rows for family in found)
        arms = [_arm(family, own, rows) for family in families]
        arms.sort(key=lambda arm: (arm.family != SCAN, arm.family != CONTROL, -_mean(arm)))
        return Headline(registry, tuple(own), tuple(arms[:MOST_ARMS]), len(arms))

    @property
    def margin(self) -> float:
        """In points."""
        return 100 * self.registry.margin

    @property
    def measure(self) -> str:
        told: dict[str, list[str]] = {}
        for c in self.configurations:
            for column in c.columns:
                name = FRAMEWORKS.get(c.key[0], c.key[0])
                told.setdefault(f"{TASK_WORDS[column.task]} {metric_name(column.metric)}", []).append(name)
        several = len({c.key[0] for c in self.configurations}) > 1
        return " and ".join(f"{what} ({names[0]})" if several else what for what, names in told.items())

    @property
    def seeds(self) -> str:
        """``n = 3 seeds``, or the range."""
        counts = [effect.n for arm in self.arms if (effect := arm.average)]
        low, high = min(counts, default=0), max(counts, default=0)
        return f"n = {low}{f' to {high}' if high > low else ''} seed{'s' * (high > 1)}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """The answer, and what its control says of it."""
        arms = {arm.family: arm for arm in self.arms}
        scan, control = arms.get(SCAN), arms.get(CONTROL)
        effect = scan.average if scan else None
        if scan is None or effect is None:
            return ("No run of SCAN is measured as the claims ask beside full data of its own seed.",)
        told = f"SCAN saw {100 - 100 * scan.pruned:.0f} % of the samples and {_fate(effect, is_one=True)}."
        other = control.average if control else None
        if other is None:
            return (told, "Without scan_random nothing here tells SCAN's choice from its schedule.")
        return (told, f"As many random samples on its schedule {_fate(other, is_one=False)}.")

    @property
    def basis(self) -> str:
        """What the numbers of the sentence are; empty where there are none."""
        if not any(arm.effects for arm in self.arms):
            return ""
        count = max(len(arm.effects) for arm in self.arms)
        over = f"averaged over {count} configurations" if count > 1 else "in one configuration"
        return f"{self.measure}, paired by seed, {over}, {self.seeds}"


def _comparing(configurations: Sequence[Configuration]) -> tuple[Configuration, ...]:
    """Those that have full data and something beside it."""
    return tuple(c for c in configurations if c.full is not None and any(rows_by_family(c)))


def rows_by_family(c: Configuration) -> dict[str, Row]:
    """The row of each family nearest to SCAN's budget; SCAN's variants only where faults were planted."""
    rows: dict[str, list[Row]] = {}
    for row in c.block.rows:
        if row.runs and row.method != FULL and (is_planted(row.runs[0]) or not is_variant(row.runs[0])):
            rows.setdefault(family_of(row.runs[0].record), []).append(row)
    aim = pruned_share(rows[SCAN][0].runs) if SCAN in rows else 0.25
    return {name: min(found, key=lambda row: abs(pruned_share(row.runs) - aim)) for name, found in rows.items()}


def _arm(family: str, own: Sequence[Configuration], rows: Sequence[Mapping[str, Row]]) -> Arm:
    found = {i: own_rows[family] for i, own_rows in enumerate(rows) if family in own_rows}
    effects = {}
    for i, row in found.items():
        full = own[i].full
        if full is not None and (values := own[i].differences(row, full)):
            effects[i] = values
    return Arm(family, found, effects)


def _mean(arm: Arm) -> float:
    return effect.mean if (effect := arm.average) else -1e9


def _fate(effect: Effect, is_one: bool) -> str:
    """A loss or a gain only where the interval says so."""
    stands = "stands at" if is_one else "stand at"
    size = f"{abs(effect.mean):.1f} points"
    if effect.interval is None:
        told = " and ".join(points(one / 100) for one in effect.points)
        seeds = f"{told} in two seeds" if effect.n == 2 else "one seed" if effect.n == 1 else "all seeds equal"
        return f"{stands} {points(effect.mean / 100)} points against full data ({seeds})"
    low, high = effect.interval
    told = f"95 % interval {points(low / 100)} to {points(high / 100)}"
    if low <= 0 <= high:
        return f"{stands} {points(effect.mean / 100)} points against full data ({told})"
    return f"{'lost' if effect.mean < 0 else 'gained'} {size} against full data ({told})"


def cost_sentence(headline: Headline, runs: Sequence[Run]) -> str:
    """What SCAN saved, and what all runs took."""
    scan = next((arm for arm in headline.arms if arm.family == SCAN), None)
    ratios = [row.quantities["seconds"].ratio for row in scan.rows.values()] if scan else []
    known = [ratio.mean for ratio in ratios if ratio]
    told = []
    if scan and known:
        seconds = sum(known) / len(known)
        told.append(
            f"SCAN took {seconds:.2f} of full data's seconds for {1 - scan.pruned:.2f} of its samples, on the same"
            " devices."
        )
    total: dict[str, float] = {}
    for run in runs:
        unit = "core" if is_cpu(run.record["device"]) else "GPU"
        total[unit] = total.get(unit, 0.0) + hours(run.record)
    sums = " and ".join(f"{value:.3g} {unit} hours" for unit, value in sorted(total.items()))
    return " ".join([*told, f"The training of all {len(runs)} runs took {sums}." if sums else "Nothing has run."])
