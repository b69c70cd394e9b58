"""Cells -> the words a reader sees, the same in HTML, Markdown and LaTeX. A number never stands without its n."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.blocks.block import Block
from analysis.blocks.controls import RAW_PIXELS
from analysis.blocks.informative import BELOW_PIXELS
from analysis.blocks.rows import Cell, Column, Row, absent_seeds, protocol_notices
from analysis.blocks.statistics import Interval, Spread
from analysis.read.methods import is_shorter

MISSING = "missing"


@dataclass(frozen=True)
class Shown:
    """A cell in words: ``value (note)``, then the lines."""

    value: str
    note: str = ""
    lines: tuple[str, ...] = ()
    sort: float | None = None
    is_best: bool = False

    @property
    def is_missing(self) -> bool:
        return self.value == MISSING

    @property
    def is_absent(self) -> bool:
        """There is no such number, and none was asked for."""
        return self.sort is None and not self.is_missing

    @property
    def first_line(self) -> str:
        return f"{self.value} ({self.note})" if self.note else self.value


def percent(value: float) -> str:
    """``0.6234`` as ``62.3``: the unit stands in the head of the column."""
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    """A signed difference in percentage points, without a sign at 0.0."""
    text = f"{100 * value:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def nats(value: float) -> str:
    return f"{value:.3f}"


def signed_nats(value: float) -> str:
    """A signed difference in nats, without a sign at 0.000."""
    text = f"{value:+.3f}".replace("-", "−")
    return "0.000" if text[1:] == "0.000" else text


def whole(value: float) -> str:
    return f"{value:,.0f}"


def seconds(value: float) -> str:
    return whole(value) if value >= 100 else f"{value:.1f}"


def shown(
    value: Spread | None, number: Callable[[float], str], lines: tuple[str, ...] = (), asked: int = 0
) -> Shown:
    """Mean, sd and n; n carries the number of seeds asked for where it is larger."""
    if value is None:
        return Shown(MISSING, lines=lines)
    sd = f"sd {number(value.sd)}, " if value.sd is not None else ""
    count = f"n = {value.n} of {asked}" if asked > value.n else f"n = {value.n}"
    return Shown(number(value.mean), sd + count, lines, sort=value.mean)


def metric_cell(cell: Cell, is_nats: bool) -> Shown:
    number, signed = (nats, signed_nats) if is_nats else (percent, points)
    lines = []
    if cell.items95 is not None:
        lines.append(f"over test items {_interval(cell.items95, number)}")
    if cell.difference is not None:
        interval = f" {_interval(cell.difference.ci95, signed)}" if cell.difference.ci95 else ""
        lines.append(f"Δ {signed(cell.difference.mean)}{interval} (n = {cell.difference.n})")
    lines += held_lines(cell)
    text = shown(cell.spread, number, (*lines, *_absent(cell)), cell.asked)
    return Shown(text.value, text.note, text.lines, text.sort, cell.is_best)


def held_lines(cell: Cell) -> list[str]:
    """What the controls say of a value."""
    if cell.held is None:
        return []
    lines = []
    if cell.is_below_pixels and cell.held.pixels is not None:
        lines.append(f"{BELOW_PIXELS} ({percent(cell.held.pixels)})")
    if cell.held.gain_kept is not None:
        share = f"{100 * cell.held.gain_kept:.0f}".replace("-", "−")
        lines.append(f"{share} % of the gain kept (n = {cell.held.gain_seeds})")
    return lines


def control_cells(name: str, block: Block) -> list[Shown]:
    """A control's row in the order of ``heads``: nothing was trained, and only probes have it."""
    nothing = Shown("—")
    return [nothing, nothing, nothing, *(control_cell(name, block, column) or nothing for column in block.columns)]


def control_cell(name: str, block: Block, column: Column) -> Shown | None:
    """What a control has in a column, None for nothing. Pixels know no seed."""
    value = block.controls.get(name, {}).get(column)
    if value is None:
        return None
    return Shown(percent(value.mean), "no seed", sort=value.mean) if name == RAW_PIXELS else shown(value, percent)


def quantity_cell(cell: Cell, number: Callable[[float], str]) -> Shown:
    ratio = (f"× {cell.ratio.mean:.2f} of full (n = {cell.ratio.n})",) if cell.ratio else ()
    return shown(cell.spread, number, (*ratio, *_absent(cell)), cell.asked)


def row_notes(row: Row) -> tuple[str, ...]:
    """What stands under the method's name."""
    return (f"missing: {'; '.join(absent_seeds(row.missing))}",) if row.missing else ()


def row_cells(row: Row, block: Block) -> list[Shown]:
    """The row's cells in the order of ``heads``, without the method."""
    return [
        quantity_cell(row.quantities["pruning_rate"], percent),
        quantity_cell(row.quantities["samples_seen"], whole),
        quantity_cell(row.quantities["seconds"], seconds),
        *(metric_cell(row.cells[column], column.is_nats) for column in block.columns),
    ]


def heads(block: Block) -> list[tuple[str, ...]]:
    """The lines over each column but the first."""
    return [
        ("pruned", "% of samples"),
        ("samples seen",),
        ("seconds", "training"),
        *(column_head(column, block.column_notes[column]) for column in block.columns),
    ]


def column_head(column: Column, note: str) -> tuple[str, ...]:
    told = f"{column.protocol}, {whole(column.items)} items" + (f", {note}" if note else "")
    unit = "nats, also Δ; less is better" if column.is_nats else "%"
    return f"{column.task} {column.dataset}", f"{column.metric}, {unit}", told


def facts(block: Block) -> list[str]:
    """What all runs of the block share, and where they differ: code, device, torch."""
    records = [run.record for run in block.runs]
    pool = records[0]["pool_facts"]
    epochs = {r["training"]["epochs"] for r in records if not is_shorter(r["method"])}
    skipped = sum(pool["skipped"].values())
    told = [
        f"{_joined(str(e) for e in epochs)} epochs",
        f"pool of {whole(pool['num_samples'])} samples"
        + (f" ({whole(skipped)} skipped)" if skipped else "")
        + f", fingerprint {pool['fingerprint'][:12]}",
    ]
    ranks = {f"{r['device']}, {r['num_ranks']} rank" + "s" * (r["num_ranks"] > 1) for r in records}
    told.append(("device: " if len(ranks) == 1 else "devices differ: ") + _joined(ranks))
    codes = {code_version(r["code"]) for r in records}
    told += protocol_notices(block.columns)
    if block.marks:
        words = (f"{c.task} {c.dataset} {c.metric} {why}" for c, why in block.marks.items())
        told.append(f"in no average, by full data alone: {', '.join(words)}")
    told += block.warnings
    told.append(("code " if len(codes) == 1 else "code versions differ: ") + _joined(codes))
    return told


def code_version(code: dict[str, object]) -> str:
    """``58791fb``, with ``(changed)`` if files differed from that commit."""
    return str(code["git_sha"] or "unknown")[:10] + (" (changed)" if code["dirty"] else "")


def _absent(cell: Cell) -> tuple[str, ...]:
    """Why seeds have no value; only an empty cell repeats what stands under the method."""
    if cell.spread is None:
        return (*cell.unmeasured, *cell.absent)
    return (f"missing: {'; '.join(cell.unmeasured)}",) if cell.unmeasured else ()


def _interval(interval: Interval, number: Callable[[float], str]) -> str:
    return f"[{number(interval[0])}, {number(interval[1])}]"


def _joined(texts: object) -> str:
    return "; ".join(sorted(texts))  # type: ignore[call-overload]
