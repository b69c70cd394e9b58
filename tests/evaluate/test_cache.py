"""Features computed once: what shares an entry, what never does, and damaged entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from task_stubs import TableEncoder, image_of
from tiny import TINY_CLIP, TINY_MOCO

from benchmark.config.run import Choice
from benchmark.evaluate import cache
from benchmark.evaluate.cache import CachedEncoder, cache_of
from benchmark.evaluate.encoding import is_unreadable
from benchmark.evaluate.means import Means
from benchmark.models.clip.objective import make as make_clip
from benchmark.models.fingerprints import weights_hash
from benchmark.models.moco.objective import make as make_moco
from benchmark.pool.samples import SampleError
from benchmark.pool.storage.imagefolder import LazyImages
from benchmark.runs.folder import RunFolder


class Counting:
    """A stub that tells what it is, and counts what it encodes."""

    has_text = True

    def __init__(self, name: str = "a", scale: float = 1.0) -> None:
        self.name, self.scale = name, scale
        self.encoded: list[str] = []

    def fingerprint(self) -> str:
        return self.name

    def encode_images(self, images: Sequence[Image.Image], layer: str = "joint") -> np.ndarray:
        self.encoded += [layer] * len(images)
        return np.array([[*image.getpixel((0, 0)), self.scale] for image in images], dtype=np.float32)  # type: ignore[misc]

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        return np.array([[len(text), self.scale] for text in texts], dtype=np.float32)


IMAGES = [image_of(i) for i in range(300, 310)]


def test_a_second_task_and_a_later_evaluation_share_what_was_computed(tmp_path: Path) -> None:
    first = Counting()
    encoder = CachedEncoder(first, tmp_path)
    found = encoder.encode_images(IMAGES)
    assert (encoder.encode_images(list(IMAGES)) == found).all()
    assert len(first.encoded) == 10
    again = Counting()
    assert (CachedEncoder(again, tmp_path).encode_images(IMAGES) == found).all()
    assert again.encoded == []
    np.testing.assert_array_equal(found, Counting().encode_images(IMAGES))
    assert found.dtype == np.float32
    assert not found.flags.writeable


@pytest.mark.parametrize("chunk", [1, 3, 10, 100])
def test_chunks_do_not_change_the_rows(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHUNK", chunk)
    told: list[tuple[int, int, str]] = []
    encoder = CachedEncoder(Counting(), tmp_path, lambda *words: told.append(words))
    np.testing.assert_array_equal(encoder.encode_images(IMAGES), Counting().encode_images(IMAGES))
    np.testing.assert_array_equal(encoder.encode_texts(["a", "bb"]), Counting().encode_texts(["a", "bb"]))
    assert told[0] == (0, 10, "images joint")
    assert (10, 10, "images joint") in told


def test_another_model_layer_set_or_order_never_hits_an_entry(tmp_path: Path) -> None:
    CachedEncoder(Counting(), tmp_path).encode_images(IMAGES)

    def encodes(name: str = "a", images: Sequence[Image.Image] = IMAGES, layer: str = "joint") -> int:
        inner = Counting(name)
        CachedEncoder(inner, tmp_path).encode_images(images, layer)
        return len(inner.encoded)

    changed = IMAGES[3].copy()
    changed.putpixel((0, 0), (1, 44, 1))
    assert encodes() == 0
    assert encodes(name="b") == 10
    assert encodes(layer="penultimate") == 10
    assert encodes(images=IMAGES[::-1]) == 10
    assert encodes(images=IMAGES[:9]) == 9
    assert encodes(images=[*IMAGES[:3], changed, *IMAGES[4:]]) == 10
    assert encodes() == 0


def test_texts_are_known_by_their_letters(tmp_path: Path) -> None:
    inner = Counting()
    encoder = CachedEncoder(inner, tmp_path)
    encoder.encode_texts(["ab", "c"])
    encoder.encode_texts(["ab", "c"])
    encoder.encode_texts(["a", "bc"])
    assert inner.encoded == ["ab", "c", "a", "bc"]


def test_lazy_images_are_known_by_what_they_are_read_from(tmp_path: Path) -> None:
    def encodes(content: str, ids: Sequence[int]) -> int:
        inner = Counting()
        CachedEncoder(inner, tmp_path).encode_images(LazyImages(ids, image_of, content))
        return len(inner.encoded)

    assert [encodes("pool-1", [1, 2]), encodes("pool-1", [1, 2])] == [2, 0]
    assert [encodes("pool-2", [1, 2]), encodes("pool-1", [2, 1])] == [2, 2]
    assert [encodes("", [1, 2]), encodes("", [1, 2])] == [2, 2], "of unknown content nothing is kept"
    assert LazyImages(range(9), image_of, "p")[2:4].fingerprint == LazyImages([2, 3], image_of, "p").fingerprint


def test_an_encoder_that_does_not_tell_what_it_is_keeps_nothing(tmp_path: Path) -> None:
    inner = TableEncoder(np.eye(400))
    for _ in range(2):
        CachedEncoder(inner, tmp_path).encode_images(IMAGES)
    assert len(inner.images_seen) == 20
    assert list(tmp_path.iterdir()) == []


def flip(data: bytes) -> bytes:
    return data[:-200] + bytes([data[-200] ^ 1]) + data[-199:]


@pytest.mark.parametrize("damage", [flip, lambda data: data[:100], lambda data: b"", lambda data: b"\x80\x04K."])
def test_a_damaged_entry_is_computed_again_with_a_warning(
    damage: Callable[[bytes], bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [image_of(i) for i in range(100)]  # so that the byte flipped is one of a row
    expected = CachedEncoder(Counting(), tmp_path).encode_images(images).copy()
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    inner = Counting()
    np.testing.assert_array_equal(CachedEncoder(inner, tmp_path).encode_images(images), expected)
    assert len(inner.encoded) == 100
    assert "damaged entry" in caplog.text
    assert "computing the features again" in caplog.text
    CachedEncoder(inner, tmp_path).encode_images(images)
    assert len(inner.encoded) == 100, "the entry is whole again"


def test_a_place_that_cannot_be_written_costs_a_warning_and_no_result(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    found = CachedEncoder(Counting(), tmp_path / "file").encode_images(IMAGES)
    np.testing.assert_array_equal(found, Counting().encode_images(IMAGES))
    assert "cannot be kept" in caplog.text


@pytest.mark.parametrize("layer", ["joint", "penultimate"])
def test_workers_that_decode_change_no_bit_also_where_an_image_cannot_be_decoded(
    layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(place: int) -> Image.Image:
        if place in (4, 5, 12):
            raise SampleError("image_undecodable", f"image {place}")
        return image_of(1000 * place).resize((20, 20))

    images = LazyImages(range(23), read, "")
    monkeypatch.setattr(cache, "CHUNK", 9)
    encoder = clip().encoder(batch_size=4)
    here = CachedEncoder(encoder, None).encode_images(images, layer)
    ahead = CachedEncoder(encoder, None, means=Means(num_workers=2)).encode_images(images, layer)
    assert np.flatnonzero(is_unreadable(here)).tolist() == [4, 5, 12]
    assert here.tobytes() == ahead.tobytes()


def test_the_environment_names_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path("results/s/r")
    monkeypatch.delenv("SCAN_BENCH_FEATURES", raising=False)
    assert cache_of(RunFolder(run)) == run / "features"
    monkeypatch.setenv("SCAN_BENCH_FEATURES", "/scratch/f")
    assert cache_of(RunFolder(run)) == Path("/scratch/f")
    monkeypatch.setenv("SCAN_BENCH_FEATURES", "off")
    assert cache_of(RunFolder(run)) is None


def clip(seed: int = 0, **vision: int):  # type: ignore[no-untyped-def]
    options = {**TINY_CLIP["tiny"], "vision_cfg": {**TINY_CLIP["tiny"]["vision_cfg"], **vision}}
    return make_clip(Choice(name="tiny", options=options), seed)


def test_an_encoder_is_known_by_its_weights_and_preprocessing() -> None:
    model = clip()
    known = model.encoder().fingerprint()
    assert clip().encoder(batch_size=3).fingerprint() == known, "the same weights made twice"
    assert clip(seed=1).encoder().fingerprint() != known
    other = model.encoder()
    other.image_transform = clip(image_size=24).encoder().image_transform
    assert other.fingerprint() != known
    with torch.no_grad():
        next(model.parameters()).flatten()[0] += 1e-6
    assert model.encoder().fingerprint() != known
    moco = make_moco(Choice(name="tiny", options=TINY_MOCO["tiny"]), 0)
    before = moco.encoder().fingerprint()
    optimiser = torch.optim.SGD(moco.parameters(), lr=0.1)
    for p in moco.parameters():
        p.grad = torch.ones_like(p)
    optimiser.step()
    assert moco.encoder().fingerprint() != before, "an encoder made before a step finds nothing of after it"


def test_weights_have_one_hash_wherever_they_lie() -> None:
    model = clip()
    copy = clip(seed=1)
    assert weights_hash(copy) != weights_hash(model)
    copy.load_state_dict(model.state_dict())
    assert weights_hash(copy) == weights_hash(model)
    assert weights_hash(model.double()) != weights_hash(copy)
