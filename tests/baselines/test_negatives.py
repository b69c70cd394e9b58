"""Weighed negatives: both objectives against losses written out sample by sample, and nothing without weights."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from rank_processes import on_ranks
from tiny import TINY_CLIP, TINY_MOCO
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from benchmark import dist
from benchmark.config.run import Choice
from benchmark.models.clip import objective as clip
from benchmark.models.moco import objective as moco
from benchmark.pruner import EpochPlan
from benchmark.training.batchnorm import over_ranks

B = 8
CLIP_CHOICE = Choice(name="tiny", options=TINY_CLIP["tiny"])
MOCO_CHOICE = Choice(name="tiny", options=TINY_MOCO["tiny"])


def rows(count: int, seed: int) -> Tensor:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(x, dim=1)


def dense(anchors: Tensor, others: Tensor, scale: float, log_negative: Tensor) -> list[Tensor]:
    """One direction, each loss a sum written out: a negative's term counts exp(log_negative) times."""
    losses = []
    for i in range(len(anchors)):
        terms = []
        for j in range(len(others)):
            factor = torch.exp(log_negative[j]) if j != i else torch.tensor(1.0)
            terms.append(factor * torch.exp(scale * anchors[i] @ others[j]))
        losses.append(torch.log(sum(terms, torch.tensor(0.0))) - scale * anchors[i] @ others[i])
    return losses


def log_weights(count: int = B) -> Tensor:
    return torch.log(torch.tensor([1.0, 2.0, 2.0, 1.0, 4.0, 0.5, 1.0, 2.0][:count]))


def test_clip_weighs_the_columns_of_both_directions_and_their_gradients() -> None:
    images, texts = rows(B, 0).requires_grad_(), rows(B, 1).requires_grad_()
    found = clip.contrastive_losses(images, texts, torch.tensor(5.0), log_weights())
    expected = torch.stack(
        [torch.stack(dense(a, b, 5.0, log_weights())) for a, b in ((images, texts), (texts, images))], dim=1
    )
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(
        torch.autograd.grad(found.sum(), (images, texts)),
        torch.autograd.grad(expected.sum(), (images, texts)),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_moco_weighs_the_keys_of_other_samples() -> None:
    q1, q2, k1, k2 = (rows(B, seed) for seed in range(4))
    found = moco.contrastive_losses(q1, q2, k1, k2, 0.2, log_weights())
    expected = torch.stack(
        [torch.stack(dense(q, k, 1 / 0.2, log_weights())) for q, k in ((q1, k2), (q2, k1))], dim=1
    )
    torch.testing.assert_close(found, 2 * 0.2 * expected)


def test_a_weight_of_two_counts_a_negative_as_two_samples() -> None:
    images, texts = rows(B, 0), rows(B, 1)
    twice = torch.zeros(B)
    twice[3] = torch.log(torch.tensor(2.0))
    weighed = clip.contrastive_losses(images, texts, torch.tensor(5.0), twice)
    again = [torch.cat([x, x[3:4]]) for x in (images, texts)]
    doubled = clip.contrastive_losses(*again, torch.tensor(5.0))
    others = torch.arange(B) != 3
    torch.testing.assert_close(weighed[others], doubled[:B][others])


def test_no_weights_and_weights_of_one_give_the_same_bits() -> None:
    images, texts = rows(B, 0), rows(B, 1)
    plain = clip.contrastive_losses(images, texts, torch.tensor(5.0))
    assert torch.equal(plain, clip.contrastive_losses(images, texts, torch.tensor(5.0), torch.zeros(B)))
    keys = [rows(B, seed) for seed in range(4)]
    assert torch.equal(moco.contrastive_losses(*keys, 0.2), moco.contrastive_losses(*keys, 0.2, torch.zeros(B)))


def batch(name: str, count: int = B) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    if name == "moco":
        first, second = torch.randint(0, 256, (2, count, 8, 8, 3), dtype=torch.uint8, generator=generator)
        return first, second
    images = torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8, generator=generator)
    tokens = torch.randint(1, 1000, (count, 16), generator=generator)
    tokens[:, -1] = 49407  # the end of text, where open_clip reads the feature
    return images, tokens


def made(name: str) -> Any:
    objective: Any = clip.make(CLIP_CHOICE, 0) if name == "clip" else moco.make(MOCO_CHOICE, 0)
    return objective.train()


def trained(name: str, rank: int, accumulate: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses and gradient of this rank's part of 8 samples with weighed negatives, wrapped as the trainer does."""
    objective = made(name)
    mine = slice(rank * B // dist.world(), (rank + 1) * B // dist.world())
    model = objective
    if dist.world() > 1:
        model = DistributedDataParallel(over_ranks(objective, torch.device("cpu")), broadcast_buffers=False)
    tensors = tuple(t[mine] for t in batch(name))
    losses = objective.backward(
        model, tensors, None, lambda loss: loss, nullcontext, accumulate, log_weights()[mine]
    )
    return losses, {key: p.grad for key, p in objective.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_weighs_the_negatives_of_the_whole_batch(accumulate: int) -> None:
    (losses, gradient), (in_parts, summed) = (trained("clip", 0, count) for count in (1, accumulate))
    torch.testing.assert_close(losses, in_parts, rtol=0, atol=1e-5)
    for key, value in gradient.items():
        largest = float(value.abs().max())
        torch.testing.assert_close(summed[key], value, rtol=0, atol=1e-5 * largest + 1e-7, msg=key)


@pytest.mark.parametrize(("name", "accumulate"), [("clip", 1), ("clip", 2), ("moco", 1)])
def test_two_ranks_weigh_the_negatives_of_both(name: str, accumulate: int) -> None:
    ((losses, gradient),) = on_ranks(1, lambda rank: trained(name, rank, 1))
    first, second = on_ranks(2, lambda rank: trained(name, rank, accumulate))
    assert isinstance(first, tuple), first
    torch.testing.assert_close(torch.cat([first[0], second[0]]), losses, rtol=0, atol=1e-5)
    for key, value in gradient.items():
        assert torch.equal(first[1][key], second[1][key]), key
        largest = float(value.abs().max())
        torch.testing.assert_close(first[1][key], value, rtol=0, atol=1e-4 * largest + 1e-6, msg=key)


def test_the_weights_of_a_loss_and_of_a_negative_are_told_apart_by_the_checksum() -> None:
    keep, values = np.ones(8, dtype=bool), np.linspace(0, 1, 8, dtype=np.float32)
    plans = [
        EpochPlan(keep),
        EpochPlan(keep, values),
        EpochPlan(keep, log_negative=values),
        EpochPlan(keep, values, log_negative=values),
        EpochPlan(keep, super_batch=2.0),
        EpochPlan(keep, super_batch=2.5),
    ]
    assert len({plan.checksum() for plan in plans}) == len(plans)
    assert EpochPlan(keep, values, super_batch=2).checksum() == EpochPlan(keep, values, super_batch=2.0).checksum()
