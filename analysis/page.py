"""Blocks, figures and departures -> the report's HTML. All text of records passes through jinja2's autoescape."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from analysis.departures import Departure
from analysis.figures import Section
from analysis.foreign import HEADS, NOTE, foreign_rows
from analysis.formats import LEGEND
from analysis.load import Results, Run
from analysis.shown import code_version, facts, heads, row_cells, row_notes
from analysis.tables import Block
from analysis.truth import TOLD, kinds_of, truth_cells, truth_heads, truth_rows
from benchmark.record import RECORD_FILE


class Page:
    """Renders the page and the main tables that are to lie in ``out``."""

    def __init__(self, results: Results, blocks: Sequence[Block], out: Path) -> None:
        self.results, self.blocks, self.out = results, blocks, out
        self._anchors = {run.folder: f"run-{i}" for i, run in enumerate(results.runs)}
        self._jinja = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        self._jinja.filters["tight"] = _tight

    def main_tables(self) -> str:
        tables = [self._table(block, i) for i, block in enumerate(self.blocks)]
        return self._jinja.get_template("main_table.html").render(tables=tables, legend=LEGEND)

    def render(self, sections: Sequence[Section], departures: Sequence[Departure], command: str) -> str:
        tables = [self._table(block, i) for i, block in enumerate(self.blocks)]
        missing = self.results.missing
        states = Counter(one.short_state for one in missing)
        return self._jinja.get_template("page.html").render(
            sweeps=self.results.sweeps,
            num_records=len(self.results.runs),
            num_planned=self.results.num_planned,
            missing=missing,
            missing_summary=", ".join(f"{count} {state}" for state, count in sorted(states.items())),
            problems=self.results.problems,
            legend=LEGEND,
            truth_told=TOLD,
            protocols=sorted({column.protocol for block in self.blocks for column in block.columns}),
            tables=tables,
            sections=[
                {
                    "title": one.title,
                    "note": one.note,
                    "figures": [{"uri": _data_uri(f.svg), **vars(f)} for f in one.figures],
                }
                for one in sections
            ],
            foreign=foreign_rows(self.results.foreign),
            foreign_heads=HEADS,
            foreign_note=NOTE,
            has_truth=any(table["truth"] for table in tables),
            provenance=[self._provenance(run) for run in self.results.runs],
            digest=self.results.digest,
            departures=departures,
            command=command,
        )

    def _table(self, block: Block, number: int) -> dict[str, Any]:
        rows: list[dict[str, Any]] = [
            {
                "method": row.method,
                "notes": row_notes(row),
                "runs": [self._provenance(run) for run in row.runs],
                "cells": row_cells(row, block),
            }
            for row in block.rows
        ]
        truth = truth_rows(block)
        kinds = kinds_of(truth)
        anchors = {row["method"]: row["runs"][0]["anchor"] for row in rows if row["runs"]}
        return {
            "anchor": f"table-{number}",
            "title": block.title,
            "facts": facts(block),
            "heads": heads(block),
            "rows": rows,
            "truth_heads": truth_heads(kinds),
            "truth": [
                {**vars(row), "anchor": anchors[row.method], "cells": truth_cells(row, kinds)} for row in truth
            ],
        }

    def _provenance(self, run: Run) -> Mapping[str, Any]:
        record = run.record
        ranks = record["num_ranks"]
        return {
            "anchor": self._anchors[run.folder],
            "href": self._href(run),
            "name": run.folder.name,
            "planned": run.planned,
            "code": code_version(record["code"]),
            "torch": record["versions"].get("torch", "unknown"),
            "device": record["device"] + (f" × {ranks}" if ranks > 1 else ""),
            **{key: record[key] for key in ("sweep", "method", "seed", "finished")},
        }

    def _href(self, run: Run) -> str:
        """The record as seen from the report, or nothing where they share no folder but the root."""
        record, out = (run.folder / RECORD_FILE).resolve(), self.out.resolve()
        try:
            common = Path(os.path.commonpath([record, out]))
        except ValueError:  # two drives
            return ""
        return "" if common == Path(common.anchor) else quote(Path(os.path.relpath(record, out)).as_posix())


def _tight(text: str) -> Markup:
    """Escaped; a line may break after ``_``, ``(`` and ``=`` of a name, not within an interval or a count."""
    text = re.sub(r"(?<=\[)[^\]]*(?=\])|(?<=\()n = [^)]*|n = \d+( of \d+)?|[Δ×] \S+|sd \S+", _without_breaks, text)
    return Markup(re.sub(r"([_(](?=\w{2})|=(?=\w))", r"\1<wbr>", str(escape(text))))


def _without_breaks(match: re.Match[str]) -> str:
    return match[0].replace(" ", "\u00a0")


def _data_uri(svg: bytes) -> Markup:
    """Percent-encoded as far as an attribute of HTML and a URI need it: of text that is shorter than base64."""
    return Markup("data:image/svg+xml," + re.sub(r"[%#\"&<>\n]", lambda m: f"%{ord(m[0]):02X}", svg.decode()))
