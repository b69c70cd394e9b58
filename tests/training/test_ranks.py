"""A run does not depend on how many ranks work on it, also when their number changes on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as td
from patience import patience
from rank_processes import die_at, on_ranks
from tiny import TINY_CLIP, clip_grid, moco_grid
from torch.nn.parallel import DistributedDataParallel

from benchmark import dist
from benchmark import states as benchmark_states
from benchmark.config.run import Choice
from benchmark.job import process
from benchmark.job import work as job_work
from benchmark.models.clip.objective import Clip, contrastive_losses
from benchmark.models.clip.objective import make as make_clip
from benchmark.models.objective import micro_batches
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import Sample, SampleError
from benchmark.pool.sources import shapes
from benchmark.runs.record import read_record
from benchmark.runs.state import state_of
from benchmark.training import checkpoint, trainer
from benchmark.training.batchnorm import over_ranks
from benchmark.training.loader import Loader

pytestmark = pytest.mark.slow

Plan = Callable[..., list[PlannedRun]]
Story = dict[str, Any]

SCAN = {"scan": {"warmup_threshold": 1.0}}  # prepare in epoch 2, mutate from epoch 3
VISION = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "head_width": 32}
SMALL_RESNET = {"small_resnet": {**TINY_CLIP["tiny"], "vision_cfg": VISION}}
ALIGNED = {"score": "alignment", "window_epochs": 3, "reference": {"shapes": {"seed": 7}}}
GRIDS: dict[str, dict[str, Any]] = {
    "clip": clip_grid(pruner=SCAN, train={"epochs": 5}),
    "clip_resnet": clip_grid(
        model=SMALL_RESNET,
        pool={"shapes": {"num_samples": 64, "image_size": 32}},
        pruner=SCAN,
        train={"epochs": 4},
    ),
    "moco": moco_grid(pruner=SCAN, train={"epochs": 4}),
    "clip_dissect": clip_grid(pruner={"dissect": {"warmup_epochs": 1}}, train={"epochs": 4}, seed=5),
    "clip_resnet_small_loss": clip_grid(
        model=SMALL_RESNET,
        pool={"shapes": {"num_samples": 64, "image_size": 32}},
        pruner="small_loss",
        train={"epochs": 2},
    ),
    "moco_dissect": moco_grid(
        pruner={"dissect": {"variant": "momentum"}}, train={"epochs": 3, "augment": "device"}
    ),
    "clip_infobatch": clip_grid(pruner={"infobatch": {"correct_negatives": True}}, train={"epochs": 4}),
    "clip_aligned": clip_grid(pruner={"infobatch": ALIGNED}, train={"epochs": 5}),
    "clip_batch_score": clip_grid(pruner={"repb": {"score": "batch"}}, train={"epochs": 4, "accumulate": 2}),
    "moco_aligned": moco_grid(pruner={"repb": ALIGNED}, train={"epochs": 5}),
    "moco_infobatch": moco_grid(pruner={"infobatch": {"correct_negatives": True}}, train={"epochs": 4}),
}


def in_double_precision() -> None:
    """From here on this process computes in float64.

    MoCo's projector has kinks (ReLU) and scales tiny variances up (batch normalisation): within ten steps the last
    bits of float32, which differ with the number of ranks, can grow into other candidates. In float64 they cannot.
    """
    make = job_work.make_objective

    def made(*arguments: Any) -> Any:
        objective = make(*arguments).double()
        objective.register_forward_pre_hook(lambda _, inputs: (tuple(t.double() for t in inputs[0]),))
        return objective

    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    job_work.make_objective = made


def recorded(folder: Path, precise: bool = False) -> tuple[str, Story]:
    """Work on a run; also tell the masks of its epochs and this rank's ids, by epoch and step."""
    if precise:
        in_double_precision()
    masks: dict[int, np.ndarray] = {}
    ids: dict[tuple[int, int], list[int]] = {}
    step, epoch = trainer.Trainer._step, Loader.epoch

    def spy_step(self: trainer.Trainer, model: Any, batch: Any, plan: Any, steps: int) -> None:
        at = self.now.epoch, self.now.step
        step(self, model, batch, plan, steps)
        ids[at] = self._pending[-1][0].tolist()  # what was trained on: of a super-batch, the chosen

    def spy_epoch(self: Loader, number: int, keep: np.ndarray, *rest: Any) -> Any:
        masks[number] = keep.copy()
        return epoch(self, number, keep, *rest)

    trainer.Trainer._step, Loader.epoch = spy_step, spy_epoch  # type: ignore[method-assign]
    try:
        return process.run(folder), {"masks": masks, "ids": ids}
    finally:
        trainer.Trainer._step, Loader.epoch = step, epoch  # type: ignore[method-assign]


