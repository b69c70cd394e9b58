"""The report's section on what was pruned: words, pictures and figures for ``pruned.html``."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from analysis.blocks.block import Block
from analysis.blocks.statistics import Spread
from analysis.blocks.words import Shown, percent, shown
from analysis.figures.style import Drawing
from analysis.pruned.figures import draw_agreement, draw_pruned
from analysis.pruned.frames import pruned_frames
from analysis.pruned.overlap import overlaps
from analysis.pruned.read import (
    MOST_CLASSES,
    ClassRow,
    ClassTable,
    Gallery,
    Pruning,
    class_table,
    compared_methods,
    left_out,
    read_pruning,
    shown_galleries,
)
from analysis.read.results import Results
from benchmark.runs.pruned import Shown as Sample

SPARK = (88, 26)
"""Width and height of the drawing of a sample's losses, in pixels."""
KINDS = {
    "redundant": "most often redundant: the lowest losses",
    "ill_matched": "most often ill-matched: the highest losses",
    "lowest_loss": "lowest last loss",
    "highest_loss": "highest last loss",
    "left_out": "some of the samples left out most, drawn at random",
}


@dataclass(frozen=True)
class Section:
    """Everything that the section adds to a report."""

    page: dict[str, Any]
    """What ``pruned.html`` shows; text as it came, to be escaped there."""
    drawings: tuple[Drawing, ...]
    frames: dict[str, pd.DataFrame]
    """By the name of the CSV file."""


def build(results: Results, blocks: Sequence[Block]) -> Section:
    """Read what the runs left, and draw it. Files that cannot be read are told on the page and on stderr."""
    pruning = read_pruning(results)
    pairs, faults = overlaps(blocks)
    parts, drawings = [], []
    for number, block in enumerate(blocks):
        figures = draw_pruned(block, number + 1, pruning, pairs)
        part = _part(block, pruning, figures)
        if any(part[what] for what in ("galleries", "classes", "figures")):
            parts.append(part)
        drawings += figures
    agreement = draw_agreement(pairs)
    frames = pruned_frames(blocks, pruning, pairs)
    page = {
        "blocks": parts,
        "agreement": agreement,
        "files": sorted(frames),
        "absent": pruning.absent,
        "problems": [*pruning.problems, *faults],
        "num_read": len(pruning.of_run),
        "spark": SPARK,
    }
    return Section(page, (*drawings, *agreement), frames)


def _part(block: Block, pruning: Pruning, figures: Sequence[Drawing]) -> dict[str, Any]:
    found = shown_galleries(block, pruning)
    table = class_table(block, pruning)
    losses = [loss for gallery in found for sample in gallery.samples for _, loss in sample.losses]
    ends = (min(losses), max(losses)) if losses else None
    return {
        "title": block.title,
        "galleries": [_gallery(block, gallery, pruning, ends) for gallery in found],
        "ends": [f"{end:.2f}" for end in ends] if ends else [],
        "classes": _classes(table, pruning.methods(block)) if table else None,
        "figures": figures,
    }


def _gallery(block: Block, gallery: Gallery, pruning: Pruning, ends: tuple[float, float] | None) -> dict[str, Any]:
    compared = compared_methods(block, pruning, gallery.seed)
    return {
        "title": f"{gallery.method}, seed {gallery.seed}: {KINDS.get(gallery.kind, gallery.kind)}",
        "methods": list(compared),
        "has_losses": any(sample.losses for sample in gallery.samples),
        "samples": [
            {
                **vars(sample),
                "picture": picture(gallery.pruned.thumbnails[place]),
                "side": 2 * gallery.pruned.thumbnails.shape[1] if _is_tiny(gallery) else 48,
                "spark": spark(sample, gallery.pruned.epochs, ends) if ends else [],
                "told_losses": _told(sample),
                "left_out": [_share(left_out(pruned, sample.id)) for pruned in compared.values()],
            }
            for place, sample in zip(gallery.places, gallery.samples, strict=True)
        ],
    }


def _is_tiny(gallery: Gallery) -> bool:
    return bool(gallery.pruned.thumbnails.shape[1] <= 32)


def picture(pixels: np.ndarray) -> str:
    """uint8 [side, side, 3] -> a data address; whatever is smaller, all pixels or nearly."""
    image, written = Image.fromarray(pixels), {}
    for kind, options in (("png", {"optimize": True}), ("webp", {"quality": 80, "method": 6})):
        file = io.BytesIO()
        image.save(file, kind, **options)
        written[kind] = file.getvalue()
    kind = min(written, key=lambda name: len(written[name]))
    return f"data:image/{kind};base64,{base64.b64encode(written[kind]).decode()}"


def spark(sample: Sample, epochs: int, ends: tuple[float, float]) -> list[tuple[float, float]]:
    """Where the losses stand in the drawing; all of a table's galleries share ``ends``, the lowest and highest."""
    (width, height), (low, high) = SPARK, ends
    return [
        (
            round(3 + (width - 6) * epoch / max(epochs - 1, 1), 1),
            round(height - 3 - (height - 6) * (loss - low) / max(high - low, 1e-9), 1),
        )
        for epoch, loss in sample.losses
    ]


def _told(sample: Sample) -> str:
    if not sample.losses:
        return "not observed"
    first, last = sample.losses[0][1], sample.losses[-1][1]
    return f"{first:.2f} → {last:.2f}" if len(sample.losses) > 1 else f"{last:.2f}"


def _share(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.0f}"


def _classes(table: ClassTable, methods: Sequence[str]) -> dict[str, Any]:
    rows = list(table.rows)
    half = MOST_CLASSES // 2
    hidden = max(len(rows) - MOST_CLASSES, 0)
    if hidden:
        rows = rows[:half] + rows[-half:]
    correlation = [_signed(table.correlation[m]) if m in table.correlation else Shown("none") for m in methods]
    return {
        "methods": methods,
        "rows": [_class_cells(row, methods) for row in rows],
        "hidden": hidden,
        "summary": [_class_cells(row, methods) for row in table.summary],
        "correlation": correlation,
    }


def _class_cells(row: ClassRow, methods: Sequence[str]) -> dict[str, Any]:
    cells = [shown(value, percent) if (value := row.left_out.get(m)) else Shown("?") for m in methods]
    return {"name": row.name, "samples": f"{row.samples:,}", "size": row.samples, "cells": cells}


def _signed(value: Spread | None) -> Shown:
    if value is None:
        return Shown("all alike")
    return shown(value, lambda number: f"{round(number, 2) + 0.0:.2f}".replace("-", "−"))
