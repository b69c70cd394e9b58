"""Image and text embeddings of a pool, computed once and read from mapped files by every method that needs them.

The pass goes chunk by chunk; a chunk that lies on disk is never computed again, whatever the number of ranks.
Letters in shapes: N samples of the pool, M of the target set, d embedding width.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader, Dataset

from benchmark import dist, signals
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.run import RunConfig
from benchmark.evaluate.run import check_weights
from benchmark.files import sealed, sha256_of, unsealed, write_atomic, write_text
from benchmark.models import weights_file
from benchmark.models.frameworks import make_objective
from benchmark.options import plain
from benchmark.pool.samples import Pool, PoolError, SampleError
from benchmark.pool.source import make_source
from benchmark.runs import snapshot
from benchmark.runs.folder import RunFolder
from benchmark.runs.provenance import device_name, versions
from benchmark.runs.record import read_record
from benchmark.training.loader import end_workers, start_worker
from benchmark.training.trainer import AUTOCAST

CHUNK = 8192
"""Samples in a file of the pass; it goes on after the last whole one."""
CHUNKS_FOLDER = "chunks"
NAMES = ("image_embedding", "text_embedding")
TARGET = "target_embedding"
VERIFIED = "verified.json"
logger = logging.getLogger(__name__)


class PoolItems(Dataset[tuple[Any, ...]]):
    """Samples as an encoder's tensors; one that cannot be read has empty ones in its place."""

    def __init__(self, pool: Pool, encoder: Any, with_text: bool) -> None:
        self.pool = pool
        self.image_pixels = encoder.image_pixels
        self.text_transform = encoder.text_transform if with_text else None

    def __len__(self) -> int:
        return self.pool.num_samples

    def __getitem__(self, sample_id: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        try:
            sample = self.pool.read(sample_id)
        except SampleError:
            return None, None
        text = self.text_transform(sample.caption) if self.text_transform else None
        return self.image_pixels(sample.image), text


class TargetItems(Dataset[tuple[Any, ...]]):
    """Images of the target set as an encoder's tensors."""

    def __init__(self, images: Sequence[Any], encoder: Any) -> None:
        self.images, self.image_pixels = images, encoder.image_pixels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, None]:
        return self.image_pixels(self.images[index]), None


def compute(folder: RunFolder, config: FeatureConfig, report: Callable[[float, str], None]) -> None:
    """Fill ``folder`` with float16 arrays [N, d] and ``features.json``; all ranks share the chunks.

    A sample that cannot be read gets a row of zeros and is counted. Raises PoolError and ConfigError, and
    signals.Stopped between two chunks if a rank was asked to stop.
    """
    started = time.perf_counter()
    with dist.rank_zero_first():
        pool = make_source(config.pool, "pool").training_pool()
        # opened before the pass: a data set that is not there is told now, not after hours
        target = make_source(config.target, "target").labelled("train").images if config.target else None
    encoder, weights, built = _encoder(folder, config)
    arrays = NAMES[: 1 + config.with_text]
    chunks = range(0, pool.num_samples, CHUNK)
    of = {"fingerprint": pool.fingerprint, "encoder": weights}
    missing = [start for start in chunks if not _is_chunk_of(_chunk_file(folder, start), of)]
    missing = dist.gather_objects(missing)[0]  # ranks must share out one list, and one of them may already write
    mine = missing[dist.rank() :: dist.world()]
    items = PoolItems(pool, encoder, config.with_text)
    parts = [range(start, min(start + CHUNK, pool.num_samples)) for start in mine]
    embedded = _embed(items, parts, encoder, config, arrays)
    for done, start in enumerate(mine):
        if signals.asked():
            break
        report(done / len(mine), f"samples {start:,} of {pool.num_samples:,}")
        content = next(embedded)
        content |= {key: np.array(value) for key, value in of.items()}
        write_atomic(_chunk_file(folder, start), lambda file, content=content: np.savez(file, **content))  # type: ignore[misc]
    embedded.close()  # and with it the workers
    dist.meet()  # a rank with a slower disk may need long for as many chunks
    if how := max(dist.gather_objects(signals.asked())):  # else every rank has written all of its chunks
        raise signals.Stopped(how)
    if dist.rank() != 0:
        return
    skipped = _join(folder, pool, arrays, chunks)
    facts = {
        "schema": 1,
        "config": plain(dataclasses.asdict(config)),
        "weights": weights,
        **({"encoder": built} if built else {}),
        "code": snapshot.facts(),
        "versions": versions(),
        "device": device_name(dist.pick_device(config.device)),
        "num_ranks": dist.world(),
        "fingerprint": pool.fingerprint,
        "num_samples": pool.num_samples,
        "skipped": skipped,
        "seconds": round(time.perf_counter() - started, 3),
        "arrays": {name: sha256_of(folder / f"{name}.npy") for name in arrays},
    }
    if target is not None:
        whole = _embed(TargetItems(target, encoder), [range(len(target))], encoder, config, NAMES[:1])
        rows = next(whole)[NAMES[0]]  # [M, d]
        write_atomic(folder / f"{TARGET}.npy", lambda file: np.save(file, rows))
        facts["arrays"][TARGET] = sha256_of(folder / f"{TARGET}.npy")
    write_text(folder.features, json.dumps(sealed(facts), indent=1, sort_keys=True) + "\n")
    for start in chunks:
        _chunk_file(folder, start).unlink(missing_ok=True)