def story(run: PlannedRun, found: list[tuple[str, Story]]) -> Story:
    """What every number of ranks must share. ``found`` is what the ranks of the last attempt recorded."""
    for result in found:
        assert isinstance(result, tuple), result
        assert result[0] == "done"
    stories = [result[1] for result in found]
    for other in stories[1:]:
        assert all(np.array_equal(mask, other["masks"][epoch]) for epoch, mask in stories[0]["masks"].items())
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    state = checkpoint.load_newest(run.folder / "checkpoint")
    assert state is not None
    return {
        "masks": stories[0]["masks"],
        "batches": {step: [i for s in stories for i in s["ids"][step]] for step in stories[0]["ids"]},
        "losses": [line["loss"] for line in lines if line["kind"] == "step"],
        "pruner": benchmark_states.to_arrays(state["pruner"]),
    }


def largest_difference(one: Story, other: Story) -> float:
    """Assert that masks, batches and the method's state agree; return by how much logged losses differ."""
    for epoch in other["masks"]:
        np.testing.assert_array_equal(one["masks"][epoch], other["masks"][epoch], err_msg=f"mask of epoch {epoch}")
    for step in other["batches"]:
        assert one["batches"][step] == other["batches"][step], step
    assert one["pruner"].keys() == other["pruner"].keys()
    for name, value in one["pruner"].items():
        if isinstance(value, float):
            assert other["pruner"][name] == pytest.approx(value, abs=1e-3), name
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            np.testing.assert_allclose(value, other["pruner"][name], atol=1e-3, err_msg=name)
        else:
            np.testing.assert_array_equal(value, other["pruner"][name], err_msg=name)
    assert len(one["losses"]) == len(other["losses"])
    difference = float(np.abs(np.array(one["losses"]) - np.array(other["losses"])).max())
    if path := os.environ.get("RANK_DIFFERENCES"):
        with open(path, "a") as file:
            file.write(f"{os.environ['PYTEST_CURRENT_TEST'].split('::')[-1]} {difference:.1e}\n")
    return difference


def save_and_die(folder: Path, step: int, precise: bool = False) -> None:
    """Work on a run up to its n-th step; leave a checkpoint and no more."""
    if precise:
        in_double_precision()
    die_at(step)
    process.run(folder)


@pytest.fixture(scope="module")
def whole() -> dict[str, Story]:
    """Stories of one process by grid, filled as tests ask for them."""
    return {}


def alone(planned: Plan, whole: dict[str, Story], name: str) -> Story:
    if name not in whole:
        (run,) = planned(GRIDS[name], results="alone")
        whole[name] = story(run, on_ranks(1, lambda rank: recorded(run.folder, precise=name.startswith("moco"))))
        batch, masks = run.config.train.batch_size, whole[name]["masks"].values()  # type: ignore[union-attr]
        full_steps = sum(len(mask) // batch for mask in masks)
        assert len(whole[name]["batches"]) < full_steps, "the test is to see epochs that leave samples out"
    return whole[name]


@pytest.mark.parametrize(("name", "world"), [*((name, 2) for name in GRIDS), ("clip", 4), ("moco_dissect", 4)])
def test_any_number_of_ranks_gives_the_same_run(
    planned: Plan, whole: dict[str, Story], name: str, world: int
) -> None:
    expected = alone(planned, whole, name)
    (run,) = planned(GRIDS[name])
    shared = story(run, on_ranks(world, lambda rank: recorded(run.folder, precise=name.startswith("moco"))))
    assert read_record(run.folder / "record.json")["num_ranks"] == world
    assert largest_difference(expected, shared) < 1e-5


def test_moco_in_single_precision_starts_alike_on_any_number_of_ranks(planned: Plan) -> None:
    losses = []
    for count in (1, 4):
        (run,) = planned(moco_grid(train={"epochs": 1}), results=f"on_{count}")
        on_ranks(count, lambda rank, folder=run.folder: process.run(folder))  # type: ignore[misc]
        lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if line["kind"] == "step"])
    assert len(losses[0]) == 5
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("world", [1, 4])
@pytest.mark.parametrize(("name", "step"), [("clip", 21), ("moco", 16), ("clip_dissect", 6), ("clip_aligned", 19)])
def test_a_run_killed_on_two_ranks_goes_on_with_another_number(
    planned: Plan, whole: dict[str, Story], name: str, step: int, world: int
) -> None:
    expected = alone(planned, whole, name)
    (run,) = planned(GRIDS[name])

    assert on_ranks(2, lambda rank: save_and_die(run.folder, step, precise=name == "moco")) == [None, None]
    assert state_of(run.folder, run.config).name == "partial"
    shared = story(run, on_ranks(world, lambda rank: recorded(run.folder, precise=name == "moco")))
    assert len(shared["batches"]) == len(expected["batches"]) - step
    assert largest_difference(expected, shared) < 1e-5


