"""What the options of the published arm compute, on ranks: held against torch's and open_clip's own code."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import open_clip
import pytest
import torch
from rank_processes import on_ranks
from test_ranks import SMALL_RESNET, TINY_CLIP, Plan, pairs, recorded, save_and_die, story
from tiny import clip_grid, moco_grid
from torch.nn.parallel import DistributedDataParallel

from benchmark import dist
from benchmark.config.run import Choice, TrainConfig
from benchmark.models.clip.objective import Clip, contrastive_losses
from benchmark.models.clip.objective import make as make_clip
from benchmark.models.moco.objective import contrastive_losses as moco_losses
from benchmark.runs.record import read_record
from benchmark.training import trainer

Gradients = dict[str, torch.Tensor]


def of_this_rank(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.chunk(dist.world())[dist.rank()]


def gradients(model: torch.nn.Module) -> Gradients:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def ours(choice: dict[str, Any], accumulate: int = 1) -> Gradients:
    """This rank's gradient with ``feature_gradient: mean``."""
    ((name, options),) = choice.items()
    clip = make_clip(Choice(name=name, options=options), seed=0).train()
    clip.feature_gradient = "mean"
    images, tokens, _ = pairs(clip)
    model = DistributedDataParallel(clip, broadcast_buffers=False)
    batch = (of_this_rank(images), of_this_rank(tokens))
    Clip.backward(clip, model, batch, None, lambda loss: loss, nullcontext, accumulate)
    return gradients(clip)


def open_clips(choice: dict[str, Any]) -> Gradients:
    """The same through open_clip's own loss, as its trainer makes it by default."""
    ((name, options),) = choice.items()
    clip = make_clip(Choice(name=name, options=options), seed=0).train()
    images, tokens, _ = pairs(clip)
    model = DistributedDataParallel(clip, broadcast_buffers=False)
    features = model((of_this_rank(images), of_this_rank(tokens)), features_only=True)
    open_clip.ClipLoss(rank=dist.rank(), world_size=dist.world())(*features).backward()
    return gradients(clip)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "world", "accumulate"),
    [(TINY_CLIP, 2, 1), (TINY_CLIP, 2, 2), (TINY_CLIP, 4, 1), (SMALL_RESNET, 2, 1)],
    ids=["vit", "vit-accumulated", "vit-on-4", "resnet"],
)
def test_the_mean_gradient_is_that_of_open_clips_default_gather(
    choice: dict[str, Any], world: int, accumulate: int
) -> None:
    found = on_ranks(world, lambda rank: ours(choice, accumulate))
    expected = on_ranks(world, lambda rank: open_clips(choice))
    assert found[0].keys() == expected[0].keys()
    for name, gradient in expected[0].items():
        largest = float(gradient.abs().max())
        torch.testing.assert_close(found[0][name], gradient, rtol=0, atol=1e-5 * largest + 1e-7, msg=name)


@pytest.mark.parametrize(("half", "coarse"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_logits_are_rounded_as_the_pass_where_asked_and_float32_by_default(
    half: torch.dtype, coarse: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(8, 16, generator=generator), dim=1) for _ in range(2))
    labels, scale = torch.arange(8), torch.tensor(20.0)
    for losses, logits in (
        (lambda *how: contrastive_losses(a, b, scale, *how), (scale * a).to(half) @ b.to(half).T),
        (lambda *how: moco_losses(a, a, b, b, 0.2, *how) / 0.4, a.to(half) @ b.to(half).T / 0.2),
    ):
        exact = losses()
        with torch.autocast("cpu", dtype=half):
            assert torch.equal(losses(), exact)
            rounded = losses(None, "autocast")
        assert torch.equal(losses(None, "autocast"), exact)  # outside of such a pass there is nothing to round to
        expected = torch.nn.functional.cross_entropy(logits.float(), labels, reduction="none")
        assert torch.allclose(rounded[:, 0], expected, atol=4 * coarse)
        assert not torch.equal(rounded, exact)


GRIDS = {
    "clip": clip_grid(
        model=SMALL_RESNET,
        pool={"shapes": {"num_samples": 64, "image_size": 32}},
        pruner={"scan": {"warmup_threshold": 1.0}},
        published=True,
        train={"epochs": 4},
    ),
    "moco": moco_grid(pruner={"scan": {"warmup_threshold": 1.0}}, published=True, train={"epochs": 4}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRIDS)
def test_a_run_of_the_arm_that_was_killed_goes_on_with_bit_equal_losses_on_as_many_ranks(
    planned: Plan, name: str
) -> None:
    (whole,) = planned(GRIDS[name], results="whole")
    expected = story(whole, on_ranks(2, lambda rank: recorded(whole.folder)))
    (run,) = planned(GRIDS[name])
    assert on_ranks(2, lambda rank: save_and_die(run.folder, 14)) == [None, None]
    found = story(run, on_ranks(2, lambda rank: recorded(run.folder)))
    assert found["losses"] == expected["losses"]
    assert sum(not mask.all() for mask in expected["masks"].values()) == 1  # the fourth epoch leaves samples out
    assert "-scan-published-s0-" in read_record(run.folder / "record.json")["run"]


@pytest.mark.slow
def test_each_rank_normalises_its_own_part_and_all_end_with_the_statistics_of_rank_0(planned: Plan) -> None:
    (run,) = planned(GRIDS["clip"])

    def work(rank: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        seen: list[dict[str, torch.Tensor]] = []
        share = trainer.Trainer._share_statistics

        def spy(self: trainer.Trainer) -> None:
            for _ in range(2):
                seen.append({name: buffer.clone() for name, buffer in self.objective.named_buffers()})
                share(self)

        trainer.Trainer._share_statistics = spy  # type: ignore[method-assign]
        recorded(run.folder)
        return seen[0], seen[1]

    (first, first_after), (second, second_after) = on_ranks(2, work)
    means = [name for name in first if name.endswith("running_mean")]
    assert means
    assert all(not torch.equal(first[name], second[name]) for name in means)
    for name, value in first.items():
        assert torch.equal(first_after[name], value), name
        assert torch.equal(second_after[name], value), name


def test_options_of_the_arm_are_off_by_default() -> None:
    train = TrainConfig(epochs=1, batch_size=2, lr=1.0)
    assert (train.batch_norm, train.feature_gradient, train.logits) == ("global", "sum", "fp32")
    assert not train.warmup_from_zero
