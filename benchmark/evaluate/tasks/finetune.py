"""End-to-end fine-tuning of the image tower with a linear head, by the recipes of the papers SCAN follows.

``wise_ft`` (CLIP): the head starts as the zero-shot classifier, no interpolation of weights afterwards.
``deit_transfer`` and ``deit_imagenet`` (MoCo v3): DeiT's training with a fresh head. The encoder that is evaluated
stays as it was: a copy is trained, on one device.

Letters in shapes: b images in a batch, d feature width, C classes.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.evaluate.further import check_test_on, data_sets_of, opened
from benchmark.evaluate.intervals import mean_per_class, proportion
from benchmark.evaluate.probes.batches import Batches, predictions, seeded
from benchmark.evaluate.probes.recipes import RECIPES, Recipe, rate_at
from benchmark.evaluate.protocol import named
from benchmark.evaluate.task import Part, Task
from benchmark.evaluate.tasks.zero_shot import class_weights
from benchmark.models.encoder import Encoder, ImageTransform, Tower
from benchmark.options import LATER_OPTION, check_option, require
from benchmark.pool.samples import PoolError
from benchmark.pool.source import TestSet, TrainSet
from benchmark.runs.record import Metric

logger = logging.getLogger(__name__)

CHANGEABLE = (
    "epochs",
    "batch_size",
    "lr",
    "weight_decay",
    "warmup_steps",
    "warmup_epochs",
    "mixup",
    "cutmix",
    "random_erasing",
    "drop_path",
)
PURPOSE = "finetune"


@dataclass(frozen=True, kw_only=True)
class Finetune(Task):
    """``top1`` and ``mean_per_class`` on the test split after the last epoch, and on the sets of ``test_on``."""

    dataset: Any
    """Name of a source with labelled splits, or ``{name: options}``."""
    recipe: str
    """``wise_ft`` for CLIP, ``deit_transfer`` or ``deit_imagenet`` for MoCo v3."""
    epochs: int | None = None
    """None, here and below: the recipe's."""
    batch_size: int | None = None
    lr: float | None = None
    """Before scaling by the batch size."""
    weight_decay: float | None = None
    warmup_steps: int | None = None
    warmup_epochs: int | None = None
    mixup: float | None = None
    cutmix: float | None = None
    random_erasing: float | None = None
    drop_path: float | None = None
    precision: str = "fp32"
    """``fp32``, or ``bf16`` for autocast."""
    flip: bool = True
    """DeiT's recipes: flip half of the images; not for digits."""
    seed: int = 0
    """Of the head, the order and the augmentation."""
    num_workers: int = 0
    """Processes that decode and augment."""
    test_on: list[Any] | None = field(default=None, metadata=LATER_OPTION)
    """Test sets beside the data set's own that the fine-tuned model is measured on as well, names or
    ``{name: options}``: a column each of robustness tables. One that is absent is skipped with the reason; that
    it came is made up for by fine-tuning anew, as the fine-tuned weights are not kept."""

    def __post_init__(self) -> None:
        check_option("recipe", self.recipe, list(RECIPES))
        check_option("precision", self.precision, ("fp32", "bf16"))
        for name in ("epochs", "batch_size", "lr"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "above 0", value)
        by_step = ("warmup_steps",)
        by_epoch = ("warmup_epochs", "mixup", "cutmix", "random_erasing", "drop_path")
        for name in by_step if RECIPES[self.recipe].by_epoch else by_epoch:
            if getattr(self, name) is not None:
                raise ValueError(f"{name} does not belong to recipe {self.recipe}")
        check_test_on(self.dataset, self.test_on)

    @classmethod
    def published(cls) -> list[Task]:
        return [cls(dataset="", recipe=recipe) for recipe in RECIPES]

    @property
    def needs_text(self) -> bool:  # type: ignore[override]  # of the class elsewhere, here of the recipe
        return RECIPES[self.recipe].zero_shot_head

    @property
    def settings(self) -> Recipe:
        """The recipe with this task's changes."""
        changes = {name: getattr(self, name) for name in CHANGEABLE if getattr(self, name) is not None}
        return dataclasses.replace(RECIPES[self.recipe], **changes)

    @property
    def passes(self) -> int:
        return self.settings.epochs

    @property
    def protocol(self) -> str:
        published = RECIPES[self.recipe]
        changed = {name: (getattr(self.settings, name), getattr(published, name)) for name in CHANGEABLE}
        others = {"precision": (self.precision, "fp32"), "flip": (self.flip, True)}
        return named(f"finetune.{self.recipe}", 1, {**changed, **others})

    @property
    def data_sets(self) -> Mapping[str, Any]:
        return {**super().data_sets, **data_sets_of(self.test_on)}

    def run(self, encoder: Encoder) -> list[Metric]:
        return [metric for part in self.parts(encoder) for metric in part.metrics]

    def parts(self, encoder: Encoder) -> Iterator[Part]:
        source = self.source()
        train = source.train_set()
        further, others = opened(self.test_on, train)  # before the hours of training
        yield from others
        tower = encoder.trainable("joint")
        head = self._head(encoder, tower, train)
        model = self.train(tower, head, train)
        yield self._measure(model, tower, source.test_set())
        for asked, test, places in further:
            try:
                yield dataclasses.replace(self._measure(model, tower, test, places), dataset=asked)
            except PoolError as error:  # images of it: it opened
                yield Part(dataset=asked, skipped=str(error))

    def _measure(self, model: nn.Module, tower: Tower, test: TestSet, among: np.ndarray | None = None) -> Part:
        readable, predicted = predictions(model, test, tower.eval_transform, among)
        hits = predicted == readable.labels
        metrics = [
            proportion("finetune", test.name, "top1", hits, self.protocol),
            mean_per_class("finetune", test.name, hits, readable.labels, self.protocol),
        ]
        return Part(metrics, test.fingerprint, left_out=len(test.labels) - len(hits))

    def train(self, tower: Tower, head: nn.Linear, train: TrainSet) -> nn.Module:
        """The tower's module with the head, fine-tuned in place."""
        # DEVIATION(finetune): one process, fp32 or bf16; DeiT trains in fp16 and also keeps an average of the
        # weights, which it does not report
        recipe = self.settings
        device = next(tower.module.parameters()).device
        model = Classifier(tower.module, head, recipe.zero_shot_head).to(device)
        set_drop_path(tower.module, recipe.drop_path)
        batches = self._batches(tower, train)
        steps = batches.steps()
        if recipe.warmup_steps >= recipe.epochs * steps:
            logger.warning(
                "finetune: warm-up of %s steps, training of %s: set warmup_steps",
                recipe.warmup_steps,
                recipe.epochs * steps,
            )
        optimizer = torch.optim.AdamW(_groups(model, recipe), lr=recipe.lr)
        loss_of = _loss(recipe, len(train.class_names))
        model.train()
        for batch in batches.run(recipe.epochs):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(recipe, batch.epoch, batch.step, steps)
            images, labels = batch.images.to(device), batch.labels.to(device)
            with (
                seeded(self.seed, f"{PURPOSE} step", batch.epoch, batch.step),
                torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"),
            ):
                loss = loss_of(model, images, labels)
            optimizer.zero_grad()
            loss.backward()
            if recipe.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
            optimizer.step()
        return model

    def _head(self, encoder: Encoder, tower: Tower, train: TrainSet) -> nn.Linear:
        recipe = self.settings
        if recipe.zero_shot_head:
            if not encoder.has_text:
                raise ValueError(
                    f"finetune: recipe {self.recipe} starts from text embeddings; this model has none"
                )
            where = f"finetune on {train.name}"
            weights = tower.logit_scale * class_weights(encoder, train.class_names, train.templates, where)
        else:
            shape = (len(train.class_names), _width(tower))
            with seeded(self.seed, f"{PURPOSE} head"):
                weights = nn.init.trunc_normal_(torch.empty(shape), std=0.02).numpy()
        head = nn.utils.skip_init(nn.Linear, weights.shape[1], weights.shape[0])  # draws nothing
        head.weight.data.copy_(torch.from_numpy(weights.astype(np.float32)))
        head.bias.data.zero_()
        return head

    def _batches(self, tower: Tower, train: TrainSet) -> Batches:
        recipe = self.settings
        transform = deit_transform(tower, recipe, self.flip) if recipe.rand_augment else tower.train_transform
        batch_size = recipe.batch_size
        if recipe.rand_augment and batch_size > len(train.labels):  # they leave out an epoch's last, short batch
            batch_size = len(train.labels) - len(train.labels) % 2  # mixing pairs a batch with its mirror image
        return Batches(
            train.images,
            train.labels,
            transform,
            batch_size,
            self.seed,
            PURPOSE,
            drop_last=recipe.rand_augment,
            repeats=recipe.repeats,
            num_workers=self.num_workers,
        )


