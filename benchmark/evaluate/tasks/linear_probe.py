"""Linear probes of frozen features: four recipes that are never compared with one another.

``standardised``: logistic regression on scaled joint features, of which a validation split chooses the strength.
``clip``: the same on raw features before the projection (arXiv 2103.00020, A.3). ``clip_benchmark``: AdamW on
joint features of length 1. ``moco``: SGD under augmentation (``main_lincls.py`` of MoCo v3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from benchmark.evaluate.further import check_test_on, data_sets_of, opened
from benchmark.evaluate.intervals import mean_per_class, proportion
from benchmark.evaluate.probes import adamw, sgd
from benchmark.evaluate.probes.batches import Batches, predictions
from benchmark.evaluate.probes.logistic import (
    SOLVERS,
    VALIDATION_SHARE,
    Probe,
    best_strength,
    fitter,
    validation_split,
)
from benchmark.evaluate.protocol import named
from benchmark.evaluate.scores import TestFeatures, TrainFeatures, test_features, train_features, unit
from benchmark.evaluate.task import Part, Task
from benchmark.models.encoder import Encoder
from benchmark.options import LATER_OPTION, check_option, require
from benchmark.pool.samples import PoolError
from benchmark.pool.source import TestSet, TrainSet
from benchmark.runs.record import Metric

Predict = Callable[[TestSet, np.ndarray | None], tuple[TestSet, np.ndarray]]
"""A set, and the classes that are its own where it has not all -> what of it can be decoded, and the class of each
of these images, or its place among those, int64 [m]."""

LOGISTIC = {"standardised": "joint", "clip": "penultimate"}
"""Recipes of logistic regression and the features they take."""
RECIPES = (*LOGISTIC, "clip_benchmark", "moco")
USED_BY = {
    "solver": ("standardised", "clip"),
    "validation_share": ("clip_benchmark",),
    "epochs": ("clip_benchmark", "moco"),
    "base_lr": ("moco",),
    "flip": ("moco",),
    "seed": ("clip_benchmark", "moco"),
    "num_workers": ("moco",),
}
"""Recipes that read an option; with another recipe it must keep its default."""


@dataclass(frozen=True, kw_only=True)
class LinearProbe(Task):
    """``top1`` and ``mean_per_class`` on the test split, which the fit never sees."""

    dataset: Any
    """Name of a source with labelled splits, or ``{name: options}``."""
    recipe: str = field(default="standardised", metadata=LATER_OPTION)
    """``standardised``, ``clip``, ``clip_benchmark`` or ``moco``."""
    solver: str = field(default="sklearn", metadata=LATER_OPTION)
    """Of logistic regression: ``sklearn``, or ``torch``, which agrees with it and is faster."""
    validation_share: float = field(default=0.0, metadata=LATER_OPTION)
    """``clip_benchmark``: share of the train split that chooses the weight decay (its ``--val_proportion``);
    with 0 the decay is 0, as there without a validation split."""
    epochs: int | None = field(default=None, metadata=LATER_OPTION)
    """None: 10 for ``clip_benchmark``, 90 for ``moco``."""
    base_lr: float | None = field(default=None, metadata=LATER_OPTION)
    """``moco``: the rate for 256 images; None: 3 for a transformer, 0.1 for a ResNet."""
    flip: bool = field(default=True, metadata=LATER_OPTION)
    """``moco``: flip half of the images; not for digits."""
    seed: int = field(default=0, metadata=LATER_OPTION)
    """Of initial weights, order and augmentation."""
    num_workers: int = field(default=0, metadata=LATER_OPTION)
    """Processes that decode and augment."""
    test_on: list[Any] | None = field(default=None, metadata=LATER_OPTION)
    """Test sets beside the data set's own, of some or all of its classes, that the same probe is measured on as
    well: names or ``{name: options}``. One that is absent is skipped with the reason."""

    def __post_init__(self) -> None:
        check_option("recipe", self.recipe, RECIPES)
        check_option("solver", self.solver, SOLVERS)
        require(
            0 <= self.validation_share < 1, "validation_share", "at least 0 and below 1", self.validation_share
        )
        require(self.epochs is None or self.epochs >= 1, "epochs", "at least 1", self.epochs)
        require(self.base_lr is None or self.base_lr > 0, "base_lr", "above 0", self.base_lr)
        for name, recipes in USED_BY.items():
            if self.recipe not in recipes and getattr(self, name) != getattr(type(self), name):
                raise ValueError(
                    f"{name} belongs to recipe {' and '.join(recipes)}; {self.recipe} does not use it"
                )
        check_test_on(self.dataset, self.test_on)

    @classmethod
    def published(cls) -> list[Task]:
        return [cls(dataset="", recipe=recipe) for recipe in RECIPES]

    @property
    def protocol(self) -> str:
        if self.recipe == "standardised":
            return named("linear_probe.lbfgs_standardised", 1, {"solver": (self.solver, "sklearn")})
        if self.recipe == "clip":
            return named("linear_probe.clip_lbfgs_raw", 1, {"solver": (self.solver, "sklearn")})
        if self.recipe == "clip_benchmark":
            changed = {"val": (self.validation_share, 0.0), "epochs": (self._epochs, adamw.EPOCHS)}
            return named("linear_probe.clip_benchmark_adamw", 1, changed)
        return named(
            "linear_probe.moco_sgd",
            1,
            {"epochs": (self._epochs, sgd.EPOCHS), "lr": (self.base_lr, None), "flip": (self.flip, True)},
        )

    @property
    def passes(self) -> int:
        return self._epochs if self.recipe == "moco" else 0

    @property
    def _epochs(self) -> int:
        return self.epochs or (sgd.EPOCHS if self.recipe == "moco" else adamw.EPOCHS)

    @property
    def data_sets(self) -> Mapping[str, Any]:
        return {**super().data_sets, **data_sets_of(self.test_on)}

    def check_data(self) -> None:
        super().check_data()
        if self.recipe in LOGISTIC:
            split_of(self.source().train_set().labels)

    def run(self, encoder: Encoder) -> list[Metric]:
        return [metric for part in self.parts(encoder) for metric in part.metrics]

    def parts(self, encoder: Encoder) -> Iterator[Part]:
        source = self.source()
        train = source.train_set()
        further, others = opened(self.test_on, train)
        yield from others
        fit_on = self._moco if self.recipe == "moco" else self._on_features
        predict = fit_on(encoder, train)
        yield self._measure(predict, source.test_set())
        for asked, test, places in further:
            try:
                yield replace(self._measure(predict, test, places), dataset=asked)
            except PoolError as error:  # images of it: it opened
                yield Part(dataset=asked, skipped=str(error))

    def _measure(self, predict: Predict, test: TestSet, among: np.ndarray | None = None) -> Part:
        readable, predicted = predict(test, among)
        hits = predicted == readable.labels
        metrics = [
            proportion("linear_probe", test.name, "top1", hits, self.protocol),
            mean_per_class("linear_probe", test.name, hits, readable.labels, self.protocol),
        ]
        of_moco = self.recipe == "moco"  # elsewhere the encoder counts
        return Part(metrics, test.fingerprint, left_out=len(test.labels) - len(hits) if of_moco else 0)

    def _on_features(self, encoder: Encoder, train: TrainSet) -> Predict:
        layer = LOGISTIC.get(self.recipe, "joint")
        where = f"linear_probe on {train.name}"
        train, features = train_features(encoder, train, where, layer)
        scores = self._fit(features, train.labels, len(train.class_names))

        def predict(test: TestSet, among: np.ndarray | None) -> tuple[TestSet, np.ndarray]:
            test, fresh = test_features(encoder, test, where, layer)
            return test, scores(fresh, among)

        return predict

    def _fit(
        self, features: TrainFeatures, labels: np.ndarray, num_classes: int
    ) -> Callable[[TestFeatures, np.ndarray | None], np.ndarray]:
        if self.recipe in LOGISTIC:
            return fit(features, labels, solver=self.solver, standardise=self.recipe == "standardised").predict
        # DEVIATION(clip_benchmark): its validation share is drawn at random over all images, ours within classes;
        # it computes features and layer under fp16 autocast on a GPU, we in single precision
        is_validation = validation_split(labels, self.validation_share) if self.validation_share else None
        layer = adamw.fit(unit(features), labels, num_classes, is_validation, epochs=self._epochs, seed=self.seed)
        return lambda fresh, among: layer.predict(unit(fresh), among)

    def _moco(self, encoder: Encoder, train: TrainSet) -> Predict:
        # DEVIATION(moco_probe): the head of the last epoch is reported; the published code keeps the best of all
        # epochs on the set it reports. One process; images are seeded one by one
        tower = encoder.trainable("penultimate")
        batches = Batches(
            train.images,
            train.labels,
            sgd.augmentation(tower, self.flip),
            sgd.BATCH_SIZE,
            self.seed,
            "linear_probe",
            num_workers=self.num_workers,
        )
        model = sgd.fit(tower, batches, len(train.class_names), epochs=self._epochs, base_rate=self.base_lr)
        return lambda test, among: predictions(model, test, tower.eval_transform, among)


def fit(
    features: TrainFeatures, labels: np.ndarray, *, solver: str = "sklearn", standardise: bool = True
) -> Probe:
    """Choose the strength on a stratified fifth of the given features, then fit on all of them.

    Raises PoolError if no class has two images.
    """
    # DEVIATION(linear_probe): ``standardise`` scales features to mean 0 and deviation 1 with the statistics of the
    # images fitted on; CLIP feeds them raw, where 1000 iterations do not converge at weak regularisation
    is_validation = split_of(labels)
    fitted = fitter(features[~is_validation], labels[~is_validation], solver=solver, standardise=standardise)
    strength = best_strength(fitted, features[is_validation], labels[is_validation])
    return fitter(features, labels, solver=solver, standardise=standardise)(strength)


def split_of(labels: np.ndarray) -> np.ndarray:
    """Which training images choose the strength, bool [n]. Raises PoolError if no class has two images."""
    is_validation = validation_split(labels, VALIDATION_SHARE)
    if not is_validation.any():
        raise PoolError("linear_probe: no class has two training images, so none is left to validate on")
    return is_validation
