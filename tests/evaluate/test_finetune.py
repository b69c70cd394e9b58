"""Fine-tuning: it learns, its seed decides, it leaves the encoder and the global generators alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from task_stubs import FewDigits
from timm.scheduler import CosineLRScheduler
from tiny import TINY_CLIP, TINY_MOCO

from benchmark.config.run import Choice
from benchmark.evaluate.probes.batches import Batches, predictions, seeded
from benchmark.evaluate.probes.recipes import DEIT_TRANSFER, FIRST_LR, LAST_LR, RECIPES, WISE_FT, rate_at
from benchmark.evaluate.task import make_task
from benchmark.evaluate.tasks.finetune import Classifier, Finetune, _groups, set_drop_path
from benchmark.evaluate.tasks.zero_shot import ZeroShot
from benchmark.models.clip import objective as clip
from benchmark.models.moco import objective as moco
from benchmark.options import ConfigError

SOURCE = FewDigits()
CLIP_OPTIONS: dict[str, Any] = {
    "recipe": "wise_ft",
    "epochs": 4,
    "batch_size": 32,
    "lr": 3e-3,
    "warmup_steps": 4,
}
MOCO_OPTIONS: dict[str, Any] = {
    "recipe": "deit_transfer",
    "epochs": 8,
    "batch_size": 32,
    "lr": 5e-2,
    "warmup_epochs": 1,
    "mixup": 0.1,
    "cutmix": 0.1,
    "flip": False,
}


def clip_encoder() -> Any:
    return clip.make(Choice(name="tiny", options=TINY_CLIP["tiny"]), 0).encoder()


def moco_encoder() -> Any:
    return moco.make(Choice(name="tiny", options=TINY_MOCO["tiny"]), 0).encoder()


def states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]  # noqa: NPY002


@pytest.mark.slow
@pytest.mark.parametrize(("make", "options"), [(clip_encoder, CLIP_OPTIONS), (moco_encoder, MOCO_OPTIONS)])
def test_it_learns_by_its_seed_and_leaves_encoder_and_generators_alone(evaluate, make, options) -> None:  # type: ignore[no-untyped-def]
    encoder = make()
    images = SOURCE.labelled("test").images
    features = encoder.encode_images(images)
    before = states()
    found = evaluate(Finetune, SOURCE, encoder, **options)
    assert states() == before
    assert np.array_equal(encoder.encode_images(images), features)
    start = evaluate(ZeroShot, SOURCE, encoder)["top1"].value if encoder.has_text else 0.1
    assert found["top1"].value > start + 0.15
    again, other = (evaluate(Finetune, SOURCE, encoder, **options, seed=s) for s in (0, 1))
    assert again["top1"].value == found["top1"].value
    assert again["mean_per_class"].value == found["mean_per_class"].value
    assert other["mean_per_class"].value != found["mean_per_class"].value


def test_wise_fts_head_starts_as_the_zero_shot_classifier(evaluate) -> None:  # type: ignore[no-untyped-def]
    encoder = clip_encoder()
    train, test = SOURCE.labelled("train"), SOURCE.labelled("test")
    task = Finetune(dataset="toy", recipe="wise_ft")
    tower = encoder.trainable()
    model = Classifier(tower.module, task._head(encoder, tower, train), normalised=True)
    hits = predictions(model, test, tower.eval_transform)[1] == test.labels
    assert hits.mean() == evaluate(ZeroShot, SOURCE, encoder)["top1"].value
    assert model.head.weight.norm(dim=1).tolist() == pytest.approx([1 / 0.07] * 10, rel=1e-4)


def test_wise_fts_rate_rises_for_500_steps_and_falls_to_0_along_a_cosine() -> None:
    rates = [rate_at(WISE_FT, epoch, step, 100) for epoch in range(10) for step in range(100)]
    assert rates[0] == pytest.approx(3e-5 / 500)
    assert rates[499] == rates[500] == pytest.approx(3e-5)
    assert rates[750] == pytest.approx(1.5e-5)
    assert 0 < rates[-1] < 1e-9
    assert np.argmax(rates) in (499, 500)


def test_deits_rate_is_that_of_timms_scheduler() -> None:
    peak = 3e-4 * 128 / 512
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=peak)
    scheduler = CosineLRScheduler(optimizer, 100, lr_min=LAST_LR, warmup_t=3, warmup_lr_init=FIRST_LR)
    for epoch in range(100):
        scheduler.step(epoch)
        assert rate_at(DEIT_TRANSFER, epoch, 0, 7) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)


def test_published_settings() -> None:
    assert (WISE_FT.lr, WISE_FT.weight_decay, WISE_FT.epochs, WISE_FT.batch_size) == (3e-5, 0.1, 10, 512)
    assert (DEIT_TRANSFER.epochs, DEIT_TRANSFER.batch_size, RECIPES["deit_imagenet"].epochs) == (100, 128, 150)


def test_deit_decays_matrices_alone_and_wise_ft_everything() -> None:
    tower = moco_encoder().trainable()
    model = Classifier(tower.module, torch.nn.Linear(16, 10), normalised=False)
    decayed, exempt = (group["params"] for group in _groups(model, DEIT_TRANSFER))
    assert len(decayed) + len(exempt) == len(list(model.parameters()))
    assert all(p.ndim > 1 for p in decayed)
    assert any(p is tower.module.pos_embed for p in exempt)
    assert len(_groups(model, WISE_FT)) == 1


def test_drop_path_rises_linearly_to_the_last_block() -> None:
    options = {**TINY_MOCO["tiny"], "depth": 3}
    module: Any = moco.make(Choice(name="tiny", options=options), 0).encoder().trainable().module
    set_drop_path(module, 0.2)
    assert [getattr(block.drop_path1, "drop_prob", 0.0) for block in module.blocks] == [0.0, 0.1, 0.2]
    assert [getattr(block.drop_path2, "drop_prob", 0.0) for block in module.blocks] == [0.0, 0.1, 0.2]


def test_repeated_images_fill_an_epoch_with_a_third_of_them() -> None:
    batches = Batches([], np.zeros(12), lambda image: torch.zeros(1), 4, 0, "x", repeats=3)
    rows = np.concatenate(batches.rows(0))
    assert np.bincount(np.unique(rows, return_counts=True)[1]).tolist() == [0, 0, 0, 4]


def draw_and_fail(drawn: list[tuple[float, float, float]]) -> None:
    with seeded(0, "test", 1):
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002
        drawn.append((1 / 0, 0, 0))


def test_seeded_starts_all_generators_and_puts_them_back_after_an_error() -> None:
    before = states()
    drawn: list[tuple[float, float, float]] = []
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            draw_and_fail(drawn)
    assert drawn[0] == drawn[1]
    assert states() == before


def test_options_show_in_the_protocol() -> None:
    assert Finetune(dataset="x", recipe="wise_ft").protocol == "finetune.wise_ft.v1"
    assert Finetune(dataset="x", recipe="wise_ft", epochs=10).protocol == "finetune.wise_ft.v1"
    changed = Finetune(dataset="x", recipe="deit_transfer", mixup=0.5, precision="bf16")
    assert changed.protocol == "finetune.deit_transfer_mixup0.5_precision-bf16.v1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "recipe: missing"),
        ({"recipe": "wise"}, "recipe: unknown value 'wise'; did you mean 'wise_ft'"),
        ({"recipe": "wise_ft", "mixup": 0.5}, "mixup does not belong to recipe wise_ft"),
        ({"recipe": "deit_transfer", "warmup_steps": 5}, "warmup_steps does not belong to recipe deit_transfer"),
        ({"recipe": "wise_ft", "epochs": 0}, "epochs must be above 0"),
    ],
)
def test_a_wrong_option_is_told_before_anything_runs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_task(Choice(name="finetune", options={"dataset": "digits", **options}), "evaluate")


def test_a_model_without_texts_has_no_zero_shot_head(evaluate) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="recipe wise_ft starts from text embeddings; this model has none"):
        evaluate(Finetune, SOURCE, moco_encoder(), **CLIP_OPTIONS)
    assert make_task(Choice(name="finetune", options={"dataset": "digits", "recipe": "wise_ft"}), "x").needs_text
    assert not Finetune(dataset="digits", recipe="deit_transfer").needs_text
