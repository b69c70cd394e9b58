"""``python -m benchmark.coreset export``: a coreset's samples as a table of (id, shard, key), as a list of keys,
or as tar shards."""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

from benchmark.config.job import load_config
from benchmark.config.run import as_choice
from benchmark.coreset.coreset import Coreset, CoresetError, ensemble, load_coreset
from benchmark.coreset.keylist import save_keys
from benchmark.files import told, write_atomic
from benchmark.options import ConfigError, Parser, value_in
from benchmark.pool.samples import Pool, PoolError
from benchmark.pool.source import make_source
from benchmark.pool.storage.shards import ShardPool
from benchmark.pool.storage.tarwriter import Member, write_tar
from benchmark.runs.folder import RunFolder

EXIT_USAGE = 2
TABLES: dict[str, Callable[[pd.DataFrame, BinaryIO], None]] = {
    ".parquet": lambda table, file: table.to_parquet(file, index=False),
    ".csv": lambda table, file: table.to_csv(file, index=False),
}
LISTS = (".txt", ".npy")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, or 2 if files, data or arguments are wrong."""
    options = parser().parse_args(arguments)
    console = Console(stderr=True, emoji=False)
    try:
        return _export(options, console)
    except (ConfigError, CoresetError, PoolError) as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except OSError as error:
        console.print(f"error: {told(error)}", style="red", markup=False, soft_wrap=True)
        return EXIT_USAGE
    except KeyboardInterrupt:
        console.print("stopped; files that are there are whole")
        return 130


def _export(options: argparse.Namespace, console: Console) -> int:
    coreset = ensemble([load_coreset(path) for path in options.coreset])
    pool = _pool(options)
    if pool.fingerprint != coreset.fingerprint:
        raise CoresetError(
            f"{options.coreset[0]}: chosen from pool {coreset.fingerprint}, but this pool is {pool.fingerprint};"
            " name the right one with --pool"
        )
    if options.keep_fraction is not None and not 0 < options.keep_fraction <= 1:
        raise ConfigError(f"--keep-fraction {options.keep_fraction}: must lie in (0, 1]")
    ids = np.flatnonzero(coreset.cut(options.keep_fraction))
    written = str(options.out)
    if options.out.suffix in TABLES:
        write_table(options.out, pool, coreset, ids)
    elif options.out.suffix in LISTS:
        write_keys(options.out, pool, ids, console)
    elif options.out.suffix:
        known = ", ".join([*TABLES, *LISTS])
        raise ConfigError(f"--out {options.out}: expected a name in {known}, or a folder for tar shards")
    else:
        written = f"{write_shards(options.out, pool, ids, options.shard_samples, console)} shards in {options.out}"
    console.print(f"{len(ids):,} of {pool.num_samples:,} samples: {written}", soft_wrap=True)
    return 0


def write_table(path: Path, pool: Pool, coreset: Coreset, ids: np.ndarray) -> None:
    """One row a kept sample: id, shard ("" where a pool has none), key, and the score where there is one."""
    shard_of = pool.shard_of if isinstance(pool, ShardPool) else lambda sample_id: ""
    rows: dict[str, Any] = {
        "id": ids,
        "shard": [shard_of(i) for i in ids.tolist()],
        "key": [pool.key(i) for i in ids.tolist()],
    }
    if coreset.score is not None:
        rows["score"] = coreset.score[ids]
    write_atomic(path, lambda file: TABLES[path.suffix](pd.DataFrame(rows), file))


def write_keys(path: Path, pool: Pool, ids: np.ndarray, console: Console) -> None:
    """The keys of the kept samples: a line each (``.txt``), or DataComp's uids (``.npy``). Raises CoresetError."""
    keys = [pool.key(i) for i in ids.tolist()]
    kept, left_out = set(keys), np.setdiff1d(np.arange(pool.num_samples), ids)
    shared = sum(pool.key(i) in kept for i in left_out.tolist())
    if shared:
        console.print(
            f"{shared:,} samples that are left out have the key of one that is kept: by this list they stay; a"
            " table tells samples by id too"
        )
    save_keys(path, keys)


def write_shards(folder: Path, pool: Pool, ids: np.ndarray, samples: int, console: Console) -> int:
    """Tar shards of the kept samples in the order of their ids; returns how many.

    Images and captions of a pool of shards are copied byte for byte; others are written as PNG. A key is the
    sample's id, so that keys which repeat between shards cannot clash. Raises CoresetError if there are tar files.
    """
    if any(folder.glob("*.tar")):
        raise CoresetError(f"{folder}: already holds tar files; name an empty folder")
    starts = range(0, len(ids), samples)
    for number, start in enumerate(track(starts, "writing shards", console=console)):
        chosen = ids[start : start + samples].tolist()
        members = (member for sample_id in chosen for member in _members(pool, sample_id))
        write_atomic(folder / f"{number:05d}.tar", lambda file, members=members: write_tar(file, members))  # type: ignore[misc]
    return len(starts)


def _members(pool: Pool, sample_id: int) -> Iterator[Member]:
    name = f"{sample_id:09d}"
    if isinstance(pool, ShardPool):
        image, caption, is_json = pool.read_bytes(sample_id)
        yield Member(f"{name}.{_image_suffix(image)}", image)
        yield Member(f"{name}.{'json' if is_json else 'txt'}", caption or b" ")
        return
    sample, buffer = pool.read(sample_id), io.BytesIO()
    sample.image.save(buffer, format="PNG")
    yield Member(f"{name}.png", buffer.getvalue())
    yield Member(f"{name}.txt", sample.caption.encode() or b" ")


def _image_suffix(data: bytes) -> str:
    """The suffix that goes with an image's first bytes; a decoder does not need it, but people do."""
    known = ((b"\xff\xd8", "jpg"), (b"\x89PNG", "png"), (b"GIF8", "gif"), (b"BM", "bmp"))
    return next((suffix for magic, suffix in known if data.startswith(magic)), "webp")


def _pool(options: argparse.Namespace) -> Pool:
    if options.pool:
        return make_source(as_choice(value_in("--pool", options.pool), "--pool"), "--pool").training_pool()
    config = RunFolder(options.coreset[0].parent).config
    if not config.exists():
        raise ConfigError(f"{config}: no such file to read the pool from; name it: --pool 'emoji: {{root: data}}'")
    return make_source(load_config(config).pool, f"{config}: pool").training_pool()


def parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m benchmark.coreset", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="export")
    export = commands.add_parser("export", help="write a coreset's samples for use elsewhere")
    export.add_argument(
        "coreset", type=Path, nargs="+", help="coreset.npz of a run; several of one pool make an ensemble"
    )
    export.add_argument(
        "--out",
        type=Path,
        required=True,
        help="table (.parquet, .csv) of id, shard and key; list of keys (.txt; .npy of DataComp's uids); or a"
        " folder for tars",
    )
    export.add_argument(
        "--keep-fraction", type=float, help="share of the pool to keep (default: the coreset's own)"
    )
    export.add_argument("--pool", help="the pool, as in a sweep file (default: that of the run beside the file)")
    export.add_argument("--shard-samples", type=int, default=10_000, help="samples in a tar shard")
    return parser
