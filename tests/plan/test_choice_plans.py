"""Choices of static methods in a plan: one for all runs that share encoder, pool and method."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY_CLIP, clip_grid

import baselines
from benchmark.config.choice_pass import ChoiceConfig
from benchmark.config.job import load_config
from benchmark.config.run import RunConfig
from benchmark.launch.todo import choose, to_do
from benchmark.plan.plan import PlannedRun, make_plan
from benchmark.status.standing import with_states

Plan = Callable[..., list[PlannedRun]]
SEMDEDUP = {"semdedup": {"keep_fraction": 0.5, "clusters": 4}}
OF_EACH_SEED = {"run": {"pruner": "full"}}
OF_SEED_0 = {"run": {"pruner": "full", "seed": 0}}


def choices(runs: list[PlannedRun]) -> list[ChoiceConfig]:
    return [run.config for run in runs if isinstance(run.config, ChoiceConfig)]


def pruned(runs: list[PlannedRun]) -> list[RunConfig]:
    return [run.config for run in runs if isinstance(run.config, RunConfig) and run.config.features]


def test_seeds_with_encoders_of_their_own_have_own_choices_and_the_names_from_before(
    planned: Plan,
) -> None:
    runs = planned(clip_grid(pruner=["full", SEMDEDUP], features=OF_EACH_SEED, seed=[0, 1]))
    assert [choice.seed for choice in choices(runs)] == [0, 1]
    assert [run.choice for run in pruned(runs)] == [choice.name for choice in choices(runs)]
    names = ["clip-tiny-shapes-64-semdedup-s0-3737a0", "clip-tiny-shapes-64-semdedup-s1-e425e0"]
    assert [run.name for run in pruned(runs)] == names


def test_one_encoder_for_all_seeds_gives_one_choice_which_other_seeds_have_in_their_names(planned: Plan) -> None:
    runs = planned(clip_grid(pruner=["full", SEMDEDUP], features=OF_SEED_0, seed=[0, 1, 2]))
    (choice,) = choices(runs)
    assert [run.choice for run in pruned(runs)] == 3 * [choice.name]
    assert {run.method for run in pruned(runs)} == {"semdedup(keep_fraction=0.5, clusters=4)"}
    of_before = ["-s0-3737a0", "-s1-e0901f", "-s2-878775"]  # each seed chose by itself
    assert [run.name.endswith(end) for run, end in zip(pruned(runs), of_before, strict=True)] == [
        True,
        False,
        False,
    ]


def test_two_models_on_one_pool_share_a_choice_of_one_encoder(planned: Plan) -> None:
    other = {"other": TINY_CLIP["tiny"]}
    of_tiny = {"run": {"pruner": "full", "model": TINY_CLIP}}
    runs = planned(clip_grid(pruner=["full", SEMDEDUP], model=[TINY_CLIP, other], features=of_tiny))
    (choice,) = choices(runs)
    assert [(run.model.name, run.choice) for run in pruned(runs)] == [
        ("tiny", choice.name),
        ("other", choice.name),
    ]


def test_a_choice_waits_for_its_pass_and_takes_one_rank(planned: Plan) -> None:
    launch = {"nodes": 2, "gpus": 2, "cpus": 3, "minutes": 90}
    runs = planned(clip_grid(pruner=["full", SEMDEDUP], features=OF_EACH_SEED, launch=launch))
    (choice,), (run,) = choices(runs), pruned(runs)
    assert choice.waits_for == (run.features,)
    assert run.waits_for == (run.features, choice.name)
    assert (choice.launch.num_ranks, choice.launch.gpus, choice.launch.cpus) == (1, 1, 3)
    assert choice.launch.minutes == 90
    assert [load_config(run.folder.config) for run in runs] == [run.config for run in runs]


@pytest.mark.parametrize(
    "pruner", [{"random_subset": {"keep_fraction": 0.5}}, "scan", {"coreset": {"runs": {"pruner": "scan"}}}]
)
def test_methods_that_read_no_features_choose_by_themselves(planned: Plan, pruner: Any) -> None:
    assert not choices(planned(clip_grid(pruner=["full", "scan", pruner], features=OF_EACH_SEED)))


def test_each_budget_has_a_choice_of_its_own(planned: Plan) -> None:
    budgets = [{"semdedup": {"keep_fraction": share, "clusters": 4}} for share in (0.5, 0.7)]
    runs = planned(clip_grid(pruner=["full", *budgets], features=OF_EACH_SEED))
    assert len({choice.name for choice in choices(runs)}) == 2


RUNS_AND_FEATURES = """
from dataclasses import dataclass, field
from typing import Any, ClassVar
from benchmark.options import RUNS
from benchmark.pruner import StaticPruner


@dataclass
class Both(StaticPruner):
    runs: Any = field(default=None, metadata=RUNS)
    needs: ClassVar = ("image_embedding",)

    def select(self, pool):
        raise NotImplementedError
"""


def test_a_choice_waits_for_the_runs_that_its_methods_options_name(
    planned: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "both.py").write_text(RUNS_AND_FEATURES)
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path / "extra")])
    both = {"both": {"runs": {"pruner": "scan"}}}
    runs = planned(clip_grid(pruner=["full", "scan", both], features=OF_EACH_SEED))
    (choice,) = choices(runs)
    (scan,) = [run.config.name for run in runs if run.config.method == "scan"]
    assert choice.waits_for == (scan, choice.features)
    assert choice.pruner.options == {"runs": [scan]}


def test_a_pattern_that_fits_a_run_takes_its_choice_along(planned: Plan) -> None:
    runs = planned(clip_grid(pruner=["full", SEMDEDUP], features=OF_EACH_SEED, seed=[0, 1]))
    chosen = choose(runs, ["clip-*-semdedup-s1-*"])
    assert len(chosen) == 4
    assert {choice.name for choice in choices(runs)} & chosen == {pruned(runs)[1].choice}


def test_a_choice_of_a_pass_that_failed_is_blocked_and_so_is_its_run(planned: Plan) -> None:
    runs = planned(clip_grid(pruner=["full", SEMDEDUP], features=OF_EACH_SEED))
    (runs[0].folder / "record.json").write_text("{}")
    states = [run.state.name for run in with_states(runs)]
    assert states == ["unreadable", "blocked", "blocked", "blocked"]
    assert to_do(with_states(runs), True, choose(runs, None)) == []


def test_a_configuration_from_before_choices_is_read(planned: Plan) -> None:
    runs = planned(clip_grid())
    path: Path = runs[0].folder.config
    lines = [line for line in path.read_text().splitlines() if not line.startswith(("choice:", "# sha256"))]
    path.write_text("\n".join(lines) + "\n")
    assert load_config(path) == runs[0].config


def test_results_from_before_choices_are_done_and_start_nothing() -> None:
    from benchmark.config.sweepfile import read_sweep

    runs = make_plan(read_sweep(Path("sweeps/mini_noise.yaml")), Path("results"))
    assert {run.state.name for run in runs} == {"done"}
    assert not choices(runs)
    assert {run.choice for run in pruned(runs)} == {None}
    assert to_do(with_states(runs), False, choose(runs, None)) == []
