"""Times, numbers and texts as people write them in sweep files, in profiles and on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import clip_grid

from benchmark import sweep
from benchmark.config.feature_pass import FeatureConfig
from benchmark.config.profiles import as_launch
from benchmark.config.run import RunConfig
from benchmark.config.sweepfile import read_sweep
from benchmark.launch.script import slurm_parameters
from benchmark.options import ConfigError, as_written
from benchmark.plan.plan import make_plan

WriteSweep = Callable[..., Path]

SWEEP = """\
name: tiny
grid:
  - framework: clip
    model: ViT-B-32
    pool: {shapes: {num_samples: 64}}
    pruner: full
    train: {epochs: 1, batch_size: 8, lr: 1e-3}
    launch: {%s}
"""


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        ("90", 90), ("24:00:00", 1440), ("0:30:00", 30), ("0:00:01", 1), ("90:00", 90), ("2:30", 3), ("0600", 600),
        ("2-00", 2880), ("2-00:00:00", 2880), ("1-02:03", 1563), ("1-02:03:04", 1564),
    ],
)  # fmt: skip
def test_a_time_limit_is_read_as_slurm_reads_it_wherever_it_is_written(
    written: str, minutes: int, write_sweep: WriteSweep, tmp_path: Path
) -> None:
    in_file, profile = tmp_path / "one.yaml", tmp_path / "mine.yaml"
    in_file.write_text(SWEEP % f"minutes: {written}")
    profile.write_text(f"minutes: {written}")
    path = write_sweep(clip_grid())
    for read in (
        read_sweep(in_file),
        read_sweep(path, [f"launch.minutes={written}"]),
        read_sweep(path, ["launch.profile=mine"]),
    ):
        assert read.grids[0].launch.minutes == minutes
    assert as_launch([f"launch.minutes={written}"], None).minutes == minutes


TEXTS = ["0123", "1E234", "1e5", "12.10", "+5", "on", "No", "0o17", "0x1f", "1_000", "16:00", "2026-11-30", ".5"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_taken_as_it_is_written(text: str, write_sweep: WriteSweep, tmp_path: Path) -> None:
    in_file, profile = tmp_path / "one.yaml", tmp_path / "mine.yaml"
    in_file.write_text(SWEEP % f"account: {text}, sbatch: {{begin: {text}}}, setup: [{text}]")
    profile.write_text(f"account: {text}\nsbatch: {{begin: {text}}}\nsetup: [{text}]\n")
    path = write_sweep(clip_grid())
    words = [f"launch.account={text}", f"launch.sbatch.begin={text}", f"launch.setup=[{text}]"]
    for launch in (
        read_sweep(in_file).grids[0].launch,
        read_sweep(path, words).grids[0].launch,
        as_launch([], str(profile)),
        as_launch(words, None),
    ):
        assert (launch.account, launch.sbatch, launch.setup) == (text, {"begin": text}, [text])


@pytest.mark.parametrize("text", ["1e-3", "0.001", "1.0e-3", "1.E-3", "+.001"])
def test_a_number_is_one_however_it_is_written(text: str, write_sweep: WriteSweep) -> None:
    path = write_sweep(clip_grid())
    (plain,), (other,) = (make_plan(read_sweep(path, words), path.parent) for words in ((), [f"train.lr={text}"]))
    assert plain.config == other.config


def test_words_that_are_values_and_numbers_are_themselves() -> None:
    assert as_written("[true, false, null, ~, 3, -3, 0.5, 1e-05]") == [True, False, None, None, 3, -3, 0.5, 1e-05]


def test_false_takes_back_what_a_profile_asks_for(write_sweep: WriteSweep, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("sbatch: {exclusive: true, comment: a}\nsrun: {overlap: true}\n")
    words = ["launch.profile=mine", "launch.sbatch.exclusive=false", "launch.srun.overlap=false"]
    asked = slurm_parameters(read_sweep(write_sweep(clip_grid()), words).grids[0].launch, "x")
    assert asked["additional_parameters"] == {"comment": "a", "requeue": True}
    assert not [word for word in asked["srun_args"] if "overlap" in word]


@pytest.mark.parametrize("what", ["profile", "sweep"])
def test_a_key_that_stands_twice_is_refused(
    what: str, write_sweep: WriteSweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text("cpus: 1\ncpus: 2\n")
    path = write_sweep(clip_grid())
    if what == "sweep":
        path.write_text(path.read_text() + "name: again\n")
    assert sweep.main([str(path), "--dry-run", "--profile", "mine"]) == sweep.EXIT_USAGE
    assert "duplicate key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["launch.minutes=1 day"], "minutes: expected minutes, H:M:S, D-H or D-H:M:S"),
        (["launch.account=true"], "account: expected text, got true"),
        (["grid=null"], "grid: must be a list with at least one entry"),
        (["grid=[]"], "grid: must be a list with at least one entry"),
        (["name="], "name: '' names a folder"),
        (["grid[9].seed=1"], "'grid[9].seed': there is no [9]: it has 1, from [0]"),
        (["grid.seed=1"], "'grid.seed': 'seed' is looked for in a list"),
        (["seed[0]=1"], "there is no [0]: it is no list"),
        (["train..lr=1"], "expected names with dots between"),
        (["train.lr=[]"], "grid[0].train.lr: an empty list"),
        (["train.lr={"], "'train.lr={': cannot be read as YAML"),
    ],
)
def test_a_word_that_cannot_be_used_is_one_line(
    words: list[str], message: str, write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main([str(write_sweep(clip_grid())), "--dry-run", *words]) == sweep.EXIT_USAGE
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1


def test_a_shell_s_variable_in_a_sweep_file_is_refused_with_how_to_write_it_and_then_left_to_the_shell(
    write_sweep: WriteSweep, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_sweep(clip_grid(launch={"setup": ["cd ${HOME}"]}))
    assert sweep.main([str(path), "--dry-run"]) == sweep.EXIT_USAGE
    said = capsys.readouterr().err
    assert r"write the shell's as \${...}" in said
    assert len(said.strip().splitlines()) == 1
    path = write_sweep(clip_grid(launch={"setup": [r"cd \${HOME}"]}))
    assert read_sweep(path).grids[0].launch.setup == ["cd ${HOME}"]
    assert read_sweep(path, ["launch.setup=['cd ${HOME}']"]).grids[0].launch.setup == ["cd ${HOME}"]


def test_an_override_of_one_grid_leaves_others_alone_that_share_its_lists(tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    again = "  - {<<: *one, seed: 1}\n"
    path.write_text((SWEEP % "sbatch: {hold: true}").replace("- framework", "- &one\n    framework") + again)
    first, second = read_sweep(path, ["grid[0].launch.sbatch.hold=false"]).grids
    assert (first.launch.sbatch, second.launch.sbatch) == ({"hold": False}, {"hold": True})


METHODS: list[Any] = [{"semdedup": {"keep_fraction": 0.5, "clusters": 2}}, "full"]


def test_listed_training_options_make_a_grid_and_methods_read_the_runs_of_their_own_values(
    write_sweep: WriteSweep,
) -> None:
    grid = clip_grid(pruner=METHODS, seed=[0, 1], features={"run": {"pruner": "full"}})
    path = write_sweep(grid)
    words = ["train.lr=[1e-3, 2e-3]", "train.weight_decay=[0.0, 0.1]"]
    runs = [run.config for run in make_plan(read_sweep(path, words), path.parent)]
    trained = {run.name: run for run in runs if isinstance(run, RunConfig)}
    settings = [(run.train.lr, run.train.weight_decay) for run in trained.values()]
    assert {one: settings.count(one) for one in settings} == dict.fromkeys(
        [(1e-3, 0.0), (1e-3, 0.1), (2e-3, 0.0), (2e-3, 0.1)], 4
    )
    passes = {run.name: run for run in runs if isinstance(run, FeatureConfig)}
    reading = [run for run in trained.values() if run.features is not None]
    assert len(reading) == 8
    for run in reading:
        (full,) = passes[str(run.features)].waits_for
        assert trained[full].train == run.train
    one, listed = (make_plan(read_sweep(path, words), path.parent) for words in ((), ["train.lr=[1e-3]"]))
    assert [run.config for run in listed] == [run.config for run in one]


def test_listed_options_of_methods_pools_and_tasks_make_a_grid(write_sweep: WriteSweep) -> None:
    grid = clip_grid(
        pruner=["full", {"scan": {"cycle": [3, 5], "redundant_share": [0.2, 0.3]}}],
        pool={"shapes": {"num_samples": [64, 80]}},
        evaluate=[{"knn": {"dataset": "digits", "k": [1, 5]}}],
    )
    path = write_sweep(grid)
    runs = [run.config for run in make_plan(read_sweep(path), path.parent)]
    assert all(isinstance(run, RunConfig) for run in runs)
    assert len({run.name for run in runs}) == len(runs) == 10
    options = [run.pruner.options for run in runs if run.pruner.name == "scan"]
    shares = [(one["cycle"], one["redundant_share"]) for one in options]
    assert sorted(shares) == sorted(2 * [(3, 0.2), (3, 0.3), (5, 0.2), (5, 0.3)])
    assert {run.pool.options["num_samples"] for run in runs} == {64, 80}
    assert [task.options["k"] for task in runs[0].evaluate] == [1, 5]
    (one,) = make_plan(
        read_sweep(path, ["pruner={scan: {cycle: 5}}", "pool={shapes: {num_samples: 80}}"]), path.parent
    )
    assert one.config.name in {run.name for run in runs}
    with pytest.raises(ConfigError, match=r"grid\[0\].pruner.scan.cycle: an empty list"):
        make_plan(read_sweep(path, ["pruner={scan: {cycle: []}}"]), path.parent)