def test_what_a_rank_could_not_read_stays_known_over_a_restart(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run,) = planned(clip_grid(train={"epochs": 1, "max_skipped": 1.0}))
    monkeypatch.setattr(shapes.ShapesPool, "read", undecodable(shapes.ShapesPool.read, every=4))
    assert on_ranks(2, lambda rank: save_and_die(run.folder, 7)) == [None, None]
    on_ranks(1, lambda rank: process.run(run.folder))
    counts = read_record(run.folder / "record.json")["pool_facts"]["skipped"]
    assert counts == {"image_undecodable": 64 // 4}


def undecodable(read: Callable[..., Sample], every: int) -> Callable[..., Sample]:
    """``read`` for a pool in which each ``every``-th sample is damaged."""

    def reading(self: shapes.ShapesPool, sample_id: int) -> Sample:
        if sample_id % every == 0:
            raise SampleError("image_undecodable", f"sample {sample_id}: broken")
        return read(self, sample_id)

    return reading


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("backend", ["gloo", "cpu:gloo,cuda:gloo"], ids=["one backend", "a backend a device"])
def test_the_gradient_through_a_gather_is_the_sum_of_what_ranks_want_also_beside_unused_gpus(
    world: int, backend: str, tmp_path: Path
) -> None:
    rows = torch.arange(4.0 * 3).reshape(4, 3)  # small whole numbers: float32 is exact
    wanted = torch.randint(-3, 4, (world, 4, 4), generator=torch.Generator().manual_seed(0)).float()

    def loss(all_rows: torch.Tensor, rank: int) -> torch.Tensor:
        return (wanted[rank] * (all_rows @ all_rows.T)).sum()

    def work(rank: int) -> torch.Tensor:
        td.destroy_process_group()
        td.init_process_group(backend, f"file://{tmp_path}/meet", world_size=world, rank=rank)
        torch.cuda.is_available = lambda: True
        mine = rows.to(dist.pick_device("cpu")).chunk(world)[rank].clone().requires_grad_()
        found = dist.gather_with_gradient(mine)
        assert torch.equal(found, rows)
        loss(found, rank).backward()
        assert mine.grad is not None
        return mine.grad

    alone = rows.clone().requires_grad_()
    sum(loss(alone, rank) for rank in range(world)).backward()  # type: ignore[union-attr]
    assert torch.equal(torch.cat(on_ranks(world, work)), alone.grad)


def pairs(clip: Clip) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, tokens and weights of 8 pairs."""
    size = clip.transform.size[0]
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (8, size, size, 3), dtype=torch.uint8, generator=generator)
    tokens = torch.randint(1, 1000, (8, 16), generator=generator)
    tokens[:, -1] = 49407  # the end of text, where open_clip reads the feature
    return images, tokens, torch.rand(8, generator=generator)


def gradients(rank: int, model_choice: dict[str, Any], accumulate: int) -> dict[str, torch.Tensor]:
    """CLIP's gradient on 8 pairs with weights, this rank's share of them through the trainer's wrapping."""
    ((name, options),) = model_choice.items()
    clip = make_clip(Choice(name=name, options=options), seed=0)
    images, tokens, weight = pairs(clip)
    mine = slice(rank * 8 // dist.world(), (rank + 1) * 8 // dist.world())
    model: Any = clip
    if dist.world() > 1:
        model = DistributedDataParallel(over_ranks(clip, torch.device("cpu")), broadcast_buffers=False)
    clip.train()
    batch = (images[mine], tokens[mine])
    torch.manual_seed(rank)
    Clip.backward(clip, model, batch, weight[mine], lambda loss: loss, nullcontext, accumulate)
    return {name: p.grad for name, p in clip.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("choice", "accumulate"), [(TINY_CLIP, 1), (TINY_CLIP, 2), (SMALL_RESNET, 1)], ids=["vit", "vit-2", "resnet"]
)
def test_the_gradient_on_two_ranks_is_that_of_one_process(choice: dict[str, Any], accumulate: int) -> None:
    (expected,) = on_ranks(1, lambda rank: gradients(rank, choice, 1))
    first, second = on_ranks(2, lambda rank: gradients(rank, choice, accumulate))
    assert first.keys() == second.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(first[name], second[name]), name
        largest = float(gradient.abs().max())
        torch.testing.assert_close(first[name], gradient, rtol=0, atol=1e-5 * largest + 1e-6, msg=name)


def test_the_gradient_on_two_ranks_keeps_to_the_draws_of_each() -> None:
    """As if one process had embedded the micro-batches of both ranks once, each with its rank's draws."""
    choice = {
        "tiny": {**TINY_CLIP["tiny"], "vision_cfg": {**TINY_CLIP["tiny"]["vision_cfg"], "patch_dropout": 0.5}}
    }

    def held(_: int) -> dict[str, torch.Tensor]:
        clip = make_clip(Choice(name="tiny", options=choice["tiny"]), seed=0).train()
        images, tokens, weight = pairs(clip)
        features = []
        for i, part in enumerate(micro_batches((images, tokens), 4)):
            if i % 2 == 0:
                torch.manual_seed(i // 2)  # as this rank begins
            features.append(clip(part, features_only=True))
        of_images, of_texts, scales = zip(*features, strict=True)
        clip.reduce(contrastive_losses(torch.cat(of_images), torch.cat(of_texts), scales[0]), weight).backward()
        return {name: p.grad for name, p in clip.named_parameters() if p.grad is not None}

    (expected,) = on_ranks(1, held)
    first, second = on_ranks(2, lambda rank: gradients(rank, choice, 2))
    for name, gradient in expected.items():
        assert torch.equal(first[name], second[name]), name
        largest = float(gradient.abs().max())
        torch.testing.assert_close(first[name], gradient, rtol=0, atol=1e-5 * largest + 1e-7, msg=name)


def test_momentum_encoders_and_batch_statistics_stay_bit_equal_over_ranks(planned: Plan) -> None:
    (run,) = planned(GRIDS["moco"])

    def work(rank: int) -> dict[str, torch.Tensor]:
        states: list[dict[str, torch.Tensor]] = []
        original = trainer.Trainer.fit

        def spy(self: trainer.Trainer) -> dict[str, Any]:
            facts = original(self)
            states.append({key: value.clone() for key, value in self.objective.state_dict().items()})
            return facts

        trainer.Trainer.fit = spy  # type: ignore[method-assign]
        process.run(run.folder)
        return states[0]

    first, second = on_ranks(2, work)
    assert any("momentum_encoder" in key and "running_var" in key for key in first)
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_ranks_that_plan_differently_all_say_so(planned: Plan) -> None:
    (run,) = planned(clip_grid(pruner={"random_subset": {"keep_fraction": 0.5}}))

    def work(rank: int) -> None:
        if rank == 1:
            from baselines.random_subset import RandomSubset

            plan = RandomSubset.plan

            def other_plan(self: RandomSubset, epoch: int) -> Any:
                found = plan(self, epoch)
                return type(found)(np.roll(found.keep, 1))

            RandomSubset.plan = other_plan  # type: ignore[method-assign]
        process.run(run.folder)

    started = time.monotonic()
    for error in on_ranks(2, work):
        assert "ranks disagree on what epoch 0 trains on" in str(error)
    assert time.monotonic() - started < patience(10)
    found = state_of(run.folder, run.config)
    assert found.name == "failed"
    assert "ranks disagree" in found.detail


def test_ranks_that_choose_differently_all_say_so(planned: Plan) -> None:
    (run,) = planned(clip_grid(pruner="small_loss"))

    def work(rank: int) -> None:
        if rank == 1:
            from baselines.small_loss import SmallLoss

            SmallLoss.choose = lambda self, *arguments: np.arange(arguments[-1])  # type: ignore[method-assign]
        process.run(run.folder)

    for error in on_ranks(2, work):
        assert "ranks disagree on what epoch 0, step 0 chooses" in str(error)


@pytest.mark.parametrize("guilty", [0, 1])
def test_one_rank_fails_and_the_others_end_and_the_first_error_is_kept(planned: Plan, guilty: int) -> None:
    (run,) = planned(clip_grid())

    def work(rank: int) -> None:
        original, calls = trainer.Trainer._step, iter(range(10**6))

        def failing(*arguments: Any) -> None:
            if rank == guilty and next(calls) == 3:
                raise ZeroDivisionError("the first error")
            original(*arguments)

        trainer.Trainer._step = failing  # type: ignore[method-assign]
        process.run(run.folder)

    results = on_ranks(2, work)
    assert "the first error" in str(results[guilty])
    assert isinstance(results[1 - guilty], Exception)
    error = json.loads((run.folder / "error.json").read_text())
    assert (error["type"], error["message"]) == ("ZeroDivisionError", f"rank {guilty} of 2: the first error")


def test_torchrun_works_on_a_planned_run(planned: Plan) -> None:
    (run,) = planned(clip_grid(pruner=SCAN, train={"epochs": 2}))
    (one,) = planned(clip_grid(pruner=SCAN, train={"epochs": 2}), results="one")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SUBMITIT_"))}
    done = subprocess.run(
        [*words, "-m", "benchmark.job", str(run.folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=patience(55),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_record(run.folder / "record.json")["num_ranks"] == 2
    assert process.main([str(one.folder)]) == 0
    losses = [
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (run.folder, one.folder)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
