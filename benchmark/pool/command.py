"""``python -m benchmark.pool index|inspect|prepare``: get a pool ready and look at it before runs depend on it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmark.config.run import as_choice
from benchmark.files import told
from benchmark.options import ConfigError, Parser, value_in
from benchmark.pool.inspect import count_problem, draw, print_facts, save_grid
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.pool.storage.build import index_shards
from benchmark.pool.storage.index import ShardIndex
from benchmark.pool.storage.names import expand_to_train
from benchmark.pool.storage.shards import ShardPool, tell_held_out

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
    except (PoolError, ConfigError) as error:
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
    index.add_argument("shards", nargs="*", metavar="SHARDS", help=shards_help)
    pool_help = "a pool of pairs as in a sweep file, in place of shards: 'csv: {name: mine, file: pairs.csv}'"
    index.add_argument("--pool", help=pool_help)
    index.add_argument(
        "--out", type=Path, metavar="FILE.npz", help="place of the index (default: beside the shards)"
    )
    index.add_argument("--jobs", type=int, help="processes that scan (default: one a core)")
    index.set_defaults(run=_index)

    inspect = commands.add_parser("inspect", help="say what a pool of shards holds and what is wrong with it")
    inspect.add_argument("shards", nargs="*", metavar="INDEX|SHARDS", help="an index (.npz), or " + shards_help)
    inspect.add_argument("--pool", help=pool_help)
    inspect.add_argument("--expect", type=int, metavar="N", help="exit 1 if the count is more than 1 %% off N")
    inspect.add_argument("--grid", type=Path, metavar="OUT.png", help="write a picture of some samples")
    inspect.add_argument("--draw", type=int, default=256, help="samples read for sizes and faults (default 256)")
    inspect.add_argument("--seed", type=int, default=0, help="of the samples drawn")
    inspect.set_defaults(run=_inspect)

    commands.add_parser("prepare", help="fetch a data set and pack it into shards", add_help=False)
    return parser


def _index(options: argparse.Namespace) -> int:
    if options.pool is None:
        index = _index_of_tars(options)
    elif options.out is not None or options.jobs is not None:
        raise PoolError("--out and --jobs are of tar shards: leave them out with --pool")
    else:
        index = _pool(options).index
    print(f"{index.num_samples:,} samples in {len(index.shards)} shards: {index.path}")
    for reason, count in index.skipped.items():
        print(f"skipped {count:,} {reason}")
    return 0


def _index_of_tars(options: argparse.Namespace) -> ShardIndex:
    if options.out is not None and options.out.suffix != ".npz":
        raise PoolError(f"--out {options.out}: the name of an index ends in .npz")
    names, held_out = expand_to_train(options.shards)
    tell_held_out(held_out)
    if not names:
        raise PoolError(f"no shards match {' '.join(options.shards) or 'nothing: name some, or a --pool'}")
    return index_shards(names, options.out, options.jobs)


def _pool(options: argparse.Namespace) -> ShardPool:
    if bool(options.shards) == (options.pool is not None):
        raise PoolError("name SHARDS, or a pool with --pool")
    if options.pool is None:
        return ShardPool.open(options.shards)
    pool = make_source(as_choice(value_in("--pool", options.pool), "--pool"), "--pool").training_pool()
    if not isinstance(pool, ShardPool):
        raise PoolError(f"--pool {options.pool}: it has no files of pairs to look at")
    return pool


def _inspect(options: argparse.Namespace) -> int:
    pool = _pool(options)
    drawn = draw(pool, options.draw, options.seed)
    print_facts(pool, drawn, Console(emoji=False))
    if options.grid:
        save_grid(drawn, options.grid)
        print(f"picture {options.grid}")
    problem = count_problem(pool.num_samples, options.expect) if options.expect is not None else ""
    if problem:
        print(problem)
    return EXIT_WRONG_COUNT if problem else 0
