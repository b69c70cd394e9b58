"""What a submission leaves on disk, what it does when SLURM says no or nothing, and what code a job runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import patience
from slurm_standin import SBATCH, Slurm
from tiny import clip_grid

from benchmark import sweep
from benchmark.config.launch import LaunchConfig
from benchmark.job import array_task
from benchmark.launch import script
from benchmark.plan.plan import PlannedRun
from benchmark.runs import snapshot, submission
from benchmark.runs.record import read_record
from benchmark.slurm.commands import clean_environment

WriteSweep = Callable[..., Path]
Planned = Callable[..., list[PlannedRun]]
Output = pytest.CaptureFixture[str]


def call(path: Path, *words: str) -> int:
    return sweep.main([str(path), "--results", str(path.parent / "results"), *words])


def jobs(path: Path) -> list[str]:
    return [json.loads(p.read_text())["job_id"] for p in path.parent.glob("results/*/*/job/submitted.json")]


@pytest.mark.slow
def test_a_sweep_goes_out_in_arrays_as_large_as_the_cluster_takes(write_sweep: WriteSweep, fake: Slurm) -> None:
    path = write_sweep(clip_grid(seed=list(range(900)), launch={"at_once": 9}))
    assert call(path, "--cluster", "slurm") == 0
    assert fake.arrays == [400, 400, 100]
    assert len(set(jobs(path))) == 900
    scripts = [p.read_text() for p in path.parent.glob("results/tiny/job/submissions/*.sh")]
    limits = sorted(line.split("%")[1] for text in scripts for line in text.splitlines() if "--array" in line)
    assert limits == ["1", "4", "4"]  # nine at once in all
    assert call(path, "--cluster", "slurm") == 0
    assert len(fake.arrays) == 3


@pytest.mark.slow
def test_at_a_limit_as_many_go_out_as_fit_and_the_same_command_submits_the_rest(
    write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    path = write_sweep(clip_grid(seed=list(range(100))))
    fake.room(43)
    assert call(path, "--cluster", "slurm") == sweep.EXIT_LEFT
    assert sum(fake.arrays) == 43 == len(set(jobs(path)))
    said = " ".join(capsys.readouterr().err.split())
    assert "submitted 43 runs" in said
    assert "QOSMaxSubmitJobPerUserLimit" in said
    assert "57 runs remain; later, the same command submits them" in said
    assert call(path, "--cluster", "slurm") == sweep.EXIT_LEFT  # still full: nothing goes out, nothing twice
    assert sum(fake.arrays) == 43
    fake.room(1000)
    assert call(path, "--cluster", "slurm") == 0
    assert sum(fake.arrays) == 100 == len(set(jobs(path)))


def test_another_refusal_is_one_error_and_leaves_nothing_behind(
    write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1]))
    fake.room(0, "sbatch: error: invalid partition specified: nowhere")
    assert call(path, "--cluster", "slurm") == sweep.EXIT_USAGE
    assert "error: sbatch refuses: sbatch: error: invalid partition specified: nowhere" in capsys.readouterr().err
    assert not list(path.parent.glob("results/tiny/job/submissions/*.json"))


def test_a_controller_that_is_away_at_submission_loses_and_doubles_nothing(
    write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1]))
    real = (fake.folder / "squeue").read_text()
    fake.room(
        0, "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
    )
    fake.write(
        "squeue", "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1\n"
    )
    assert call(path, "--cluster", "slurm") == sweep.EXIT_LEFT
    assert "2 runs remain" in capsys.readouterr().err
    assert call(path, "--status") == 0
    assert "2 unknown" in capsys.readouterr().out
    fake.write("squeue", real)
    fake.room(10)
    assert call(path, "--cluster", "slurm") == 0
    assert "SLURM does not have it" in capsys.readouterr().err
    assert fake.arrays == [2]


def test_an_answer_that_was_lost_is_found_by_the_job_s_name(
    write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1, 2]))
    text = SBATCH.replace(
        'print("Submitted batch job " + job)', 'sys.exit("Socket timed out on send/recv operation")'
    )
    fake.write("sbatch", f"#!{sys.executable}\n{text}")
    assert call(path, "--cluster", "slurm") == 0
    assert fake.arrays == [3]
    assert sorted(jobs(path)) == ["100_0", "100_1", "100_2"]


@pytest.mark.slow
@pytest.mark.parametrize("before", [True, False])
def test_a_launcher_that_dies_at_sbatch_leaves_what_the_next_command_needs(
    before: bool, write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    path = write_sweep(clip_grid(seed=[0, 1, 2]))
    real = (fake.folder / "sbatch").read_text()
    (fake.folder / "real").write_text(real)
    submit = "" if before else f'{sys.executable} {fake.folder}/real "$1"\n'
    fake.write("sbatch", f"#!/bin/sh\n{submit}kill -9 $PPID\n")
    words = [sys.executable, "-m", "benchmark.sweep", str(path), "--results", str(path.parent / "results")]
    assert subprocess.run([*words, "--cluster", "slurm"], capture_output=True).returncode == -9
    assert jobs(path) == []
    fake.write("sbatch", real)
    assert call(path, "--status") == 0
    assert ("3 absent" if before else "3 queued") in capsys.readouterr().out
    assert call(path, "--cluster", "slurm") == 0
    assert f"SLURM {'does not have it' if before else 'has it, job 100'}" in capsys.readouterr().err
    assert fake.arrays == [3]
    assert sorted(jobs(path)) == ["100_0", "100_1", "100_2"]


def test_sacct_is_never_asked(write_sweep: WriteSweep, fake: Slurm, capsys: Output) -> None:
    fake.write("sacct", f"#!/bin/sh\ntouch {fake.folder}/asked\nexit 1\n")
    path = write_sweep(clip_grid(seed=[0, 1]))
    assert call(path, "--cluster", "slurm") == 0
    assert call(path, "--status") == 0
    assert "2 queued" in capsys.readouterr().out
    assert not (fake.folder / "asked").exists()


def test_a_finished_job_whose_record_does_not_show_yet_is_ending_not_stopped(
    write_sweep: WriteSweep, fake: Slurm, capsys: Output
) -> None:
    path = write_sweep(clip_grid())
    assert call(path, "--cluster", "slurm") == 0
    for end, state in ((time.time() - 5, "1 running"), (time.time() - 3600, "1 stopped")):
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(end))
        fake.write("squeue", f"#!/bin/sh\necho '100|COMPLETED|0|None|{when}'\n")
        assert call(path, "--status") == 0
        assert state in capsys.readouterr().out
        assert call(path, "--cluster", "slurm", "--dry-run") == 0
        assert ("estimate:" in capsys.readouterr().out) == (state == "1 stopped")


def test_a_surrounding_job_s_variables_do_not_reach_sbatch_but_the_cluster_s_address_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inherited = {
        "SLURM_MEM_PER_CPU": "100",
        "SBATCH_PARTITION": "x",
        "SLURM_CPU_BIND": "mask",
        "SQUEUE_FORMAT": "%i",
    }
    own = {"LOCAL_RANK": "3", "CUDA_VISIBLE_DEVICES": "1", "SUBMITIT_EXECUTOR": "slurm"}
    for name, value in {**inherited, **own, "SLURM_CONF": "/there", "PYTHONPATH": "/mine"}.items():
        monkeypatch.setenv(name, value)
    kept = clean_environment()
    assert not inherited.keys() & kept.keys()
    assert kept["SLURM_CONF"] == "/there"
    assert kept["CUDA_VISIBLE_DEVICES"] == "1"  # outside a job it is the user's own
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    kept = clean_environment()
    assert not (inherited | own).keys() & kept.keys()
    assert (kept["SLURM_CONF"], kept["PYTHONPATH"]) == ("/there", "/mine")


def test_options_of_sbatch_in_the_environment_are_named_as_unused(
    write_sweep: WriteSweep, fake: Slurm, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    assert call(write_sweep(clip_grid()), "--cluster", "slurm") == 0
    assert "not used: SBATCH_ACCOUNT" in capsys.readouterr().err


def test_a_run_s_own_dependency_is_kept_beside_the_sweep_s(write_sweep: WriteSweep, fake: Slurm) -> None:
    scan = {"scan": {"warmup_threshold": 1.0}}
    coreset = {"coreset": {"runs": {"pruner": scan}, "keep_fraction": 0.5}}
    path = write_sweep(clip_grid(pruner=[scan, coreset], launch={"sbatch": {"dependency": "afterany:9"}}))
    assert call(path, "--cluster", "slurm") == 0
    scripts = [p.read_text() for p in path.parent.glob("results/tiny/job/submissions/*.sh")]
    lines = [line for text in scripts for line in text.splitlines() if line.startswith("#SBATCH --dependency=")]
    assert sorted(line.partition("=")[2] for line in lines) == ["afterany:9", "afterany:9,afterok:100"]


@pytest.mark.slow
def test_a_task_works_on_its_run_from_its_folder_alone_and_records_the_snapshot(
    planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = planned(clip_grid(seed=[0, 1], train={"epochs": 1}))
    done = run_task(run)
    assert done.returncode == 0, done.stderr
    code = read_record(run.folder / "record.json")["code"]
    assert code["snapshot"] in [p.name for p in (run.folder.parent / "code").iterdir()]


def test_a_task_refuses_code_that_is_not_what_was_submitted_and_names_both(planned: Planned) -> None:
    _, run = planned(clip_grid(seed=[0, 1], train={"epochs": 1}))
    taken = snapshot.take(run.folder.parent.resolve() / "code")
    (taken.folder / "benchmark" / "job" / "process.py").chmod(0o644)
    (taken.folder / "benchmark" / "job" / "process.py").write_text("this does not even load")
    assert run_task(run, taken).returncode == 1
    error = json.loads((run.folder / "error.json").read_text())["message"]
    assert f"snapshot {taken.name}" in error
    assert snapshot.hash_of(taken.folder) in error
    with pytest.raises(snapshot.SnapshotError, match=taken.name):  # nor is it used for another submission
        snapshot.take(taken.folder.parent)


def run_task(run: PlannedRun, taken: snapshot.Snapshot | None = None) -> subprocess.CompletedProcess[str]:
    """What SLURM would start for the second task of an array, whose files show a second late."""
    folder = run.folder.parent.resolve()
    taken = taken or snapshot.take(folder / "code")
    intent = submission.begin(folder, "tiny", ["other", run.config.name], taken.name)
    path = submission.path_of(folder, intent)
    hidden = path.rename(path.with_suffix(".hidden"))
    words = ["sh", "-c", script.START, sys.executable, str(taken.folder), str(path)]
    slurms = {"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_NTASKS": "1"}
    environment = {**os.environ, **slurms, "SUBMITIT_EXECUTOR": "slurm"}
    process = subprocess.Popen(words, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    hidden.rename(path)
    _, error = process.communicate(timeout=patience(120))
    return subprocess.CompletedProcess(words, process.returncode, stderr=error)


def test_files_that_a_node_does_not_see_in_time_leave_the_run_alone(
    planned: Planned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(array_task, "VISIBLE_SECONDS", 0.0)
    intent = submission.begin(tmp_path / "tiny", "tiny", ["absent"], "x")
    path = submission.path_of(tmp_path / "tiny", intent)
    with pytest.raises(FileNotFoundError, match="does not show on this node"):
        array_task.main([str(path)])
    path.unlink()
    with pytest.raises(SystemExit, match="is gone"):
        array_task.main([str(path)])


def test_at_once_becomes_the_array_s_limit() -> None:
    assert LaunchConfig().at_once is None
    with pytest.raises(ValueError, match="at_once must be at least 1"):
        LaunchConfig(at_once=0)


@pytest.mark.slow
def test_submitting_looking_and_cancelling_load_no_torch_once_the_flops_of_its_models_are_known(
    write_sweep: WriteSweep, fake: Slurm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCAN_BENCH_CACHE", str(tmp_path / "cache"))
    fake.write("scancel", "#!/bin/sh\n")
    path = write_sweep(clip_grid(pruner=["full", "scan"], seed=[0, 1], launch={"gpus": 1}))
    words = [str(path), "--results", str(tmp_path / "results")]
    assert sweep.main([*words, "--dry-run"]) == 0  # which counts them
    calls = [[*words, *more.split()] for more in ("--cluster slurm", "--status", "--cancel")]
    code = (
        f"import sys; from benchmark import sweep; print([sweep.main(w) for w in {calls}], 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=patience(60))
    assert fake.arrays == [4], done.stderr
    assert done.stdout.endswith("False\n"), done.stdout