def read_facts(folder: RunFolder) -> dict[str, Any]:
    """What a finished pass says of itself. Raises OSError or ValueError for a file that is absent or damaged."""
    return unsealed(json.loads(folder.features.read_text(encoding="utf-8")))


def load(folder: RunFolder, fingerprint: str) -> dict[str, np.ndarray]:
    """The arrays of a finished pass by name, float16 [N, d], mapped. Raises PoolError that says what is wrong."""
    folder = folder.trained_in
    path = folder.features
    try:
        facts = read_facts(folder)
        digests, found = dict(facts["arrays"]), facts["fingerprint"]
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in digests}
    except FileNotFoundError as error:
        raise PoolError(f"{error.filename}: no such file; the features have not been computed yet") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PoolError(
            f"{path}: cannot be read ({error}); move {folder} away to have it computed again"
        ) from error
    if found != fingerprint:
        raise PoolError(f"{folder}: features of pool {found}, but this pool is {fingerprint}")
    _verify(folder, digests)
    return arrays


def _verify(folder: RunFolder, digests: Mapping[str, str]) -> None:
    """Raise PoolError unless every array is as the pass left it; what has not changed since is not read again."""
    note = folder / VERIFIED
    stamps = {}
    for name, digest in digests.items():
        stat = (folder / f"{name}.npy").stat()
        stamps[name] = [digest, stat.st_size, stat.st_mtime_ns, stat.st_ino]
    try:
        if json.loads(note.read_text(encoding="utf-8")) == stamps:
            return
    except (OSError, ValueError):
        pass  # it only saves time
    for name, digest in digests.items():
        if sha256_of(folder / f"{name}.npy") != digest:
            raise PoolError(
                f"{folder / name}.npy: not as the pass left it (another SHA-256 than in {folder.features.name});"
                f" move {folder} away to have it computed again"
            )
    with contextlib.suppress(OSError):  # somebody else's folder may be read and not written
        write_text(note, json.dumps(stamps) + "\n")


def _encoder(folder: RunFolder, config: FeatureConfig) -> tuple[Any, str, dict[str, Any]]:
    """The frozen encoder on its device, what its weights are: a hash, or open_clip's tag; and of a published one
    how it was built.

    Raises RecordError if the weights of a run are not those its record was written for.
    """
    device = dist.pick_device(config.device)
    options = config.encoder.options
    if config.encoder.name == "open_clip":
        from benchmark.models.clip import published as clip  # loads open_clip

        what = clip.published(
            options["model"],
            options.get("pretrained", ""),
            str(folder.config),
            options.get("as_tag", ""),
            config.with_text,
        )
        encoder: Any = clip.open_clip_encoder(what, device, config.batch_size, config.with_text)
        weights = f"sha256:{sha256_of(what.file)}" if what.file else f"open_clip:{what.pretrained or what.model}"
        return encoder, weights, clip.facts_of(encoder)
    if config.encoder.name == "moco_v3":
        from benchmark.models.moco import published as moco

        file = Path(options["file"])
        encoder, _ = moco.moco_v3_encoder(file, device, config.batch_size)
        return encoder, f"sha256:{sha256_of(file)}", moco.facts_of(encoder)
    source = RunFolder(folder.parent / options["run"])
    run = RunConfig.load(source.config)
    objective = make_objective(run.framework, run.model, run.seed)
    final = source.final_weights
    try:
        record = read_record(source.record)
        weights_file.load_weights(final, objective)
    except FileNotFoundError as error:
        if source.record.exists():
            raise PoolError(
                f"{final}: no such file, though {options['run']} is done: put its final weights back, or move"
                f" {source.trained_in} away to have it trained again"
            ) from error
        raise PoolError(f"{error.filename or final}: no such file; has {options['run']} finished?") from error
    except SafetensorError as error:
        raise PoolError(f"{final}: cannot be loaded ({error})") from error
    check_weights(record, source.record, objective)
    encoder = objective.to(device).encoder(config.batch_size)
    return encoder, f"sha256:{sha256_of(final)}", {}


