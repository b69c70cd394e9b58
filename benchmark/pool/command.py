"""``python -m benchmark.pool index|inspect|prepare``: get a pool ready and look at it before runs depend on it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmark.files import told
from benchmark.options import Parser
from benchmark.pool.inspect import count_problem, draw, print_facts, save_grid
from benchmark.pool.samples import PoolError
from benchmark.pool.storage.build import index_shards
from benchmark.pool.storage.names import expand
from benchmark.pool.storage.shards import ShardPool

EXIT_WRONG_COUNT, EXIT_USAGE = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 if a count is not as expected, 2 if data or arguments are wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        if given[:1] == ["prepare"]:
            from benchmark.pool.prepare.command import prepare  # what fetches data is loaded for it alone

            return prepare(given[1:])
        options = parser().parse_args(given)
        return int(options.run(options))
    except PoolError as error:
        Console(stderr=True, emoji=False).print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except OSError as error:
        Console(stderr=True, emoji=False).print(f"error: {told(error)}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        Console(stderr=True, emoji=False).print("stopped; nothing was kept")
        return 130


def parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmark.pool", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="index|inspect|prepare")
    shards_help = "tar shards: files, addresses, folders, globs, {000..331}, several joined by '::'"

    index = commands.add_parser("index", help="scan tar shards once, so that any sample can be read directly")
    index.add_argument("shards", nargs="+", metavar="SHARDS", help=shards_help)
    index.add_argument(
        "--out", type=Path, metavar="FILE.npz", help="place of the index (default: beside the shards)"
    )
    index.add_argument("--jobs", type=int, help="processes that scan (default: one a core)")
    index.set_defaults(run=_index)

    inspect = commands.add_parser("inspect", help="say what a pool of shards holds and what is wrong with it")
    inspect.add_argument("shards", nargs="+", metavar="INDEX|SHARDS", help="an index (.npz), or " + shards_help)
    inspect.add_argument("--expect", type=int, metavar="N", help="exit 1 if the count is more than 1 %% off N")
    inspect.add_argument("--grid", type=Path, metavar="OUT.png", help="write a picture of some samples")
    inspect.add_argument("--draw", type=int, default=256, help="samples read for sizes and faults (default 256)")
    inspect.add_argument("--seed", type=int, default=0, help="of the samples drawn")
    inspect.set_defaults(run=_inspect)

    commands.add_parser("prepare", help="fetch a data set and pack it into shards", add_help=False)
    return parser


def _index(options: argparse.Namespace) -> int:
    if options.out is not None and options.out.suffix != ".npz":
        raise PoolError(f"--out {options.out}: the name of an index ends in .npz")
    names = expand(options.shards)
    if not names:
        raise PoolError(f"no shards match {' '.join(options.shards)}")
    index = index_shards(names, options.out, options.jobs)
    print(f"{index.num_samples:,} samples in {len(index.shards)} shards: {index.path}")
    for reason, count in index.skipped.items():
        print(f"skipped {count:,} {reason}")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    shards = options.shards[0] if len(options.shards) == 1 else options.shards
    pool = ShardPool.open(shards)
    drawn = draw(pool, options.draw, options.seed)
    print_facts(pool, drawn, Console(emoji=False))
    if options.grid:
        save_grid(drawn, options.grid)
        print(f"picture {options.grid}")
    problem = count_problem(pool.num_samples, options.expect) if options.expect is not None else ""
    if problem:
        print(problem)
    return EXIT_WRONG_COUNT if problem else 0