class Classifier(nn.Module):
    """Images [b, 3, H, W] -> logits [b, C]."""

    def __init__(self, tower: nn.Module, head: nn.Linear, normalised: bool) -> None:
        super().__init__()
        self.tower, self.head, self.normalised = tower, head, normalised

    def forward(self, images: Tensor) -> Tensor:
        features = self.tower(images)  # [b, d]
        logits: Tensor = self.head(functional.normalize(features, dim=1) if self.normalised else features)
        return logits


def deit_transform(tower: Tower, recipe: Recipe, flip: bool) -> ImageTransform:
    """DeiT's: a crop of 0.08 to 1, a flip, RandAugment, random erasing."""
    from timm.data import create_transform  # seconds to load: not when a sweep is planned

    # DEVIATION(finetune): always 224-style crops; DeiT pads images of at most 32 pixels instead
    transform: Callable[..., Any] = create_transform(
        input_size=(3, *tower.image_size),
        is_training=True,
        hflip=0.5 if flip else 0.0,
        color_jitter=0.4,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        mean=tower.mean,
        std=tower.std,
        re_prob=recipe.random_erasing,
        re_mode="pixel",
    )
    return transform


def set_drop_path(module: nn.Module, rate: float) -> None:
    """Stochastic depth in a transformer of timm: from 0 at the first block to ``rate`` at the last."""
    from timm.layers import DropPath

    blocks = getattr(module, "blocks", None)
    if not rate or blocks is None:
        return
    for number, block in enumerate(blocks):
        share = rate * number / max(1, len(blocks) - 1)
        for name in ("drop_path1", "drop_path2"):
            if share and hasattr(block, name):
                setattr(block, name, DropPath(share))


def _width(tower: Tower) -> int:
    """Of the tower's features."""
    device = next(tower.module.parameters()).device
    tower.module.eval()
    with torch.no_grad():
        return int(tower.module(torch.zeros(1, 3, *tower.image_size, device=device)).shape[1])


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    named_parameters = list(model.named_parameters())
    exempt = [
        recipe.exempt_vectors and (p.ndim <= 1 or name.endswith(("pos_embed", "cls_token")))
        for name, p in named_parameters
    ]
    pairs = list(zip(named_parameters, exempt, strict=True))
    groups = [
        {"params": [p for (_, p), free in pairs if not free], "weight_decay": recipe.weight_decay},
        {"params": [p for (_, p), free in pairs if free], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _loss(recipe: Recipe, num_classes: int) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    """(model, images, labels) -> the mean loss, mixing images and labels where the recipe does."""
    if not (recipe.mixup or recipe.cutmix):
        return lambda model, images, labels: functional.cross_entropy(
            model(images).float(), labels, label_smoothing=recipe.smoothing
        )
    from timm.data import Mixup

    mix = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.smoothing, num_classes=num_classes)

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        images, soft = mix(images, labels)
        return functional.cross_entropy(model(images).float(), soft)

    return loss
