"""``python -m benchmark.pool prepare NAME``: fetch a public data set, check it, write it as sources read it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmark.options import Parser
from benchmark.pool.prepare import cifar, clipart, emoji, fashion_mnist
from benchmark.pool.prepare.dataset import prepare_data_set
from benchmark.pool.samples import PoolError
from benchmark.pool.source import data_folder

PREPARERS: dict[str, Callable[[Path, Path | None], None]] = {
    **{r.name: partial(prepare_data_set, r) for r in (emoji.RECIPE, clipart.RECIPE, fashion_mnist.RECIPE)},
    **{name: partial(cifar.prepare, name) for name in ("cifar10", "cifar100")},
}
"""Name -> what fills the folder, from the one given with ``--from`` if there is one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", choices=sorted(PREPARERS), help="the data set")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to fill (default: data/NAME)")
    parser.add_argument(
        "--from",
        dest="given",
        type=Path,
        metavar="DIR",
        help="folder with the packages or archives, downloaded or unpacked; nothing is fetched then",
    )


def prepare(arguments: Sequence[str]) -> int:
    """Prepare one data set and say what was made. Raises PoolError that says what to do instead."""
    parser = Parser(prog="python -m benchmark.pool prepare", description=__doc__)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    out = options.out or data_folder("", options.name)
    try:
        PREPARERS[options.name](out, options.given)
    except OSError as error:
        raise PoolError(f"{options.name} was not prepared: {error}; run the command again") from error
    return 0
