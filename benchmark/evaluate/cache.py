"""Features computed once: an encoder that looks in a folder of arrays before it encodes.

An entry's name is a hash of everything its rows follow from: weights, preprocessing, layer, device and items. So
several tasks of one evaluation, and evaluations to come, share it, and no changed model or data finds a stale one.
Letters in shapes: n items, d feature width.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark import dist
from benchmark.evaluate.encoding import can_be_read, encoded, is_unreadable, loaded
from benchmark.evaluate.entry import Entry
from benchmark.evaluate.means import Means, stop_together
from benchmark.models.encoder import Encoder, fingerprint_of_encoder
from benchmark.pool.samples import digest_of, fingerprint_of
from benchmark.runs.folder import RunFolder

logger = logging.getLogger(__name__)

VERSION = 2
"""Goes up with anything in the code that changes features."""
CHUNK = 4096
"""Items encoded, and held besides the mapped file, at once."""
FOLDER = "features"
"""In a run's folder, unless ``SCAN_BENCH_FEATURES`` names another place or says ``off``."""

Encode = Callable[[Sequence[range]], Generator[np.ndarray, None, None]]
"""Parts of some items -> the rows of each, one after the other."""


def cache_of(run: RunFolder) -> Path | None:
    """Where features of a run's model are kept; None if they are not to be kept."""
    said = os.environ.get("SCAN_BENCH_FEATURES", "")
    return None if said == "off" else Path(said) if said else run.encoded


class CachedEncoder:
    """An encoder in front of another one. What comes from the cache is read-only and mapped.

    All ranks ask it for the same and get the same: they share the chunks, and rank 0 keeps them.
    """

    def __init__(
        self,
        inner: Encoder,
        folder: Path | None,
        report: Callable[[int, int, str], None] = lambda *_: None,
        means: Means | None = None,
    ) -> None:
        """``folder`` None keeps nothing. ``report`` gets items done, items in all, and their kind."""
        self.inner, self.folder, self.report = inner, folder, report
        self.means = means or Means()
        self.has_text = inner.has_text
        self.left_out: dict[str, int] = {}
        """Images that cannot be decoded, of each set that was encoded and has any."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode_images(self, images: Sequence[Image.Image], layer: str = "joint") -> np.ndarray:
        """float32 [n, d]; lists in memory are known by their pixels, others by their ``fingerprint``."""
        options = {} if layer == "joint" else {"layer": layer}

        def encode(parts: Sequence[range]) -> Generator[np.ndarray, None, None]:
            if self.means.num_workers and hasattr(self.inner, "image_pixels"):
                return loaded(self.inner, images, parts, self.means.num_workers, **options)
            return (
                encoded(images[p.start : p.stop], lambda some: self.inner.encode_images(some, **options))
                for p in parts
            )

        content = fingerprint_of(images) if self.folder is not None else ""
        rows = self._features(content, f"images {layer}", images, encode)
        if count := int(is_unreadable(rows).sum()):
            self.left_out[fingerprint_of(images) or str(len(self.left_out))] = count
        return rows

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, d]; texts are known by their letters."""
        content = digest_of(texts) if self.folder is not None else ""
        return self._features(
            content,
            "texts",
            texts,
            lambda parts: (self.inner.encode_texts(texts[p.start : p.stop]) for p in parts),
        )

    def _features(self, content: str, kind: str, items: Sequence[Any], encode: Encode) -> np.ndarray:
        # at least one, so that the encoder fails on no items as it does
        parts = [range(k, min(k + CHUNK, len(items))) for k in range(0, max(len(items), 1), CHUNK)]
        model = fingerprint_of_encoder(self.inner) if content else ""
        if self.folder is None or not model:
            return np.concatenate([rows for _, rows in self._rounds(kind, parts, encode)])
        told = {"version": VERSION, "model": model, "kind": kind, "content": content, "n": len(items)}
        entry = Entry(self.folder, told)
        found = _of_now(entry.load(), items) if dist.rank() == 0 else None
        if not dist.broadcast(found is not None) and not self._keep(entry, kind, items, parts, encode):
            return np.concatenate([rows for _, rows in self._rounds(kind, parts, encode)])
        self.report(len(items), len(items), kind)
        found = entry.load() if found is None else found
        if not all(dist.gather_objects(found is not None)):  # a node that does not see rank 0's files
            found = dist.broadcast(found)
        assert found is not None
        return found

    def _keep(self, entry: Entry, kind: str, items: Sequence[Any], parts: Sequence[range], encode: Encode) -> bool:
        """Encode what an earlier attempt has not, and leave all of it in one file; False if that cannot be."""
        keeps = dist.rank() == 0
        missing = [p for p in parts if _of_now(entry.read(p), items[p.start : p.stop]) is None] if keeps else []
        missing = dist.broadcast(missing)
        problem: OSError | None = None
        for part, rows in self._rounds(kind, missing, encode):
            try:
                if keeps and problem is None:
                    entry.write(part, rows)
                    self.means.saved()
            except OSError as error:
                problem = error
        try:
            if keeps and problem is None:
                entry.join(parts)
        except OSError as error:
            problem = error
        if problem is not None:
            logger.warning("%s: features cannot be kept (%s); computing them without", entry.path, problem)
        return dist.broadcast(problem is None)

    def _rounds(self, kind: str, parts: Sequence[range], encode: Encode) -> Iterator[tuple[range, np.ndarray]]:
        """Each part and its rows, in order, on all ranks; each rank encodes one part of a round.

        Raises signals.Stopped after a round if a rank was asked to stop.
        """
        world = dist.world()
        with closing(encode(parts[dist.rank() :: world])) as mine:
            for k in range(0, len(parts), world):
                together = parts[k : k + world]
                self.report(together[0].start, parts[-1].stop, kind)
                rows = np.asarray(next(mine), dtype="<f4") if dist.rank() < len(together) else None
                yield from zip(together, dist.gather_objects(rows), strict=False)
                stop_together()


def _of_now(rows: np.ndarray | None, items: Sequence[Any]) -> np.ndarray | None:
    """None if a damaged file was put right since: its name, length and last bytes may be the same."""
    stale = rows is not None and any(can_be_read(items, place) for place in np.flatnonzero(is_unreadable(rows)))
    return None if stale else rows
