"""Snapshots of the code: what one holds, what it leaves out, when it is shared."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmark.runs import snapshot
from benchmark.runs.snapshot import SnapshotError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout of a project with packages of the same names."""
    root = tmp_path / "project"
    for name in ("benchmark/job.py", "baselines/scan.py", "analysis/page.html", "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    (root / ".gitignore").write_text("ignored.py\n__pycache__\n")
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=root, check=True)
    return root


def test_a_snapshot_holds_what_git_does_not_ignore_and_is_shared_by_one_state(
    project: Path, tmp_path: Path
) -> None:
    (project / "baselines" / "ignored.py").write_text("")
    clean = snapshot.take(tmp_path / "clean", project)
    assert json.loads((clean.folder / "snapshot.json").read_text())["dirty"] is False
    (project / "baselines" / "mine.py").write_text("# not committed\n")
    untracked = snapshot.take(tmp_path / "clean", project)
    assert json.loads((untracked.folder / "snapshot.json").read_text())["dirty"] is True
    (project / "benchmark" / "job.py").write_text("# edited\n")
    first = snapshot.take(tmp_path / "code", project)
    assert sorted(str(p.relative_to(first.folder)) for p in first.folder.rglob("*.*") if p.is_file()) == [
        "__main__.py",
        "analysis/page.html",
        "baselines/mine.py",
        "baselines/scan.py",
        "benchmark/job.py",
        "snapshot.json",
    ]
    assert (first.folder / "benchmark" / "job.py").read_text() == "# edited\n"
    facts = json.loads((first.folder / "snapshot.json").read_text())
    assert facts["dirty"] is True
    assert len(facts["git_sha"]) == 40
    (first.folder / "benchmark" / "__pycache__").mkdir()
    (first.folder / "benchmark" / "__pycache__" / "job.pyc").write_bytes(b"x")
    assert snapshot.take(tmp_path / "code", project) == first
    (project / "benchmark" / "job.py").write_text("# edited again\n")
    second = snapshot.take(tmp_path / "code", project)
    assert second != first
    assert sorted(p.name for p in (tmp_path / "code").iterdir()) == sorted([first.name, second.name])
    assert (
        snapshot.take(tmp_path / "again", first.folder).name == first.name
    )  # a job that submits more of its kind


def test_a_snapshot_leaves_what_is_no_code_and_follows_no_link_out_of_the_tree(
    project: Path, tmp_path: Path
) -> None:
    for name in ("baselines/notes.txt", "baselines/.netrc", "benchmark/key.pem", "analysis/.secret.py"):
        (project / name).write_text("private")
    taken = snapshot.take(tmp_path / "code", project)
    assert not [p for p in taken.folder.rglob("*") if p.is_file() and p.read_text() == "private"]
    (tmp_path / "elsewhere.py").write_text("private")
    (project / "baselines" / "mine.py").symlink_to(project / "baselines" / "scan.py")
    assert (snapshot.take(tmp_path / "code", project).folder / "baselines" / "mine.py").exists()
    (project / "baselines" / "theirs.py").symlink_to(tmp_path / "elsewhere.py")
    with pytest.raises(SnapshotError, match=r"baselines/theirs\.py is a link to a file elsewhere"):
        snapshot.take(tmp_path / "code", project)


def test_outside_a_checkout_a_snapshot_holds_the_packages_as_they_are(project: Path, tmp_path: Path) -> None:
    inside = tmp_path / "project" / "results"
    inside.mkdir()
    (project / "benchmark").rename(inside / "benchmark")  # in a checkout, but not its top
    taken = snapshot.take(tmp_path / "code", inside)
    assert (taken.folder / "benchmark" / "job.py").exists()
    assert json.loads((taken.folder / "snapshot.json").read_text()) == {"git_sha": None, "dirty": None}


def test_a_checkout_of_another_user_is_told_with_what_to_do(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    taken = snapshot.take(tmp_path / "code", project)
    assert json.loads((taken.folder / "snapshot.json").read_text())["git_sha"] is None
    assert f"git config --global --add safe.directory {project}" in caplog.text
    assert caplog.text.count("another user") == 1
