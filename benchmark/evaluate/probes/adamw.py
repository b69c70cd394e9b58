"""The linear probe of CLIP_benchmark (its ``metrics/linear_probe.py``), for any device.

A linear layer on features of length 1, trained by AdamW with a cosine from the first step; its weight decay is
searched on a validation split, or 0 without one. Initial weights and batches are those its seed gives there, drawn
from a generator of our own. All decays of a stage are trained at once: they share batches and initial weights.

Letters in shapes: n images, d feature width, C classes, K decays, b images in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional, init

DECAYS = np.logspace(-6, 2, 97)
COARSE_STEP = 16
"""The search opens with every 16th decay."""
SPANS = (8, 4, 2, 1)
LEARNING_RATE = 0.1
EPOCHS = 10
BATCH_SIZE = 64


@dataclass(frozen=True)
class LinearLayer:
    """One trained layer."""

    weight: Tensor
    """[C, d]"""
    bias: Tensor
    weight_decay: float

    def predict(self, features: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        """int64 [n]; ``among``, int64 [c], restricts to these classes: then it is the place in it."""
        rows = torch.from_numpy(features).to(self.weight.device)
        logits = functional.linear(rows, self.weight, self.bias)
        logits = logits if among is None else logits[:, torch.from_numpy(among).to(logits.device)]
        return logits.argmax(dim=1).cpu().numpy()


def train(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    decays: Sequence[float],
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> list[LinearLayer]:
    """A layer for each weight decay. ``features``: float32 [n, d] of length 1."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, targets = torch.from_numpy(features).to(device), torch.from_numpy(labels).to(device)
    random = torch.Generator().manual_seed(seed)
    weight, bias = _initial(num_classes, features.shape[1], random)
    weights = weight.to(device).repeat(len(decays), 1, 1).requires_grad_()  # [K, C, d]
    biases = bias.to(device).repeat(len(decays), 1, 1).requires_grad_()  # [K, 1, C]
    decay = torch.tensor(decays, dtype=torch.float64, device=device)[:, None, None]
    optimizer = torch.optim.AdamW([weights, biases], lr=LEARNING_RATE, weight_decay=0.0)
    steps = math.ceil(len(labels) / BATCH_SIZE) * epochs
    for step, batch in enumerate(_batches(len(labels), epochs, random)):
        rate = 0.5 * (1 + math.cos(math.pi * step / steps)) * LEARNING_RATE
        x, y = rows[batch.to(device)], targets[batch.to(device)]
        logits = torch.baddbmm(biases, x.expand(len(decays), -1, -1), weights.transpose(1, 2))  # [K, b, C]
        losses = functional.cross_entropy(logits.flatten(0, 1), y.repeat(len(decays)), reduction="none")
        optimizer.zero_grad()
        (losses.sum() / len(y)).backward()
        with torch.no_grad():  # each layer's own decay, before the step as AdamW does it
            shrink = (1 - rate * decay).to(torch.float32)
            weights.mul_(shrink)
            biases.mul_(shrink)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return [LinearLayer(w.detach(), b.detach()[0], wd) for w, b, wd in zip(weights, biases, decays, strict=True)]


def search(accuracies: Callable[[list[int]], list[float]], count: int = len(DECAYS)) -> int:
    """CLIP_benchmark's search for the best index; of equal accuracies the first one tried is taken.

    ``accuracies`` is asked for a stage's new indices at once.
    """
    found: dict[int, float] = {}

    def peak(indices: list[int]) -> int:
        new = [index for index in dict.fromkeys(indices) if index not in found]
        found.update(zip(new, accuracies(new) if new else [], strict=True))
        best, most = 0, 0.0  # index 0 where every accuracy is 0, as there
        for index in indices:
            if found[index] > most:
                best, most = index, found[index]
        return best

    best = peak(list(range(0, count, COARSE_STEP)))
    for span in SPANS:
        best = peak([max(best - span, 0), best, min(best + span, count - 1)])
    return best


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    is_validation: np.ndarray | None,
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> LinearLayer:
    """The final layer: trained on all images, with the decay that the validation images (bool [n]) choose."""
    if is_validation is None:
        return train(features, labels, num_classes, [0.0], epochs=epochs, seed=seed)[0]
    part = [np.ascontiguousarray(features[rows]) for rows in (~is_validation, is_validation)]
    label = [labels[rows] for rows in (~is_validation, is_validation)]

    def accuracies(indices: list[int]) -> list[float]:
        decays = [float(DECAYS[index]) for index in indices]
        layers = train(part[0], label[0], num_classes, decays, epochs=epochs, seed=seed)
        return [float((layer.predict(part[1]) == label[1]).mean()) for layer in layers]

    best = float(DECAYS[search(accuracies)])
    whole = np.concatenate(part), np.concatenate(label)  # in this order, which decides the batches
    return train(*whole, num_classes, [best], epochs=epochs, seed=seed)[0]


def _initial(num_classes: int, width: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """What ``nn.Linear`` draws."""
    weight, bias = torch.empty(num_classes, width), torch.empty(num_classes)
    init.kaiming_uniform_(weight, a=math.sqrt(5), generator=random)
    init.uniform_(bias, -1 / math.sqrt(width), 1 / math.sqrt(width), generator=random)
    return weight, bias


def _batches(count: int, epochs: int, random: torch.Generator) -> Iterator[Tensor]:
    """The rows that torch's shuffling loader gives, the last batch of an epoch maybe short: int64 [b]."""
    for _ in range(epochs):
        torch.empty((), dtype=torch.int64).random_(generator=random)  # the loader's seed for its workers
        shuffle = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_(generator=random)))
        yield from torch.randperm(count, generator=shuffle).split(BATCH_SIZE)
