"""A regression as users train it by hand: what the callbacks of other frameworks are compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from baselines.scan import Scan
from benchmark.loop import Pruned

EPOCHS, BATCH = 7, 16


class Numbers(Dataset[dict[str, Tensor]]):
    """100 samples of a noisy line."""

    def __init__(self) -> None:
        self.x = torch.linspace(-1, 1, 100)[:, None]
        self.y = 2 * self.x + 0.3 * torch.randn(100, 1, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return 100

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        return {"id": torch.tensor(i), "x": self.x[i], "y": self.y[i]}


def line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def losses_of(model: nn.Module, batch: dict[str, Tensor], seen: list[list[int]]) -> Tensor:
    """float32 [b]."""
    seen.append(batch["id"].tolist())
    return (model(batch["x"]) - batch["y"]).square().squeeze(1)


def pruned_numbers() -> Pruned:
    return Pruned(Numbers(), Scan(), EPOCHS)


def trained() -> list[list[int]]:
    """Ids of each batch of the whole training."""
    pruned, model, seen = pruned_numbers(), line(), []
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loader = DataLoader(pruned, BATCH, sampler=pruned.sampler, drop_last=True)
    for _ in range(EPOCHS):
        for batch in loader:
            optimizer.zero_grad()
            pruned.update(losses_of(model, batch, seen)).backward()
            optimizer.step()
    assert len(seen) < EPOCHS * 6, "something was to be pruned"
    return seen
