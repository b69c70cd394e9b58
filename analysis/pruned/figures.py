"""What was pruned -> figures: losses with the zones of candidates, churn between cycles, agreement of coresets."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.blocks.block import Block
from analysis.figures.style import Drawing, Look, axes, drawing, finish, slug
from analysis.pruned.overlap import Member, Overlap
from analysis.pruned.read import Pruning, cycles_at_random, jaccard_at_random, with_candidates
from analysis.read.methods import family_of
from analysis.tables.names import method_name
from benchmark.runs.pruned import Pruned

KINDS = {"redundant": Look("#0072B2", "o", "-"), "ill_matched": Look("#D55E00", "s", "--")}
FILLS = {"redundant": "#9CCBEB", "ill_matched": "#B3480A"}
"""Light and dark, also in grey."""
OTHER = Look("#009E73", "^", "-.")
MOST_HEATMAPS = 2
"""A block: those of the budgets that most runs share."""


def draw_pruned(block: Block, number: int, pruning: Pruning, overlaps: Sequence[Overlap]) -> list[Drawing]:
    """All figures of one main table; none for what its runs did not leave."""
    prefix = slug(f"{number:02d}", *block.key[:3])
    found: list[Drawing | None] = []
    chosen = with_candidates(block, pruning)
    if chosen is not None:
        method, by_seed = chosen
        found += [
            _losses(block, method, by_seed, prefix),
            _churn(block, method, by_seed, prefix),
            _cycles(block, method, by_seed, prefix),
        ]
    own = [one for one in overlaps if one.kind == "methods" and one.one.block.key == block.key]
    by_budget: dict[float, list[Overlap]] = {}
    for one in own:
        by_budget.setdefault(one.budget, []).append(one)
    most = sorted(by_budget.items(), key=lambda entry: -len(entry[1]))[:MOST_HEATMAPS]
    found += [_heatmap(block, budget, pairs, prefix) for budget, pairs in sorted(most)]
    return [figure for figure in found if figure is not None]


def draw_agreement(overlaps: Sequence[Overlap]) -> list[Drawing]:
    """For each pool and budget: how far runs of one method agree over models, and over seeds."""
    groups: dict[tuple[str, str, float], list[Overlap]] = {}
    for one in overlaps:
        if one.kind in ("models", "seeds") and one.kappa is not None:
            pool = str(one.one.run.record["pool"])
            groups.setdefault((pool, one.one.fingerprint, one.budget), []).append(one)
    return [_agreement(*key, pairs) for key, pairs in groups.items()]


def _losses(block: Block, method: str, by_seed: Mapping[int, Pruned], prefix: str) -> Drawing | None:
    seed, pruned = min(by_seed.items())
    drawn = [one for one in pruned.preparations if "all" in one.histograms]
    if not drawn:
        return None
    first, last = drawn[0], drawn[-1]
    edges = np.array(pruned.loss_edges)
    with axes() as (figure, panel):
        for kind in last.counts:
            look = KINDS.get(kind, OTHER)
            panel.stairs(
                _shares(last.histograms[kind], pruned), edges, fill=True, facecolor=FILLS.get(kind, look.colour),
                edgecolor="black", linewidth=0.5, alpha=0.85,
                label=f"{kind.replace('_', '-')} ({_percent(last.counts[kind] / pruned.num_samples)})",
            )  # fmt: skip
        panel.stairs(_shares(last.histograms["all"], pruned), edges, color="black", linewidth=1.4,
                     label=f"all, epoch {last.epoch + 1}")  # fmt: skip
        if first is not last:
            panel.stairs(_shares(first.histograms["all"], pruned), edges, color="#777777", linestyle=":",
                         linewidth=1.4, label=f"all, epoch {first.epoch + 1}")  # fmt: skip
        panel.set(xlabel="mean loss of both directions", ylabel="samples, % of the pool")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))
        finish(figure, panel)
        caption = (
            f"{block.title}, {method}, seed {seed}. Filled: candidates of the last preparation, epoch"
            f" {last.epoch + 1}. Samples are marked by their rank within a batch and direction, so zones overlap."
        )
        return drawing(figure, f"{prefix}-zones", "Losses with the zones of candidates", caption)


def _shares(counts: Sequence[int], pruned: Pruned) -> np.ndarray:
    return np.array(counts) / pruned.num_samples


def _churn(block: Block, method: str, by_seed: Mapping[int, Pruned], prefix: str) -> Drawing | None:
    longest = 0
    with axes() as (figure, panel):
        for kind, look in _looks(by_seed).items():
            lines = [_line(pruned, kind) for pruned in by_seed.values()]
            lines = [line for line in lines if line]
            if not lines:
                continue
            for line in lines:
                panel.plot(*_xy(line, 0), color=look.colour, alpha=0.35, linewidth=0.8)
            common = range(2, 2 + min(map(len, lines)))
            mean = [(x, *np.mean([line[x - 2][1:] for line in lines], axis=0)) for x in common]
            longest = max(longest, *map(len, lines))
            label = kind.replace("_", "-")
            panel.plot(
                *_xy(mean, 0), color=look.colour, marker=look.marker, linestyle=look.line, linewidth=1.6,
                label=f"{label} (n = {len(lines)})",
            )  # fmt: skip
            panel.plot(*_xy(mean, 1), color=look.colour, linestyle=":", linewidth=1.3, marker=look.marker,
                       markersize=3, fillstyle="none", label=f"{label}, at random")  # fmt: skip
        if not panel.lines:
            return None
        panel.set(xlabel="preparation, counted from 1", ylabel="Jaccard with the one before")
        panel.set(xlim=(1.5, longest + 1.5), ylim=(0, 1))
        panel.set_xticks(range(2, longest + 2, max(1, longest // 8)))
        finish(figure, panel)
        caption = (
            f"{block.title}, {method}. Candidates of both preparations / of either. Thick: mean over seeds; thin:"
            " each seed. Dotted: as many samples drawn at random."
        )
        return drawing(figure, f"{prefix}-churn", "Churn of candidates between cycles", caption)


def _line(pruned: Pruned, kind: str) -> list[tuple[float, float, float]]:
    """Number of the preparation from 2, Jaccard with the one before, and what chance would give."""
    found: list[tuple[float, float, float]] = []
    for i, (before, one) in enumerate(zip(pruned.preparations, pruned.preparations[1:], strict=False)):
        value = one.jaccard.get(kind)
        if value is not None:
            chance = jaccard_at_random(before.counts[kind], one.counts[kind], pruned.num_samples)
            found.append((i + 2, value, chance))
    return found


def _xy(line: Sequence[tuple[float, ...]], which: int) -> tuple[list[float], list[float]]:
    return [point[0] for point in line], [point[1 + which] for point in line]


def _cycles(block: Block, method: str, by_seed: Mapping[int, Pruned], prefix: str) -> Drawing | None:
    most = max(len(one.preparations) for one in by_seed.values())
    runs = [one for one in by_seed.values() if len(one.preparations) == most]
    if most < 2:
        return None
    with axes() as (figure, panel):
        looks = _looks(by_seed)
        width = 0.8 / len(looks)
        for i, (kind, look) in enumerate(looks.items()):
            x = np.arange(most + 1) - 0.4 + width * (i + 0.5)
            counts = np.mean([np.array(one.cycles[kind]) / one.num_samples for one in runs], axis=0)
            chance = np.mean([cycles_at_random(one, kind) for one in runs], axis=0)
            label = kind.replace("_", "-")
            panel.bar(
                x, counts, width * 0.9, color=FILLS.get(kind, look.colour), edgecolor="black", linewidth=0.5,
                label=f"{label} (n = {len(runs)})",
            )  # fmt: skip
            panel.hlines(
                chance, x - width * 0.45, x + width * 0.45, color="black", linewidth=2.2,
                linestyle=(0, (1.5, 0.7)), label="" if i else "at random",
            )  # fmt: skip
        panel.set(xlabel="preparations that made it a candidate", ylabel="samples, % of the pool")
        panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}"))
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(axis="x", visible=False)
        finish(figure, panel)
        caption = f"{block.title}, {method}, {most} preparations. Lines: if each drew its candidates at random."
        return drawing(figure, f"{prefix}-cycles", "How often samples are candidates", caption)


def _looks(by_seed: Mapping[int, Pruned]) -> dict[str, Look]:
    kinds = dict.fromkeys(k for one in by_seed.values() for p in one.preparations for k in p.counts)
    return {kind: KINDS.get(kind, OTHER) for kind in kinds}


def _heatmap(block: Block, budget: float, pairs: Sequence[Overlap], prefix: str) -> Drawing | None:
    members = {member.method: member.run.record for pair in pairs for member in (pair.one, pair.other)}
    names = [row.method for row in block.rows if row.method in members]
    kappas: dict[tuple[str, str], list[float]] = {}
    for pair in pairs:
        if pair.kappa is not None:
            for key in ((pair.one.method, pair.other.method), (pair.other.method, pair.one.method)):
                kappas.setdefault(key, []).append(pair.kappa)
    if not kappas:
        return None
    values = np.full((len(names), len(names)), np.nan)
    for (a, b), found in kappas.items():
        values[names.index(a), names.index(b)] = np.mean(found)
    seeds = {pair.one.seed for pair in pairs}
    with axes(1.3 + 0.36 * len(names)) as (figure, panel):
        panel.imshow(np.abs(values), cmap="Greys", vmin=0, vmax=1.1, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                colour = "#fefefe" if abs(value) > 0.55 else "#010101"  # none that a dark page would turn
                text = f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
                panel.text(j, i, text, ha="center", va="center", color=colour, fontsize=6)
        _named(panel, [method_name(family_of(members[name])) for name in names])
        finish(figure, panel)
        caption = (
            f"{block.title}, mean over {len(seeds)} seed{'s' if len(seeds) > 1 else ''}. Cohen's kappa of what two"
            " coresets keep: 0 is chance, 1 the same samples, below 0 less than chance."
        )
        name = slug(prefix, "overlap", f"{100 * budget:.0f}")
        return drawing(figure, name, "Agreement of coresets between methods", caption)


def _named(panel: Axes, names: Sequence[str]) -> None:
    """Names beside the rows, numbers under the columns."""
    panel.set(xticks=range(len(names)), yticks=range(len(names)))
    panel.set_yticklabels([_wrapped(f"{i + 1}\u00a0\u00a0{name}") for i, name in enumerate(names)], fontsize=7)
    panel.set_xticklabels([str(i + 1) for i in range(len(names))], fontsize=7)
    panel.grid(visible=False)


def _wrapped(name: str) -> str:
    """Two lines at most."""
    return "\n".join(textwrap.wrap(name, 26, max_lines=2, placeholder="…", break_on_hyphens=False))


def _agreement(pool: str, fingerprint: str, budget: float, pairs: Sequence[Overlap]) -> Drawing:
    members = {pair.one.method: pair.one.run.record for pair in pairs}
    names = list(members)
    kinds = {"models": Look("#0072B2", "o", "-"), "seeds": Look("#D55E00", "s", "-")}
    with axes(1.2 + 0.38 * len(names)) as (figure, panel):
        for kind, look in kinds.items():
            own = [pair for pair in pairs if pair.kind == kind]
            if own:
                y = [names.index(pair.one.method) + (0.12 if kind == "seeds" else -0.12) for pair in own]
                told = {"models": "two models", "seeds": "two seeds"}[kind]
                panel.plot(
                    [pair.kappa or 0.0 for pair in own], y, linestyle="none", marker=look.marker, markersize=5,
                    fillstyle="none", color=look.colour, label=f"{told} ({len(own)} pairs)",
                )  # fmt: skip
        panel.axvline(0, color="#555555", linestyle=":", linewidth=1.5)
        panel.set(xlabel="Cohen's kappa (0: chance)", yticks=range(len(names)))
        panel.set(ylim=(len(names) - 0.4, -0.6), xlim=(min(-0.1, panel.get_xlim()[0]), 1.05))
        panel.set_yticklabels([_wrapped(method_name(family_of(members[name]))) for name in names], fontsize=7)
        panel.grid(axis="y", visible=False)
        finish(figure, panel)
        models = sorted({_model(member) for pair in pairs for member in (pair.one, pair.other)})
        caption = (
            f"{pool} ({fingerprint}); models: {', '.join(models)}. A mark is a pair of runs:"
            " of two models with one seed, or of two seeds with one model."
        )
        name = slug("agreement", pool, fingerprint[:6], f"{100 * budget:.0f}")
        return drawing(figure, name, "Agreement of a method with itself", caption)


def _model(member: Member) -> str:
    return str(member.run.record["model"])


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
