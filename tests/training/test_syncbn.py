"""Batch normalisation over CPU ranks is torch's batch normalisation of the global batch."""

from __future__ import annotations

import copy

import pytest
import torch
from rank_processes import on_ranks
from torch import nn

from benchmark.training.batchnorm import RankBatchNorm, over_ranks

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4, momentum=None),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 5),
        nn.BatchNorm1d(5, affine=False),
    )


def two_steps(model: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs, gradients and state after two forward passes of a rank's rows and one backward."""
    x = images.clone().requires_grad_()
    model(x)
    y = model(x)
    (y * targets).sum().backward()
    assert x.grad is not None
    gradients = {f"grad {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x.grad": x.grad, **gradients, **model.state_dict()}


@pytest.mark.parametrize("world", [2, 4])
def test_outputs_gradients_and_running_statistics_are_those_of_the_global_batch(world: int) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 6, 6, generator=generator)
    targets = torch.randn(8, 5, generator=generator)
    alone = two_steps(network(), images, targets)

    def work(rank: int) -> dict[str, torch.Tensor]:
        rows = slice(rank * 8 // world, (rank + 1) * 8 // world)
        model = over_ranks(network(), CPU)
        assert sum(isinstance(m, RankBatchNorm) for m in model.modules()) == 2
        return two_steps(model, images[rows], targets[rows])

    found = on_ranks(world, work)
    for key, expected in alone.items():
        parts = [result[key] for result in found]
        if key in ("y", "x.grad"):
            together = torch.cat(parts)
        elif key.startswith("grad "):
            together = torch.stack(parts).sum(dim=0)
        else:  # running statistics: the same on every rank, bit for bit
            together = parts[0]
            assert all(torch.equal(together, part) for part in parts)
        torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-5, msg=key)


def test_a_large_mean_does_not_cost_the_variance_its_digits() -> None:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1)) + 1000  # x*x has 6e-2 between neighbours
    exact = (x.double() - x.double().mean(dim=0)) / (x.double().var(dim=0, correction=0) + 1e-5).sqrt()
    parts = on_ranks(2, lambda rank: over_ranks(nn.BatchNorm1d(3), CPU)(x[32 * rank : 32 * rank + 32]).detach())
    torch.testing.assert_close(torch.cat(parts).double(), exact, rtol=0, atol=1e-4)


def test_state_keys_parameters_and_evaluation_stay_the_same() -> None:
    model = network()
    reference = copy.deepcopy(model).eval()
    parameters = {name: id(p) for name, p in model.named_parameters()}
    changed = over_ranks(model, CPU)
    assert {name: id(p) for name, p in changed.named_parameters()} == parameters
    assert list(changed.state_dict()) == list(reference.state_dict())
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    assert torch.equal(changed.eval()(images), reference(images))


def test_a_layer_that_does_more_than_normalise_is_refused() -> None:
    from timm.layers import BatchNormAct2d

    with pytest.raises(ValueError, match=r"BatchNormAct2d over several CPU ranks"):
        over_ranks(nn.Sequential(BatchNormAct2d(4)), CPU)
