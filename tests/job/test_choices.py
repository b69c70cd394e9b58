"""A static method's choice by features: made once by a job of its own, and what its runs train on."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_processes import on_ranks
from tiny import clip_grid

import baselines
from baselines.clip_score import ClipScore
from benchmark import signals
from benchmark.config.run import RunConfig
from benchmark.config.sweepfile import read_sweep
from benchmark.coreset import command
from benchmark.coreset.coreset import CoresetError, load_coreset
from benchmark.job import choice_pass, feature_pass, process
from benchmark.plan.plan import PlannedRun, make_plan, write_plan
from benchmark.pruner import pack
from benchmark.runs.attempts import attempts_of
from benchmark.runs.folder import RunFolder
from benchmark.runs.record import read_record
from benchmark.runs.state import state_of

Plan = Callable[..., list[PlannedRun]]
GRID: dict[str, Any] = {
    "pruner": ["full", {"clip_score": {"keep_fraction": 0.5}}],
    "features": {"run": {"pruner": "full"}},
    "train": {"epochs": 1},
}


class Tiny:
    """The sweep's file and folder, where full data and its features are done."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def plan(self) -> list[PlannedRun]:
        """Planned anew, and written."""
        sweep = read_sweep(self.path)
        runs = make_plan(sweep, self.path.parent / "results")
        write_plan(runs, sweep, self.path.parent / "results", "")
        return runs


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is the same in all tests."""
    import yaml

    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"name": "tiny", "grid": [clip_grid(**GRID)]}))
    full, features, *_ = Tiny(folder / "tiny.yaml").plan()
    process.run(full.folder)
    process.run(features.folder)
    return folder


@pytest.fixture
def tiny(trained: Path, tmp_path: Path) -> Tiny:
    shutil.copytree(trained, tmp_path / "copy")
    return Tiny(tmp_path / "copy" / "tiny.yaml")


def never(self: Any, pool: Any) -> np.ndarray:
    raise AssertionError("the run chooses by itself")


def test_a_run_trains_on_exactly_the_samples_of_its_choice(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    _, features, choice, run = tiny.plan()
    assert process.run(choice.folder) == "done"
    monkeypatch.setattr(ClipScore, "select", never)
    assert process.run(run.folder) == "done"
    chosen, trained_on = (load_coreset(one.folder.coreset) for one in (choice, run))
    assert np.array_equal(chosen.keep, trained_on.keep)
    assert (chosen.keep.sum(), chosen.method, chosen.made_by) == (32, run.config.method, choice.config.name)
    told, record = json.loads(choice.folder.choice.read_text()), read_record(run.folder.record)
    assert (told["code"], told["versions"], told["device"]) == tuple(
        record[key] for key in ("code", "versions", "device")
    )
    assert told["features"] == feature_pass.read_facts(features.folder)["arrays"]
    assert (told["kept"], told["fingerprint"]) == (32, chosen.fingerprint)
    assert told["peak_memory_bytes"] > 1e6
    assert record["config"]["choice"] == choice.config.name
    assert [one.state.name for one in tiny.plan()] == 4 * ["done"]


def test_a_choice_gives_the_run_that_chose_by_itself_before(tiny: Tiny) -> None:
    _, _, choice, run = tiny.plan()
    process.run(choice.folder)
    process.run(run.folder)
    alone = RunFolder(run.folder.parent / "alone")
    alone.mkdir()
    assert isinstance(run.config, RunConfig)
    alone.config.write_text(dataclasses.replace(run.config, choice=None).to_yaml())
    process.run(alone)
    one, other = (read_record(folder.record) for folder in (run.folder, alone))
    assert one["weights"] == other["weights"]
    assert np.array_equal(load_coreset(run.folder.coreset).keep, load_coreset(alone.coreset).keep)


@pytest.mark.slow
def test_ranks_read_the_choice(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, choice, run = tiny.plan()
    assert on_ranks(2, lambda rank: process.run(choice.folder)) == ["done", "done"]
    monkeypatch.setattr(ClipScore, "select", never)
    assert on_ranks(2, lambda rank: process.run(run.folder)) == ["done", "done"]
    assert np.array_equal(load_coreset(choice.folder.coreset).keep, load_coreset(run.folder.coreset).keep)


def test_a_choice_that_is_not_there_damaged_or_of_something_else_is_refused(tiny: Tiny) -> None:
    _, features, choice, run = tiny.plan()
    fingerprint = feature_pass.read_facts(features.folder)["fingerprint"]
    with pytest.raises(CoresetError, match="has not been made yet"):
        process.run(run.folder)
    assert state_of(run.folder, run.config).name == "failed"
    process.run(choice.folder)
    name = choice.config.name
    assert set(choice_pass.load(choice.folder, name, fingerprint)) == {"keep"}
    with pytest.raises(CoresetError, match="but this pool is abc"):
        choice_pass.load(choice.folder, name, "abc")
    with pytest.raises(CoresetError, match="not choice-other: move it to where it belongs"):
        choice_pass.load(choice.folder, "choice-other", fingerprint)
    told, state = choice.folder.choice, choice.folder.choice_state
    whole = state.read_bytes()
    state.write_bytes(whole[:-7] + bytes([whole[-7] ^ 1]) + whole[-6:])
    with pytest.raises(CoresetError, match=r"state\.pt: not as it was left .* to have it made again"):
        choice_pass.load(choice.folder, name, fingerprint)
    state.write_bytes(whole)
    told.write_text(told.read_text().replace('"kept": 32', '"kept": 33'))
    with pytest.raises(CoresetError, match=r"choice\.json: cannot be read .* does not match its sha256"):
        choice_pass.load(choice.folder, name, fingerprint)


def test_a_run_that_began_before_choices_goes_on_with_its_own(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, choice, run = tiny.plan()
    assert isinstance(run.config, RunConfig)
    run.folder.config.write_text(
        dataclasses.replace(
            run.config, choice=None, train=dataclasses.replace(run.config.train, checkpoint_minutes=0)
        ).to_yaml()
    )
    steps = iter(range(100))

    def failing(*_: object) -> None:
        if next(steps) == 2:
            raise OSError("interrupted")

    with pytest.raises(OSError, match="interrupted"):
        process.run(run.folder, failing)
    *_, planned = tiny.plan()
    assert [one.config.method for one in tiny.plan()] == ["full", "features of tiny", run.config.method]
    assert isinstance(planned.config, RunConfig)
    assert (planned.config.choice, planned.config.name) == (None, run.config.name)
    own = ClipScore.select
    with monkeypatch.context() as patch:  # a choice that has come all the same, and is another one
        patch.setattr(ClipScore, "select", lambda self, pool: ~own(self, pool))
        process.run(choice.folder)
    assert len(tiny.plan()) == 4
    monkeypatch.setattr(ClipScore, "select", never)
    process.run(run.folder)
    assert np.array_equal(load_coreset(run.folder.coreset).keep, ~load_coreset(choice.folder.coreset).keep)


def test_a_signal_ends_a_choice_at_once_and_it_starts_again(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, choice, _ = tiny.plan()

    def endless(self: ClipScore, pool: Any) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)
        raise AssertionError("a signal was passed over")

    with monkeypatch.context() as patch, signals.listening():
        patch.setattr(ClipScore, "select", endless)
        with pytest.raises(signals.Stopped):
            process.run(choice.folder)
    assert [one.why for one in attempts_of(choice.folder)] == ["stopped by TERM, INT or HUP"]
    assert state_of(choice.folder, choice.config).name == "absent"
    assert process.run(choice.folder) == "done"


def test_a_choice_is_exported_as_any_coreset(tiny: Tiny, tmp_path: Path) -> None:
    _, _, choice, _ = tiny.plan()
    process.run(choice.folder)
    assert command.main(["export", str(choice.folder.coreset), "--out", str(tmp_path / "kept.csv")]) == 0
    ids = [int(line.split(",")[0]) for line in (tmp_path / "kept.csv").read_text().splitlines()[1:]]
    assert ids == np.flatnonzero(load_coreset(choice.folder.coreset).keep).tolist()


OWN = '''
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from benchmark.pruner import EpochPlan, PoolView, StaticPruner


@dataclass
class Weighing(StaticPruner):
    """Keeps a half that weighs as its images agree with their captions."""

    needs: ClassVar = ("image_embedding", "text_embedding")

    def select(self, pool: PoolView) -> np.ndarray:
        images, texts = (np.asarray(pool.features[name], dtype=np.float32) for name in self.needs)
        self.score = (images * texts).sum(axis=1)
        return self.score >= np.median(self.score)

    def plan(self, epoch: int) -> EpochPlan:
        keep = super().plan(epoch).keep
        return EpochPlan(keep, weight=np.exp(self.score))

    def state_dict(self):
        return {**super().state_dict(), "score": self.score}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.score = state["score"]

    def ranking(self, history):
        return -self.score
'''


def test_a_users_own_method_hands_over_all_of_its_state(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "weighing.py").write_text(OWN)
    monkeypatch.setattr(baselines, "__path__", [*baselines.__path__, str(tmp_path / "extra")])
    tiny.path.write_text(tiny.path.read_text().replace("clip_score:\n      keep_fraction: 0.5", "weighing: {}"))
    *_, choice, run = tiny.plan()
    assert process.run(choice.folder) == "done"
    assert process.run(run.folder) == "done"
    chosen, trained_on = (load_coreset(one.folder.coreset) for one in (choice, run))
    assert chosen.score is not None
    assert trained_on.score is not None
    assert np.array_equal(chosen.score, trained_on.score)
    state = choice_pass.load(choice.folder, choice.config.name, chosen.fingerprint)
    assert np.array_equal(state["score"], -chosen.score)
    assert np.array_equal(state["keep"], pack(chosen.keep))
