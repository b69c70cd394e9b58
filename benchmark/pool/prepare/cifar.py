"""CIFAR-10 and CIFAR-100: the published archive, downloaded or given, unpacked as torchvision has it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from torchvision.datasets.utils import check_integrity, extract_archive

from benchmark.pool.prepare.packages import FetchError
from benchmark.pool.sources._cifar import LICENCE, READERS


def prepare(data_set: str, out: Path, given: Path | None) -> None:
    """Fill ``out``, unless it is whole. Raises FetchError, OSError."""
    reader = READERS[data_set]
    if is_whole(reader, out):
        print(f"{out} holds {data_set} already, all of it as it should be: nothing to do")
    else:
        out.mkdir(parents=True, exist_ok=True)
        if given is None:
            _download(reader, out)
        else:
            _take(data_set, reader, given, out)
        print(f"{data_set}: in {out / reader.base_folder}")
    print(f"licence: {LICENCE}")


def is_whole(reader: Any, out: Path) -> bool:
    """Whether every file is there and has its published MD5."""
    meta = (reader.meta["filename"], reader.meta["md5"])
    files = [*reader.train_list, *reader.test_list, meta]
    return all(check_integrity(out / reader.base_folder / name, md5) for name, md5 in files)


def _download(reader: Any, out: Path) -> None:
    try:
        reader(out, download=True)
    except (OSError, RuntimeError) as error:  # no network, and a file whose hash is wrong
        raise FetchError(
            f"{reader.url} could not be fetched ({error}): fetch {reader.filename} elsewhere and give its folder"
            " with --from DIR"
        ) from error
    (out / reader.filename).unlink(missing_ok=True)


def _take(data_set: str, reader: Any, given: Path, out: Path) -> None:
    archive, folder = given / reader.filename, given / reader.base_folder
    if archive.is_file():
        if not check_integrity(archive, reader.tgz_md5):
            raise FetchError(f"{archive} is not the published file: its MD5 should be {reader.tgz_md5}")
        extract_archive(str(archive), str(out))
    elif is_whole(reader, given):
        shutil.copytree(folder, out / reader.base_folder, dirs_exist_ok=True)
    else:
        raise FetchError(
            f"--from {given}: neither {reader.filename} nor a whole {reader.base_folder} of {data_set} is in it"
        )
    if not is_whole(reader, out):
        raise FetchError(f"{archive} did not hold all of {data_set}")
