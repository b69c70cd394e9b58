"""MoCo v3 (arXiv 2104.02057): a query branch, its momentum encoder, and a loss a sample and direction.

Letters in shapes: b samples on this rank, B in the global batch, d embedding width, w backbone width.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any

import timm
import torch
from torch import Tensor, nn

from benchmark import dist
from benchmark.config.run import Choice, TrainConfig
from benchmark.models.moco.augment import as_floats, augmented
from benchmark.models.moco.crops import Crops
from benchmark.models.moco.encoder import BackboneEncoder
from benchmark.models.moco.options import MocoModel, model_options
from benchmark.models.moco.views import PIXEL_SCALE, PIXEL_SHIFT, TwoViews
from benchmark.models.moco.vit import vision_transformer
from benchmark.models.objective import (
    Objective,
    Tensors,
    cross_entropy,
    fp32_product,
    frozen_batch_statistics,
    precision_of_logits,
    refuse_batch_norm,
    with_negatives_weighed,
)
from benchmark.seeds import seed_of


def make(choice: Choice, seed: int) -> Moco:
    """Build the model, initialised from ``seed`` alone. Raises ConfigError for a wrong option."""
    options = model_options(choice, "model")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, "init"))  # the CPU's alone; GPUs keep theirs
        return Moco(options)


def momentum_at(progress: float, start: float, cosine: bool) -> float:
    """The encoder's momentum: ``start`` at progress 0, 1 at the end (``adjust_moco_momentum``)."""
    return 1 - (1 - start) * 0.5 * (1 + math.cos(math.pi * progress)) if cosine else start


class Moco(Objective):
    """The symmetric contrastive loss between queries of one view and momentum keys of the other."""

    has_text = False
    direction_factor = 1.0
    pixel_scale: Tensor
    pixel_shift: Tensor

    def __init__(self, options: MocoModel) -> None:
        super().__init__()
        self.options = options
        self.transform = TwoViews(options)
        self.register_buffer("pixel_scale", torch.tensor(PIXEL_SCALE), persistent=False)
        self.register_buffer("pixel_shift", torch.tensor(PIXEL_SHIFT), persistent=False)
        backbone, width = backbone_of(options)
        hidden, d = options.hidden_dim, options.embed_dim
        projector = mlp([width, *[hidden] * (options.projector_layers - 1), d], last_bn=True)
        self.base = nn.Sequential()
        self.base.add_module("backbone", backbone)
        self.base.add_module("projector", projector)
        self.predictor = mlp([d, *[hidden] * (options.predictor_layers - 1), d], last_bn=options.predictor_last_bn)
        self.momentum_encoder = copy.deepcopy(self.base).requires_grad_(False)

    def configure(self, config: TrainConfig) -> None:
        super().configure(config)
        if config.augment == "device":
            self.transform = Crops(self.options)

    def views(self, tensors: Tensors) -> tuple[Tensor, Tensor]:
        """What ``transform`` gives, stacked -> the two views, normalised float32 [b, 3, H, H] each.

        That is uint8 [b, H, H, 3] twice and, of crops that are still to be augmented, their parameters, [b, 2, P].
        """
        first, second, *parameters = tensors
        if parameters:
            rows1, rows2 = parameters[0].unbind(1)
            values = augmented(first, rows1), augmented(second, rows2)
        else:
            values = as_floats(first), as_floats(second)
        view1, view2 = (x.mul_(self.pixel_scale).sub_(self.pixel_shift) for x in values)
        return view1, view2

    def forward(
        self, tensors: Tensors, *, log_negative: Tensor | None = None, with_similarity: bool = False
    ) -> Any:
        """Losses [b, 2]: queries of view 1 against keys of view 2, and the other way round.

        ``with_similarity`` also gives the mean cosine of an image's two queries with their keys, [b].
        """
        view1, view2 = self.views(tensors)
        q1, q2 = self.predictor(self.base(view1)), self.predictor(self.base(view2))  # [b, d]
        with torch.no_grad():
            k1, k2 = self.momentum_encoder(view1), self.momentum_encoder(view2)
        losses = contrastive_losses(q1, q2, k1, k2, self.options.temperature, log_negative, self.logits)
        if not with_similarity:
            return losses
        cosine = nn.functional.cosine_similarity
        return losses, (cosine(q1.float(), k2.float()) + cosine(q2.float(), k1.float())) / 2

    def scored(
        self,
        tensors: Tensors,
        log_negative: Tensor | None,
        autocast: Callable[[], AbstractContextManager[Any]],
        at_once: int,
    ) -> tuple[Tensor, Tensor]:
        """All examples in one pass: the heads normalise by the batch."""
        with torch.no_grad(), autocast(), frozen_batch_statistics(self):
            losses, similarity = self(tensors, log_negative=log_negative, with_similarity=True)
        return losses, similarity

    def before_step(self, progress: float) -> None:
        """Move the momentum encoder towards the base encoder; at the first step the two are still equal.

        Batch statistics are no parameters: each encoder keeps its own.
        """
        m = momentum_at(progress, self.options.momentum, self.options.momentum_cosine)
        pairs = zip(self.base.parameters(), self.momentum_encoder.parameters(), strict=True)
        trained = [(p, k) for p, k in pairs if p.requires_grad]  # the others stay equal
        with torch.no_grad():
            torch._foreach_lerp_([k for _, k in trained], [p for p, _ in trained], 1 - m)

    def checkpoint_activations(self) -> None:
        """Of the backbone alone: the heads normalise by the batch, and are small."""
        backbone: Any = self.base.get_submodule("backbone")
        refuse_batch_norm(backbone)
        backbone.set_grad_checkpointing()

    def decay_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """For ViT everything decays (AdamW over ``model.parameters()``); for a ResNet matrices alone (LARS)."""
        trained = [p for p in self.parameters() if p.requires_grad]
        if self.options.backbone == "vit":
            return trained, []
        return [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]

    def encoder(self, batch_size: int = 256) -> BackboneEncoder:
        """The backbone of the base encoder, before the projector."""
        return BackboneEncoder(self.base.get_submodule("backbone"), self.options, batch_size)


