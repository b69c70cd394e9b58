"""Packages of pinned versions, fetched by their registry's own client or taken from a folder.

Nothing of a package is parsed before its hash is right: the hash of the file, and the hash of the members that
are read, which is the same for a package and for the folder it was unpacked to.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.pool.prepare.archives import ArchiveError, members_of_deb, members_of_folder, members_of_tgz
from benchmark.pool.samples import PoolError

CLIENTS = {"npm": ("npm", "pack"), "apt": ("apt-get", "download")}


class FetchError(PoolError):
    """A package that is absent, or not the pinned one; the message says what to do."""


@dataclass(frozen=True)
class Package:
    """One package of a registry, and what is read of it."""

    client: str
    """``npm`` or ``apt``."""
    name: str
    version: str
    sha256: str
    """Of the package's file."""
    members: tuple[str, ...]
    """Folders (ending in ``/``) and files that are read, as they lie in the package or below ``usr/share/``."""
    content: str
    """``content_hash`` of these members."""
    notice: str
    """The file of the package that states the licence; it is read where it is there."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """What the package's file may be called: mirrors leave out the epoch of Debian's versions."""
        if self.client == "npm":
            return (f"{self.name}-*.tgz",)
        return (f"{self.name}_*.deb",)

    @property
    def folders(self) -> tuple[str, ...]:
        """Where its members may lie in a folder it was unpacked to."""
        if self.client == "npm":
            return (f"{self.name}/package", self.name, f"node_modules/{self.name}", "package", ".")
        return (f"{self.name}/usr/share", "usr/share", self.name, ".")

    @property
    def asked(self) -> str:
        """How the client is asked for this version."""
        return f"{self.name}@{self.version}" if self.client == "npm" else f"{self.name}={self.version}"


@dataclass(frozen=True)
class Contents:
    """The members of a package that are read: path -> bytes."""

    package: Package
    files: Mapping[str, bytes]
    notice: bytes | None
    taken_from: Path


def read_packages(packages: Sequence[Package], given: Path | None, downloads: Path) -> list[Contents]:
    """Contents of all packages, from the folder ``given`` or else fetched into ``downloads``.

    A package that is whole in ``downloads`` is not fetched again. Raises FetchError.
    """
    if given is not None:
        if not given.is_dir():
            raise FetchError(f"--from {given}: no such folder")
        return [_from_folder(package, given) for package in packages]
    for package in packages:
        if _package_file(package, downloads) is None:
            fetch(package, downloads)
    return [_from_folder(package, downloads) for package in packages]


def fetch(package: Package, folder: Path) -> None:
    """Have the registry's client put the package into ``folder``. Raises FetchError."""
    client = CLIENTS[package.client]
    advice = f"download {package.name} {package.version} elsewhere and give its folder with --from DIR"
    if shutil.which(client[0]) is None:
        raise FetchError(f"{client[0]} is not installed: {advice}")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"fetching {package.asked} with {' '.join(client)}", flush=True)
    # apt's own sandbox user cannot write into a private folder; it says so and downloads all the same
    done = subprocess.run([*client, package.asked], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
        lists = "; if apt has no package lists, `apt-get update` (as root) makes them" * (package.client == "apt")
        raise FetchError(f"`{' '.join(client)} {package.asked}` failed: {said}: {advice}{lists}")


def content_hash(files: Mapping[str, bytes]) -> str:
    """One hash over names and bytes of all members."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n".encode())
    return whole.hexdigest()


def _from_folder(package: Package, folder: Path) -> Contents:
    path = _package_file(package, folder)
    try:
        if path is not None:
            read = members_of_tgz if package.client == "npm" else members_of_deb
            files = read(path, (*package.members, package.notice))
            place = path
        else:
            files, place = _unpacked(package, folder)
    except ArchiveError as error:
        raise FetchError(f"{package.name}: {error}") from error
    notice = files.pop(package.notice, None)
    found = content_hash(files)
    if found != package.content:
        raise FetchError(
            f"{place} does not hold {package.name} {package.version} as it was published: the sha256 of what is"
            f" read is {found}, expected {package.content}; take that version, unchanged"
        )
    return Contents(package, files, notice, place)


def _package_file(package: Package, folder: Path) -> Path | None:
    """The package's file in ``folder``, None if there is none. Raises FetchError for other versions alone."""
    candidates = sorted(path for pattern in package.patterns for path in folder.glob(pattern))
    hashes = {path: file_hash(path) for path in candidates}
    for path, found in hashes.items():
        if found == package.sha256:
            return path
    if hashes:
        path, found = next(iter(hashes.items()))
        raise FetchError(
            f"{path} is not {package.name} {package.version}: its sha256 is {found}, expected {package.sha256};"
            f" put that version there (`{' '.join(CLIENTS[package.client])} {package.asked}`) or remove the file"
        )
    return None


def _unpacked(package: Package, folder: Path) -> tuple[dict[str, bytes], Path]:
    for inside in package.folders:
        place = Path(os.path.normpath(folder / inside))
        if all((place / member).exists() for member in package.members):
            return members_of_folder(place, (*package.members, package.notice)), place
    raise FetchError(
        f"{folder} holds neither {' nor '.join(package.patterns)} nor a folder with {', '.join(package.members)}"
        f" of {package.name} {package.version}"
    )


def file_hash(path: Path) -> str:
    """sha256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        whole = hashlib.sha256()
        while block := file.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()
