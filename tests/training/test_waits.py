"""Between two hand-overs a step waits for no device: counted on a device that says who waits for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from rank_processes import on_ranks
from tiny import clip_grid, moco_grid

from baselines.infobatch import Infobatch
from benchmark import dist
from benchmark.job import work
from benchmark.plan.plan import PlannedRun
from benchmark.pruner import EpochPlan
from benchmark.runs.folder import RunFolder
from benchmark.training import trainer
from benchmark.training.lars import Lars
from perf.pretended_gpu import pretend

Plan = Callable[..., list[PlannedRun]]
RARELY = {"epochs": 1, "log_every": 100}
GRIDS = {
    "clip": clip_grid(train=RARELY),
    "clip bf16": clip_grid(train={**RARELY, "precision": "bf16", "logits": "autocast"}),
    "clip fp16": clip_grid(train={**RARELY, "precision": "fp16", "clip_norm": 1.0}),
    "clip in parts": clip_grid(train={**RARELY, "accumulate": 2}),
    "moco": moco_grid(train=RARELY),
    "moco bf16": moco_grid(train={**RARELY, "precision": "bf16"}),
    "moco fp16": moco_grid(train={**RARELY, "precision": "fp16"}),
    "moco lars": moco_grid(train={**RARELY, "precision": "fp16", "optimizer": "lars"}),
}
WEIGHED = {
    "clip": clip_grid(pruner="infobatch", train=RARELY),
    "moco": moco_grid(pruner="infobatch", train=RARELY),
}
CHOOSING = {"clip": clip_grid(pruner="big_loss", train=RARELY), "moco": moco_grid(pruner="big_loss", train=RARELY)}


def train(run: PlannedRun, calls: Sequence[str] = ()) -> tuple[list[list[str]], list[float]]:
    """What each step adds to ``calls``, and the epochs' losses."""
    by_step, original = [], trainer.Trainer._step

    def step(self: trainer.Trainer, *arguments: Any) -> None:
        before = len(calls)
        original(self, *arguments)
        by_step.append(list(calls[before:]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.Trainer, "_step", step)
        _, training = work._train(RunFolder(run.folder), run.config, lambda *_: None)
    return by_step, [row["loss"] for row in training["by_epoch"]]


def on_pretended(run: PlannedRun, prepare: Callable[[], None] = lambda: None) -> Any:
    """Calls of each step that wait for the device, and the epochs' losses."""

    def working(_: int) -> Any:
        prepare()
        with pretend() as (device, waits):
            dist.pick_device = lambda _: device
            return train(run, waits.calls)

    (found,) = on_ranks(1, working)
    if isinstance(found, Exception):
        raise found
    return found


@pytest.mark.parametrize("name", GRIDS)
def test_no_step_waits_for_the_device(planned: Plan, name: str) -> None:
    (run,) = planned(GRIDS[name], results="gpu")
    by_step, losses = on_pretended(run)
    assert by_step == [[]] * (8 if name.startswith("clip") else 5)
    if "16" not in name and "lars" not in name:
        (alone,) = planned(GRIDS[name], results="cpu")
        assert train(alone)[1] == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("name", WEIGHED)
def test_weights_of_samples_are_not_waited_for(planned: Plan, name: str) -> None:
    def weigh() -> None:
        original = Infobatch.plan

        def plan(self: Infobatch, epoch: int) -> EpochPlan:
            weight = np.linspace(0.5, 1.5, len(original(self, epoch).keep), dtype=np.float32)
            return EpochPlan(original(self, epoch).keep, weight=weight, log_negative=np.log(weight), observe=True)

        Infobatch.plan = plan  # type: ignore[method-assign]

    (run,) = planned(WEIGHED[name])
    by_step, _ = on_pretended(run, weigh)
    assert by_step == [[]] * len(by_step)


@pytest.mark.parametrize("name", CHOOSING)
def test_to_choose_from_a_super_batch_takes_one_transfer(planned: Plan, name: str) -> None:
    (run,) = planned(CHOOSING[name])
    by_step, _ = on_pretended(run)
    assert by_step == [["copy to the host, gather_to_host"]] * len(by_step)


def test_a_step_that_waits_is_found_out(planned: Plan) -> None:
    original = trainer.clip_gradient

    def curious() -> None:
        def clip(objective: torch.nn.Module, max_norm: float | None) -> None:
            original(objective, max_norm)
            float(next(objective.parameters()).sum())

        trainer.clip_gradient = clip

    (run,) = planned(GRIDS["clip"])
    by_step, _ = on_pretended(run, curious)
    assert by_step == [["aten._local_scalar_dense, _step"]] * len(by_step)


def test_rows_of_several_tensors_come_to_the_host_bit_for_bit() -> None:
    ids = torch.tensor([2**62 + 1, -3, 2**53 + 1])
    losses = torch.tensor([[float("nan"), -0.0], [1e-45, 2.0], [float("inf"), 3.0]])
    halves = torch.arange(3).to(torch.float16)
    found = on_ranks(2, lambda rank: dist.gather_to_host(ids + rank, losses, halves))
    for one in found:
        assert one[0].tolist() == [*ids.tolist(), *(ids + 1).tolist()]
        assert torch.equal(one[1].view(torch.int32), torch.cat([losses, losses]).view(torch.int32))
        assert torch.equal(one[2], torch.cat([halves, halves]))


def test_lars_leaves_a_step_of_infinite_gradient_out_as_torchs_scaler_does() -> None:
    class Asked(Lars):
        _step_supports_amp_scaling = False  # the scaler then asks the gradient itself

    found = []
    for cls in (Lars, Asked):
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        optimizer = cls(layer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
        for factor in (float("inf"), 1.0, float("nan"), 2.0):
            optimizer.zero_grad()
            scaler.scale((layer(torch.ones(4, 3)) * factor).sum()).backward()
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        momenta = [optimizer.state[p]["momentum_buffer"] for p in layer.parameters()]
        found.append(torch.cat([x.detach().flatten() for x in [*layer.parameters(), *momenta]]))
    assert torch.equal(*found)
    assert torch.isfinite(found[0]).all()
