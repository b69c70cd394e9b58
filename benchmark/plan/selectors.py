"""Options that name other runs of a sweep by what they are: ``{pruner: scan, model: [RN50, ViT-S-16]}``.

A wish (one cell of a grid) goes in with the runs planned so far; the names of the runs it means come out.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmark.config.identity import label_of
from benchmark.config.job import JobConfig
from benchmark.config.published import is_published
from benchmark.config.run import Choice, RunConfig, as_choice, resolved
from benchmark.config.sweepfile import Grid, as_published
from benchmark.models.frameworks import resolve_model
from benchmark.options import ConfigError, check_keys, must_be_mapping
from benchmark.pool.source import choice_of, make_source
from benchmark.pruner import make_pruner

SELECTOR_KEYS = ("pruner", "model", "pool", "seed")


@dataclass(frozen=True)
class Wish:
    """One run as a grid asks for it."""

    grid: Grid
    model: Choice
    pool: Choice
    pruner: Choice
    seed: int
    own_models: Mapping[str, Choice] = field(default_factory=dict)
    """Models that the sweep describes itself, by their names: a selector may say the name alone."""


@dataclass(frozen=True)
class Named:
    """What a wish's selectors mean."""

    options: dict[str, Any] = field(default_factory=dict)
    """Names of runs, by the option that selected them."""
    shown_as: dict[str, str] = field(default_factory=dict)
    """The selectors in words: the same for all seeds."""
    needs: tuple[str, ...] = ()
    """Features that the method needs."""
    encoders: list[RunConfig] = field(default_factory=list)
    """The run that is to compute them, where the grid names one."""

    @property
    def waits_for(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for names in self.options.values() for name in names))


class HasConfig(Protocol):
    """A planned run."""

    @property
    def config(self) -> JobConfig: ...


def find_runs(wish: Wish, planned: Iterable[HasConfig]) -> Named | None:
    """The runs that a wish's options select, or None as long as one of them is not planned.

    Raises ConfigError for a selector that is none.
    """
    method = make_pruner(wish.pruner, f"{wish.grid.where}.pruner")
    named = Named(needs=tuple(method.needs))
    known = _runs(planned)
    for option, selector, where in _selectors(wish):
        found = []
        for wanted in _wanted(selector, wish, where):
            same = [config for config in known if _is(config, wanted)]
            if not same:
                return None
            found += same
        if option is None:
            if len(found) != 1:
                raise ConfigError(f"{where}: selects {len(found)} runs; features come from one")
            named.encoders.append(found[0])
            continue
        named.options[option] = [config.name for config in found]
        named.shown_as[option] = _words(selector, where)
    return named


def unmet(wish: Wish, planned: Iterable[HasConfig]) -> str:
    """The error for a wish whose runs are nowhere in the sweep."""
    known = _runs(planned)
    for _, selector, where in _selectors(wish):
        for wanted in _wanted(selector, wish, where):
            if not any(_is(config, wanted) for config in known):
                told = {key: value for key, value in wanted.items() if value is not False}
                text = ", ".join(f"{key} {getattr(value, 'name', value)}" for key, value in told.items())
                near = sorted({c.method for c in known if c.model == wanted["model"]}) or ["none"]
                return (
                    f"{where}: no run of this sweep has {text}; name it in a grid of this file"
                    f" (methods planned for this model: {', '.join(near)})"
                )
    raise AssertionError("every run that was asked for is planned")


def _runs(planned: Iterable[HasConfig]) -> list[RunConfig]:
    return [run.config for run in planned if isinstance(run.config, RunConfig)]


def _selectors(wish: Wish) -> list[tuple[str | None, Mapping[str, Any], str]]:
    """What a wish says of other runs, with the place: its method's options by name, and the encoder under None."""
    where = f"{wish.grid.where}.pruner"
    method = make_pruner(wish.pruner, where)
    found: list[tuple[str | None, Mapping[str, Any], str]] = []
    if method.needs and wish.grid.features is not None and wish.grid.features.run:
        found.append((None, *_checked(wish.grid.features.run, f"{wish.grid.where}.features.run")))
    assert dataclasses.is_dataclass(method)
    for f in dataclasses.fields(method):
        selector = wish.pruner.options.get(f.name)
        if not f.metadata.get("runs") or selector is None:
            continue
        found.append((f.name, *_checked(selector, f"{where}.{wish.pruner.name}.{f.name}")))
    return found


def _checked(selector: Any, where: str) -> tuple[Mapping[str, Any], str]:
    must_be_mapping(selector, where)
    check_keys(selector, SELECTOR_KEYS, where)
    if not selector.get("pruner"):
        raise ConfigError(f"{where}.pruner: missing; say which runs, for example {{pruner: scan}}")
    return selector, where


def _wanted(selector: Mapping[str, Any], wish: Wish, where: str) -> list[dict[str, Any]]:
    """The resolved description of every run that a selector asks for; those of a wish's own arm alone, and of its
    own values of what its grid varies."""

    def given(key: str, own: Any) -> list[Any]:
        return _as_list(selector.get(key, [own]))

    def choices(key: str, own: Choice) -> list[Choice]:
        here = f"{where}.{key}"
        found = [item if isinstance(item, Choice) else as_choice(item, here) for item in given(key, own)]
        if key == "pruner" and wish.grid.published:
            return [as_published(wish.grid.framework, pruner, here) for pruner in found]
        return found

    return [
        {
            "framework": wish.grid.framework,
            "pruner": resolved(pruner.name, make_pruner(pruner, f"{where}.pruner")),
            "model": resolve_model(wish.grid.framework, _spelled_out(model, wish), f"{where}.model"),
            "pool": choice_of(pool.name, make_source(pool, f"{where}.pool")),
            "seed": seed,
            "is_published": is_published(wish.grid.framework, vars(wish.grid.train)),
            **{f"train.{name}": getattr(wish.grid.train, name) for name in wish.grid.varied},
        }
        for pruner, model, pool, seed in itertools.product(
            choices("pruner", wish.pruner),
            choices("model", wish.model),
            choices("pool", wish.pool),
            given("seed", wish.seed),
        )
    ]


def _spelled_out(model: Choice, wish: Wish) -> Choice:
    return model if model.options else wish.own_models.get(model.name, model)


def _is(config: RunConfig, wanted: Mapping[str, Any]) -> bool:
    return all(operator.attrgetter(key)(config) == value for key, value in wanted.items())


def _words(selector: Mapping[str, Any], where: str) -> str:
    """``scan``, ``scan of RN50+ViT-S-16`` or ``scan, seed 0+1``."""
    methods = [as_choice(item, where) for item in _as_list(selector["pruner"])]
    text = "+".join(label_of(choice.name, make_pruner(choice, where)) for choice in methods)
    for key, opening in (("model", " of "), ("pool", " on "), ("seed", ", seed ")):
        if key in selector:
            text += opening + "+".join(_name(item) for item in _as_list(selector[key]))
    return text


def _name(item: Any) -> str:
    return next(iter(item)) if isinstance(item, Mapping) else str(item)


def _as_list(node: Any) -> list[Any]:
    return node if isinstance(node, list) else [node]
