"""Which pass over features a run needs, from its grid's ``features`` and its method's needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.identity import identity_of
from benchmark.config.run import Choice, as_choice
from benchmark.models.frameworks import has_text
from benchmark.options import ConfigError
from benchmark.plan.selectors import Named, Wish
from benchmark.pool.source import choice_of, data_set, make_source

TARGET = "target_embedding"


def features_for(sweep: str, wish: Wish, named: Named) -> FeatureConfig | None:
    """The pass that a wish's method needs; None if it needs none. Raises ConfigError for what cannot be had.

    A target that the grid names is part of it for all of the grid's methods: one pass serves them.
    """
    needs = named.needs
    if not needs:
        return None
    grid, where = wish.grid, f"{wish.grid.where}.features"
    options = grid.features
    with_text = _with_text(wish)
    _check_needs(wish, needs, with_text)
    assert options is not None
    waits_for: tuple[str, ...] = ()
    seed = 0
    if options.run:
        (run,) = named.encoders
        encoder, label, seed = Choice(name="run", options={"run": run.name}), run.model.name, run.seed
        waits_for = (run.name,)
    elif options.moco_v3:
        if not Path(options.moco_v3).is_file():
            raise ConfigError(f"{where}.moco_v3: {options.moco_v3}: no such file")
        encoder, label = Choice(name="moco_v3", options={"file": options.moco_v3}), Path(options.moco_v3).name
    else:
        assert options.open_clip
        from benchmark.models.clip.published import published  # loads open_clip, which few sweeps need here

        what = published(
            options.open_clip, options.pretrained or "", f"{where}.open_clip", options.as_tag or "", with_text
        )
        encoder, label = Choice(name="open_clip", options=what.options()), what.label
    source = make_source(wish.pool, f"{grid.where}.pool")
    target = None
    if options.target is not None:
        choice = as_choice(options.target, f"{where}.target")
        target = choice_of(choice.name, data_set(choice, f"{where}.target"))
    return FeatureConfig(
        sweep=sweep,
        framework=grid.framework,
        encoder=encoder,
        encoder_label=label,
        pool=choice_of(wish.pool.name, source),
        pool_label=source.label,
        target=target,
        with_text=with_text,
        seed=seed,
        precision=options.precision,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        device=grid.train.device,
        launch=grid.launch,
        identity=_identity(wish, encoder, target),
        waits_for=waits_for,
    )


def name_in_identity(wish: Wish, needs: tuple[str, ...], features: FeatureConfig) -> str:
    """What a run's identity says of its features: the pass's name, less a target that the method does not read.

    Naming a target later, for another method, leaves the names of this one's runs alone.
    """
    if features.target is None or TARGET in needs:
        return features.name
    return replace(features, identity=_identity(wish, features.encoder, None)).name


def _identity(wish: Wish, encoder: Choice, target: Choice | None) -> str:
    assert wish.grid.features is not None
    source = make_source(wish.pool, f"{wish.grid.where}.pool")
    parts: dict[str, Any] = {
        "encoder": encoder,
        "pool": source,
        "pool_name": wish.pool.name,
        "text": _with_text(wish),
    }
    if (precision := wish.grid.features.precision) != "fp32":  # which passes were before there was a choice
        parts["precision"] = precision
    return identity_of(parts if target is None else {**parts, "target": target})


def _with_text(wish: Wish) -> bool:
    """Whether the pass encodes captions too."""
    options = wish.grid.features
    return has_text(wish.grid.framework) and not (options and options.moco_v3)


def _check_needs(wish: Wish, needs: tuple[str, ...], with_text: bool) -> None:
    where, name = f"{wish.grid.where}.features", wish.pruner.name
    if wish.grid.features is None:
        raise ConfigError(
            f"{where}: missing; {name} needs {', '.join(needs)}: say what computes it, the run of this sweep"
            " {run: {pruner: full}} or {open_clip: ViT-B-32, pretrained: TAG-OR-FILE}"
        )
    if "text_embedding" in needs and not with_text:
        raise ConfigError(
            f"{wish.grid.where}.pruner.{name}: needs captions, which"
            f" {'moco_v3' if has_text(wish.grid.framework) else wish.grid.framework} does not read"
        )
    if TARGET in needs and wish.grid.features.target is None:
        raise ConfigError(f"{where}.target: missing; {name} needs target_embedding: name the target's data set")
