"""A plug-in is a file in ``baselines/``, ``benchmark/pool/sources/`` or
``benchmark/evaluate/tasks/``, found by its name; a method may also lie in another folder or an installed package.

The file holds one frozen dataclass that derives from the package's base class; its fields are the options.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import TypeVar

from benchmark.options import ConfigError, did_you_mean

T = TypeVar("T")


METHODS = "SCAN_BENCH_METHODS"
"""Variable of the environment: further folders of ``baselines``, with ``os.pathsep`` between."""
GROUPS = {"baselines": "scan_bench.baselines"}
"""Entry points of installed packages: ``name = "module"``, or ``"module:Class"`` of a module with several."""
_added: dict[str, list[str]] = {}


def folders(package: str) -> list[Path]:
    """Those that ``METHODS`` names, each once. Raises ConfigError for one that does not exist."""
    words = os.environ.get(METHODS, "").split(os.pathsep) if package == "baselines" else []
    found = list(dict.fromkeys(Path(os.path.abspath(word)) for word in words if word))
    for folder in found:
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder; --methods and {METHODS} name folders of methods")
    return found


@lru_cache
def installed(package: str) -> dict[str, EntryPoint]:
    """Plug-ins in installed packages, by name."""
    return {one.name: one for one in entry_points(group=GROUPS[package])} if package in GROUPS else {}


def files_outside(package: str) -> dict[str, Path]:
    """The files that lie elsewhere, by their place in a snapshot: ``baselines/mine.py``, ``their_package/…``.

    Raises ConfigError for one that would take the place of another, such as a helper ``_scores.py``.
    """
    found: dict[str, Path] = {}
    own = Path(str(importlib.import_module(package).__file__)).parent
    for folder in folders(package):
        for module in pkgutil.iter_modules([str(folder)]):
            path = folder / module.name if module.ispkg else folder / f"{module.name}.py"
            if (own / path.name).exists() or f"{package}/{path.name}" in found:
                raise ConfigError(f"{path}: there is another {package}/{path.name}: rename this one")
            found |= _files_of(path, package)
    for entry in installed(package).values():
        top = importlib.util.find_spec(entry.module.partition(".")[0])
        if top is not None:
            for place in top.submodule_search_locations or [str(top.origin)]:
                found |= _files_of(Path(place), "")
    return found


def _files_of(path: Path, below: str) -> dict[str, Path]:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return {
        (below / file.relative_to(path.parent)).as_posix(): file
        for file in files
        if "__pycache__" not in file.parts
    }


def names(package: str) -> list[str]:
    """Names of the plug-ins of ``package``, sorted; a leading underscore hides a file."""
    return sorted(_places(package))


def _places(package: str) -> dict[str, list[str]]:
    """Where the plug-ins lie, by name, as people are told; two places where two have one name."""
    found: dict[str, list[str]] = {}
    paths = list(_package(package).__path__)
    for path in paths:
        shown = package.replace(".", "/") if path == paths[0] else path
        for module in pkgutil.iter_modules([path]):
            if not module.name.startswith("_"):
                found.setdefault(module.name, []).append(f"{shown}/{module.name}.py")
    for entry in installed(package).values():
        found.setdefault(entry.name, []).append(f"{entry.value} of {entry.dist.name if entry.dist else '?'}")
    return found


def _package(name: str) -> ModuleType:
    """The package; what lies in its further folders is imported as if it lay in it."""
    package = importlib.import_module(name)
    own = [path for path in package.__path__ if path not in _added.get(name, ())]
    _added[name] = [str(folder) for folder in folders(name)]
    package.__path__ = [*own, *_added[name]]
    return package


@dataclass(frozen=True)
class Plugin:
    """A plug-in as ``--help`` lists it."""

    name: str
    summary: str
    """First line of its file's docstring; of a broken one, what is wrong with it."""
    is_broken: bool


def survey(package: str, base: type[object]) -> list[Plugin]:
    """Every plug-in of ``package``, tried: a broken one tells why, and keeps no other from being listed."""
    found = []
    for name in names(package):
        try:
            cls = load(package, name, base, name)
        except ConfigError as error:
            found.append(Plugin(name, str(error).removeprefix(f"{name}: "), is_broken=True))
        else:
            text = inspect.getdoc(sys.modules[cls.__module__]) or ""
            found.append(Plugin(name, text.partition("\n")[0], is_broken=False))
    return found


def load(package: str, name: str, base: type[T], where: str) -> type[T]:
    """The one concrete subclass of ``base`` defined in ``package.name``.

    Raises ConfigError, opening with ``where``, for an unknown name (with the nearest one), a file that
    cannot be imported, and a file that defines none, several, or one that is no dataclass.
    """
    entry = installed(package).get(name)
    module = entry.module if entry else f"{package}.{name}"
    if module not in sys.modules or name.startswith("_"):  # else no folder need be listed
        known = _places(package)
        if name not in known:
            told = f"{did_you_mean(name, known)} (known: {', '.join(sorted(known))})"
            raise ConfigError(f"{where}: unknown name '{name}'{told}")
        if len(known[name]) > 1:
            raise ConfigError(f"{where}: '{name}' is both {' and '.join(known[name])}: rename one")

    def file() -> str:
        return f"{where}: {_places(package)[name][0]}"

    try:
        found = entry.load() if entry else importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a plug-in's file raises is reported under its own name
        raise ConfigError(f"{file()} cannot be imported: {type(error).__name__}: {error}") from error
    return _only_class(found, base, file)


def load_file(path: Path, base: type[T], where: str) -> type[T]:
    """As ``load``, of a file anywhere. Raises ConfigError."""
    spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{where}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise ConfigError(f"{where}: {path} cannot be imported: {type(error).__name__}: {error}") from error
    return _only_class(module, base, lambda: f"{where}: {path}")


def _only_class(defined: ModuleType | type, base: type[T], where: Callable[[], str]) -> type[T]:
    """Of a module, or the class that an entry point names itself."""
    named = [defined] if isinstance(defined, type) else vars(defined).values()
    found = [
        c
        for c in named
        if inspect.isclass(c)
        and not isinstance(c, GenericAlias)  # list[int] is a class to Python 3.10
        and issubclass(c, base)
        and not inspect.isabstract(c)
        and defined in (c, sys.modules.get(c.__module__))
    ]
    if len(found) != 1:
        listed = ", ".join(c.__name__ for c in found) or "none"
        raise ConfigError(f"{where()} must define exactly one {base.__name__}; found {listed}")
    if not is_dataclass(found[0]):
        raise ConfigError(f"{where()}: {found[0].__name__} must be a dataclass: its fields are its options")
    return found[0]
