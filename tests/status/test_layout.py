"""Plan and status on terminals of some width, and off them: whole names, folded seeds, long lists that are cut."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from sweeping import call
from tiny import TINY_CLIP, clip_grid

from benchmark.launch.shown import Shown
from benchmark.plan.plan import PlannedRun
from benchmark.runs.state import State
from benchmark.status import layout, table
from benchmark.status.queue import Queue
from benchmark.status.table import plan_table, status_table

Plan = Callable[..., list[PlannedRun]]
METHODS = ["full", "scan", {"random_subset": {"keep_fraction": 0.5}}]


def drawn(draw: Callable[[Console], object], width: int, *, is_terminal: bool = True) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=is_terminal, color_system=None, emoji=False)
    console.print(draw(console), crop=False)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def status(runs: Sequence[PlannedRun], width: int, *, is_terminal: bool = True, every: bool = False) -> list[str]:
    def draw(console: Console) -> object:
        return status_table(runs, Queue(), "x", console, show_all=every)

    return drawn(draw, width, is_terminal=is_terminal)


def in_state(runs: Sequence[PlannedRun], *states: State) -> list[PlannedRun]:
    return [replace(run, state=state) for run, state in zip(runs, states, strict=True)]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_names_are_whole_at_any_width_and_no_line_is_wider(width: int, planned: Plan) -> None:
    runs = planned(clip_grid(pruner=METHODS))
    failed = in_state(runs, State("done"), State("failed", "ValueError: " + "word " * 40), State("absent"))
    for lines in (status(failed, width), drawn(lambda console: plan_table(failed, "x", console), width)):
        for run in runs:
            assert any(run.config.name in line for line in lines)
        assert all(len(line) <= width or len(line.split()) == 1 for line in lines)  # nor is a path


def test_seeds_share_a_row_with_the_count_by_state_and_a_pattern_for_only(planned: Plan) -> None:
    runs = planned(clip_grid(pruner=METHODS, seed=[0, 1, 2]))
    done, absent = State("done"), State("absent")
    runs = in_state(runs, done, absent, done, absent, absent, State("failed", "why"), done, done, done)
    told = status(runs, 400)
    pattern = "clip-tiny-shapes-64-full-s[0-2]-*"
    (row,) = [line for line in told if line.split()[:1] == [pattern]]
    assert row.split(maxsplit=1)[1].startswith("1 absent, 2 done")
    assert fnmatch.filter([run.config.name for run in runs], pattern) == [run.config.name for run in runs[:3]]
    (failed,) = [line for line in told if "why" in line]
    assert runs[5].config.name in failed  # what is wrong with a run is told of it alone
    assert any("scan-s[0-1]-*" in line and "2 absent" in line for line in told)
    assert not any("-s1-" in line for line in told)
    told = status(runs, 400, every=True)
    assert all(any(run.config.name in line for line in told) for run in runs)


def test_runs_of_one_seed_that_differ_in_more_are_not_folded(planned: Plan) -> None:
    runs = planned(clip_grid(train={"lr": [1e-3, 2e-3]}, seed=[0, 1]))
    assert len({run.config.name for run in runs}) == 4
    lines = status(runs, 120)
    assert all(any(run.config.name in line for line in lines) for run in runs)


@pytest.mark.parametrize(
    ("seeds", "word"), [([0, 1, 2], "s[0-2]-*"), ([0, 2], "s[02]-*"), ([9, 10], "s*-*"), ([3], "s3-abcdef")]
)
def test_a_folded_name_is_a_pattern_of_its_seeds(seeds: list[int], word: str) -> None:
    names = [f"clip-x-s{seed}-abcdef" for seed in seeds]
    assert layout.name_of(names) == f"clip-x-{word}"
    assert fnmatch.filter(names, layout.name_of(names)) == names
    assert layout.names_of([*names, "clip-y-s0-abcdef"]) == f"clip-x-{word}, clip-y-s0-abcdef"


def test_a_long_list_is_cut_with_a_count_on_a_terminal_alone(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "LONG", 4)
    models = [{f"m{i}": TINY_CLIP["tiny"]} for i in range(6)]
    runs = planned(clip_grid(model=models))
    assert "and 2 more: 2 absent; --all shows them" in status(runs, 200)
    assert "and 4 more: 4 absent; --all shows them" in status(runs, 40)  # two lines a run
    for lines in (status(runs, 200, every=True), status(runs, 200, is_terminal=False)):
        assert all(any(run.config.name in line for line in lines) for run in runs)
        assert not any("more" in line for line in lines)


def test_off_a_terminal_a_run_is_a_plain_line(
    write_sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(pruner=METHODS, seed=[0, 1]))
    for word in ("--status", "--dry-run"):
        assert call(path, word) == 0
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("clip-")]
        assert len(lines) == 6
        assert all(line.split()[1] == "absent" for line in lines)
        assert all(line.isascii() for line in lines)


class Clock:
    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr("benchmark.launch.shown.time.monotonic", lambda: Clock.now)
    Clock.now = 1000.0
    return Clock


def test_a_log_has_a_line_for_a_start_and_an_end_and_one_a_minute(clock: type[Clock]) -> None:
    console = Console(file=io.StringIO(), width=80)
    with Shown(console, ["a", "b"]) as shown:
        shown.start("a")
        for _ in range(130):
            clock.now += 1.0
            shown.update("a", 0.5, "epoch 2, loss 1.000")
        shown.end("a", "done")
        shown.start("b")
        shown.end("b", "failed")
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines() == [
        "started a",
        "0 of 2, 3 min left; a: epoch 2, loss 1.000",
        "0 of 2, 6 min left; a: epoch 2, loss 1.000",
        "done: a (1 of 2, 2 min left)",
        "started b",
        "failed: b (2 of 2)",
    ]


def test_on_a_terminal_all_runs_have_a_line_with_their_count_and_the_time_left(clock: type[Clock]) -> None:
    name = "clip-swin_base_patch4_window7_224-cc12m_plus-random_subset-s0-3f9a1c"
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    with Shown(console, [name, "b"]) as shown:
        shown.start(name)
        clock.now += 3600
        shown.end(name, "done")
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "all runs" in told
    assert "1 of 2, 60 min left" in told
    assert f"{name} 100% done" in told
