"""Preparation: pinned packages in any form, whole or absent, repeatable; nothing is fetched twice."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_packages as fake
import pytest

from benchmark.pool.prepare import archives, command, dataset, emoji, packages
from benchmark.pool.prepare.archives import ArchiveError, members_of_deb, members_of_folder
from benchmark.pool.prepare.dataset import Recipe, is_whole, prepare_data_set
from benchmark.pool.prepare.packages import FetchError
from benchmark.pool.prepare.splits import drawn, grouped
from benchmark.pool.samples import PoolError

VENDORS = ("google", "twitter")


@pytest.fixture
def given(tmp_path: Path) -> Path:
    folder = tmp_path / "given"
    folder.mkdir()
    for vendor in VENDORS:
        fake.write_tgz(folder / f"emoji-datasource-{vendor}-16.0.0.tgz", fake.emoji_files(vendor, 0))
    return folder


@pytest.fixture
def recipe(given: Path) -> Recipe:
    paths = [given / f"emoji-datasource-{vendor}-16.0.0.tgz" for vendor in VENDORS]
    return fake.pinned(emoji.RECIPE, paths, [fake.emoji_files(vendor, 0) for vendor in VENDORS])


def test_packages_and_unpacked_folders_give_the_same_shards(recipe: Recipe, given: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "node_modules"
    for vendor in VENDORS:
        for name, data in fake.emoji_files(vendor, 0).items():
            path = unpacked / f"emoji-datasource-{vendor}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    prepare_data_set(recipe, tmp_path / "a", given)
    prepare_data_set(recipe, tmp_path / "b", unpacked)
    a, b = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in "ab")
    assert a == b
    assert sum(part["samples"] for part in a["parts"].values()) == 82


def test_a_second_call_does_nothing_and_says_so(
    recipe: Recipe, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_data_set(recipe, tmp_path / "out", given)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    capsys.readouterr()
    prepare_data_set(recipe, tmp_path / "out", tmp_path / "not even there")
    assert "nothing to do" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


def test_a_damaged_shard_is_noticed_and_made_again(recipe: Recipe, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare_data_set(recipe, out, given)
    shard = out / "train-00000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + b"x")
    assert not is_whole(recipe, out)
    prepare_data_set(recipe, out, given)
    assert shard.read_bytes() == whole


def test_a_killed_preparation_leaves_no_data_set(
    recipe: Recipe, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    prepare_data_set(recipe, out, given)
    (out / "test-00000.tar").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(dataset, "write_text", _killed)
        with pytest.raises(KeyboardInterrupt):
            prepare_data_set(recipe, out, given)
    assert not (out / "manifest.json").exists()
    prepare_data_set(recipe, out, given)
    assert is_whole(recipe, out)


def test_another_version_is_refused_by_its_hash(recipe: Recipe, given: Path, tmp_path: Path) -> None:
    changed = fake.emoji_files("twitter", 5)
    path = given / "emoji-datasource-twitter-16.0.0.tgz"
    fake.write_tgz(path, changed)
    with pytest.raises(FetchError, match=r"is not emoji-datasource-twitter 16\.0\.0: its sha256"):
        prepare_data_set(recipe, tmp_path / "out", given)
    path.unlink()
    for name, data in changed.items():
        place = given / "package" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    with pytest.raises(FetchError, match="does not hold emoji-datasource-twitter"):
        prepare_data_set(recipe, tmp_path / "out", given)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_what_is_missing_is_named(recipe: Recipe, given: Path, tmp_path: Path) -> None:
    (given / "emoji-datasource-twitter-16.0.0.tgz").unlink()
    with pytest.raises(FetchError, match=r"holds neither emoji-datasource-twitter-\*\.tgz nor a folder"):
        prepare_data_set(recipe, tmp_path / "out", given)
    with pytest.raises(FetchError, match="no such folder"):
        prepare_data_set(recipe, tmp_path / "out", tmp_path / "nowhere")


def test_a_folder_of_another_data_set_is_left_alone(recipe: Recipe, given: Path, tmp_path: Path) -> None:
    prepare_data_set(recipe, tmp_path / "out", given)
    with pytest.raises(PoolError, match="holds emoji: give another folder"):
        prepare_data_set(replace(recipe, name="clipart"), tmp_path / "out", given)
    assert is_whole(recipe, tmp_path / "out")


def test_the_client_is_asked_for_the_pinned_version_once(
    recipe: Recipe, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def client(command: Sequence[str], *, cwd: Path, **_options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        if len(asked) == 2:
            return subprocess.CompletedProcess(command, 1, "", "npm error network\n")
        name = f"{command[-1].replace('@', '-')}.tgz"
        (cwd / name).write_bytes((given / name).read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", client)
    monkeypatch.setattr(packages.shutil, "which", lambda name: name)
    with pytest.raises(FetchError, match=r"npm error network.*--from DIR"):
        prepare_data_set(recipe, tmp_path / "out", None)
    prepare_data_set(recipe, tmp_path / "out", None)  # the first package is there already
    assert [list(command)[2] for command in asked] == [
        "emoji-datasource-google@16.0.0",
        "emoji-datasource-twitter@16.0.0",
        "emoji-datasource-twitter@16.0.0",
    ]
    assert not (tmp_path / "out" / dataset.DOWNLOADS).exists()


def test_a_missing_client_is_named(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda name: None)
    with pytest.raises(FetchError, match="npm is not installed: download emoji-datasource-google"):
        prepare_data_set(recipe, tmp_path / "out", None)


def test_licences_stand_beside_the_data(
    recipe: Recipe, given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_data_set(recipe, tmp_path / "out", given)
    assert "Attribution 4.0" in capsys.readouterr().out
    folder = tmp_path / "out" / "licences"
    assert (folder / "emoji-datasource-google.txt").read_text() == "words of a licence"
    assert "Apache License 2.0" in (folder / "emoji.txt").read_text()


def test_links_are_followed_inside_of_a_package_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.deb"
    links = {
        "d/one": "two",
        "d/two": "../d/three",
        "d/loop": "loop",
        "d/out": "/etc/hostname",
        "d/up": "../../../x",
    }
    fake.write_deb(path, {"d/three": b"3", "e/other": b"no"}, links)
    assert members_of_deb(path, ["d/"]) == {"d/three": b"3", "d/two": b"3", "d/one": b"3"}
    folder = tmp_path / "folder" / "d"
    folder.mkdir(parents=True)
    (folder / "three").write_bytes(b"3")
    (folder / "two").symlink_to("three")
    (folder / "dead").symlink_to("nothing")
    assert members_of_folder(tmp_path / "folder", ["d/"]) == {"d/three": b"3", "d/two": b"3"}
    (folder / "out").symlink_to(tmp_path / "a.deb")
    with pytest.raises(ArchiveError, match="leads out of"):
        members_of_folder(tmp_path / "folder", ["d/"])


@pytest.mark.parametrize("data", [b"", b"!<arch>\n", b"no deb at all", b"!<arch>\n" + b"x" * 60])
def test_a_damaged_package_is_one_clear_error(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.deb"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"a\.deb"):
        members_of_deb(path, ["d/"])
    with pytest.raises(ArchiveError, match=r"a\.deb"):
        archives.members_of_tgz(path, ["d/"])


def test_groups_are_chains_of_shared_marks() -> None:
    assert grouped([("a", "x"), ("b", "y"), ("c", "x"), ("b", "x"), ("d", "z")]) == [0, 0, 0, 0, 4]


def test_a_draw_depends_on_the_names_alone() -> None:
    names = [f"name {i}" for i in range(100)]
    assert drawn(names, 0.2, "p") == drawn(reversed(names), 0.2, "p")
    assert len(drawn(names, 0.2, "p")) == 20
    assert drawn(names, 0.2, "p") != drawn(names, 0.2, "q")


def test_the_command_takes_names_of_data_sets_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.prepare(["emojis"])
    assert "clipart" in capsys.readouterr().err
    with pytest.raises(PoolError, match="no such folder"):
        command.prepare(["emoji", "--out", str(tmp_path / "out"), "--from", str(tmp_path / "nowhere")])


def _killed(*_arguments: object) -> None:
    raise KeyboardInterrupt
