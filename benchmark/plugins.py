"""A plug-in is a file in ``baselines/``, ``benchmark/pool/sources/`` or
``benchmark/evaluate/tasks/``, found by its name.

The file holds one frozen dataclass that derives from the package's base class; its fields are the options.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import TypeVar

from benchmark.options import ConfigError, did_you_mean

T = TypeVar("T")


def names(package: str) -> list[str]:
    """Names of the plug-ins of ``package``, sorted; a leading underscore hides a file."""
    paths = importlib.import_module(package).__path__
    return sorted(m.name for m in pkgutil.iter_modules(paths) if not m.name.startswith("_"))


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
    is_loaded = f"{package}.{name}" in sys.modules and not name.startswith("_")  # then no folder need be listed
    if not is_loaded and name not in (known := names(package)):
        raise ConfigError(f"{where}: unknown name '{name}'{did_you_mean(name, known)} (known: {', '.join(known)})")
    file = f"{package.replace('.', '/')}/{name}.py"
    try:
        module = importlib.import_module(f"{package}.{name}")
    except (Exception, SystemExit) as error:  # whatever a plug-in's file raises is reported under its own name
        raise ConfigError(f"{where}: {file} cannot be imported: {type(error).__name__}: {error}") from error
    return _only_class(module, base, f"{where}: {file}")


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
    return _only_class(module, base, f"{where}: {path}")


def _only_class(module: ModuleType, base: type[T], where: str) -> type[T]:
    found = [
        c
        for c in vars(module).values()
        if inspect.isclass(c)
        and not isinstance(c, GenericAlias)  # list[int] is a class to Python 3.10
        and issubclass(c, base)
        and not inspect.isabstract(c)
        and c.__module__ == module.__name__
    ]
    if len(found) != 1:
        listed = ", ".join(c.__name__ for c in found) or "none"
        raise ConfigError(f"{where} must define exactly one {base.__name__}; found {listed}")
    if not is_dataclass(found[0]):
        raise ConfigError(f"{where}: {found[0].__name__} must be a dataclass: its fields are its options")
    return found[0]
