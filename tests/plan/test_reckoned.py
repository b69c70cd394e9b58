"""What is told of runs before anything has run: FLOPs, and the schedules of methods."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tiny import clip_grid

from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.launch import LaunchConfig
from benchmark.config.run import Choice
from benchmark.plan import roofline
from benchmark.plan.plan import PlannedRun
from benchmark.plan.schedule import schedule_of


@pytest.mark.slow
def test_flops_are_three_times_those_that_open_clip_publishes_for_a_forward_pass(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path))
    published = 41.09e9  # open_clip's docs/model_profile.csv, ViT-B-16: image and text
    assert roofline.flops_per_sample("clip", Choice(name="ViT-B-16")) == pytest.approx(3 * published, rel=0.03)


@pytest.mark.parametrize(
    ("name", "options", "epochs", "share"),
    [
        ("full", {}, 32, 1.0),
        ("scan", {}, 32, 0.733),  # 2 full epochs, then cycles of 0, 1/4, 3/4 and all of 0.6 dropped
        ("scan", {"redundant_share": 0.35, "ill_matched_share": 0.35}, 100, 0.66),
        ("infobatch", {}, 32, 0.76),
        ("semdedup", {"keep_fraction": 0.6}, 32, 0.6),
        ("random_dynamic", {"keep_fraction": 0.5}, 8, 0.5),
        ("small_loss", {}, 8, 0.5),
    ],
)
def test_the_share_of_samples_that_a_method_sees_is_known_before_it_runs(
    name: str, options: dict[str, float], epochs: int, share: float
) -> None:
    assert schedule_of(Choice(name=name, options=options), epochs).share == pytest.approx(share, abs=0.02)


def test_what_loads_samples_bounds_what_computes(planned: Callable[..., list[PlannedRun]]) -> None:
    alone, one, many = (
        roofline.seconds_per_sample(planned(clip_grid(train={"num_workers": workers}))[0].config)  # type: ignore[arg-type]
        for workers in (0, 1, 1000)
    )
    assert alone == pytest.approx(one + many)
    assert many < one == 1 / roofline.SAMPLES_PER_CORE_SECOND["pillow"]["clip"]


def test_a_choice_is_reckoned_by_what_its_method_multiplies() -> None:
    def hours(method: str, samples: int, **launch: int) -> float | None:
        config = ChoiceConfig(
            sweep="s",
            framework="clip",
            pool=Choice(name="shapes"),
            pool_label="shapes",
            pruner=Choice(name=method, options={"keep_fraction": 0.7}),
            label=method,
            features="f",
            seed=0,
            num_epochs=1,
            device="auto",
            launch=LaunchConfig(**launch),
            identity="0",
        )
        seconds = roofline.seconds_of_choice(config, samples)
        return None if seconds is None else seconds / 3600

    products = (
        10_000 * 512 * (100 * 2_560_000 + 10e6) + 10e6**2 / 10_000 * 512
    )  # k-means, then pairs within clusters
    on_a100 = 2 * products / (0.4 * 19.5e12) / 3600
    assert hours("semdedup", 10_000_000, gpus=1) == pytest.approx(on_a100, rel=0.01)
    assert on_a100 < 0.2
    assert hours("clip_score", 10_000_000, gpus=1) is None


def test_the_gpu_is_the_one_that_launch_names() -> None:
    h100 = LaunchConfig(gpus=1, constraint="h100&nvlink")
    assert roofline.device_of(h100) == "H100"
    assert roofline.device_of(LaunchConfig(gpus=4)) == "A100, since launch names no GPU"
    by_gres = LaunchConfig(gpus=1, sbatch={"gres": "gpu:v100:1"})
    assert roofline.peak(by_gres, "fp16") == 125e12
    assert roofline.peak(h100, "fp32") < roofline.peak(h100, "bf16")
