"""Lists of keys from elsewhere: every form is read, what it does not find is counted, and export writes it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import clip_grid

from benchmark.config.run import Choice
from benchmark.coreset import command
from benchmark.coreset.coreset import Coreset, CoresetError, load_coreset, save_coreset
from benchmark.coreset.keylist import listed
from benchmark.job import process
from benchmark.plan.plan import PlannedRun
from benchmark.pool.samples import PoolView
from benchmark.pool.source import make_source
from benchmark.pool.storage.tarwriter import Member, write_tar
from benchmark.pruner import make_pruner
from benchmark.runs.record import read_record

UIDS = [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}{i:016x}" for i in range(6)]
VIEW = PoolView(6, "f", keys=UIDS)
NAMED = [1, 2, 5]
"""Ids that every list below names, beside one that the pool does not have."""


def uids(path: Path) -> None:
    found = [UIDS[i] for i in NAMED] + ["f" * 32]
    np.save(path, np.array(sorted((int(u[:16], 16), int(u[16:], 16)) for u in found), dtype="u8,u8"))


FORMS: dict[str, Callable[[Path], object]] = {
    "uids.npy": uids,
    "ids.npy": lambda path: np.save(path, np.array([5, 1, 2, 2, 99])),
    "keys.npy": lambda path: np.save(path, np.array([UIDS[i] for i in NAMED] + ["x"])),
    "keys.txt": lambda path: path.write_text("\n".join([UIDS[i] for i in NAMED] + ["", "x", ""])),
    "keys.csv": lambda path: pd.DataFrame({"n": range(4), "key": [UIDS[i] for i in NAMED] + ["7"]}).to_csv(path),
    "ids.csv": lambda path: pd.DataFrame({"id": [1, 2, 5, 6]}).to_csv(path, index=False),
    "ids.parquet": lambda path: pd.DataFrame({"id": [1, 2, 5, -1], "text": "t"}).to_parquet(path),
    "uids.parquet": lambda path: pd.DataFrame({"uid": [UIDS[i] for i in NAMED] + ["0"], "id": "?"}).to_parquet(
        path
    ),
    "one.tsv": lambda path: path.write_text("\n".join(["sample", *[UIDS[i] for i in NAMED], "007"])),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_list_of_any_form_names_its_samples_and_counts_what_is_not_there(form: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path / form)
    found = listed(tmp_path / form, VIEW)
    assert np.flatnonzero(found.mask).tolist() == NAMED
    assert (found.entries, found.missing, found.repeated) == (4, 1, 0)


def test_flags_keys_of_digits_and_keys_that_repeat(tmp_path: Path) -> None:
    np.save(tmp_path / "flags.npy", np.arange(6) % 2 == 0)
    assert listed(tmp_path / "flags.npy", VIEW).mask.tolist() == [True, False] * 3
    (tmp_path / "k.csv").write_text("key,note\n007,a\n010,b\n")
    found = listed(tmp_path / "k.csv", PoolView(4, "f", keys=["7", "007", "010", "007"]))
    assert (found.mask.tolist(), found.missing, found.repeated) == ([False, True, True, True], 0, 1)


@pytest.mark.parametrize(
    ("name", "content", "column", "said"),
    [
        ("absent.txt", None, "", "absent.txt: no such file"),
        ("c.npz", b"x", "", "a coreset, which the method 'coreset' takes"),
        ("n.npy", b"noise", "", "n.npy: cannot be read as a list"),
        ("n.parquet", b"noise", "", "n.parquet: cannot be read as a list"),
        ("t.txt", b"\xff\xfe", "", "t.txt: cannot be read as a list"),
        ("a.csv", b"one,two\n1,2\n", "", "has the columns one, two: say with the option column"),
        ("a.csv", b"one,two\n1,2\n", "on", "no column 'on'; did you mean 'one'"),
        ("i.csv", b"id\nseven\n", "", "i.csv: cannot be read as a list"),
    ],
)
def test_a_file_that_is_no_list_is_one_error(
    name: str, content: bytes | None, column: str, said: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CoresetError, match=said):
        listed(tmp_path / name, VIEW, column)


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Shards as DataComp's: 64 samples, whose JSON has a uid."""
    shapes = make_source(Choice(name="shapes", options={"num_samples": 64}), "pool").training_pool()
    members = []
    for i in range(64):
        sample, picture = shapes.read(i), io.BytesIO()
        sample.image.save(picture, "PNG")
        node = {"uid": f"{i:032x}", "caption": sample.caption}
        members += [Member(f"{i:05d}.png", picture.getvalue()), Member(f"{i:05d}.json", json.dumps(node).encode())]
    (tmp_path / "tars").mkdir()
    with (tmp_path / "tars" / "0.tar").open("wb") as file:
        write_tar(file, members)
    return tmp_path / "tars"


