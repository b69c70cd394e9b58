"""The file of what was pruned: it reads back, stays small, and says what is wrong with another."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.runs.pruned import (
    MOST_VISITS,
    THUMBNAIL,
    ClassCount,
    Preparation,
    Pruned,
    PrunedError,
    Shown,
    read_pruned,
    write_pruned,
)


@pytest.fixture
def pruned() -> Pruned:
    """A small file's content, made by hand."""
    sample = Shown("redundant", 3, "key-3", "a red circle", "circles", 2, [(1, 0.5), (3, 0.25)])
    return Pruned(
        fingerprint="f1f2f3f4",
        num_samples=4,
        epochs=4,
        visits_histogram=[0, 0, 1, 0, 3],
        classes=[ClassCount("circles", 1, 2), ClassCount("squares", 3, 12)],
        loss_edges=[0.0, 1.0, 2.0],
        preparations=[
            Preparation(1, {"redundant": 1}, {"all": [3, 1], "redundant": [1, 0]}, {"redundant": None}),
            Preparation(3, {"redundant": 1}, {"all": [3, 1], "redundant": [1, 0]}, {"redundant": 1.0}),
        ],
        cycles={"redundant": [3, 0, 1], "any": [3, 0, 1]},
        gallery=[sample],
        thumbnails=np.zeros((1, 8, 8, 3), dtype=np.uint8),
        visits=np.array([4, 4, 4, 2], dtype=np.uint8),
    )


def test_the_file_reads_back_and_holds_no_pickle(tmp_path: Path, pruned: Pruned) -> None:
    path = tmp_path / "pruned.npz"
    write_pruned(path, pruned)
    found = read_pruned(path)
    assert found.gallery[0].key == "key-3"
    assert [list(pair) for pair in found.gallery[0].losses] == [[1, 0.5], [3, 0.25]]
    assert found.preparations == pruned.preparations
    assert np.array_equal(found.visits, pruned.visits)  # type: ignore[arg-type]
    write_pruned(path, dataclasses.replace(pruned, visits=None))
    assert read_pruned(path).visits is None


def test_the_largest_file_stays_under_300_kb(tmp_path: Path, pruned: Pruned) -> None:
    rng = np.random.default_rng(0)
    visits = rng.binomial(32, 0.7, MOST_VISITS).astype(np.uint8)
    losses = [(epoch, round(float(rng.random()), 4)) for epoch in range(32)]
    shown = dataclasses.replace(
        pruned.gallery[0], caption="".join(map(chr, rng.integers(32, 127, 200))), losses=losses
    )
    side = (24, THUMBNAIL, THUMBNAIL, 3)
    write_pruned(
        tmp_path / "pruned.npz",
        dataclasses.replace(
            pruned,
            num_samples=MOST_VISITS,
            epochs=32,
            visits=visits,
            visits_histogram=np.bincount(visits, minlength=33).tolist(),
            gallery=[shown] * 24,
            thumbnails=rng.integers(0, 256, side, dtype=np.uint8),
        ),
    )
    assert (tmp_path / "pruned.npz").stat().st_size < 300_000


def changed(path: Path, **changes: Any) -> None:
    """Write the file anew with other values in its index; arrays as they are."""
    with np.load(path) as content:
        arrays = {name: content[name] for name in content.files}
    for name in set(changes) & {"visits", "thumbnails"}:
        arrays[name] = changes.pop(name)
    index = {**json.loads(arrays["index"].tobytes()), **changes}
    arrays["index"] = np.frombuffer(json.dumps(index).encode(), dtype=np.uint8)
    with path.open("wb") as file:
        np.savez(file, **arrays)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"schema": 2}, "schema: 2"),
        ({"epochs": -1}, "epochs"),
        ({"extra": 1}, "extra"),
        ({"num_samples": 5}, "visits_histogram"),
        ({"loss_edges": [0.0, 1.0]}, "preparations"),
        ({"gallery": [{"kind": "x"}]}, "gallery[0]"),
        ({"visits": np.zeros(3, dtype=np.uint8)}, "visits"),
        ({"visits": np.zeros(4)}, "visits"),
        ({"thumbnails": np.zeros((1, 8, 9, 3), dtype=np.uint8)}, "thumbnails"),
    ],
)
def test_what_does_not_fit_is_named_with_file_and_key(
    tmp_path: Path, pruned: Pruned, changes: dict[str, Any], key: str
) -> None:
    path = tmp_path / "pruned.npz"
    write_pruned(path, pruned)
    changed(path, **changes)
    with pytest.raises(PrunedError) as caught:
        read_pruned(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert key in str(caught.value)


def test_other_files_are_errors_that_name_them(tmp_path: Path, pruned: Pruned) -> None:
    path = tmp_path / "pruned.npz"
    with pytest.raises(FileNotFoundError):
        read_pruned(path)
    write_pruned(path, pruned)
    whole, foreign = path.read_bytes(), io.BytesIO()
    np.savez(foreign, keep=np.zeros(3))
    for content in (b"", b"no zip", whole[: len(whole) // 2], foreign.getvalue()):
        path.write_bytes(content)
        with pytest.raises(PrunedError, match=r"pruned\.npz"):
            read_pruned(path)


def test_git_keeps_the_file_and_not_what_it_was_made_from() -> None:
    root = Path(__file__).parents[2]
    paths = {"results/s/r/pruned.npz": False, "results/s/r/marks/losses-0001.npy": True}
    for path, is_ignored in paths.items():
        assert (subprocess.run(["git", "check-ignore", "-q", path], cwd=root).returncode == 0) is is_ignored
