"""The doctor off SLURM: locks are tried by two processes, and one part that fails leaves the others to be told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmark import files, sweep
from benchmark.doctor import cluster, doctor, probe
from benchmark.doctor.cluster import Finding


def test_this_machine_s_locks_are_seen_by_another_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep.main(["doctor", "--cluster", "local", "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "ok    locks: what is locked here is locked there" in said
    assert not list(tmp_path.iterdir())


def test_what_the_probe_can_say_of_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / probe.LOCK).open("w") as held:
        files.try_lock(held.fileno())
        assert doctor.LOCKS[probe._lock(tmp_path)].level == "ok"
    assert "is free there" in doctor.LOCKS[probe._lock(tmp_path)].text

    def flock(_descriptor: int, _kind: int) -> None:
        raise OSError(files.NO_LOCKS[0], "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    assert "the file system has none" in doctor.LOCKS[probe._lock(tmp_path)].text


def test_a_results_folder_that_cannot_be_is_one_line_among_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").touch()
    assert sweep.main(["doctor", "--cluster", "local", "--results", str(tmp_path / "results")]) == 1
    machine, results = capsys.readouterr().out.splitlines()
    assert machine.startswith("ok    machine: ")
    assert results.startswith(f"fail  results: {tmp_path}/results: File exists; ")


def test_a_cluster_s_odd_answer_spoils_its_own_line_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "scontrol": (0, "SLURM_VERSION = 23.1\nMaxArraySize = lots\nJobRequeue = 1\n"),
        "sinfo": (0, "main*|up|1-00:00:00|2|8|4000|(null)"),
        "sacct": (1, ""),
    }
    monkeypatch.setattr(cluster, "ask", lambda *words: answers[words[0]])
    found = {finding.what: finding for finding in cluster.cluster_findings()}
    assert found["arrays"].level == "fail"
    assert "lots" in found["arrays"].text
    assert [what for what, finding in found.items() if finding.level != "fail"] == [
        "SLURM", "requeue", "preemption", "accounting", "partition main (the default)",
    ]  # fmt: skip


def test_without_slurm_the_rest_is_tried_on_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    tried: list[str] = []

    def results(where: str, *_: object) -> list[Finding]:
        tried.append(where)
        return [Finding("ok", "locks", "")]

    monkeypatch.setattr(doctor, "_results", results)
    found = list(doctor._examine("slurm", doctor.LaunchConfig(), tmp_path, 1.0))
    assert [finding.what for finding in found] == ["SLURM", "probe", "locks"]
    assert tried == ["local"]
