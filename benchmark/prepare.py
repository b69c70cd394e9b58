"""``python -m benchmark.pool prepare NAME``: fetch a public data set, check it, write it as sources read it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmark.pool import PoolError, data_folder
from benchmark.preparing import clipart, emoji, fashion_mnist
from benchmark.preparing.dataset import Recipe, prepare_data_set

RECIPES: dict[str, Recipe] = {r.name: r for r in (emoji.RECIPE, clipart.RECIPE, fashion_mnist.RECIPE)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=sorted(RECIPES), help="the data set")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to fill (default: data/NAME)")
    parser.add_argument(
        "--from",
        dest="given",
        type=Path,
        metavar="DIR",
        help="folder with the packages (.tgz, .deb), downloaded or unpacked; nothing is fetched then",
    )


def prepare(arguments: Sequence[str]) -> int:
    """Prepare one data set and say what was made. Raises PoolError that says what to do instead."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.pool prepare", description=__doc__)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    out = options.out or data_folder("", options.name)
    try:
        prepare_data_set(RECIPES[options.name], out, options.given)
    except OSError as error:
        raise PoolError(f"{options.name} was not prepared: {error}; run the command again") from error
    return 0
