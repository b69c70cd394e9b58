"""What the training loop knows of a model: per-sample losses, hooks around a step, and an encoder to evaluate.

Letters in shapes: b samples on this rank, B in the global batch, d embedding width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from benchmark.evaluate import Encoder
from benchmark.pool import Sample

Tensors = tuple[Tensor, ...]
Transform = Callable[[Sample], Tensors]


class Objective(nn.Module, ABC):
    """A model with its contrastive loss."""

    has_text: ClassVar[bool]
    direction_factor: ClassVar[float]
    """The training loss is this times (mean loss of direction 1 + mean loss of direction 2)."""

    transform: Transform
    """Decoded sample -> tensors of one example. Picklable; draws from torch's CPU generator alone."""

    @abstractmethod
    def forward(self, tensors: Tensors) -> Tensor:
        """Per-sample losses of this rank's examples, float32 [b, 2], a column a direction.

        Negatives (CLIP) or keys (MoCo) come from the global batch.
        """

    @abstractmethod
    def encoder(self, batch_size: int = 256) -> Encoder:
        """The frozen model in eval mode, for evaluation."""

    @abstractmethod
    def decay_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Trained parameters that take weight decay, and those that do not."""

    def before_step(self, progress: float) -> None:
        """Called before a step's forward; ``progress`` in [0, 1) is the share of the training done."""

    def after_step(self) -> None:
        """Called after the optimiser's step."""

    def reduce(self, losses: Tensor, weight: Tensor | None) -> Tensor:
        """Per-sample losses [b, 2] and weights [b] -> the training loss, a scalar."""
        weighted = losses if weight is None else losses * weight[:, None]
        return self.direction_factor * weighted.mean(dim=0).sum()

    def backward(
        self,
        model: Callable[[Tensors], Tensor],
        tensors: Tensors,
        weight: Tensor | None,
        scale: Callable[[Tensor], Tensor],
        autocast: Callable[[], AbstractContextManager[Any]],
        accumulate: int,
    ) -> Tensor:
        """Add the gradient of the training loss; return the per-sample losses, detached, [b, 2].

        ``model`` is this objective, possibly wrapped for several ranks; ``scale`` multiplies the loss
        (fp16); ``autocast`` opens the precision of the forward pass.
        """
        if accumulate != 1:
            raise ValueError(f"{type(self).__name__} cannot accumulate gradients; set train.accumulate to 1")
        with autocast():
            losses = model(tensors)
        scale(self.reduce(losses, weight)).backward()
        return losses.detach()


def micro_batches(tensors: Tensors, count: int) -> Iterator[Tensors]:
    """Equal slices of a batch, in order."""
    return zip(*(t.chunk(count) for t in tensors), strict=True)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Per-row cross-entropy in float32: logits [b, B], labels int64 [b] -> [b]."""
    return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
