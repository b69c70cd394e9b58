"""Which choice a run trains on, where its method is static and reads features."""

from __future__ import annotations

from dataclasses import replace

from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.identity import identity_of
from benchmark.config.run import resolved
from benchmark.plan.feature_pass import name_in_identity
from benchmark.plan.selectors import Named, Wish
from benchmark.pool.source import choice_of, make_source
from benchmark.pruner import Pruner, StaticPruner


def choice_for(
    sweep: str, wish: Wish, named: Named, features: FeatureConfig | None, method: Pruner, label: str
) -> ChoiceConfig | None:
    """The choice that a wish's run trains on; None where its method chooses by itself, which then takes no time.

    It is made with the seed of the pass: runs of several seeds that have one encoder train on the same samples.
    """
    if features is None or not isinstance(method, StaticPruner):
        return None
    grid = wish.grid
    source = make_source(wish.pool, f"{grid.where}.pool")
    launch = replace(grid.launch, nodes=1, ranks=1, gpus=min(grid.launch.gpus, 1))
    parts = {"pool": source, "pruner": method, "seed": features.seed, "num_epochs": grid.train.epochs}
    names = {"pool_name": wish.pool.name, "pruner_name": wish.pruner.name}
    return ChoiceConfig(
        sweep=sweep,
        framework=grid.framework,
        pool=choice_of(wish.pool.name, source),
        pool_label=source.label,
        pruner=resolved(wish.pruner.name, method),
        label=label,
        features=features.name,
        seed=features.seed,
        num_epochs=grid.train.epochs,
        device=grid.train.device,
        launch=launch,
        identity=identity_of({**parts, **names, "features": name_in_identity(wish, named.needs, features)}),
        waits_for=(*named.waits_for, features.name),
    )
