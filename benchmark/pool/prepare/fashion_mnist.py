"""Fashion-MNIST from Debian's package, or from a folder of its idx files such as torchvision's download."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from benchmark.pool.prepare.dataset import Made, Recipe
from benchmark.pool.prepare.packages import Contents, FetchError, Package
from benchmark.pool.sources.fashion_mnist import VERSION

FILES = {
    "train-images.npy": "train-images-idx3-ubyte",
    "train-labels.npy": "train-labels-idx1-ubyte",
    "test-images.npy": "t10k-images-idx3-ubyte",
    "test-labels.npy": "t10k-labels-idx1-ubyte",
}
IDX_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of the files without compression, wherever they come from."""
MAX_BYTES = 64 << 20

LICENCE = "Fashion-MNIST, copyright 2017 Zalando SE, is under the MIT (Expat) licence."

PACKAGE = Package(
    client="apt",
    name="dataset-fashion-mnist",
    version="0.0~git20200523.55506a9-1",
    sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    members=("datasets/fashion-mnist/",),
    content="f1d607db9db1366c479f21286189d8e66a758c3533d032dc0b5733e8d1df632a",
    notice="doc/dataset-fashion-mnist/copyright",
)


def make(contents: Sequence[Contents]) -> Made:
    """The arrays of both splits as .npy files. Raises FetchError for files that are not the published ones."""
    files = {Path(name).name.removesuffix(".gz"): data for name, data in contents[0].files.items()}
    arrays = {name: _array(idx, files.get(idx), contents[0].taken_from) for name, idx in FILES.items()}
    counts = {split: len(arrays[f"{split}-images.npy"]) for split in ("train", "test")}
    return Made(arrays={name: _writer(array) for name, array in arrays.items()}, counts=counts)


def unpack(folder: Path) -> Sequence[Contents] | None:
    """The idx files of ``folder`` or of torchvision's ``FashionMNIST/raw`` in it, None if they are not there."""
    for place in (folder, folder / "raw", folder / "FashionMNIST" / "raw"):
        found = {}
        for idx in IDX_SHA256:
            path = next((p for p in (place / f"{idx}.gz", place / idx) if p.is_file()), None)
            if path is not None:
                found[path.name] = path.read_bytes()
        if len(found) == len(IDX_SHA256):
            return [Contents(PACKAGE, found, None, place)]
    return None


def _array(idx: str, data: bytes | None, place: Path) -> np.ndarray:
    if data is None:
        raise FetchError(f"{place} does not hold {idx}.gz")
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(data)) as file:
                data = file.read(MAX_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise FetchError(f"{place}: {idx}.gz cannot be unpacked: {error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != IDX_SHA256[idx]:
        raise FetchError(
            f"{place}: {idx} is not the published file: its sha256 is {found}, expected {IDX_SHA256[idx]}"
        )
    dimensions = data[3]
    shape = np.frombuffer(data, dtype=">u4", count=dimensions, offset=4).astype(int)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _writer(array: np.ndarray) -> Callable[[BinaryIO], object]:
    return lambda file: np.save(file, array, allow_pickle=False)


RECIPE = Recipe(
    name="fashion_mnist", version=VERSION, packages=(PACKAGE,), licence=LICENCE, make=make, unpack=unpack
)
