"""``python -m benchmark.pool``: index and inspect as a user sees them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pair_files import as_csv, make_pairs
from PIL import Image
from shard_files import sample, write_shards, write_tar

from benchmark.pool.command import main


def test_index_says_where_it_is_and_what_was_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shards(tmp_path / "a", [2])
    write_tar(tmp_path / "b" / "0.tar", [*sample(5), ("x.txt", b"alone")])
    out = tmp_path / "my.npz"
    assert main(["index", str(tmp_path / "a"), f"{tmp_path}/b/*.tar", "--out", str(out), "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert f"3 samples in 2 shards: {out}" in printed
    assert "skipped 1 image_missing" in printed
    assert out.exists()


def test_inspect_tells_sources_faults_and_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shards(tmp_path / "cc12m", [30])
    broken = [("bad.png", b"no image"), ("bad.txt", b"a page"), ("x.txt", b"alone")]
    path = write_tar(tmp_path / "sbu" / "0.tar", [*sample(50), *broken])
    path.write_bytes(path.read_bytes()[:5120])
    grid = tmp_path / "out" / "grid.png"
    assert main(["inspect", str(tmp_path), "--grid", str(grid)]) == 0
    printed = capsys.readouterr().out
    for part in (
        "32 samples in 2 shards",
        "cc12m",
        "30",
        "sbu",
        "image_missing",
        "1 image_undecodable",
        "cut short",
    ):
        assert part in printed
    assert "of 32 samples drawn at random, 31 decode" in printed
    with Image.open(grid) as image:
        assert image.width > 1000
        assert image.height > 1000


@pytest.mark.parametrize(("expected", "code"), [(100, 0), (101, 0), (102, 1), (99, 1), (98, 1)])
def test_expect_allows_one_percent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], expected: int, code: int
) -> None:
    write_shards(tmp_path, [100])
    assert main(["inspect", str(tmp_path), "--expect", str(expected), "--draw", "1"]) == code
    assert ("more than 1 % off" in capsys.readouterr().out) == (code == 1)


def test_a_pool_of_other_files_is_indexed_and_inspected_as_a_sweep_file_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    as_csv(tmp_path, make_pairs(9))
    pool = f"csv: {{name: x, file: {tmp_path}/pairs.csv}}"
    assert main(["index", "--pool", pool]) == 0
    assert "9 samples in 1 shards" in capsys.readouterr().out
    assert main(["inspect", "--pool", pool, "--grid", str(tmp_path / "grid.png"), "--expect", "9"]) == 0
    printed = capsys.readouterr().out
    assert "of 9 samples drawn at random, 9 decode" in printed
    assert "a shard holds 9 samples" in printed
    for words, said in (
        (["inspect"], "name SHARDS, or a pool"),
        (["inspect", "x", "--pool", pool], "name SHARDS, or a pool"),
        (["index", "--pool", pool, "--jobs", "2"], "leave them out with --pool"),
        (["inspect", "--pool", "digits"], "it has no files of pairs"),
        (["inspect", "--pool", "csv: {name: x}"], "csv.file: missing"),
    ):
        assert main(words) == 2
        assert said in capsys.readouterr().err


def test_shards_of_another_split_are_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shards(tmp_path / "train", [3])
    write_shards(tmp_path / "validation", [4])
    assert main(["inspect", str(tmp_path), "--expect", "3"]) == 0
    assert "1 shards of validation or test splits are not trained on" in caplog.text


def test_mistakes_are_one_line_and_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shards(tmp_path, [1])
    for arguments, said in (
        (["index", f"{tmp_path}/x*.tar"], "no shards match"),
        (["index", str(tmp_path), "--out", "index.json"], "ends in .npz"),
        (["inspect", f"{tmp_path}/none.npz"], "none.npz cannot be read as an index"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err


def test_the_command_runs_as_a_module(tmp_path: Path) -> None:
    write_shards(tmp_path, [1] * 9)
    command = [sys.executable, "-m", "benchmark.pool", "index", str(tmp_path), "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("9 samples in 9 shards")
