"""Blocks, figures and departures -> the report's HTML. All text of records passes through jinja2's autoescape."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from analysis.blocks.block import Block, planned_only
from analysis.blocks.rows import Row
from analysis.blocks.words import code_version, control_cells, facts, heads, row_cells, row_notes
from analysis.figures.sections import Section
from analysis.figures.style import Drawing
from analysis.page.answers import Reading
from analysis.page.departures import Departure
from analysis.read.results import Results, Run
from analysis.tables.foreign import HEADS, NOTE, foreign_rows
from analysis.tables.main import legend
from analysis.tables.truth import TOLD, kinds_of, truth_cells, truth_heads, truth_rows
from benchmark.runs.folder import RunFolder

MOST_RECORDS_INLINE = 1000
"""Of more, the rows of provenance get a page of their own."""
MOST_LINKS = 200
"""Records that a claim or an item of the checklist links to one by one."""


class Page:
    """Renders the page and the main tables that are to lie in ``out``."""

    def __init__(self, results: Results, blocks: Sequence[Block], out: Path) -> None:
        self.results, self.blocks = results, blocks
        self._base = _way(results.folder, out)
        self._provenance = {run.folder: self._told(run, i) for i, run in enumerate(results.runs)}
        self._tables = [self._table(block, i) for i, block in enumerate(blocks) if block.runs]
        self._jinja = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        self._jinja.filters["tight"] = _tight
        self._jinja.globals["link_of"] = self._link_of
        self._jinja.globals["config_of"] = self._config_of
        self._jinja.globals["only_macros"] = False
        self._jinja.globals["most_links"] = MOST_LINKS
        script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
        self._shared = {
            "script": Markup(script),
            "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "choices": self._choices(),
            "provenance": list(self._provenance.values()),
            "digest": results.digest,
            "num_records": len(results.runs),
        }

    @property
    def has_provenance_page(self) -> bool:
        return len(self.results.runs) > MOST_RECORDS_INLINE

    def main_tables(self) -> str:
        return self._jinja.get_template("main_table.html").render(
            tables=self._tables, legend=legend(self.blocks), planned=planned_only(self.blocks)
        )

    def paper_tables(self, reading: Reading) -> str:
        return self._jinja.get_template("paper_table.html").render(reading=reading)

    def provenance(self) -> str:
        """A page of its own."""
        return self._jinja.get_template("provenance.html").render(self._shared)

    def render(
        self,
        sections: Sequence[Section],
        departures: Sequence[Departure],
        reading: Reading,
        pruned: Mapping[str, Any],
    ) -> str:
        """``pruned`` is what ``pruned_section`` tells."""
        missing = self.results.missing
        states = Counter(one.short_state for one in missing)
        return self._jinja.get_template("page.html").render(
            self._shared,
            sweeps=self.results.sweeps,
            left_out=self.results.left_out,
            num_planned=self.results.num_planned,
            missing=missing,
            missing_summary=", ".join(f"{count} {state}" for state, count in sorted(states.items())),
            problems=self.results.problems,
            legend=legend(self.blocks),
            truth_told=TOLD,
            protocols=sorted({column.protocol for block in self.blocks for column in block.columns}),
            tables=self._tables,
            planned=planned_only(self.blocks),
            sections=[{**vars(one), "figures": [_figure(drawn) for drawn in one.figures]} for one in sections],
            foreign=foreign_rows(self.results.foreign, self.results.controls),
            foreign_heads=HEADS,
            foreign_note=NOTE,
            has_truth=any(table["truth"] for table in self._tables),
            provenance_page="provenance.html" if self.has_provenance_page else "",
            departures=departures,
            reading=reading,
            command=reading.command,
            pruned=pruned,
        )

    def _choices(self) -> dict[str, list[str]]:
        """What the tables can be filtered by, with the values there are; a single one is no choice."""
        keys = [block.key[:3] for block in self.blocks]
        found = {name: sorted({key[i] for key in keys}) for i, name in enumerate(("framework", "model", "pool"))}
        found["method"] = list(dict.fromkeys(row.method for block in self.blocks for row in block.rows))
        return found

    def _table(self, block: Block, number: int) -> dict[str, Any]:
        rows: list[dict[str, Any]] = [
            {
                "method": row.method,
                "notes": row_notes(row),
                "control": False,
                "runs": [self._provenance[folder] for folder in _folders(row).values()],
                "cells": row_cells(row, block),
            }
            for row in block.rows
        ]
        rows += [
            {"method": name, "notes": (), "control": True, "runs": [], "cells": control_cells(name, block)}
            for name in block.controls
        ]
        truth = truth_rows(block)
        kinds = kinds_of(truth)
        anchors = {row["method"]: row["runs"][0]["anchor"] for row in rows if row["runs"]}
        return {
            "anchor": f"table-{number}",
            "title": block.title,
            **dict(zip(("framework", "model", "pool"), block.key[:3], strict=True)),
            "facts": facts(block),
            "heads": heads(block),
            "labels": [" · ".join(lines) for lines in heads(block)],
            "rows": rows,
            "truth_heads": truth_heads(kinds),
            "truth": [
                {**vars(row), "anchor": anchors[row.method], "cells": truth_cells(row, kinds)} for row in truth
            ],
        }

    def _told(self, run: Run, number: int) -> Mapping[str, Any]:
        record = run.record
        ranks = record["num_ranks"]
        return {
            "anchor": f"run-{number}",
            "href": self._way_to(run.folder.record),
            "name": run.folder.name,
            "planned": run.planned,
            "code": code_version(record["code"]),
            "torch": record["versions"].get("torch", "unknown"),
            "device": record["device"] + (f" × {ranks}" if ranks > 1 else ""),
            **{key: record[key] for key in ("sweep", "framework", "model", "pool", "method", "seed", "finished")},
        }

    def _link_of(self, run: Run) -> str:
        """To the run's row of provenance."""
        page = "provenance.html" if self.has_provenance_page else ""
        return f"{page}#{self._provenance[run.folder]['anchor']}"

    def _config_of(self, run: Run) -> str:
        """The run's resolved configuration as seen from the report; nothing where there is none."""
        return self._way_to(run.folder.config) if run.folder.config.exists() else ""

    def _way_to(self, path: Path) -> str:
        below = path.relative_to(self.results.folder)
        return quote((self._base / below).as_posix()) if self._base else ""


