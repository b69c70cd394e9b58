"""Patterns of shards: braces, globs, lists, folders; and the source each shard belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.pool.samples import PoolError
from benchmark.pool.storage.names import braces, common_folder, expand, expand_to_train, sources


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("{008..011}.tar", ["008.tar", "009.tar", "010.tar", "011.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..9..4}", ["0", "4", "8"]),
        ("{a,b}/{0..1}", ["a/0", "a/1", "b/0", "b/1"]),
        ("{a,}x", ["ax", "x"]),
    ],
)
def test_braces_are_written_out(text: str, expected: list[str]) -> None:
    assert braces(text) == expected


@pytest.mark.parametrize("text", ["{a", "a}", "{a{0..1},b}", "{x}", "{}"])
def test_braces_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(PoolError, match="braces"):
        braces(text)


def test_globs_lists_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b/1.tar", "b/0.tar", "a/x/2.tar", "a/note.txt", "we[ird].tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(*patterns: str) -> list[str]:
        return [str(Path(found).relative_to(tmp_path)) for found in expand([str(tmp_path / p) for p in patterns])]

    assert names("b/*.tar") == ["b/0.tar", "b/1.tar"]
    assert names("**/*.tar") == names("") == ["a/x/2.tar", "b/0.tar", "b/1.tar", "we[ird].tar"]
    assert names("we[ird].tar") == ["we[ird].tar"]
    assert expand(f"{tmp_path}/b/1.tar::{tmp_path}/a") == [f"{tmp_path}/b/1.tar", f"{tmp_path}/a/x/2.tar"]
    monkeypatch.setenv("HERE", str(tmp_path))
    assert expand("${HERE}/b/{0..1}.tar") == [f"{tmp_path}/b/0.tar", f"{tmp_path}/b/1.tar"]
    with pytest.raises(PoolError, match=r"b/1\.tar is listed twice"):
        names("b/*.tar", "b/1.tar")


@pytest.mark.parametrize(
    "pattern",
    ["https://x.org/$SECRET/0.tar", "$SECRET/0.tar", "a/${SECRET}/0.tar", "$HERE-$SECRET.tar", "$ABSENT/0.tar"],
)
def test_a_variable_is_filled_in_for_a_folder_alone_and_its_value_is_told_nowhere(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.setenv("HERE", str(tmp_path))
    with pytest.raises(PoolError) as error:
        expand(pattern)
    assert "hunter2" not in str(error.value)
    assert pattern in str(error.value)


def test_the_source_is_the_folder_below_the_common_one() -> None:
    names = ["/d/cc12m/0.tar", "/d/cc12m/1.tar", "/d/sbu/train/0.tar", "/d/x.tar"]
    assert common_folder(names) == "/d"
    assert sources(names) == ["cc12m", "cc12m", "sbu/train", "d"]
    assert sources(["/d/cc3m/0.tar", "/d/cc3m/1.tar"]) == ["cc3m", "cc3m"]
    assert sources(["s3://bucket/coco/0.tar"]) == ["coco"]
    assert sources(["http://one/a/0.tar", "/d/b/0.tar"]) == ["http:/one/a", "/d/b"]


def test_shards_of_held_out_splits_are_trained_on_only_by_their_own_words(tmp_path: Path) -> None:
    """As ``pixparse/cc3m-wds`` and Hugging Face's datasets lay them out; a folder above says nothing."""
    home = tmp_path / "test data"
    names = ["cc3m-train-0000.tar", "cc3m-validation-0000.tar", "val/0.tar", "evaluated/0.tar", "x_dev2.tar"]
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).touch()

    def told(pattern: str) -> tuple[list[str], list[str]]:
        kept, left = expand_to_train(f"{home}{pattern}")
        return [str(Path(n).relative_to(home)) for n in kept], [str(Path(n).relative_to(home)) for n in left]

    kept, left = (
        ["cc3m-train-0000.tar", "evaluated/0.tar"],
        ["cc3m-validation-0000.tar", "val/0.tar", "x_dev2.tar"],
    )
    assert told("") == told("/**/*.tar") == (kept, left)
    assert told("/*.tar") == (kept[:1], [left[0], left[2]])
    assert told("/cc3m-validation-*.tar") == (left[:1], [])
    assert told("/val/*.tar")[0] == ["val/0.tar"]
    assert told("/{val/0,x_dev2}.tar") == (["val/0.tar", "x_dev2.tar"], [])
    assert told(f"::{home}/val/0.tar")[0] == [*kept, "val/0.tar"]
    assert len(expand(str(home))) == 5
