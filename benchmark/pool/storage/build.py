"""Makes the index of a list of files of shards: the stored one, brought up to date where one changed, or anew."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmark.pool.samples import PoolError
from benchmark.pool.storage.arrayfile import cache_folder
from benchmark.pool.storage.byteranges import ABSENT, Stamp, retried
from benchmark.pool.storage.format import Format, Scan
from benchmark.pool.storage.index import TEXTS, Shard, ShardIndex, load_index, save_index
from benchmark.pool.storage.names import common_folder, is_remote
from benchmark.pool.storage.tarheaders import BLOCK
from benchmark.pool.storage.tarscan import TarFormat

logger = logging.getLogger(__name__)

TARS = TarFormat()
Known = tuple[Shard, dict[str, np.ndarray]]
"""A shard and its samples."""
SHARDS_PER_PROCESS = 8
"""Fewer are scanned in this process: starting another takes seconds."""


def index_shards(
    names: Sequence[str], out: Path | None = None, jobs: int | None = None, form: Format = TARS
) -> ShardIndex:
    """The index of files of one format; it lies at ``out``, else in the first of ``default_places`` that can be
    written.

    Shards with a fault are named in a warning. Raises PoolError if no shard holds a sample or one that exists
    cannot be read.
    """
    if not names:
        raise PoolError("no shards to index")
    places = [out] if out else default_places(names, form)
    with ThreadPoolExecutor(16) as threads:  # waits for the network, where shards are on one
        present = list(zip(names, threads.map(form.stamp, names), strict=True))
    stored = _stored(places, form)
    for index in stored:
        if index.files == present:
            return index
    known: dict[tuple[str, Stamp], list[Known]] = {}
    for index in stored:
        of_index: dict[tuple[str, Stamp], list[Known]] = {}
        for i, shard in enumerate(index.shards):
            of_index.setdefault((shard.name, shard.stamp), []).append((shard, index.part(i)))
        known.update(of_index)
    todo = [place for place in present if place not in known]
    if stored:
        logger.warning("%s is out of date: scanning %d of %d shards", stored[0].path, len(todo), len(names))
    for (name, state), scans in zip(todo, _scan_all(todo, jobs, form), strict=True):
        known[name, state] = [
            (
                Shard(name, state, dict(scan.skipped), scan.fault, i if form.is_divided else None),
                _arrays(scan, form),
            )
            for i, scan in enumerate(scans)
        ]
    shards = [shard for place in present for shard, _ in known[place]]
    parts = [part for place in present for _, part in known[place]]
    _report(shards)
    if not any(len(part["kind"]) for part in parts):
        raise PoolError(_nothing(shards))
    return load_index(save_index(places, shards, parts, form.told()), verify=False)


def default_places(names: Sequence[str], form: Format = TARS) -> list[Path]:
    """Where the index of these shards may lie, best first: beside them, then in the cache folder."""
    folder, told = common_folder(names), form.told()
    how = [] if told is None else [json.dumps(told, sort_keys=True)]
    places = [cache_folder() / f"shards-{_hash([*names, *how])}.npz"]
    if folder and not any(is_remote(name) for name in names):
        # relative names: a folder that is moved as a whole takes its index along
        relative = [name[len(folder) + 1 :] for name in names]
        places.insert(0, Path(folder) / f".scan-bench-index-{_hash([*relative, *how])}.npz")
    return places


def _stored(places: Sequence[Path], form: Format) -> list[ShardIndex]:
    found = []
    for path in places:
        if path.exists():
            try:
                index = load_index(path)
            except PoolError as error:
                logger.warning("%s; it is built anew", error)
            else:
                found += [index] if index.stored == form.told() else []
    return found


def _scan_all(todo: Sequence[tuple[str, Stamp]], jobs: int | None, form: Format) -> Iterator[list[Scan]]:
    jobs = min(jobs or len(os.sched_getaffinity(0)), -(-len(todo) // SHARDS_PER_PROCESS))
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("scanning shards", total=len(todo))
        if jobs <= 1:
            for shard in todo:
                yield _scan(*shard, form)
                bar.advance(task)
            return
        # not fork: the caller may run threads
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as processes:
            for scans in processes.map(partial(_scan, form=form), *zip(*todo, strict=True)):
                yield scans
                bar.advance(task)


def _scan(name: str, state: Stamp, form: Format) -> list[Scan]:
    if state == ABSENT:
        return [Scan(fault="does not exist")]
    return retried(name, partial(form.scan, name))


def _arrays(scan: Scan, form: Format) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {
        "image_block": np.array(scan.image_start, dtype=np.int64) // BLOCK,
        "image_length": np.array(scan.image_length, dtype=np.int64),
        "caption_block": np.array(scan.caption_start, dtype=np.int64) // BLOCK,
        "caption_length": np.array(scan.caption_length, dtype=np.int64),
        "kind": np.array(scan.kind, dtype=np.uint8),
        "check": np.array(scan.check, dtype=np.uint32),
    }
    for what in form.texts:
        texts: list[bytes] = getattr(scan, TEXTS[what])
        arrays[f"{what}_length"] = np.array([len(text) for text in texts], dtype=np.int64)
        arrays[TEXTS[what]] = np.frombuffer(b"".join(texts), dtype=np.uint8)
    return arrays


def _report(shards: Sequence[Shard]) -> None:
    faulty = [shard for shard in shards if shard.fault]
    for shard in faulty[:10]:
        logger.warning("shard %s %s", shard.label, shard.fault)
    if len(faulty) > 10:
        logger.warning("... and %d more of %d shards have faults", len(faulty) - 10, len(shards))


def _nothing(shards: Sequence[Shard]) -> str:
    if all(shard.stamp == ABSENT for shard in shards):
        return f"none of {len(shards)} shards exists, the first is {shards[0].name}"
    skipped: Counter[str] = Counter()
    for shard in shards:
        skipped.update(shard.skipped)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in sorted(skipped.items())) or "no images"
    return f"no sample in {len(shards)} shards, the first is {shards[0].name} ({reasons})"


def _hash(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:10]
