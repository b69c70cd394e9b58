"""The command: results -> a page, its tables and its figures.

``python -m analysis.report [--results DIR] [--out DIR] [SWEEP ...]``
"""

from __future__ import annotations

import argparse
import gc
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from analysis.read.results import Results, load
from benchmark.files import told
from benchmark.options import ConfigError, Parser

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when a report was made, also of results with gaps; 2 when there is nothing to report."""
    options = parser().parse_args(arguments)
    try:
        return _report(options)
    except OSError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m analysis.report", description="Make the report from records.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="holds a folder a sweep")
    parser.add_argument("--out", type=Path, default=Path("report"), help="where index.html is put")
    parser.add_argument("--energy", type=Path, help="YAML file of watts by device, as analysis/energy.yaml")
    parser.add_argument("sweeps", nargs="*", metavar="SWEEP", help="folder names in results; all by default")
    return parser


def _report(options: argparse.Namespace) -> int:
    try:
        with _records_are_no_garbage():
            results = load(options.results, options.sweeps)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in results.problems:
        print(f"warning: {problem.where}: {problem.message}", file=sys.stderr)
    words = ["python", "-m", "analysis.report", "--results", str(options.results), "--out", str(options.out)]
    if options.energy:
        words += ["--energy", str(options.energy)]
    try:
        page = make(results, options.out, shlex.join([*words, *options.sweeps]), options.energy)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(results.runs)} records, {len(results.missing)} missing runs: {page}")
    return 0


@contextmanager
def _records_are_no_garbage() -> Iterator[None]:
    """What is made here is not searched for garbage again: of thousands of records that takes seconds."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def make(results: Results, out: Path, command: str, energy: Path | None = None) -> Path:
    """Write everything under ``out``; returns the path of the page. ``energy``: a file of watts by device."""

    from analysis.blocks.block import build_blocks
    from analysis.blocks.rows import BASELINE
    from analysis.figures.style import looks, save
    from analysis.page.answers import read
    from analysis.page.departures import departures  # here: a wrong folder is told before plotting is loaded
    from analysis.page.drawn import draw
    from analysis.page.page import Page
    from analysis.pruned.section import build
    from analysis.read.methods import families
    from analysis.tables.foreign import foreign_frame
    from analysis.tables.main import latex, main_frame, markdown, truth_frame, truth_markdown, values_frame
    from benchmark.files import write_text
    from benchmark.runs.snapshot import elsewhere

    blocks = build_blocks(results)
    reading = read(results, blocks, command, energy)
    page = Page(results, blocks, out)
    pruned = build(results, blocks)
    tables = out / "tables"
    reading.write(tables)
    write_text(tables / "paper.html", page.paper_tables(reading))
    write_text(tables / "main.html", page.main_tables())
    write_text(tables / "main.md", markdown(blocks, results))
    write_text(tables / "truth.md", truth_markdown(blocks))
    write_text(tables / "main.tex", latex(blocks))
    frames = {"main": main_frame(blocks), "values": values_frame(results), "truth": truth_frame(blocks)}
    frames |= pruned.frames
    if results.foreign:
        frames["foreign"] = foreign_frame(results.foreign)
    for name, frame in frames.items():
        write_text(tables / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    known = families(run for block in blocks for run in block.runs)
    methods = [*results.methods, *(row.method for block in blocks for row in block.rows)]
    by_family = looks([known.get(method, method) for method in methods], BASELINE)
    appearance = {**{method: by_family[known.get(method, method)] for method in methods}, **by_family}
    figures = draw(reading.headline, blocks, appearance)
    for figure in [*figures.all, *pruned.drawings]:
        save(figure, out / "figures")
    index = out / "index.html"
    if page.has_provenance_page:
        write_text(out / "provenance.html", page.provenance())
    write_text(index, page.render(figures, departures(ROOT, elsewhere()), reading, pruned.page))
    return index


if __name__ == "__main__":
    sys.exit(main())