def mlp(widths: Sequence[int], last_bn: bool) -> nn.Sequential:
    """Linear layers without bias, BN and ReLU between them; a last BN has no gain and bias (``builder.py``)."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(fan_in, fan_out, bias=False))
        if i < len(widths) - 2:
            layers += [nn.BatchNorm1d(fan_out), nn.ReLU(inplace=True)]
        elif last_bn:
            layers.append(nn.BatchNorm1d(fan_out, affine=False))
    return nn.Sequential(*layers)


def contrastive_losses(
    q1: Tensor,
    q2: Tensor,
    k1: Tensor,
    k2: Tensor,
    temperature: float,
    log_negative: Tensor | None = None,
    logits_in: str = "fp32",
) -> Tensor:
    """Local queries against the keys of all ranks: four times [b, d] -> losses [b, 2], times 2T as published.

    ``logits_in`` is ``fp32`` or, for the precision of the pass, ``autocast``.
    ``log_negative``, float32 [b], is added to the logits of an image's keys for the queries of all others.
    """
    with precision_of_logits(logits_in, q1.device):
        q1, q2, k1, k2 = (nn.functional.normalize(x.float(), dim=1) for x in (q1, q2, k1, k2))
        keys1, keys2 = dist.gather(torch.cat([k1, k2], dim=1)).chunk(2, dim=1)  # [B, d] each, one exchange
        b = len(q1)
        labels = torch.arange(b, device=q1.device) + dist.rank() * b
        logits = [fp32_product(q, keys.T) / temperature for q, keys in ((q1, keys2), (q2, keys1))]  # [b, B] each
        weighed = [with_negatives_weighed(x, log_negative, labels) for x in logits]
        losses = [cross_entropy(x, labels) for x in weighed]
    return 2 * temperature * torch.stack(losses, dim=1)


def backbone_of(options: MocoModel) -> tuple[nn.Module, int]:
    """The network without its head, and its width."""
    if options.backbone != "vit":
        resnet: Any = timm.create_model(options.backbone, pretrained=False, num_classes=0)
        return resnet, resnet.num_features
    width, depth, heads = options.transformer
    vit = vision_transformer(
        image_size=options.image_size,
        patch_size=options.patch_size,
        width=width,
        depth=depth,
        heads=heads,
        mlp_ratio=options.mlp_ratio,
        freeze_patch_projection=options.freeze_patch_projection,
    )
    return vit, width
