"""Whatever happens to the bytes of a shard: known errors alone, no hang, never an image with another's caption."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from shard_files import number_of_image, number_of_words, sample, write_tar

from benchmark.pool.samples import PoolError, SampleError
from benchmark.pool.storage import byteranges
from benchmark.pool.storage.shards import ShardPool

NUM_SAMPLES = 6
MUTATIONS = 120


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byteranges, "BACKOFF_SECONDS", ())


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four faults: flipped bytes, blocks cut out, doubled or zeroed, a cut end."""
    for _ in range(int(rng.integers(1, 5))):
        kind = rng.choice(["flip", "flip_header", "cut", "drop", "double", "zero", "unaligned"])
        blocks = max(2, len(data) // 512)
        at = 512 * int(rng.integers(0, blocks))
        place = int(rng.integers(0, max(1, len(data))))
        if kind == "flip":
            data = data[:place] + bytes([int(rng.integers(256))]) + data[place + 1 :]
        elif kind == "flip_header":
            place = at + int(rng.integers(0, 160))
            data = data[:place] + bytes([int(rng.integers(256))]) + data[place + 1 :]
        elif kind == "cut":
            data = data[: max(place, len(data) // 2)]
        elif kind == "drop":
            data = data[:at] + data[at + 512 :]
        elif kind == "double":
            data = data[: at + 512] + data[at:]
        elif kind == "zero":
            data = data[:at] + bytes(512) + data[at + 512 :]
        else:
            data = data[:place] + data[place + int(rng.integers(1, 40)) :]
    return data


def misaligned(pool: ShardPool) -> list[int]:
    """Ids whose image and caption are both whole and belong to two samples."""
    wrong = []
    for sample_id in range(pool.num_samples):
        try:
            read = pool.read(sample_id)
        except SampleError:
            continue
        number = number_of_words(read.caption)
        if number is not None and number != number_of_image(read.image):
            wrong.append(sample_id)
    return wrong


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_damaged_shards_never_mix_samples(tmp_path: Path, form: int) -> None:
    rng = np.random.default_rng(form)
    stem = "" if form == tarfile.USTAR_FORMAT else "long/" * 25
    entries = [e for n in range(NUM_SAMPLES) for e in sample(n, f"{stem}{n:05d}", with_json=bool(n % 2))]
    path = write_tar(tmp_path / "0.tar", entries, form)
    whole = path.read_bytes()
    opened = 0
    refusals: set[str] = set()
    for _ in range(MUTATIONS):
        path.write_bytes(mutated(whole, rng))
        try:
            pool = ShardPool.open(str(path))
        except PoolError as error:
            refusals.add(str(error)[:12])
            continue
        opened += 1
        assert misaligned(pool) == []
    assert opened > MUTATIONS / 4
    assert refusals == {"no sample in"}


def test_noise_is_no_shard(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 511, 512, 5000):
        (tmp_path / "0.tar").write_bytes(rng.bytes(size))
        with pytest.raises(PoolError, match="no sample in 1 shards"):
            ShardPool.open(str(tmp_path))