def _folders(row: Row) -> dict[int, RunFolder]:
    """seed -> the folder of the run that counts: the last, where two sweeps hold one run."""
    return {run.record["seed"]: run.folder for run in row.runs}


def _way(results: Path, out: Path) -> Path | None:
    """From the report to the results, or None where they share no folder but the root."""
    here, there = out.resolve(), results.resolve()
    try:
        common = Path(os.path.commonpath([here, there]))
    except ValueError:  # two drives
        return None
    return None if common == Path(common.anchor) else Path(os.path.relpath(there, here))


def _figure(drawn: Drawing) -> dict[str, Any]:
    return {**vars(drawn), "is_wide": drawn.is_wide, "uri": _data_uri(drawn.svg)}


def _tight(text: str) -> Markup:
    """Escaped; a line may break after ``_``, ``(`` and ``=`` of a name, not within an interval or a count."""
    text = re.sub(r"(?<=\[)[^\]]*(?=\])|(?<=\()n = [^)]*|n = \d+( of \d+)?|[Δ×] \S+|sd \S+", _without_breaks, text)
    return Markup(re.sub(r"([_(](?=\w{2})|=(?=\w))", r"\1<wbr>", str(escape(text))))


def _without_breaks(match: re.Match[str]) -> str:
    return match[0].replace(" ", "\u00a0")


def _data_uri(svg: bytes) -> Markup:
    """Percent-encoded as far as an attribute of HTML and a URI need it: of text that is shorter than base64."""
    return Markup("data:image/svg+xml," + re.sub(r"[%#\"&<>\n]", lambda m: f"%{ord(m[0]):02X}", svg.decode()))
