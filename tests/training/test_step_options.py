"""Options of the step: what each changes, what none of them changes, and that a killed run goes on under each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_processes import die_at, on_ranks
from tiny import TINY_CLIP, TINY_MOCO, clip_grid, moco_grid
from torch.nn.parallel import DistributedDataParallel

from benchmark.config.run import Choice, TrainConfig
from benchmark.job import process
from benchmark.models import objective as common
from benchmark.models.clip import objective as clip
from benchmark.models.frameworks import make_objective
from benchmark.models.moco import objective as moco
from benchmark.models.objective import Objective, Tensors, fp32_product
from benchmark.plan.plan import PlannedRun
from benchmark.runs.record import read_record
from benchmark.training import checkpoint, trainer
from benchmark.training.device import WORKSPACE, kernels
from benchmark.training.optim import load_state, make_optimizer

Plan = Callable[..., list[PlannedRun]]
SHORT = {"epochs": 1, "checkpoint_minutes": 0.0}
RESNET = {
    **TINY_CLIP["tiny"],
    "vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "head_width": 32},
}
DROPPED_PATCHES = {**TINY_CLIP["tiny"], "vision_cfg": {**TINY_CLIP["tiny"]["vision_cfg"], "patch_dropout": 0.5}}
SWIN = {"timm_model_name": "swin_mini_patch4_window4_32", "image_size": 32, "timm_pool": "", "timm_drop_path": 0.5}
DROPPED_PATHS = {**TINY_CLIP["tiny"], "vision_cfg": SWIN}
DEEPER = {**TINY_MOCO["tiny"], "depth": 3}
MOCO_RESNET = {"backbone": "resnet10t", "image_size": 32, "hidden_dim": 32, "embed_dim": 16}


def made(options: dict[str, Any]) -> tuple[Objective, Tensors]:
    """An objective in training mode, and a batch of 8."""
    framework = "moco" if "hidden_dim" in options else "clip"
    objective = make_objective(framework, Choice(name="tiny", options=options), 0).train()
    draw = torch.Generator().manual_seed(1)
    size = options["image_size"] if framework == "moco" else options["vision_cfg"]["image_size"]
    images, others = torch.randint(0, 256, (2, 8, size, size, 3), generator=draw, dtype=torch.uint8)
    return objective, (
        images,
        others if framework == "moco" else torch.randint(1, 1000, (8, 16), generator=draw),
    )


def gradients(objective: Objective, batch: Tensors) -> tuple[dict[str, torch.Tensor], int]:
    """The losses and the gradient of their sum, from one seed; bytes that the backward pass had kept."""
    kept: dict[int, int] = {}

    def keep(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            losses = objective(batch)
        losses.sum().backward()
    found = {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}
    return {"losses": losses.detach(), **found}, sum(kept.values())


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert list(one) == list(other)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.mark.parametrize(
    "options",
    [TINY_CLIP["tiny"], DROPPED_PATCHES, DROPPED_PATHS, DEEPER],
    ids=["clip", "patch_dropout", "drop_path", "moco"],
)
def test_checkpointing_keeps_less_and_gives_the_same_gradient(options: dict[str, Any]) -> None:
    (plain, batch), (other, _) = made(options), made(options)
    other.checkpoint_activations()
    (expected, all_kept), (found, kept) = gradients(plain, batch), gradients(other, batch)
    assert_equal(found, expected)
    assert_equal(other.state_dict(), plain.state_dict())
    assert kept < all_kept


@pytest.mark.parametrize("options", [RESNET, MOCO_RESNET], ids=["clip", "moco"])
def test_checkpointing_is_refused_where_batch_statistics_would_count_twice(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"train\.checkpointing .* batch normalisation.*set it to false"):
        made(options)[0].checkpoint_activations()


@pytest.mark.slow
@pytest.mark.parametrize("options", [TINY_CLIP["tiny"], TINY_MOCO["tiny"]], ids=["clip", "moco"])
def test_the_forward_pass_compiles_into_one_graph_with_the_same_gradient(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "may_take_tf32", lambda _: True)  # the path that a GPU takes
    (plain, batch), (compiled, _) = made(options), made(options)
    compiled.compile(backend="aot_eager", fullgraph=True)  # raises where it would break
    expected, found = gradients(plain, batch)[0], gradients(compiled, batch)[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    weighed = torch.linspace(-1, 1, 8)
    torch.testing.assert_close(compiled(batch, log_negative=weighed), plain(batch, log_negative=weighed))


GRIDS = {
    "channels_last": clip_grid(model={"resnet": RESNET}, train={**SHORT, "channels_last": True}),
    "checkpointing": clip_grid(model={"dropping": DROPPED_PATCHES}, train={**SHORT, "checkpointing": True}),
    "deterministic": moco_grid(train={**SHORT, "deterministic": True}),
    "tf32": clip_grid(train={**SHORT, "tf32": False}),
    "compile": moco_grid(train={**SHORT, "compile": True}),
}


@pytest.mark.slow
@pytest.mark.parametrize("option", GRIDS)
def test_a_run_killed_under_an_option_goes_on_and_loads_without_it(
    planned: Plan, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(trainer, "COMPILER", "aot_eager")
    (whole,), (killed,) = planned(GRIDS[option], results="whole"), planned(GRIDS[option], results="killed")
    assert whole.folder.name == killed.folder.name

    def work(_: int) -> None:
        die_at(3)
        process.run(killed.folder)

    assert on_ranks(1, work, seconds=60) == [None]
    losses = []
    for run in (whole, killed):
        assert process.run(run.folder) == "done"
        losses.append(read_record(run.folder / "record.json")["training"]["final_loss"])
    assert losses[0] == losses[1]
    config = whole.config
    assert_loads_without(
        whole.folder / "checkpoint", make_objective(config.framework, config.model, 0), config.train
    )


def assert_loads_without(folder: Path, plain: Objective, config: TrainConfig) -> None:
    state = checkpoint.load_newest(folder)
    assert state is not None
    assert list(state["objective"]) == list(plain.state_dict())
    plain.load_state_dict(state["objective"])
    optimizer = make_optimizer(plain, config)
    load_state(optimizer, state["optimizer"])
    moments = [(p, held["exp_avg"]) for p, held in optimizer.state.items()]
    assert moments
    assert all(p.stride() == moment.stride() for p, moment in moments)


@pytest.mark.parametrize("changes", [{}, {"tf32": False}, {"deterministic": True}])
def test_what_kernels_compute_with_is_set_for_the_training_and_set_back(changes: dict[str, Any]) -> None:
    def state() -> tuple[Any, ...]:
        cudnn = torch.backends.cudnn
        flags = (torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
        return (*flags, torch.are_deterministic_algorithms_enabled(), os.environ.get(WORKSPACE))

    before = state()
    tf32, strict = changes.get("tf32", True), changes.get("deterministic", False)
    with kernels(TrainConfig(epochs=1, batch_size=8, lr=1e-3, **changes)):
        workspace = ":4096:8" if strict else before[-1]
        assert state() == (tf32, tf32, not strict, strict, strict, workspace)
    assert state() == before


def test_logits_are_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[bool] = []
    plain = torch.Tensor.__matmul__

    def seen(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        allowed.append(torch.backends.cuda.matmul.allow_tf32)
        return plain(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", seen)
    monkeypatch.setattr(common, "may_take_tf32", lambda _: True)  # as on a GPU
    a, b = torch.randn(2, 3, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    with kernels(TrainConfig(epochs=1, batch_size=8, lr=1e-3)):
        product = fp32_product(a, b)
        gradients_here = torch.autograd.grad(product.square().sum(), (a, b))
        assert allowed == [False] * 3, "forward and backward"
        expected = a @ b
        assert allowed.pop()
        clip.contrastive_losses(a, a, torch.ones(()))
        moco.contrastive_losses(a, a, a, a, 0.2)
    assert allowed == [False] * 7
    assert torch.equal(product, expected)
    for found, due in zip(gradients_here, torch.autograd.grad(expected.square().sum(), (a, b)), strict=True):
        assert torch.equal(found, due)


@pytest.mark.slow
@pytest.mark.parametrize("grid", [clip_grid(train=SHORT), moco_grid(train=SHORT)], ids=["clip", "moco"])
def test_how_ranks_hold_their_gradients_changes_no_bit(planned: Plan, grid: dict[str, Any]) -> None:
    weights = []
    for results in ("ours", "torchs"):
        (run,) = planned(grid, results=results)

        def work(_: int, run: PlannedRun = run, is_plain: bool = results == "torchs") -> None:
            def plain(module: Any, **options: Any) -> Any:
                assert options.pop("gradient_as_bucket_view")
                assert options.pop("static_graph")
                return DistributedDataParallel(module, **options)

            if is_plain:
                trainer.DistributedDataParallel = plain  # type: ignore[misc, assignment]
            process.run(run.folder)

        assert on_ranks(2, work) == [None, None]
        state = checkpoint.load_newest(run.folder / "checkpoint")
        assert state is not None
        weights.append(state["objective"])
    assert_equal(*weights)
