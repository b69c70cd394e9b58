"""Shards of every tar format are read as ``tarfile`` reads them, and what is no sample is counted by reason."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
from pathlib import Path

import pytest
from shard_files import Entry, number_of_image, png, sample, words, write_tar

from benchmark.pool.samples import PoolError
from benchmark.pool.storage.shards import ShardPool
from benchmark.pool.storage.tarheaders import _pax
from benchmark.pool.storage.tarscan import TarFormat, split_name

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
LONG = "a_long_name_" * 20
NAMES = ["000000001", "folder/000000001", "d" * 60 + "/" + "e" * 90 + "/f"]
LONG_NAMES = [LONG, "folder/" + LONG, "ünïcödé/" + LONG, "日本語"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("with_json", [False, True])
def test_offsets_and_names_are_those_of_tarfile(tmp_path: Path, form: int, with_json: bool) -> None:
    names = NAMES + (LONG_NAMES if form != tarfile.USTAR_FORMAT else [])
    entries = [entry for n, name in enumerate(names) for entry in sample(n, name, with_json)]
    path = write_tar(tmp_path / "0.tar", entries, form)
    scan = TarFormat().scan(str(path))[0]
    assert (scan.fault, dict(scan.skipped)) == ("", {})
    assert [key.decode() for key in scan.keys] == names
    with tarfile.open(path) as tar:
        found = {info.name: (info.offset_data, info.size) for info in tar}
    images = list(zip(scan.image_start, scan.image_length, strict=True))
    captions = list(zip(scan.caption_start, scan.caption_length, strict=True))
    assert images == [found[f"{name}.png"] for name in names]
    assert captions == [found[f"{name}.txt"] for name in names]


def test_members_that_are_no_files_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind in [("d", tarfile.DIRTYPE), ("0.jpg", tarfile.SYMTYPE), ("1.txt", tarfile.LNKTYPE)]:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "elsewhere" * 20
            tar.addfile(info)
        for name, data in [("README", b"no suffix"), (".hidden.jpg", b"x"), ("7.cls", b"4"), *sample(3)]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    scan = TarFormat().scan(str(path))[0]
    assert (scan.keys, dict(scan.skipped), scan.fault) == ([b"000000003"], {}, "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"1.jpg", (b"1", b"jpg")),
        (b"./a/1.JPG", (b"./a/1", b"jpg")),
        (b"a.b/1.seg.png", (b"a.b/1", b"seg.png")),
        (b"a.b/1", None),
        (b"a/.jpg", None),
    ],
)
def test_keys_end_at_the_first_dot_of_the_base_name(name: bytes, expected: tuple[bytes, bytes] | None) -> None:
    assert split_name(name) == expected


def test_suffixes_count_in_any_case_and_txt_goes_before_json(tmp_path: Path) -> None:
    entries = [
        *[("a.PNG", png(1)), ("a.json", b'{"caption": "no"}'), ("a.TXT", b"yes")],
        *[("b.json", b'{"caption": "from \\u00e4 record"}'), ("b.png", png(2))],
        *[("c.txt", b"before"), ("c.png", png(3))],
        *[("d.png", png(4)), ("d.seg.png", png(9)), ("d.txt", b"one image")],
    ]
    write_tar(tmp_path / "0.tar", entries)
    pool = ShardPool.open(str(tmp_path))
    read = [pool.read(i) for i in range(pool.num_samples)]
    assert [sample.caption for sample in read] == ["yes", "from ä record", "before", "one image"]
    assert [number_of_image(sample.image) for sample in read] == [1, 2, 3, 4]


FAULTS: list[tuple[str, list[Entry]]] = [
    ("image_missing", [("x.txt", b"alone")]),
    ("caption_missing", [("x.png", png(7))]),
    ("caption_missing", [("x.png", png(7)), ("x.json", b'{"caption": null}')]),
    ("image_empty", [("x.png", b""), ("x.txt", b"words")]),
    ("caption_empty", [("x.png", png(7)), ("x.txt", b"")]),
    ("caption_empty", [("x.png", png(7)), ("x.txt", b" \n\t ")]),
    ("caption_not_utf8", [("x.png", png(7)), ("x.txt", b"caf\xe9")]),
    ("caption_not_utf8", [("x.png", png(7)), ("x.json", b'{"caption": "\\ud800"}')]),
    ("caption_not_json", [("x.png", png(7)), ("x.json", b"{")]),
    ("caption_not_json", [("x.png", png(7)), ("x.json", b"[" * 100_000)]),
    ("caption_too_long", [("x.png", png(7)), ("x.txt", b"y" * 65_537)]),
    ("caption_too_long", [("x.png", png(7)), ("x.json", b" " * (1 << 20) + b"{}")]),
    ("member_repeated", [("x.png", png(7)), ("x.png", png(8)), ("x.txt", b"words")]),
    ("member_repeated", [("x.png", png(7)), ("x.jpg", png(8)), ("x.txt", b"words")]),
]


@pytest.mark.parametrize(("reason", "entries"), FAULTS, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_no_sample_is_counted_and_gets_no_id(tmp_path: Path, reason: str, entries: list[Entry]) -> None:
    write_tar(tmp_path / "0.tar", [*sample(1), *entries, *sample(2)])
    pool = ShardPool.open(str(tmp_path))
    assert dict(pool.skipped) == {reason: 1}
    assert [pool.read(i).caption for i in range(pool.num_samples)] == [words(1), words(2)]


def gnu_sparse(path: Path, image: bytes) -> None:
    """As ``tar --sparse`` writes it: 'S', with a map of its holes in the header and in the block after it."""
    ready, more = tarfile.TarInfo("x.png"), bytearray(512)
    ready.size = len(image)
    header = bytearray(ready.tobuf(tarfile.GNU_FORMAT))
    header[156:157], header[482] = b"S", 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    more[504] = 0
    whole = path.read_bytes()
    caption = io.BytesIO()
    with tarfile.open(fileobj=caption, mode="w") as tar:
        add(tar, "x.txt", b"words")
    padded = image + bytes(-len(image) % 512)
    path.write_bytes(bytes(header) + bytes(more) + padded + caption.getvalue()[:1024] + whole)


def add(tar: tarfile.TarFile, name: str, data: bytes, **pax: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.pax_headers = len(data), pax
    tar.addfile(info, io.BytesIO(data))


def test_images_whose_names_hold_dots_and_shards_that_are_cut_short_are_counted(tmp_path: Path) -> None:
    dotted = [
        ("photo.v2.jpg", png(7)),
        ("photo.v2.txt", b"words"),
        ("1.5.2.PNG", png(8)),
        ("notes.md", b"no image"),
    ]
    write_tar(tmp_path / "0.tar", [*sample(1), *dotted, ("a.png", png(9)), ("a.seg.png", png(9)), ("a.txt", b"x")])
    cut = write_tar(tmp_path / "1.tar", [*sample(2), *sample(3)])
    cut.write_bytes(cut.read_bytes()[:2500])
    pool = ShardPool.open(str(tmp_path))
    assert dict(pool.skipped) == {"name_dotted": 2, "shard_damaged": 1}
    assert [pool.read(i).caption for i in range(pool.num_samples)] == [words(1), "x", words(2)]


def test_a_sparse_member_costs_its_sample_alone(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [*sample(1), *sample(2)])
    gnu_sparse(tmp_path / "0.tar", png(7))
    with tarfile.open(tmp_path / "1.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "GNUSparseFile.0/x.png", png(7), **{"GNU.sparse.major": "1", "GNU.sparse.name": "x.png"})
        add(tar, "x.txt", b"words")
        for name, data in sample(3):
            add(tar, name, data)
    pool = ShardPool.open(str(tmp_path))
    assert dict(pool.skipped) == {"member_sparse": 2}
    assert [pool.read(i).caption for i in range(pool.num_samples)] == [words(1), words(2), words(3)]


def test_a_huge_member_costs_its_sample_alone_and_is_never_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", sample(1))
    huge = tarfile.TarInfo("x.png")
    huge.size = 4 << 30
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    with path.open("r+b") as file:
        file.seek(last.offset_data + -(-last.size // 512) * 512)
        file.write(huge.tobuf(tarfile.GNU_FORMAT))
        file.seek(huge.size, 1)
        tail = io.BytesIO()
        with tarfile.open(fileobj=tail, mode="w") as tar:
            add(tar, "x.txt", b"words")
        file.write(tail.getvalue())
    pool = ShardPool.open(str(tmp_path))
    assert dict(pool.skipped) == {"image_too_large": 1}
    assert [pool.read(i).caption for i in range(pool.num_samples)] == [words(1)]


def test_a_pax_header_of_a_megabyte_takes_no_seconds() -> None:
    records = b"12 key=word\n" * ((1 << 20) // 12)
    started = time.process_time()
    assert _pax(b"19 path=some/a.jpg\n" + records, 0) == (b"some/a.jpg", None, False)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ["日本語 🎈 é", "e\u0301 \u202eright to left\u202c", "a\0b", "\ufeffmark"])
def test_captions_are_kept_to_the_letter(tmp_path: Path, text: str) -> None:
    write_tar(tmp_path / "0.tar", [("1.png", png(1)), ("1.txt", text.encode())])
    assert ShardPool.open(str(tmp_path)).read(0).caption == text


@pytest.mark.parametrize(
    ("cut", "samples", "said"),
    [(-1024 * 9, 10, "without the mark"), (8200, 2, "ends within"), (8100, 2, "cut short")],
)
def test_a_shard_that_is_cut_short_keeps_what_stands_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cut: int, samples: int, said: str
) -> None:
    path = write_tar(tmp_path / "0.tar", [entry for n in range(10) for entry in sample(n)])
    length = 10 * 4 * 512
    path.write_bytes(path.read_bytes()[: length if cut < 0 else cut])
    pool = ShardPool.open(str(tmp_path))
    assert abs(pool.num_samples - samples) <= 1 + (cut > 0)
    assert said in pool.index.shards[0].fault or "cut short" in pool.index.shards[0].fault
    assert str(path) in caplog.text
    for i in range(pool.num_samples):
        assert pool.read(i).caption == words(i)


def test_a_damaged_header_ends_a_shard_and_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_tar(tmp_path / "0.tar", [entry for n in range(10) for entry in sample(n)])
    data = bytearray(path.read_bytes())
    data[4 * 4 * 512 + 130] ^= 1  # in the size of the fifth image
    path.write_bytes(bytes(data))
    write_tar(tmp_path / "1.tar", sample(77))
    pool = ShardPool.open(str(tmp_path))
    assert [pool.read(i).caption for i in range(5)] == [words(n) for n in (0, 1, 2, 3, 77)]
    assert pool.num_samples == 5
    assert "no tar header at byte 8192" in caplog.text


def test_a_compressed_shard_is_refused_with_advice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_tar(tmp_path / "0.tar", sample(1))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(PoolError, match="no sample in 1 shards"):
        ShardPool.open(str(tmp_path))
    assert "gunzip" in caplog.text
