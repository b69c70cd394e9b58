"""What every method in ``baselines/`` must keep to; a new file is found and tested without being told."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmark import contract, plugins, sweep
from benchmark.config.run import Choice
from benchmark.contract import BrokenError, Make
from benchmark.coreset.coreset import Coreset, save_coreset
from benchmark.options import ConfigError
from benchmark.pruner import EpochPlan, PlanError, Pruner, StaticPruner, make_pruner, plan_of

REQUIRED: dict[str, dict[str, Any]] = {
    name: {"keep_fraction": 0.5}
    for name in (
        "ccs",
        "clip_score",
        "d2",
        "density",
        "neg_clip_loss",
        "prototypes",
        "random_dynamic",
        "random_subset",
        "rs2",
        "sas",
        "semdedup",
    )
}
"""Options for methods that have one without a default."""

CORESET = Path(tempfile.mkdtemp()) / "coreset.npz"
REQUIRED["coreset"] = {"files": [str(CORESET)]}
LIST = CORESET.parent / "ids.npy"
REQUIRED["keys"] = {"file": str(LIST)}

METHODS = plugins.names("baselines")


@pytest.fixture(autouse=True, scope="module")
def _coreset() -> None:
    score = np.random.default_rng(2).random(contract.N, dtype=np.float32)
    np.save(LIST, np.arange(contract.N // 2))
    save_coreset(CORESET, Coreset(score < 0.5, contract.FINGERPRINT, "scan", 0, "another run", score))


def make(name: str, **more: Any) -> Make:
    return contract.maker(name, {**REQUIRED.get(name, {}), **more})


@pytest.mark.parametrize("question", contract.QUESTIONS, ids=lambda question: question.__name__)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_to_the_contract(name: str, question: Callable[[Make], None]) -> None:
    question(make(name))


@pytest.mark.parametrize("name", METHODS)
def test_a_wrong_option_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no_such_option"):
        make(name, no_such_option=1)()


class Wrong(Pruner):
    """A method that does all it should, for others to break."""

    def setup(self, *args: Any, **options: Any) -> None:
        super().setup(*args, **options)
        self.loss = np.zeros(self.pool.num_samples, dtype=np.float32)

    def plan(self, epoch: int) -> EpochPlan:
        return EpochPlan(keep=self.loss <= np.median(self.loss), observe=True)

    def observe(self, ids: np.ndarray, losses: np.ndarray) -> None:
        self.seen = (ids, losses)

    def end_epoch(self, epoch: int) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loss = state["loss"]


PLANS: dict[str, tuple[Callable[[int], Any], str]] = {
    "ids": (lambda n: EpochPlan(np.arange(n // 2)), rf"keep must be bool \[{contract.N}\], got int64 \[48\]"),
    "one sample": (lambda n: EpochPlan(np.zeros(n, int)), r"keep must be bool \[96\], got int64 \[96\]"),
    "a short mask": (lambda n: EpochPlan(np.ones(n - 1, bool)), r"got bool \[95\]"),
    "a column": (lambda n: EpochPlan(np.ones((n, 1), bool)), r"got bool \[96, 1\]"),
    "a list": (lambda n: EpochPlan([True] * n), "got list"),  # type: ignore[arg-type]
    "a mask alone": (lambda n: np.ones(n, bool), "must return an EpochPlan, got ndarray"),
    "weights of doubles": (lambda n: EpochPlan(np.ones(n, bool), np.ones(n)), "weight must be float32"),
    "a weight for all": (
        lambda n: EpochPlan(np.ones(n, bool), np.ones(1, np.float32)),
        r"weight must be float32 \[96\], got float32 \[1\]",
    ),
    "nan": (
        lambda n: EpochPlan(np.ones(n, bool), np.where(np.arange(n) == 7, np.nan, 1).astype(np.float32)),
        "weight must be finite, got nan for 1 of 96 samples, the first 7",
    ),
    "log of nothing": (
        lambda n: EpochPlan(np.ones(n, bool), log_negative=np.full(n, -np.inf, np.float32)),
        "log_negative must be finite, got -inf for 96 of 96",
    ),
    "a larger batch": (
        lambda n: EpochPlan(np.ones(n, bool), super_batch=2),
        "super_batch must lie between 1 and 1",
    ),
}


@pytest.mark.parametrize("kind", PLANS)
def test_a_wrong_plan_is_one_error_that_names_the_method_what_came_and_what_is_due(kind: str) -> None:
    wrong, message = PLANS[kind]

    class Odd(Wrong):
        def plan(self, epoch: int) -> Any:
            return wrong(self.pool.num_samples)

    with pytest.raises(PlanError, match=rf"^Odd.plan\(0\).*{message}"):
        plan_of(contract.ready(Odd), 0)


def test_a_wrong_mask_of_a_static_method_is_told_too() -> None:
    class Odd(StaticPruner):
        def select(self, pool: Any) -> Any:
            return np.flatnonzero(np.ones(pool.num_samples))

    with pytest.raises(PlanError, match=r"^Odd.select must be bool \[96\], got int64 \[96\]"):
        plan_of(contract.ready(Odd), 0)


def test_a_plan_that_differs_when_it_is_asked_again_is_refused() -> None:
    class Odd(Wrong):
        def plan(self, epoch: int) -> EpochPlan:
            return EpochPlan(np.random.default_rng().random(self.pool.num_samples) < 0.5)

    with pytest.raises(PlanError, match="another answer when it is asked again"):
        plan_of(contract.ready(Odd), 0)


BREAKS = {
    "self.loss[ids] = losses.mean(1)": {"plans_are_well_formed", "restarts_change_nothing"},
    "self.__dict__.setdefault('kept', {}).update(zip(ids.tolist(), losses.mean(1)))": {"restarts_change_nothing"},
    "np.random.shuffle(np.arange(3))": {"generators_are_left_alone"},
}
"""What is done with losses -> the questions that it breaks."""
METHOD = """
from dataclasses import dataclass
import numpy as np
from benchmark.pruner import EpochPlan, Pruner

