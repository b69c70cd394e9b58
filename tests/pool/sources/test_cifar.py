"""CIFAR through torchvision's reader, on small files of its format; preparation from an archive or a folder."""

from __future__ import annotations

import hashlib
import pickle
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from benchmark.config.run import Choice
from benchmark.pool.prepare import command
from benchmark.pool.samples import PoolError
from benchmark.pool.source import make_source
from benchmark.pool.sources import _cifar
from benchmark.pool.sources._cifar import READERS
from benchmark.pool.sources.cifar10 import Cifar10
from benchmark.pool.sources.cifar100 import Cifar100

COUNT = 6
"""Images in a file."""
FINE = [f"class_{i}" for i in range(99)] + ["aquarium_fish"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both data sets as torchvision unpacks them, and its lists of hashes made to fit."""
    rng = np.random.default_rng(0)
    root = tmp_path / "torchvision"
    _cifar._load.cache_clear()
    for data_set, reader in READERS.items():
        base = root / reader.base_folder
        base.mkdir(parents=True)
        is_10 = data_set == "cifar10"
        for attribute in ("train_list", "test_list"):
            listed = []
            for name, _ in getattr(reader, attribute):
                labels = rng.integers(0, 10, size=COUNT).tolist() if is_10 else [99] * COUNT
                pixels = rng.integers(0, 256, size=(COUNT, 3072)).astype(np.uint8)
                data = pickle.dumps({"data": pixels, "labels" if is_10 else "fine_labels": labels})
                listed.append([name, _written(base / name, data)])
            monkeypatch.setattr(reader, attribute, listed)
        names = ["airplane", "automobile", *"cdefghij"] if is_10 else FINE
        meta = dict(reader.meta)
        meta["md5"] = _written(base / meta["filename"], pickle.dumps({meta["key"]: names}))
        monkeypatch.setattr(reader, "meta", meta)
        archive = tmp_path / "archives" / reader.filename
        archive.parent.mkdir(exist_ok=True)
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(base, reader.base_folder)
        monkeypatch.setattr(reader, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    return root


def _written(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return hashlib.md5(data).hexdigest()


def test_splits_carry_labels_names_and_the_published_prompts(folder: Path) -> None:
    source = Cifar10(root=str(folder))
    train, test = source.labelled("train"), source.labelled("test")
    assert (len(train.images), len(test.images)) == (5 * COUNT, COUNT)
    assert test.class_names[:2] == ["airplane", "automobile"]
    assert (test.name, len(test.templates), test.templates[0]("x")) == ("cifar10", 18, "a photo of a x.")
    reader = READERS["cifar10"](folder, train=False)
    assert test.labels.tolist() == reader.targets
    assert [image.tobytes() for image in test.images] == [image.tobytes() for image, _ in reader]
    assert "" != train.fingerprint != test.fingerprint != ""
    with pytest.raises(PoolError, match="no split 'val'"):
        source.labelled("val")


def test_names_of_cifar100_are_words(folder: Path) -> None:
    test = Cifar100(root=str(folder)).labelled("test")
    assert (test.class_names[99], len(test.class_names)) == ("aquarium fish", 100)
    assert test.labels.tolist() == [99] * COUNT


def test_the_pool_is_the_train_split_and_pickles_as_its_place(folder: Path) -> None:
    source = make_source(Choice(name="cifar10", options={"root": str(folder)}), "pool")
    assert source.expected_samples() == 50_000
    pool = source.training_pool()
    assert (pool.num_samples, pool.read(3).image.size, pool.read(3).caption) == (5 * COUNT, (32, 32), "")
    assert pool.key(3) == "train-00003"
    dumped = pickle.dumps(pool)
    assert len(dumped) < 1000
    again = pickle.loads(dumped)  # noqa: S301
    assert (again.fingerprint, again.read(7).image.tobytes()) == (pool.fingerprint, pool.read(7).image.tobytes())
    with pytest.raises(PoolError, match="0 to 29, not 30"):
        pool.read(30)


def test_absent_and_changed_files_are_errors_that_say_what_to_do(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PoolError, match=r"cifar10: .*benchmark\.pool prepare cifar10 --out .*where there is internet"
    ):
        Cifar10(root=str(tmp_path / "absent")).training_pool()
    (folder / "cifar-10-batches-py" / "test_batch").write_bytes(b"changed")  # it is not unpickled
    with pytest.raises(PoolError, match="is missing, or a file in it is not the published one"):
        Cifar10(root=str(folder)).labelled("test")


@pytest.mark.parametrize("from_archive", [True, False])
def test_prepare_takes_an_archive_or_a_folder(
    folder: Path, tmp_path: Path, from_archive: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = tmp_path / "archives" if from_archive else folder
    assert command.prepare(["cifar100", "--out", str(out), "--from", str(given)]) == 0
    assert "come without a licence" in capsys.readouterr().out
    assert Cifar100(root=str(out)).labelled("test").labels.tolist() == [99] * COUNT
    assert command.prepare(["cifar100", "--out", str(out), "--from", str(tmp_path / "gone")]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_prepare_refuses_what_is_not_the_published_archive(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "archives" / "cifar-10-python.tar.gz").write_bytes(b"another")
    out = tmp_path / "out"
    with pytest.raises(PoolError, match="is not the published file: its MD5 should be"):
        command.prepare(["cifar10", "--out", str(out), "--from", str(tmp_path / "archives")])
    with pytest.raises(PoolError, match=r"neither cifar-10-python\.tar\.gz nor a whole cifar-10-batches-py"):
        command.prepare(["cifar10", "--out", str(out), "--from", str(out)])


def test_prepare_without_internet_says_what_to_do(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READERS["cifar10"], "url", f"file://{tmp_path}/nowhere/cifar-10-python.tar.gz")
    with pytest.raises(PoolError, match=r"could not be fetched .*fetch cifar-10-python\.tar\.gz elsewhere"):
        command.prepare(["cifar10", "--out", str(tmp_path / "out")])


def test_prepare_downloads_checks_and_unpacks(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "archives"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz"
        monkeypatch.setattr(READERS["cifar10"], "url", url)
        assert command.prepare(["cifar10", "--out", str(tmp_path / "out")]) == 0
        assert len(Cifar10(root=str(tmp_path / "out")).labelled("test").images) == COUNT
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["cifar-10-batches-py"]
        (tmp_path / "archives" / "cifar-10-python.tar.gz").write_bytes(b"a page of the gateway")
        with pytest.raises(PoolError, match=r"could not be fetched \(File not found or corrupted"):
            command.prepare(["cifar10", "--out", str(tmp_path / "again")])
        server.shutdown()
