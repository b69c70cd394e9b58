"""What a reader asks first: claims, the paper's tables, the checklist; from results to files and the page."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.blocks.block import Block
from analysis.claims.finding import Judged
from analysis.claims.judge import judge
from analysis.claims.published import read_published
from analysis.claims.registry import read_claims
from analysis.claims.tables import TOLD as CLAIMS_TOLD
from analysis.claims.tables import claims_frame, claims_table, published_tables
from analysis.page.checklist import Section, checklist, checklist_markdown
from analysis.page.grid import headline_table
from analysis.page.headline import Headline
from analysis.read.results import Results
from analysis.tables.costs import read_energy
from analysis.tables.paper import TOLD, paper_tables
from analysis.tables.render import PaperTable, frame_of, latex_of, markdown_of
from benchmark.files import write_text

KINDS = {
    "main": "Tables as in the paper: methods by architecture",
    "coresets": "Coresets at equal budgets",
    "ablations": "Ablations of SCAN",
    "cost": "Cost by device",
}
"""The sections of the paper's tables, in order."""


@dataclass(frozen=True)
class Reading:
    """All that the page tells of the records beside their main tables."""

    headline: Headline
    grid: PaperTable | None
    """Methods by task; None where nothing stands beside full data."""
    judged: tuple[Judged, ...]
    published: tuple[PaperTable, ...]
    tables: tuple[PaperTable, ...]
    sections: tuple[Section, ...]
    command: str
    """Makes the report."""
    claims_told: Sequence[str] = CLAIMS_TOLD
    tables_told: Sequence[str] = TOLD
    kinds: tuple[tuple[str, str], ...] = tuple(KINDS.items())

    def write(self, tables: Path) -> None:
        """Markdown, LaTeX and CSV of everything, into the folder of tables; the page adds the HTML."""
        verdicts, brief = claims_table(self.judged), claims_table(self.judged, is_brief=True)
        first = [self.grid] if self.grid else []
        write_text(
            tables / "headline.md", markdown_of(first, "Methods against full data", self.headline.sentences)
        )
        write_text(tables / "headline.tex", latex_of(first, self.headline.sentences))
        write_text(tables / "paper.md", markdown_of(self.tables, "Paper tables", self.tables_told))
        write_text(tables / "paper.tex", latex_of(self.tables, self.tables_told))
        write_text(tables / "claims.md", markdown_of([verdicts, *self.published], "Claims", self.claims_told))
        write_text(tables / "claims.tex", latex_of([brief, *self.published], self.claims_told))
        write_text(tables / "checklist.md", checklist_markdown(self.sections))
        frames = {"headline": frame_of(first), "paper": frame_of(self.tables), "claims": claims_frame(self.judged)}
        for name, frame in frames.items():
            write_text(tables / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))


def read(results: Results, blocks: Sequence[Block], command: str, energy: Path | None = None) -> Reading:
    """Raises ConfigError for a registry or a file of watts that cannot be used."""
    registry = read_claims()
    numbers = read_published(registry)
    watts = read_energy(energy) if energy else read_energy()
    tables = paper_tables(blocks, results.runs, watts, functools.partial(numbers.beside, registry))
    judged = judge(registry, blocks, results)
    sections = checklist(results, blocks, tables, judged, command)
    headline = Headline.of(registry, blocks)
    return Reading(
        headline,
        headline_table(headline),
        tuple(judged),
        tuple(published_tables(numbers)),
        tuple(tables),
        tuple(sections),
        command,
    )
