"""What the training loop knows of a model: per-sample losses, hooks around a step, and an encoder to evaluate.

Letters in shapes: b samples on this rank, B in the global batch, d embedding width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark import dist
from benchmark.config.run import TrainConfig
from benchmark.models.encoder import Encoder

Tensors = tuple[Tensor, ...]
Transform = Callable[[Any], Tensors]
"""A ``Sample`` to the tensors of one example; CLIP's takes ``Pixels`` too."""


class Objective(nn.Module, ABC):
    """A model with its contrastive loss."""

    has_text: ClassVar[bool]
    direction_factor: ClassVar[float]
    """The training loss is this times (mean loss of direction 1 + mean loss of direction 2)."""

    logits: str = "fp32"
    feature_gradient: str = "sum"
    """As ``TrainConfig`` says of the two; ``configure`` sets them."""

    transform: Transform
    """Decoded sample -> tensors of one example. Picklable; draws from torch's CPU generator alone."""

    def configure(self, config: TrainConfig) -> None:
        """Take over the options of a run that concern the model; called once, before training."""
        self.logits, self.feature_gradient = config.logits, config.feature_gradient

    @abstractmethod
    def forward(self, tensors: Tensors, *, log_negative: Tensor | None = None) -> Tensor:
        """Per-sample losses of this rank's examples, float32 [b, 2], a column a direction.

        Negatives (CLIP) or keys (MoCo) come from the global batch. ``log_negative``, float32 [b], is added to
        the logit of each of these examples where it is another's negative.
        """

    @abstractmethod
    def scored(
        self,
        tensors: Tensors,
        log_negative: Tensor | None,
        autocast: Callable[[], AbstractContextManager[Any]],
        at_once: int,
    ) -> tuple[Tensor, Tensor]:
        """Losses as ``forward`` gives them, [b, 2], and each example's cosine with its own positive, [b].

        Without gradient, in training mode, and leaving no trace in the model. ``at_once`` is the number of
        examples that a rank can hold; an objective whose examples need one another may take them all.
        """

    @abstractmethod
    def encoder(self, batch_size: int = 256) -> Encoder:
        """The frozen model in eval mode, for evaluation."""

    @abstractmethod
    def checkpoint_activations(self) -> None:
        """Let the backward pass compute activations again, with the same draws, in place of keeping them.

        Raises ValueError for towers with batch normalisation.
        """

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
        model: Callable[..., Tensor],
        tensors: Tensors,
        weight: Tensor | None,
        scale: Callable[[Tensor], Tensor],
        autocast: Callable[[], AbstractContextManager[Any]],
        accumulate: int,
        log_negative: Tensor | None = None,
    ) -> Tensor:
        """Add the gradient of the training loss; return the per-sample losses, detached, [b, 2].

        ``model`` is this objective, possibly wrapped for several ranks; ``scale`` multiplies the loss
        (fp16); ``autocast`` opens the precision of the forward pass.
        """
        if accumulate != 1:
            raise ValueError(f"{type(self).__name__} cannot accumulate gradients; set train.accumulate to 1")
        with autocast():
            losses = model(tensors, log_negative=log_negative)
        scale(self.reduce(losses, weight)).backward()
        return losses.detach()


def refuse_batch_norm(tower: nn.Module) -> None:
    """Raise ValueError if computing the tower's activations twice would take batch statistics in twice."""
    if any(isinstance(m, _BatchNorm) for m in tower.modules()):
        raise ValueError(
            "train.checkpointing computes activations twice, and this network has batch normalisation, which would"
            " take each batch into its running statistics twice: set it to false"
        )


def fp32_product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` for logits: float32 stays float32 where ``train.tf32`` gives other products half its digits."""
    return product_without_tf32(a, b) if may_take_tf32(a.device) else a @ b


def may_take_tf32(device: torch.device) -> bool:
    """Whether float32 products on ``device`` may be TF32's; under autocast they are half precision's instead."""
    return device.type == "cuda" and not torch.is_autocast_enabled("cuda")


@torch.library.custom_op("scan_bench::product_without_tf32", mutates_args=())
def product_without_tf32(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b``, forward and backward, without TF32: an operator, for which torch.compile breaks no graph."""
    products = torch.backends.cuda.matmul
    before, products.allow_tf32 = products.allow_tf32, False
    try:
        return a @ b
    finally:
        products.allow_tf32 = before


@product_without_tf32.register_fake
def _shape_of_product(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(len(a), b.shape[1])


def _keep_factors(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients_of_product(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    a, b = ctx.saved_tensors
    return product_without_tf32(gradient, b.T), product_without_tf32(a.T, gradient)


product_without_tf32.register_autograd(_gradients_of_product, setup_context=_keep_factors)


def micro_batches(tensors: Tensors, count: int) -> Iterator[Tensors]:
    """Equal slices of a batch, in order."""
    return zip(*(t.chunk(count) for t in tensors), strict=True)


def with_negatives_weighed(logits: Tensor, log_negative: Tensor | None, labels: Tensor) -> Tensor:
    """Logits [b, B] with each column's log-weight added, save in a row's own column, ``labels`` int64 [b].

    ``log_negative`` is float32 [b], this rank's part; None changes nothing.
    """
    if log_negative is None:
        return logits
    columns = dist.gather(log_negative.float()).repeat(len(logits), 1)  # [b, B]
    return logits + columns.scatter(1, labels[:, None], 0.0)


def mark_of_draws(device: torch.device) -> Callable[[], None]:
    """Note where the generators stand that a pass on ``device`` draws from; the result sets them back there."""
    on_host = torch.get_rng_state()  # patch dropout draws here whatever the device
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def rewind() -> None:
        torch.set_rng_state(on_host)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, device)

    return rewind


@contextmanager
def frozen_batch_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch normalisation use a batch's statistics without taking them into its running ones."""
    layers = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def precision_of_logits(logits: str, device: torch.device) -> AbstractContextManager[Any]:
    """What logits are computed in: float32 in an autocast pass too, or for ``autocast`` as the pass."""
    # DEVIATION(logits): float32, since selection ranks these losses; the published code's are half precision
    return torch.autocast(device.type, enabled=False) if logits == "fp32" else nullcontext()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Per-row cross-entropy in float32: logits [b, B], labels int64 [b] -> [b]."""
    return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
