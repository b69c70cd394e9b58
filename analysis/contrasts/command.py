"""``python -m analysis.contrasts FILE [--results DIR] [--out DIR]``: tables, a CSV and the figures of a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

from analysis.contrasts.answer import answers
from analysis.contrasts.figures import draw
from analysis.contrasts.registered import read_registered
from analysis.contrasts.tables import csv_text, markdown
from analysis.figures.style import save
from analysis.read.results import Results, load
from benchmark.files import told, write_text
from benchmark.options import ConfigError, Parser


def main(words: Sequence[str] | None = None) -> int:
    """0 when the contrasts were answered, also with few records; 2 for a mistake."""
    parser = Parser(prog="python -m analysis.contrasts", description="Answer contrasts that were registered.")
    parser.add_argument("file", type=Path, help="YAML of the contrasts, such as docs/mini/contrasts.yaml")
    parser.add_argument("--results", type=Path, default=Path("results"), help="holds a folder a sweep")
    parser.add_argument("--out", type=Path, help="folder for contrasts.md, contrasts.csv and the file's figures")
    options = parser.parse_args(words)
    try:
        registered = read_registered(options.file)
        found = {
            one.id: (one, answers(one, registered, _load(options.results, one.sweeps)))
            for one in registered.questions
        }
        text = "\n".join(markdown(question, of, registered) for question, of in found.values())
        print(text)
        if options.out:
            write_text(options.out / "contrasts.md", text)
            write_text(options.out / "contrasts.csv", csv_text(found.values()))
            for figure in registered.figures:
                drawn = draw(figure, found, registered, partial(_load, options.results))
                if drawn is not None:
                    save(drawn, options.out, ("png", "svg"))
    except (ConfigError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {told(error)}", file=sys.stderr)
        return 2
    return 0


@lru_cache
def _load(folder: Path, sweeps: tuple[str, ...]) -> Results | None:
    """None unless all of the sweeps have begun."""
    return load(folder, sweeps) if all((folder / name).is_dir() for name in sweeps) else None