@dataclass
class Mine(Pruner):
    share: float = 0.5

    def setup(self, pool, **options):
        super().setup(pool, **options)
        self.loss = np.zeros(pool.num_samples, dtype=np.float32)

    def plan(self, epoch):
        return EpochPlan(self.loss <= np.quantile(self.loss, 1 - self.share), observe=True)

    def observe(self, ids, losses):
        {observe}

    def end_epoch(self, epoch):
        kept = getattr(self, "kept", {{}})
        for i, loss in kept.items():
            self.loss[i] = loss

    def state_dict(self):
        return {{"loss": self.loss}}

    def load_state_dict(self, state):
        self.loss = state["loss"]
"""


def check(*words: str) -> int:
    return contract.main(words, Console(width=500))


@pytest.mark.parametrize("observe", BREAKS)
def test_the_command_says_which_part_of_the_contract_a_file_breaks(
    observe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(METHOD.format(observe=observe))
    assert check(str(path), "share=0.25") == 1
    lines = capsys.readouterr().out.splitlines()
    named = {q.__name__: line for q, line in zip(contract.QUESTIONS, lines, strict=True)}
    assert {name for name, line in named.items() if line.startswith("BROKEN")} == BREAKS[observe]
    path.write_text(METHOD.format(observe="self.seen = ids"))
    assert check(str(path)) == 0


def test_the_command_knows_the_methods_of_baselines_and_refuses_what_it_does_not_know(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep.main(["check", "random_subset", "keep_fraction=0.5"]) == 0
    assert capsys.readouterr().out.count("kept") == len(contract.QUESTIONS)
    assert sweep.main(["check", "random_subset"]) == sweep.EXIT_USAGE
    assert "keep_fraction" in capsys.readouterr().err
    assert sweep.main(["check", "nowhere/mine.py"]) == sweep.EXIT_USAGE
    assert "nowhere/mine.py is no Python file" in capsys.readouterr().err


def test_a_method_that_learns_and_saves_nothing_is_refused_when_it_is_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import baselines

    text = METHOD.format(observe="self.loss[ids] = losses.mean(1)")
    (tmp_path / "forgetful.py").write_text(text[: text.index("    def state_dict")])
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path)])
    with pytest.raises(
        ConfigError,
        match=r"^grid.forgetful: Mine defines observe and end_epoch and not state_dict and load_state_dict",
    ):
        make_pruner(Choice(name="forgetful", options={}), "grid")
    (tmp_path / "mindful.py").write_text(text)
    make_pruner(Choice(name="mindful", options={}), "grid")
    with pytest.raises(BrokenError, match="Mine defines"):
        contract.restarts_change_nothing(contract.maker(str(tmp_path / "forgetful.py"), {}))
