"""What is projected from what was measured, and which of it is called a failure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from tiny import clip_grid

from benchmark.config.run import Choice
from benchmark.plan.plan import PlannedRun
from benchmark.rehearsal.derive import Pool
from benchmark.rehearsal.evaluation import Sliced
from benchmark.rehearsal.measure import Measured, Steps, Usage
from benchmark.rehearsal.project import Projection, findings, jobs_in_a_row, project

Planned = Callable[..., list[PlannedRun]]
POOL = Pool(Choice(name="shapes"), 80, whole=3600 * 8)
USAGE = Usage(
    memory_bytes=2 * 10**9,
    gpu_bytes=0,
    gpu_total_bytes=0,
    shared_bytes=10**6,
    shared_total_bytes=10**9,
    open_files=100,
    most_open_files=1024,
    first_seconds=0.0,
)
MEASURED = Measured(USAGE, "a CPU", True, steps=Steps(computing=0.5, loading=4.0, checkpoint=1.0), has_pruned=True)
CHOICE = Choice(name="zero_shot")


def config_of(planned: Planned, **changes: Any) -> Any:
    (run,) = planned(clip_grid(**changes))
    return run.config


def said(
    config: Any, measured: Measured = MEASURED, hours: Projection | None = None, pool: Pool = POOL
) -> list[str]:
    return [
        found.text
        for found in findings(config, pool, measured, [], hours or Projection(1.0, 0.0))
        if found.level == "fail"
    ]


def test_hours_are_those_of_the_slower_of_computing_and_loading(planned: Planned) -> None:
    hours = {
        workers: project(
            config_of(planned, train={"epochs": 2, "num_workers": workers}), POOL, MEASURED, []
        ).training
        for workers in (0, 2, 8)
    }
    with_checkpoints = 1 + 1.0 / (60 * 10)
    assert hours[0] == pytest.approx(2 * 4.5 * with_checkpoints)  # 3,600 steps an epoch, one after the other
    assert hours[2] == pytest.approx(2 * 2.0 * with_checkpoints)  # two workers: a batch every two seconds
    assert hours[8] == pytest.approx(2 * 0.5 * with_checkpoints)


def test_a_method_takes_the_share_of_its_schedule(planned: Planned) -> None:
    full, part = (
        project(config_of(planned, pruner=pruner, train={"epochs": 2}), POOL, MEASURED, [])
        for pruner in ("full", {"random_subset": {"keep_fraction": 0.25}})
    )
    assert part.share == 0.25
    assert part.training == pytest.approx(full.training / 4)  # type: ignore[operator]


def test_an_evaluation_is_projected_by_what_more_data_adds() -> None:
    one = Sliced("zero_shot on x", (CHOICE,) * 3, (10.0, 10.0, 40.0), whole=1000.0)
    # 5 s once (imports, prompts), and 0.1 s a unit: 3 s more for 30 units more
    assert one.seconds([7.0, 2.0, 5.0]) == pytest.approx(5.0 + 5.0 + 0.1 * 960)
    assert one.seconds([7.0, 2.0, 2.0]) == pytest.approx(5.0 + 2.0 * 25)  # too little to tell apart: all is work
    assert Sliced("x", note="not there").seconds([]) is None


@pytest.mark.parametrize(
    ("evaluate", "limit"), [({}, "2.0 h (launch.minutes)"), ({"minutes": 90}, "1.5 h (launch.evaluate.minutes)")]
)
def test_an_evaluation_beyond_the_time_limit_is_a_warning_since_it_goes_on(
    planned: Planned, evaluate: dict[str, Any], limit: str
) -> None:
    config = config_of(planned, launch={"minutes": 120, "evaluate": evaluate})
    (found,) = findings(config, POOL, MEASURED, [], Projection(1.0, evaluation=2.5))
    assert found.level == "warn"
    assert found.text.startswith(f"evaluation: 2.5 h, and a job may take {limit}; it goes on in further jobs")


def test_what_would_not_fit_is_a_failure_that_says_what_to_raise(planned: Planned) -> None:
    roomy = config_of(planned, launch={"minutes": 120, "memory_gb": 4})
    assert said(roomy) == []
    (text,) = said(dataclasses.replace(roomy, launch=dataclasses.replace(roomy.launch, memory_gb=1)))
    assert text == "memory: 2.0 GB of launch.memory_gb=1 on a node: raise it"
    (text,) = said(roomy, dataclasses.replace(MEASURED, usage=dataclasses.replace(USAGE, open_files=1000)))
    assert text.startswith("open files: 1000 of 1024")
    (text,) = said(roomy, dataclasses.replace(MEASURED, usage=dataclasses.replace(USAGE, shared_bytes=10**9)))
    assert text.startswith("/dev/shm: 1.0 of 1.0 GB")
    (text,) = said(dataclasses.replace(roomy, launch=dataclasses.replace(roomy.launch, gpus=1)))
    assert text.startswith("GPUs: asked for 1 a node, worked without")
    (text,) = said(roomy, dataclasses.replace(MEASURED, usage=dataclasses.replace(USAGE, first_seconds=7200)))
    assert text.startswith("time: 7200 s to the first step")
    (text,) = said(roomy, pool=dataclasses.replace(POOL, missing="cc3m: no shards match"))
    assert text.startswith("data: cc3m: no shards match")


def test_training_longer_than_the_limit_goes_on_in_further_jobs(planned: Planned) -> None:
    config = config_of(planned, launch={"minutes": 60})
    long = Projection(training=4.2, evaluation=0.3)
    assert said(config, hours=long) == []
    assert jobs_in_a_row(config.launch, long) == 5
