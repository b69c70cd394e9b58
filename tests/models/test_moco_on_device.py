"""MoCo v3's views under ``train.augment: device``: draws, operations, and batches and ranks that change no bit."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rank_processes import die_at, on_ranks
from scipy import stats
from tiny import TINY_MOCO, clip_grid, moco_grid
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision import transforms as tv
from torchvision.transforms.v2 import functional as reference

from benchmark.config.run import Choice, TrainConfig
from benchmark.job import process
from benchmark.models.moco import augment
from benchmark.models.moco.augment import augmented
from benchmark.models.moco.crops import Crops, Drawn, cropped, taps
from benchmark.models.moco.objective import Moco, make
from benchmark.models.moco.options import MocoModel, model_options
from benchmark.models.moco.views import TwoViews
from benchmark.options import ConfigError
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import Sample
from benchmark.runs.record import read_record
from benchmark.training import super_batch

SIZE, RADIUS = 32, 6
NOTHING = Drawn(box=(0, 0, SIZE, SIZE), jitter=(), is_grey=False, sigma=0.0, is_solarized=False, is_flipped=False)
NEUTRAL = {0: 1.0, 1: 1.0, 2: 1.0, 3: 0.0}
"""Factors of brightness, contrast, saturation and hue that change nothing."""
ADJUST = (
    reference.adjust_brightness,
    reference.adjust_contrast,
    reference.adjust_saturation,
    reference.adjust_hue,
)
Plan = Callable[..., list[PlannedRun]]


def options(**changes: Any) -> MocoModel:
    chosen = {**TINY_MOCO["tiny"], "image_size": SIZE, **changes}
    return model_options(Choice(name="tiny", options=chosen), "model")


def photo(seed: int, height: int = 60, width: int = 80) -> Image.Image:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(seed)
    fields = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height), 3)
    noise = rng.integers(-9, 10, (height, width, 3))
    return Image.fromarray((np.asarray(fields) + noise).clip(0, 255).astype(np.uint8))


def squares(count: int) -> Tensor:
    """uint8 [count, H, H, 3]."""
    return torch.stack([torch.from_numpy(np.array(photo(i, SIZE, SIZE))) for i in range(count)])


def applied(pixels: Tensor, drawn: list[Drawn]) -> Tensor:
    return augmented(pixels, torch.tensor([one.row(RADIUS) for one in drawn], dtype=torch.float32))


def planes(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2)


def jittered(factors: dict[int, float], order: tuple[int, ...] = (0, 1, 2, 3)) -> Drawn:
    return NOTHING._replace(jitter=tuple((i, {**NEUTRAL, **factors}[i]) for i in order))


# --- each operation ---------------------------------------------------------------------------------------


def test_what_is_not_drawn_changes_no_pixel() -> None:
    pixels = torch.randint(
        0, 256, (9, SIZE, SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    pixels[0], pixels[1], pixels[2, ..., 1:] = 0, 255, 0
    for drawn in (NOTHING, jittered({}), jittered({}, (3, 2, 1, 0))):
        found = applied(pixels, [drawn] * 9)
        assert found.dtype == torch.float32
        assert torch.equal(found, planes(pixels).float())


@pytest.mark.parametrize("operation", range(4), ids=["brightness", "contrast", "saturation", "hue"])
def test_jitter_is_torchvisions_within_one_level(operation: int) -> None:
    factors = np.linspace(-0.1, 0.1, 9) if operation == 3 else np.linspace(0.6, 1.4, 9)
    pixels = squares(9)
    found = applied(pixels, [jittered({operation: factor}) for factor in factors])
    for i, factor in enumerate(factors):
        expected = ADJUST[operation](planes(pixels)[i], factor)
        assert (found[i] - expected).abs().max() <= 1
        assert factor in NEUTRAL.values() or (planes(pixels)[i].float() - expected).abs().mean() > 1


def test_brightness_contrast_saturation_and_grey_are_pillows_bit_for_bit() -> None:
    pixels, jitter = squares(9), tv.functional
    for i, adjust in enumerate((jitter.adjust_brightness, jitter.adjust_contrast, jitter.adjust_saturation)):
        factors = np.linspace(0.6, 1.4, 9)
        found = applied(pixels, [jittered({i: factor}) for factor in factors])
        for view, image, factor in zip(found, pixels, factors, strict=True):
            expected = np.asarray(adjust(Image.fromarray(image.numpy()), factor))
            assert np.array_equal(view.permute(1, 2, 0), expected)
    grey = applied(pixels, [NOTHING._replace(is_grey=True)] * 9)
    for view, image in zip(grey, pixels, strict=True):
        expected = np.asarray(tv.functional.rgb_to_grayscale(Image.fromarray(image.numpy()), 3))
        assert np.array_equal(view.permute(1, 2, 0), expected)


def test_the_four_follow_one_another_in_the_order_drawn_for_each_view() -> None:
    orders, factors = list(permutations(range(4))), {0: 1.4, 1: 0.6, 2: 1.2, 3: 0.1}
    pixels = squares(1).expand(24, -1, -1, -1)
    found = applied(pixels, [jittered(factors, order) for order in orders])
    expected = []
    for order in orders:
        image = planes(pixels)[0]
        for operation in order:
            image = ADJUST[operation](image, factors[operation])
        expected.append(image.float())
    distance = torch.cdist(found.flatten(1), torch.stack(expected).flatten(1), p=1) / found[0].numel()
    assert distance.diagonal().max() < 1
    # operations that commute give the same view: of those that do not, each is nearest to its own
    assert (distance.diagonal() <= distance.min(dim=1).values + 0.2).all()
    assert distance.max() > 5


def test_grey_solarized_and_flipped_views_are_torchvisions() -> None:
    pixels = squares(4)
    grey = applied(pixels, [NOTHING._replace(is_grey=True)] * 4)
    assert (grey - reference.rgb_to_grayscale(planes(pixels), 3)).abs().max() <= 1
    solarized = applied(pixels, [NOTHING._replace(is_solarized=True)] * 4)
    assert torch.equal(solarized, reference.solarize(planes(pixels), 128).float())
    flipped = applied(pixels, [NOTHING._replace(is_flipped=True)] * 4)
    assert torch.equal(flipped, reference.horizontal_flip(planes(pixels)).float())


@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.0, 2.0])
def test_blur_is_torchvisions_gaussian_within_one_level(sigma: float) -> None:
    pixels = squares(3)
    found = applied(pixels, [NOTHING._replace(sigma=sigma)] * 3)
    expected = reference.gaussian_blur(planes(pixels), [2 * RADIUS + 1] * 2, [sigma] * 2)
    assert (found - expected).abs().max() <= 1


def test_weights_of_a_blur_make_sums_that_are_exact_in_any_order() -> None:
    for sigma in np.linspace(0.1, 2.0, 50):
        weights = taps(sigma, RADIUS)
        assert weights[0] + 2 * sum(weights[1:]) == 1
        assert all(weight >= 0 and (weight * 2**13).is_integer() for weight in weights)
        assert 255 / augment.ROUNDED_TO * 2**13 < 2**24
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = applied(squares(2), [NOTHING._replace(sigma=1.5)] * 2)
    assert torch.equal(low, applied(squares(2), [NOTHING._replace(sigma=1.5)] * 2))


def test_a_crop_is_pillows_within_one_level_and_takes_an_array_too() -> None:
    image = photo(0)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for box in [(0, 0, 60, 80), (3, 5, 20, 24), (10, 0, 40, 33), (7, 70, 8, 10)]:
        top, left, height, width = box
        expected = image.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), 2)
        found = cropped(pixels, box, SIZE).numpy().astype(int)
        assert np.abs(found - np.asarray(expected)).max() <= 1
    transform = Crops(options())
    torch.manual_seed(0)
    ours = transform(Sample(image, ""))
    torch.manual_seed(0)
    again: Any = np.asarray(image)
    assert all(torch.equal(a, b) for a, b in zip(ours, transform(Sample(again, "")), strict=True))


# --- the draws --------------------------------------------------------------------------------------------


def test_a_seed_gives_the_views_that_pillow_would_make() -> None:
    on_device, pillow = Crops(options()), TwoViews(options())
    seen: Counter[str] = Counter()
    for seed in range(150):
        sample = Sample(photo(seed), "")
        torch.manual_seed(seed)
        expected = torch.stack(pillow(sample))
        after = torch.get_rng_state()
        torch.manual_seed(seed)
        first, second, rows = on_device(sample)
        assert torch.equal(torch.get_rng_state(), after)
        found = augmented(torch.stack([first, second]), rows)
        assert (found - planes(expected)).abs().mean(dim=(1, 2, 3)).max() < 4
        torch.manual_seed(seed)
        for drawn in on_device.draw(planes(first[None])[0]):
            seen.update(name for name, value in drawn._asdict().items() if value)
    assert min(seen.values()) > 20, seen


def test_draws_have_the_published_probabilities_and_ranges() -> None:
    count, pixels, transform = 2500, torch.zeros(3, 60, 80, dtype=torch.uint8), Crops(options())
    torch.manual_seed(0)
    firsts, seconds = zip(*(transform.draw(pixels) for _ in range(count)), strict=True)
    both = [*firsts, *seconds]

    def share(views: Any, holds: Callable[[Drawn], bool]) -> float:
        return sum(map(holds, views)) / len(views)

    expected = [
        (share(both, lambda one: bool(one.jitter)), 0.8),
        (share(both, lambda one: one.is_grey), 0.2),
        (share(both, lambda one: one.is_flipped), 0.5),
        (share(firsts, lambda one: one.sigma > 0), 1.0),
        (share(seconds, lambda one: one.sigma > 0), 0.1),
        (share(firsts, lambda one: one.is_solarized), 0.0),
        (share(seconds, lambda one: one.is_solarized), 0.2),
    ]
    for found, probability in expected:
        assert abs(found - probability) <= 4 * math.sqrt(probability * (1 - probability) / count)
    jitters = [dict(one.jitter) for one in both if one.jitter]
    ranges = {0: (0.6, 1.4), 1: (0.6, 1.4), 2: (0.8, 1.2), 3: (-0.1, 0.1)}
    values = {f"operation {i}": ([jitter[i] for jitter in jitters], *limits) for i, limits in ranges.items()}
    values["sigma"] = ([one.sigma for one in firsts], 0.1, 2.0)
    for name, (drawn, low, high) in values.items():
        assert stats.kstest(drawn, stats.uniform(low, high - low).cdf).pvalue > 0.01, name
    orders = Counter(tuple(jitter) for jitter in jitters)
    assert len(orders) == 24
    assert stats.chisquare(list(orders.values())).pvalue > 0.01
    areas, ratios = np.array([[(h * w) / 4800, w / h] for _, _, h, w in (one.box for one in both)]).T
    assert (areas.min(), areas.max()) == pytest.approx((0.08, 1.0), abs=0.02)
    assert (ratios.min(), ratios.max()) == pytest.approx((3 / 4, 4 / 3), abs=0.1)


def test_torchs_seed_alone_decides_crops_and_parameters() -> None:
    transform, sample, found = Crops(options()), Sample(photo(0), ""), []
    for other in (0, 1):
        random.seed(other)
        np.random.seed(other)  # noqa: NPY002
        torch.manual_seed(3)
        found.append(transform(sample))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    torch.manual_seed(4)
    assert not torch.equal(found[0][2], transform(sample)[2])
    assert [(t.dtype, tuple(t.shape)) for t in found[0][:2]] == [(torch.uint8, (SIZE, SIZE, 3))] * 2


# --- batches, ranks, restarts ------------------------------------------------------------------------------


def model_on_device(**changes: Any) -> Moco:
    model = make(Choice(name="tiny", options={**TINY_MOCO["tiny"], "image_size": SIZE, **changes}), 0)
    model.configure(TrainConfig(epochs=1, batch_size=8, lr=1e-3, augment="device"))
    return model


def batch(model: Moco, count: int) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    return tuple(
        torch.stack(column)
        for column in zip(*(model.transform(Sample(photo(i), "")) for i in range(count)), strict=True)
    )


def test_a_view_is_the_same_bit_for_bit_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_on_device()
    tensors = batch(model, 23)
    whole = torch.stack(model.views(tensors))  # [2, b, 3, H, H]
    assert whole.isfinite().all()
    for part in ([0], [22], [3, 4, 5], list(range(7, 23)), [5, 1, 19]):
        assert torch.equal(torch.stack(model.views(tuple(t[part] for t in tensors))), whole[:, part])
    monkeypatch.setattr(augment, "AT_ONCE", 5)
    assert torch.equal(torch.stack(model.views(tensors)), whole)


def test_augmenting_on_a_gpu_never_waits_for_it() -> None:
    """A look at a value, as by ``item`` or a mask as an index, fails on tensors without values."""

    def shape(_: int) -> tuple[str, tuple[int, ...]]:
        with FakeTensorMode():
            pixels = torch.zeros(200, SIZE, SIZE, 3, dtype=torch.uint8, device="cuda")
            found = augmented(pixels, torch.zeros(200, len(NOTHING.row(RADIUS)), device="cuda"))
            return found.device.type, tuple(found.shape)

    # in a process of its own: after it, torch takes this one to have a GPU
    assert on_ranks(1, shape) == [("cuda", (200, 3, SIZE, SIZE))]


def test_what_ranks_exchange_of_a_super_batch_gives_the_pixels_that_were_scored() -> None:
    positions = np.array([0, 1, 2, 5, 9, 11])

    def dealt(rank: int) -> tuple[Tensor, Tensor]:
        model = model_on_device()
        tensors = tuple(t[6 * rank : 6 * rank + 6] for t in batch(model, 12))
        return torch.stack(model.views(tensors)), torch.stack(model.views(super_batch.dealt(tensors, positions)))

    (scored1, trained1), (scored2, trained2) = on_ranks(2, dealt)
    scored = torch.cat([scored1, scored2], dim=1)
    assert torch.equal(torch.cat([trained1, trained2], dim=1), scored[:, positions])


def test_weights_and_evaluation_do_not_know_of_it() -> None:
    pillow = make(Choice(name="tiny", options={**TINY_MOCO["tiny"], "image_size": SIZE}), 0)
    model = model_on_device()
    assert list(model.state_dict()) == list(pillow.state_dict())
    assert model.encoder().fingerprint() == pillow.encoder().fingerprint()
    assert torch.equal(model.encoder().image_pixels(photo(0)), pillow.encoder().image_pixels(photo(0)))


def grid(**train: Any) -> dict[str, Any]:
    return moco_grid(train={"augment": "device", "epochs": 2, **train}, evaluate=[{"knn": {"dataset": "digits"}}])


def left_behind(run: PlannedRun) -> tuple[list[float], bytes]:
    """Losses of all steps, and the weights."""
    lines = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    weights = (run.folder / "checkpoint" / "final.safetensors").read_bytes()
    return [line["loss"] for line in lines if line["kind"] == "step"], weights


@pytest.mark.slow
def test_workers_and_a_restart_change_no_bit_of_a_run(planned: Plan) -> None:
    (whole,), (killed,) = planned(grid(), results="whole"), planned(grid(num_workers=2), results="killed")
    assert whole.folder.name == killed.folder.name
    assert process.run(whole.folder) == "done"

    def dies(_: int) -> None:
        die_at(7)
        process.run(killed.folder)

    assert on_ranks(1, dies) == [None]
    assert process.run(killed.folder) == "done"
    assert left_behind(killed) == left_behind(whole)
    assert len(left_behind(whole)[0]) == 10
    record = read_record(whole.folder / "record.json")
    assert record["config"]["train"]["augment"] == "device"
    assert {row["task"] for row in record["metrics"]} == {"knn"}


def test_the_option_makes_another_run_and_its_default_the_one_from_before(planned: Plan, tmp_path: Path) -> None:
    default, named, other = planned(moco_grid(), moco_grid(train={"augment": "pillow"}, seed=1), grid())
    assert default.config.train.augment == "pillow"  # type: ignore[union-attr]
    assert default.config.identity == planned(moco_grid(train={"augment": "pillow"}))[0].config.identity  # type: ignore[union-attr]
    assert other.config.identity not in (default.config.identity, named.config.identity)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            clip_grid(train={"augment": "device"}),
            r"grid\[0\].train.augment: CLIP has no augmentation but its crop",
        ),
        (moco_grid(train={"augment": "gpu"}), "augment: unknown value 'gpu'"),
    ],
)
def test_clip_and_unknown_values_are_refused(planned: Plan, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        planned(wrong)
