"""Large JPEGs decoded smaller: of the training pool alone, told by label and name of the run."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmark.config.identity import identity_of
from benchmark.config.run import Choice
from benchmark.options import ConfigError
from benchmark.pool.source import make_source

OPTIONS: dict[str, dict[str, Any]] = {
    "webdataset": {"name": "pictures"},
    "image_folder": {"name": "pictures"},
    "imagenet": {"name": "pictures"},
}


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (640, 320), (200, 16, 32)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCAN_BENCH_DATA", str(tmp_path))
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    for folder, split in (("pictures", "train"), ("pictures", "test"), ("imagenet", "train"), ("imagenet", "val")):
        path = tmp_path / folder / split / "n01440764" / "1.JPEG"
        path.parent.mkdir(parents=True)
        path.write_bytes(jpeg())
    with tarfile.open(tmp_path / "pictures" / "0.tar", "w") as tar:
        for name, data in (("1.jpg", jpeg()), ("1.txt", b"words")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


@pytest.mark.usefixtures("_data")
@pytest.mark.parametrize("name", OPTIONS)
def test_training_images_shrink_and_nothing_else_of_the_data_changes(name: str) -> None:
    whole, small = (
        make_source(Choice(name=name, options={**OPTIONS[name], **more}), "pool")
        for more in ({}, {"decode_size": 100})
    )
    pools = [source.training_pool() for source in (whole, small)]
    assert [pool.read(0).image.size for pool in pools] == [(640, 320), (320, 160)]
    assert [pool.read_pixels(0).pixels.shape for pool in pools] == [(320, 640, 3), (160, 320, 3)]
    assert pools[0].fingerprint == pools[1].fingerprint
    if name != "webdataset":
        assert small.labelled("test").images[0].size == small.labelled("train").images[0].size == (640, 320)


@pytest.mark.parametrize("name", OPTIONS)
def test_it_stands_in_label_and_identity_and_its_default_in_neither(name: str) -> None:
    plain, none, small = (
        make_source(Choice(name=name, options={**OPTIONS[name], **more}), "pool")
        for more in ({}, {"decode_size": None}, {"decode_size": 256})
    )
    assert (plain.label, none.label, small.label) == ("pictures", "pictures", "pictures-draft256")
    assert identity_of({"pool": plain}) == identity_of({"pool": none}) != identity_of({"pool": small})
    assert small == plain, "a reference set must not pass for other data than the pool's"
    with pytest.raises(ConfigError, match=rf"pool\.{name}: decode_size must be at least 1, got 0"):
        make_source(Choice(name=name, options={**OPTIONS[name], "decode_size": 0}), "pool")