def _embed(
    items: PoolItems | TargetItems,
    parts: Sequence[range],
    encoder: Any,
    config: FeatureConfig,
    names: Sequence[str],
) -> Generator[dict[str, Any], None, None]:
    """For each part of the items, float16 [n, d] by name and ``unreadable``, bool [n]; workers read ahead."""
    batches = [part[k : k + config.batch_size] for part in parts for k in range(0, len(part), config.batch_size)]
    loader = DataLoader(
        items,
        batch_sampler=batches,  # type: ignore[arg-type]
        num_workers=config.num_workers,
        collate_fn=_stacked,
        worker_init_fn=start_worker,
        persistent_workers=config.num_workers > 0,  # for ``end_workers`` to find them
        generator=torch.Generator(),  # else the loader draws from the global generator
    )
    device, dtype = dist.pick_device(config.device).type, AUTOCAST.get(config.precision)
    loaded = iter(loader)
    try:
        for part in parts:
            embed = (encoder.embed_images, getattr(encoder, "embed_texts", None))
            rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
            bad: list[np.ndarray] = []
            for _ in range(0, len(part), config.batch_size):
                unreadable, *stacks = next(loaded)
                bad.append(unreadable)
                with torch.autocast(device, dtype=dtype, enabled=dtype is not None):
                    for name, stack, into in zip(names, stacks, embed, strict=False):
                        rows[name].append(_rows(stack, unreadable, into))
            yield {**{name: _joined(found) for name, found in rows.items()}, "unreadable": np.concatenate(bad)}
    finally:
        end_workers(loader)


def _stacked(batch: Sequence[tuple[Any, ...]]) -> tuple[np.ndarray, torch.Tensor | None, torch.Tensor | None]:
    """Which samples of a batch have no tensors, bool [n]; the others' images and texts, stacked, if there are any.

    A worker hands each tensor on as an open file: so there are two a batch, not two a sample.
    """
    unreadable = np.array([image is None for image, _ in batch])
    kinds = ([item[kind] for item in batch if item[kind] is not None] for kind in (0, 1))
    images, texts = (torch.stack(tensors) if tensors else None for tensors in kinds)
    return unreadable, images, texts


def _rows(
    stack: torch.Tensor | None, unreadable: np.ndarray, embed: Callable[[torch.Tensor], np.ndarray] | None
) -> np.ndarray:
    """float16 [n, d], zeros where there is no tensor; [n, 0] if there is none at all. Rows have length 1."""
    if stack is None:
        return np.zeros((len(unreadable), 0), dtype=np.float16)
    assert embed is not None
    found = embed(stack)
    if not np.isfinite(found).all():
        raise ValueError(
            "the encoder gives features that are not finite: its training diverged, its weights are bad, or they"
            " are too large for the precision of the pass (features: {precision: fp32} asks no more of them)"
        )
    # of length 1, so that float16's range cannot be left; methods normalise anyway
    found = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)
    rows = np.zeros((len(unreadable), found.shape[1]), dtype=np.float16)
    rows[~unreadable] = found
    return rows


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """[n, d] of parts some of which hold no readable sample and so no width."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([p if p.shape[1] else np.zeros((len(p), width), np.float16) for p in parts])


def _join(folder: RunFolder, pool: Pool, names: Sequence[str], chunks: Sequence[int]) -> int:
    """Put the chunks into one array a name; returns how many samples could not be read."""
    width: dict[str, int] = dict.fromkeys(names, 0)
    skipped = 0
    for content in _chunk_contents(folder, chunks):
        skipped += int(content["unreadable"].sum())
        for name in names:
            width[name] = max(width[name], content[name].shape[1])
    for name in names:
        temporary = folder / f"{name}.part.npy"
        array = np.lib.format.open_memmap(temporary, "w+", np.float16, (pool.num_samples, width[name]))
        for start, content in zip(chunks, _chunk_contents(folder, chunks), strict=True):
            if content[name].shape[1]:
                array[start : start + len(content[name])] = content[name]
        array.flush()
        del array
        temporary.rename(folder / f"{name}.npy")
    return skipped


def _is_chunk_of(path: Path, of: Mapping[str, str]) -> bool:
    """Whether a whole chunk lies there, of this pool by this encoder; another one is computed anew."""
    try:
        with np.load(path, allow_pickle=False) as content:
            whole = {name: content[name] for name in content.files}  # reading compares checksums
    except FileNotFoundError:
        return False
    except Exception as error:  # whatever a damaged archive makes numpy, zipfile or zlib raise
        logger.warning("%s: cannot be read (%s); computing it anew", path, error)
        return False
    if any(str(whole.get(key)) != value for key, value in of.items()):
        logger.warning("%s: of another pool or encoder; computing it anew", path)
        return False
    return True


def _chunk_contents(folder: RunFolder, chunks: Sequence[int]) -> Iterator[Mapping[str, np.ndarray]]:
    for start in chunks:
        with np.load(_chunk_file(folder, start), allow_pickle=False) as content:
            yield {name: content[name] for name in content.files}


def _chunk_file(folder: RunFolder, start: int) -> Path:
    return folder.chunks / f"{start:012d}.npz"
