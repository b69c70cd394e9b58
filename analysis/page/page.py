"""Blocks, figures and departures -> the report's HTML. All text of records passes through jinja2's autoescape."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from analysis.blocks.block import Block, interim, planned_only, used_runs
from analysis.blocks.rows import Row
from analysis.blocks.words import control_cells
from analysis.page.answers import Reading
from analysis.page.departures import Departure
from analysis.page.drawn import Figures
from analysis.page.headline import cost_sentence
from analysis.page.inline import inline
from analysis.page.numbers import numbers, short_heads, told_once
from analysis.page.provenance import provenance
from analysis.page.verdicts import scale_told, style, verdicts
from analysis.read.results import Results, Run
from analysis.tables.foreign import HEADS, NOTE, foreign_rows
from analysis.tables.main import legend
from analysis.tables.truth import TOLD, kinds_of, truth_cells, truth_heads, truth_rows

MOST_RECORDS_INLINE = 1000
"""Of more, the rows of provenance get a page of their own."""
MOST_LINKS = 40
"""Rows of provenance that a claim or an item of the checklist links to."""


class Page:
    """Renders the page and the main tables that are to lie in ``out``."""

    def __init__(self, results: Results, blocks: Sequence[Block], out: Path) -> None:
        self.results, self.blocks = results, blocks
        self._base = _way(results.folder, out)
        self._groups, self._places = provenance(used_runs(blocks), self._way_to)
        self._tables = [self._table(block, i) for i, block in enumerate(blocks) if block.runs]
        self._jinja = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        self._jinja.filters["tight"] = _tight
        self._jinja.filters["inline"] = inline
        self._jinja.filters["told_once"] = told_once
        self._jinja.globals["link_of"] = self._link_of
        self._jinja.globals["config_of"] = self._config_of
        self._jinja.globals["rows_of"] = self._rows_of
        self._jinja.globals["style_of"] = style
        self._jinja.globals["only_macros"] = False
        self._jinja.globals["most_links"] = MOST_LINKS
        script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
        self._shared = {
            "script": Markup(script),
            "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            "choices": self._choices(),
            "provenance": self._groups,
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
        figures: Figures,
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
            tables=self._tables,
            planned=planned_only(self.blocks),
            headline=reading.headline,
            grid=reading.grid,
            verdicts=verdicts(reading.judged, reading.headline.seeds),
            scale_told=scale_told(reading.judged),
            interim=interim(self.blocks, reading.headline.registry.plan.seeds),
            cost=cost_sentence(reading.headline, self.results.runs),
            **vars(figures),
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
        told = numbers(block)
        rows: list[dict[str, Any]] = [
            {
                "method": row.method,
                "notes": told.notes[row.method],
                "control": False,
                "runs": [self._places[run.folder][1] for run in _last_by_seed(row)],
                "cells": told.cells[row.method],
            }
            for row in block.rows
        ]
        rows += [
            {"method": name, "notes": (), "control": True, "runs": [], "cells": control_cells(name, block)}
            for name in block.controls
        ]
        truth = truth_rows(block)
        kinds = kinds_of(truth)
        anchors = {row["method"]: row["runs"][0].anchor for row in rows if row["runs"]}
        return {
            "anchor": f"table-{number}",
            "title": block.title,
            **dict(zip(("framework", "model", "pool"), block.key[:3], strict=True)),
            "facts": told.facts,
            **short_heads(block),
            "rows": rows,
            "truth_heads": truth_heads(kinds),
            "truth": [
                {**vars(row), "anchor": anchors[row.method], "cells": truth_cells(row, kinds)} for row in truth
            ],
        }

    def _rows_of(self, runs: Iterable[Run]) -> list[tuple[str, str]]:
        """Name and address of each row of provenance that holds some of the runs."""
        rows = {self._places[run.folder][0].anchor: (run, self._places[run.folder][0]) for run in runs}
        return [(f"{row.method}, {row.model}, {row.pool}", self._link_of(run)) for run, row in rows.values()]

    def _link_of(self, run: Run) -> str:
        """To the run's row of provenance."""
        page = "provenance.html" if self.has_provenance_page else ""
        return f"{page}#{self._places[run.folder][0].anchor}"

    def _config_of(self, run: Run) -> str:
        """The run's resolved configuration as seen from the report; nothing where there is none."""
        return self._way_to(run.folder.config) if run.folder.config.exists() else ""

    def _way_to(self, path: Path) -> str:
        below = path.relative_to(self.results.folder)
        return quote((self._base / below).as_posix()) if self._base else ""


def _last_by_seed(row: Row) -> list[Run]:
    """The run that counts of each seed: the last, where two sweeps hold one run."""
    return list({run.record["seed"]: run for run in row.runs}.values())


def _way(results: Path, out: Path) -> Path | None:
    """From the report to the results, or None where they share no folder but the root."""
    here, there = out.resolve(), results.resolve()
    try:
        common = Path(os.path.commonpath([here, there]))
    except ValueError:  # two drives
        return None
    return None if common == Path(common.anchor) else Path(os.path.relpath(there, here))


def _tight(text: str) -> Markup:
    """Escaped; a line may break after ``_``, ``(`` and ``=`` of a name, not within an interval or a count."""
    text = re.sub(r"(?<=\[)[^\]]*(?=\])|(?<=\()n = [^)]*|n = \d+( of \d+)?|[Δ×] \S+|sd \S+", _without_breaks, text)
    return Markup(re.sub(r"([_(](?=\w{2})|=(?=\w))", r"\1<wbr>", str(escape(text))))


def _without_breaks(match: re.Match[str]) -> str:
    return match[0].replace(" ", "\u00a0")