def test_what_export_writes_is_the_same_choice_in_another_run(
    tars: Path, tmp_path: Path, planned: Callable[..., list[PlannedRun]], caplog: pytest.LogCaptureFixture
) -> None:
    told = {"name": "x", "shards": str(tars), "key": "uid"}
    subset = {"random_subset": {"keep_fraction": 0.5}}
    (run,) = planned(clip_grid(pool={"webdataset": told}, pruner=subset, train={"epochs": 1}))
    process.run(run.folder)
    chosen = load_coreset(run.folder / "coreset.npz").keep
    view = make_source(Choice(name="webdataset", options=told), "pool").training_pool().view()
    for suffix in (".npy", ".txt", ".csv", ".parquet"):
        out = tmp_path / f"kept{suffix}"
        assert command.main(["export", str(run.folder / "coreset.npz"), "--out", str(out)]) == 0
        assert np.array_equal(listed(out, view).mask, chosen)
    keys = {"keys": {"file": str(tmp_path / "kept.npy")}}
    (again,) = planned(clip_grid(pool={"webdataset": told}, pruner=keys, train={"epochs": 1}), results="again")
    process.run(again.folder)
    first, second = (read_record(one.folder / "record.json") for one in (run, again))
    assert (first["weights"], second["family"]) == (second["weights"], "static")
    assert "0 of its 32 entries name no sample of the pool; 32 of 64 samples are named" in caplog.text


def test_the_rest_is_trained_on_with_keep_false_and_an_empty_choice_is_refused(tmp_path: Path) -> None:
    uids(tmp_path / "l.npy")
    (tmp_path / "none.txt").write_text("x\ny\n")

    def kept(**options: object) -> list[int]:
        pruner = make_pruner(Choice(name="keys", options=dict(options)), "grid")
        pruner.setup(VIEW, num_epochs=1, seed=0)
        return np.flatnonzero(pruner.plan(0).keep).tolist()

    assert kept(file=str(tmp_path / "l.npy")) == NAMED
    assert kept(file=str(tmp_path / "l.npy"), keep=False) == [0, 3, 4]
    for keep in (True, False):
        with pytest.raises(
            ValueError, match=r"0 of its 2 entries name samples of the pool \(its first key is '0000"
        ):
            kept(file=str(tmp_path / "none.txt"), keep=keep)


def test_keys_that_a_form_cannot_hold_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = Choice(name="shapes", options={"num_samples": 8})
    fingerprint = make_source(shapes, "pool").training_pool().fingerprint
    save_coreset(tmp_path / "c.npz", Coreset(np.arange(8) < 4, fingerprint, "hand", 0, "hand"))
    words = ["export", str(tmp_path / "c.npz"), "--pool", "shapes: {num_samples: 8}", "--out"]
    assert command.main([*words, str(tmp_path / "k.npy")]) == 2
    assert "the key 'shapes-000000' is not 32 hexadecimal digits: write .txt" in capsys.readouterr().err
    assert command.main([*words, str(tmp_path / "k.txt")]) == 0
    assert (tmp_path / "k.txt").read_text() == "".join(f"shapes-{i:06d}\n" for i in range(4))
    assert not list(tmp_path.glob("k.npy"))
