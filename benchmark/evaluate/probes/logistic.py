"""Multinomial logistic regression on features: solvers of one problem, and the search for its strength.

The problem is scikit-learn's: the summed cross-entropy plus lambda / 2 times the squared norm of the weights;
biases are free. ``sklearn`` is scikit-learn itself. ``torch`` runs the same L-BFGS (SciPy's), from the same start
to the same stop, on losses and gradients that torch computes in double precision over the whole feature matrix, on
a GPU where there is one. It has to take the same path: at weak regularisation the published protocol's answer is
where its solver stops, not the minimum, so a warm start from another strength changes what validation chooses.
``torch_float32`` computes in single precision: near a strength where fits stop early it may choose another.

Letters in shapes: n images, d feature width, C classes, r rows at once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from benchmark.seeds import generator

SOLVERS = ("sklearn", "torch", "torch_float32")
STRENGTHS = np.logspace(-6, 6, 97)
"""Lambda, the weight of the squared norm against the summed loss; scikit-learn's C is its inverse."""
COARSE_STEP = 16
"""Two decades: the search starts at 1e-6, 1e-4, ... 1e6 and halves the step round the best down to 1."""
VALIDATION_SHARE = 0.2
MAX_ITERATIONS = 1000
STOP = {"maxiter": MAX_ITERATIONS, "maxls": 50, "gtol": 1e-4, "ftol": 64 * np.finfo(float).eps}
"""scikit-learn's: the largest entry of the mean loss's gradient, and the relative decrease of the loss."""
ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Most logits held at once: what fits a core's cache, or a GPU."""


class Predictor(Protocol):
    """What is judged on validation images."""

    def predict(self, features: np.ndarray) -> np.ndarray: ...


class Classifier(Predictor, Protocol):
    """What a solver leaves."""

    @property
    def classes_(self) -> np.ndarray:
        """The classes that occurred, int64 [C]."""

    @property
    def coef_(self) -> np.ndarray:
        """[C, d]; of two classes one row may stand for both, the second's."""

    @property
    def intercept_(self) -> np.ndarray: ...


Fit = Callable[[float], Classifier]
"""A strength, lambda -> the classifier fitted with it."""


