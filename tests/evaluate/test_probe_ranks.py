"""Probes and fine-tuning over ranks: the same batches, shared out; the same steps as one rank takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rank_processes import on_ranks
from task_stubs import FewDigits
from tiny import TINY_MOCO

from benchmark import dist
from benchmark.config.run import Choice
from benchmark.evaluate.probes import sgd
from benchmark.evaluate.probes.batches import Batches, part_of, predictions
from benchmark.evaluate.tasks.finetune import Finetune
from benchmark.models.moco import objective as moco
from benchmark.pool.samples import SampleError

SOURCE = FewDigits(num_train=110, num_test=300)
LABELS = SOURCE.labelled("train").labels


class OneIsDamaged(list[Image.Image]):
    """Images, one of which cannot be decoded."""

    def __getitem__(self, place: Any) -> Any:
        if place == 3:
            raise SampleError("image_undecodable", "image 3")
        return super().__getitem__(place)


def tower(depth: int = 1) -> Any:
    options = {**TINY_MOCO["tiny"], "depth": depth}
    return moco.make(Choice(name="tiny", options=options), 0).encoder().trainable()


@given(count=st.integers(1, 200), world=st.integers(1, 9))
def test_parts_hold_each_place_once_and_with_it_its_mirror_image(count: int, world: int) -> None:
    parts = [part_of(count, rank, world) for rank in range(world)]
    if count < 2 * world:
        assert all(part.tolist() == list(range(count)) for part in parts)
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
    for part in parts:
        assert len(part)
        assert (part[::-1] == count - 1 - part).all()  # what turning a part over pairs


@pytest.mark.parametrize("world", [2, 3])
def test_a_probe_in_float64_is_that_of_one_rank_also_where_images_cannot_be_decoded(world: int) -> None:
    images = OneIsDamaged(SOURCE.labelled("train").images)

    def head(_rank: int) -> tuple[np.ndarray, np.ndarray]:
        torch.set_default_dtype(torch.float64)
        of = tower()
        of.module.double()
        few = Batches(
            images, LABELS, lambda image: of.train_transform(image).double(), 35, 1, "probe"
        )  # 35, 35, 35, 5
        model = sgd.fit(of, few, 10, epochs=3, base_rate=1.0)
        return model.weight.detach().numpy(), model.bias.detach().numpy()

    ((weight, bias),) = on_ranks(1, head)
    for found in on_ranks(world, head):
        np.testing.assert_allclose(found[0], weight, atol=1e-12)
        np.testing.assert_allclose(found[1], bias, atol=1e-12)


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.0, "cutmix": 0.0}])
def test_fine_tuning_is_that_of_one_rank_with_its_mixing_and_its_stochastic_depth(
    mixing: dict[str, float],
) -> None:
    task = Finetune(
        dataset="digits", recipe="deit_transfer", epochs=2, batch_size=12, lr=0.01, drop_path=0.5, **mixing
    )

    def weights(_rank: int) -> dict[str, np.ndarray]:
        of = tower(depth=2)  # in float64: AdamW makes steps of the rounding where a gradient is 0
        of.module.double().register_forward_pre_hook(lambda _module, given: (given[0].double(),))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            head = torch.nn.Linear(16, 10).double()
        model = task.train(of, head, SOURCE.train_set())
        return {name: value.detach().numpy() for name, value in model.state_dict().items()}

    (one,) = on_ranks(1, weights)
    for found in on_ranks(2, weights):
        for name, value in one.items():
            np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)


def test_predictions_are_those_of_one_rank() -> None:
    test = SOURCE.labelled("test")

    def classes(_rank: int) -> tuple[list[int], int]:
        of = tower()
        seen: list[int] = []
        of.module.register_forward_pre_hook(lambda _module, given: seen.append(len(given[0])))
        found = predictions(of.module, test, of.eval_transform, num_workers=1)[1].tolist()
        return found, sum(seen) if dist.world() > 1 else 300

    ((expected, _),) = on_ranks(1, classes)
    (first, count), (second, rest) = on_ranks(2, classes)
    assert first == second == expected
    assert (count, rest) == (256, 44)
