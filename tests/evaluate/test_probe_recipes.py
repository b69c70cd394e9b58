"""The linear probe's recipes on tiny networks: what each reads, what its protocol says, what it leaves alone."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from task_stubs import FewDigits
from tiny import TINY_CLIP, TINY_MOCO
from torch.nn import functional

from benchmark.config.run import Choice, resolved
from benchmark.evaluate.probes import sgd
from benchmark.evaluate.probes.batches import Batches
from benchmark.evaluate.scores import unit
from benchmark.evaluate.task import make_task
from benchmark.evaluate.tasks import linear_probe
from benchmark.evaluate.tasks.linear_probe import LinearProbe, fit
from benchmark.models.clip import objective as clip
from benchmark.models.moco import objective as moco
from benchmark.options import ConfigError

SOURCE = FewDigits()


def clip_encoder() -> Any:
    return clip.make(Choice(name="tiny", options=TINY_CLIP["tiny"]), 0).encoder()


def moco_encoder() -> Any:
    return moco.make(Choice(name="tiny", options=TINY_MOCO["tiny"]), 0).encoder()


def states() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]  # noqa: NPY002


@pytest.mark.slow
def test_clip_probes_raw_features_from_before_the_projection(evaluate) -> None:  # type: ignore[no-untyped-def]
    encoder = clip_encoder()
    train, test = SOURCE.labelled("train"), SOURCE.labelled("test")
    features = [encoder.encode_images(s.images, layer="penultimate") for s in (train, test)]
    hits = fit(features[0], train.labels, standardise=False).predict(features[1]) == test.labels
    found = evaluate(LinearProbe, SOURCE, encoder, recipe="clip")
    assert found["top1"].value == pytest.approx(hits.mean())
    assert found["top1"].protocol == "linear_probe.clip_lbfgs_raw.v1"
    ours = evaluate(LinearProbe, SOURCE, encoder, recipe="clip", solver="torch")["top1"]
    assert ours.protocol == "linear_probe.clip_lbfgs_raw_solver-torch.v1"
    # solvers are compared on what converges, in test_logistic: here last bits grow for 1000 iterations
    by_torch = (
        fit(features[0], train.labels, standardise=False, solver="torch").predict(features[1]) == test.labels
    )
    assert ours.value == pytest.approx(by_torch.mean())


def test_clip_benchmark_probes_joint_features_of_length_1(evaluate, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    encoder = clip_encoder()
    seen = []
    whole = linear_probe.adamw.fit

    def watched(features: np.ndarray, *rest: Any, **options: Any) -> Any:
        seen.append((features, rest[2]))
        return whole(features, *rest, **options)

    monkeypatch.setattr(linear_probe.adamw, "fit", watched)
    evaluate(LinearProbe, SOURCE, encoder, recipe="clip_benchmark")
    found = evaluate(LinearProbe, SOURCE, encoder, recipe="clip_benchmark", validation_share=0.2)
    (features, none), (_, held) = seen
    np.testing.assert_allclose(features, unit(encoder.encode_images(SOURCE.labelled("train").images)), atol=1e-5)
    assert none is None
    assert 0.15 < held.mean() < 0.25
    assert found["top1"].protocol == "linear_probe.clip_benchmark_adamw_val0.2.v1"
    assert found["top1"].value > 0.2


@pytest.mark.slow
def test_mocos_head_learns_under_augmentation_with_a_frozen_backbone(evaluate) -> None:  # type: ignore[no-untyped-def]
    encoder = moco_encoder()
    weights = {k: v.clone() for k, v in encoder.backbone.state_dict().items()}
    before = states()
    options = {"recipe": "moco", "epochs": 30, "flip": False}
    found = evaluate(LinearProbe, SOURCE, encoder, **options)
    assert states() == before
    assert all(torch.equal(v, encoder.backbone.state_dict()[k]) for k, v in weights.items())
    assert found["top1"].protocol == "linear_probe.moco_sgd_epochs30_flip-off.v1"
    assert found["top1"].value > 0.25
    assert evaluate(LinearProbe, SOURCE, encoder, **options)["top1"].value == found["top1"].value


def test_mocos_head_is_that_of_a_plain_loop() -> None:
    train = SOURCE.labelled("train")
    tower = moco_encoder().trainable()
    batches = Batches(train.images, train.labels, tower.eval_transform, 128, 7, "linear_probe")
    ours = sgd.fit(tower, batches, 10, epochs=3, base_rate=None)
    backbone = moco_encoder().backbone.eval()
    weight = torch.empty(10, 16).normal_(0, 0.01, generator=torch.Generator().manual_seed(7)).requires_grad_()
    bias = torch.zeros(10, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], lr=1.0, momentum=0.9)
    for batch in batches.run(3):
        optimizer.param_groups[0]["lr"] = 3 * 128 / 256 * 0.5 * (1 + np.cos(np.pi * batch.epoch / 3))
        optimizer.zero_grad()
        features = backbone(batch.images).detach()
        functional.cross_entropy(features @ weight.T + bias, batch.labels).backward()
        optimizer.step()
    assert torch.allclose(ours.weight, weight, atol=1e-5)
    assert torch.allclose(ours.bias, bias, atol=1e-5)


def test_batch_statistics_of_a_frozen_resnet_do_not_move() -> None:
    options = {"image_size": 32, "backbone": "test_resnet", "hidden_dim": 8, "embed_dim": 8}
    encoder = moco.make(Choice(name="r", options={**options, "backbone": "resnet18"}), 0).encoder()
    tower = encoder.trainable()
    before = tower.module.bn1.running_mean.clone()  # type: ignore[union-attr, operator]
    train = SOURCE.labelled("train")
    batches = Batches(train.images[:8], train.labels[:8], tower.eval_transform, 4, 0, "linear_probe")
    sgd.fit(tower, batches, 10, epochs=1, base_rate=None)
    assert torch.equal(tower.module.bn1.running_mean, before)  # type: ignore[union-attr, arg-type]


def test_batches_hold_each_image_once_an_epoch_in_an_order_of_the_seed() -> None:
    labels = np.arange(10)
    batches = Batches([], labels, lambda image: torch.zeros(1), 4, 0, "x")
    for epoch in range(3):
        assert sorted(np.concatenate(batches.rows(epoch)).tolist()) == labels.tolist()
    assert [len(rows) for rows in batches.rows(0)] == [4, 4, 2]
    assert not np.array_equal(batches.rows(0)[0], batches.rows(1)[0])


def test_workers_give_the_same_batches() -> None:
    train = SOURCE.labelled("train")
    tower = moco_encoder().trainable()
    for pair in zip(
        *(
            Batches(train.images[:20], train.labels[:20], tower.train_transform, 8, 1, "x", num_workers=w).run(2)
            for w in (0, 1)
        ),
        strict=True,
    ):
        assert pair[0][:2] == pair[1][:2]
        assert torch.equal(pair[0].images, pair[1].images)
        assert torch.equal(pair[0].labels, pair[1].labels)


def test_the_default_recipe_is_what_older_records_hold() -> None:
    task = make_task(Choice(name="linear_probe", options={"dataset": "digits"}), "evaluate")
    assert task.protocol == "linear_probe.lbfgs_standardised.v1"
    assert resolved("linear_probe", task, as_before=True).options == {"dataset": "digits"}
    other = make_task(Choice(name="linear_probe", options={"dataset": "digits", "recipe": "clip"}), "evaluate")
    assert resolved("linear_probe", other, as_before=True).options == {"dataset": "digits", "recipe": "clip"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "clipp"}, "recipe: unknown value 'clipp'; did you mean 'clip'"),
        ({"epochs": 3}, "epochs belongs to recipe clip_benchmark and moco; standardised does not use it"),
        ({"recipe": "moco", "solver": "torch"}, "solver belongs to recipe standardised and clip"),
        ({"recipe": "clip", "flip": False}, "flip belongs to recipe moco"),
        ({"validation_share": 1.5}, "validation_share must be at least 0 and below 1"),
    ],
)
def test_a_wrong_option_is_told_before_anything_runs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_task(Choice(name="linear_probe", options={"dataset": "digits", **options}), "evaluate")