@dataclass(frozen=True)
class Probe:
    """A fitted classifier with the scaling of its features."""

    mean: np.ndarray
    scale: np.ndarray
    classifier: Classifier
    strength: float
    """The regularisation it was fitted with, lambda."""

    def predict(self, features: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """int64 [n]; ``among``, int64 [c], restricts to these classes: then it is the place in it."""
        scaled = (features.astype(np.float64) - self.mean) / self.scale
        if among is None:
            return self.classifier.predict(scaled)
        known = self.classifier
        logits = scaled @ known.coef_.T + known.intercept_
        if len(known.coef_) < len(known.classes_):
            logits = np.pad(logits, ((0, 0), (1, 0)))  # the first of two classes: its logit is 0
        whole = np.full((len(scaled), max(int(known.classes_.max()), int(among.max())) + 1), -np.inf)
        whole[:, known.classes_] = logits
        return whole[:, among].argmax(axis=1)


def fitter(
    features: np.ndarray, labels: np.ndarray, *, solver: str, standardise: bool
) -> Callable[[float], Probe]:
    """Strength -> a probe of these images; ``standardise`` scales them to mean 0 and deviation 1."""
    wide = features.astype(np.float64)
    mean, scale = np.zeros(wide.shape[1]), np.ones(wide.shape[1])
    if standardise:
        mean, scale = wide.mean(axis=0), wide.std(axis=0)
        scale[scale < 1e-12] = 1.0
    scaled = (wide - mean) / scale
    fit: Fit = SklearnFit(scaled, labels) if solver == "sklearn" else TorchFit(scaled, labels, solver)
    return lambda strength: Probe(mean, scale, fit(strength), strength)


class SklearnFit:
    """scikit-learn itself."""

    def __init__(self, features: np.ndarray, labels: np.ndarray) -> None:
        self.features, self.labels = features, labels

    def __call__(self, strength: float) -> Classifier:
        from sklearn.linear_model import LogisticRegression  # seconds to load: not when a sweep is planned

        classifier = LogisticRegression(C=1 / strength, max_iter=MAX_ITERATIONS)
        classifier.fit(self.features, self.labels)
        return classifier


@dataclass(frozen=True)
class Linear:
    """Weights [C, d] and biases [C] of the classes that occurred."""

    classes_: np.ndarray
    coef_: np.ndarray
    intercept_: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        return self.classes_[(features @ self.coef_.T + self.intercept_).argmax(axis=1)]


class TorchFit:
    """SciPy's L-BFGS over torch's losses and gradients, from zero at every strength."""

    def __init__(self, features: np.ndarray, labels: np.ndarray, solver: str = "torch") -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.classes, targets = np.unique(labels, return_inverse=True)
        if len(self.classes) < 2:
            raise ValueError("logistic regression needs images of two classes at least")
        dtype = torch.float32 if solver == "torch_float32" else torch.float64
        self.features = torch.from_numpy(features).to(device, dtype)  # [n, d]
        self.targets = torch.from_numpy(targets).to(device)  # [n]
        # of two classes one vector is fitted, the second's, as in scikit-learn
        self.shape = (len(self.classes) if len(self.classes) > 2 else 1, features.shape[1] + 1)

    def __call__(self, strength: float) -> Linear:
        solution = minimize(
            self.loss_and_gradient,
            np.zeros(self.shape).ravel(),
            args=(strength / len(self.targets),),
            jac=True,
            method="L-BFGS-B",
            options={**STOP, "maxfun": 50 * MAX_ITERATIONS},
        )
        weights = solution.x.reshape(self.shape)
        whole = np.pad(weights, ((len(self.classes) - len(weights), 0), (0, 0)))  # [C, d + 1]
        return Linear(self.classes, whole[:, :-1], whole[:, -1])

    def loss_and_gradient(self, flat: np.ndarray, decay: float) -> tuple[float, np.ndarray]:
        """The mean loss plus decay / 2 times the squared norm, and its gradient, flat float64."""
        weights = torch.from_numpy(flat.reshape(self.shape)).to(self.features)
        loss = torch.zeros((), dtype=torch.float64, device=weights.device)
        gradient = torch.zeros_like(weights)  # [C, d + 1]
        for features, targets in self._parts():
            logits = torch.addmm(weights[:, -1], features, weights[:, :-1].T)
            missing = len(self.classes) - logits.shape[1]  # the first of two classes: its logit is 0
            logits = functional.pad(logits, (missing, 0)) if missing else logits  # [r, C]
            logits -= logits.amax(dim=1, keepdim=True)
            of_target = logits.gather(1, targets[:, None])
            share = logits.exp_()
            total = share.sum(dim=1, keepdim=True)
            loss += (total.log() - of_target).sum(dtype=torch.float64)
            residual = share.div_(total)
            residual[torch.arange(len(targets), device=targets.device), targets] -= 1
            residual = residual[:, missing:]
            gradient[:, :-1].addmm_(residual.T, features)
            gradient[:, -1] += residual.sum(dim=0)
        parameters = flat.reshape(self.shape)[:, :-1]
        whole = gradient.cpu().numpy().astype(np.float64) / len(self.targets)
        whole[:, :-1] += decay * parameters
        return float(loss) / len(self.targets) + 0.5 * decay * float((parameters**2).sum()), whole.ravel()

    def _parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        rows = max(1, ELEMENTS[self.features.device.type] // len(self.classes))
        for start in range(0, len(self.targets), rows):
            yield self.features[start : start + rows], self.targets[start : start + rows]


def search(accuracy: Callable[[int], float], count: int, step: int) -> int:
    """The best index found from every ``step``-th of ``count``, then by halving the step round the best.

    Of equal accuracies the larger index, the stronger regularisation, is taken.
    """
    found: dict[int, float] = {}
    candidates = list(range(0, count, step))
    while True:
        for index in candidates:
            if index not in found and 0 <= index < count:
                found[index] = accuracy(index)
        best = max(found, key=lambda index: (found[index], index))
        step //= 2
        if step == 0:
            return best
        candidates = [best - step, best + step]


def best_strength(fit: Callable[[float], Predictor], features: np.ndarray, labels: np.ndarray) -> float:
    """The strength of ``STRENGTHS`` whose fit has the highest accuracy on these validation images."""
    from sklearn.exceptions import ConvergenceWarning

    def accuracy(index: int) -> float:
        with warnings.catch_warnings():
            # the protocol caps the iterations; a capped candidate is judged by its accuracy like any other
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier = fit(float(STRENGTHS[index]))
        return float((classifier.predict(features) == labels).mean())

    return float(STRENGTHS[search(accuracy, len(STRENGTHS), COARSE_STEP)])


def validation_split(labels: np.ndarray, share: float = VALIDATION_SHARE) -> np.ndarray:
    """bool [n]: a fixed share of each class, at least one image of a class that has two."""
    raw = generator(0, "linear_probe validation").bit_generator.random_raw(len(labels))
    is_validation = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(raw[rows], kind="stable")]
        is_validation[rows[: min(max(1, round(share * len(rows))), len(rows) - 1)]] = True
    return is_validation
