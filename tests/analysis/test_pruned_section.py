"""The report's section on what was pruned: samples, classes, churn and agreement, from the files runs leave."""

from __future__ import annotations

import csv
import dataclasses
import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_trees import plan, put, record

from analysis.blocks.block import build_blocks
from analysis.pruned.overlap import agreement, overlaps
from analysis.pruned.read import class_table, cycles_at_random, jaccard_at_random, read_pruning, shown_galleries
from analysis.read.results import load
from analysis.report import main
from benchmark.runs.pruned import ClassCount, Preparation, Pruned, Shown, write_pruned

N, EPOCHS = 1000, 4
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def left(visits: np.ndarray | None = None, kinds: tuple[str, ...] = (), **changes: Any) -> Pruned:
    """What a run of the record's pool leaves: two samples of each kind, two classes of 900 and 100."""
    visits = np.full(N, EPOCHS, dtype=np.uint8) if visits is None else visits
    samples = [
        Shown(
            kind,
            2 * i + j,
            f"key-{2 * i + j}",
            f"caption of {kind} {j}",
            "big",
            int(visits[2 * i + j]),
            [(1, 2.0)],
        )
        for i, kind in enumerate(kinds)
        for j in range(2)
    ]
    made = Pruned(
        fingerprint="f1f2f3f4",
        num_samples=N,
        epochs=EPOCHS,
        visits_histogram=np.bincount(visits, minlength=EPOCHS + 1).tolist(),
        classes=[
            ClassCount("big", 900, int(visits[:900].sum())),
            ClassCount("small", 100, int(visits[900:].sum())),
        ],
        loss_edges=[],
        preparations=[],
        cycles={},
        gallery=samples,
        thumbnails=np.full((len(samples), 32, 32, 3), 200, dtype=np.uint8),
        visits=visits,
    )
    return dataclasses.replace(made, **changes)


def with_candidates(visits: np.ndarray | None = None, **changes: Any) -> Pruned:
    """Two preparations of 300 candidates a kind, of which 200 stay."""
    kinds = ("redundant", "ill_matched")
    counts = dict.fromkeys(kinds, 300)
    histograms = {"all": [600, 400], "redundant": [300, 0], "ill_matched": [0, 300]}
    found = [
        Preparation(1, counts, histograms, dict.fromkeys(kinds, None)),
        Preparation(3, counts, histograms, dict.fromkeys(kinds, 0.5)),
    ]
    cycles = {kind: [600, 200, 200] for kind in kinds} | {"any": [200, 400, 400]}
    return left(visits, kinds, preparations=found, cycles=cycles, loss_edges=[0.0, 1.0, 2.0], **changes)


def never(*ids: int) -> np.ndarray:
    """Visits in every epoch but of some samples."""
    visits = np.full(N, EPOCHS, dtype=np.uint8)
    visits[list(ids)] = 0
    return visits


def folder_of(results: Path, run: dict[str, Any]) -> Path:
    return results / run["sweep"] / run["run"]


def put_left(results: Path, run: dict[str, Any], pruned: Pruned) -> None:
    """The record and what its run left."""
    put(results, run)
    write_pruned(folder_of(results, run) / "pruned.npz", pruned)


def put_kept(results: Path, run: dict[str, Any], kept: np.ndarray, score: np.ndarray | None = None) -> None:
    """The record and a coreset, as ``benchmark.coreset`` writes it."""
    put(results, run)
    scores = {} if score is None else {"score": score.astype(np.float32)}
    np.savez(
        folder_of(results, run) / "coreset.npz",
        keep=np.packbits(kept),
        num_samples=np.int64(len(kept)),
        fingerprint="f1f2f3f4",
        fraction=np.float64(kept.mean()),
        **scores,  # type: ignore[arg-type]
    )


def make(results: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str, str]:
    """The page's source, its words and what was said on stderr."""
    out = results.parent / "report"
    assert main(["--results", str(results), "--out", str(out)]) == 0
    page = (out / "index.html").read_text(encoding="utf-8")
    words = re.sub(r"(?s)<(script|style)>.*?</\1>|<[^>]*>", "", page.replace("<wbr>", ""))
    return page, re.sub(r"\s+", " ", html.unescape(words)), capsys.readouterr().err


def shares(page: str, caption: str) -> list[str]:
    """The cells of the page that say how often each method left out the sample of this caption."""
    (row,) = [row for row in re.findall(r"(?s)<tr>.*?</tr>", page) if f"<q>{caption}</q>" in row]
    return re.findall(r'<td class="share"[^>]*>([^<]*)', row)


def table(results: Path, name: str) -> list[dict[str, str]]:
    text = (results.parent / "report" / "tables" / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.slow
def test_a_gallery_shows_how_often_each_method_of_its_seed_left_a_sample_out(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = never(2, 3)
    half[0] = 3
    put_left(results, record("scan", 0), with_candidates(half))
    put_left(results, record("random_subset", 0), left(never(0)))
    put_left(results, record("random_subset", 1), left(never(0, 1, 2, 3)))  # another seed
    page, words, _ = make(results, capsys)
    assert "scan, seed 0: most often redundant: the lowest losses" in words
    assert "key-0 · big" in words
    assert shares(page, "caption of redundant 0") == ["100", "25"]  # random_subset, then scan
    assert shares(page, "caption of ill_matched 1") == ["0", "100"]
    assert page.count('<details class="gallery"') == 2
    assert page.count("data:image/png;base64") + page.count("data:image/webp;base64,UklGR") >= 4


def test_the_page_shows_two_galleries_of_a_method_that_marks_candidates(results: Path) -> None:
    put_left(results, record("a_static", 0), left(kinds=("left_out",)))
    put_left(results, record("infobatch", 0), left(kinds=("lowest_loss", "highest_loss")))
    put_left(results, record("scan", 1), with_candidates())
    put_left(results, record("scan", 0), with_candidates())
    found = load(results)
    (block,) = build_blocks(found)
    shown = shown_galleries(block, read_pruning(found))
    assert [(g.method, g.seed, g.kind) for g in shown] == [("scan", 0, "redundant"), ("scan", 0, "ill_matched")]


@pytest.mark.slow
def test_large_pools_tell_of_their_own_gallery_alone(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method, pruned in (("scan", with_candidates(never(0))), ("random_subset", left(never(0)))):
        put_left(results, record(method, 0), dataclasses.replace(pruned, visits=None))
    page, _, _ = make(results, capsys)
    assert shares(page, "caption of redundant 0") == ["?", "100"]


@pytest.mark.slow
def test_text_of_pools_is_escaped(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = with_candidates()
    sample = dataclasses.replace(
        made.gallery[0], key=HOSTILE, caption=HOSTILE + '" onerror="x', class_name=HOSTILE
    )
    classes = [dataclasses.replace(made.classes[0], name=HOSTILE), made.classes[1]]
    hostile = dataclasses.replace(made, gallery=[sample, *made.gallery[1:]], classes=classes)
    put_left(results, record("scan", 0), hostile)
    page, words, _ = make(results, capsys)
    assert HOSTILE not in page
    assert words.count(HOSTILE) == 4
    assert '" onerror="x' not in page


@pytest.mark.slow
def test_missing_and_damaged_files_are_named_and_the_report_is_made(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, lost, broken, foreign = (record("scan", seed) for seed in range(4))
    put_left(results, whole, with_candidates())
    put(results, lost)
    put_left(results, broken, with_candidates())
    (folder_of(results, broken) / "pruned.npz").write_bytes(b"damaged")
    put_left(results, foreign, with_candidates(fingerprint="another"))
    _, words, said = make(results, capsys)
    assert "1 of 4 runs have no pruned.npz" in words
    assert f"tiny/{lost['run']}" in words
    for run, what in ((broken, "cannot be read"), (foreign, "fingerprint: another")):
        path = folder_of(results, run) / "pruned.npz"
        assert f"{path}: {what}" in words
        assert f"warning: {path}: {what}" in said
    assert "caption of redundant 0" in words


@pytest.mark.slow
def test_records_from_before_the_file_are_reported_without_it(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [record("full", 0), record("scan", 0)]
    put(results, *runs)
    plan(results, *runs)
    page, words, said = make(results, capsys)
    assert "No run here left a file of what it pruned." in words
    assert "2 of 2 runs have no pruned.npz" in words
    assert said == ""
    assert 'id="pruned"' in page


@pytest.mark.slow
def test_rare_classes_are_set_beside_the_others(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"a": 400, "b": 300, "c": 200, "d": 60, "e": 40}
    share = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.5, "e": 0.75}
    classes = [ClassCount(k, n, round(n * EPOCHS * (1 - share[k]))) for k, n in sizes.items()]
    put_left(results, record("full", 0), left(classes=[ClassCount(k, n, n * EPOCHS) for k, n in sizes.items()]))
    put_left(results, record("scan", 0), with_candidates(classes=classes))
    found = load(results)
    (block,) = build_blocks(found)
    told = class_table(block, read_pruning(found))
    assert told is not None
    assert [row.name for row in told.rows] == list("abcde")
    rarest, others = told.summary
    assert (rarest.samples, others.samples) == (40, 960)
    assert rarest.left_out["scan"] is not None
    assert rarest.left_out["scan"].mean == 0.75
    assert others.left_out["scan"] is not None
    assert others.left_out["scan"].mean == pytest.approx((40 + 60 + 60 + 30) / 960)
    assert told.correlation["scan"] is not None
    assert told.correlation["scan"].mean == pytest.approx(-1)
    assert "full" not in told.correlation
    make(results, capsys)
    rows = {(row["method"], row["name"]): float(row["left_out"]) for row in table(results, "pruned_classes")}
    assert (rows["scan", "e"], rows["full", "e"]) == (0.75, 0)


@pytest.mark.slow
def test_of_many_classes_the_largest_and_the_smallest_are_shown(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = [ClassCount(f"class {i:02d}", 100 - i, 0) for i in range(30)]
    put_left(results, record("scan", 0), with_candidates(classes=many))
    _, words, _ = make(results, capsys)
    assert "6 classes between the largest and the smallest are in the CSV alone" in words
    assert [f"class {i:02d}" in words for i in (0, 11, 12, 17, 18, 29)] == [True, True, False, False, True, True]
    assert len(table(results, "pruned_classes")) == 30


def test_chance_of_churn_and_of_cycles() -> None:
    assert jaccard_at_random(300, 300, 1000) == pytest.approx(90 / 510)
    assert jaccard_at_random(0, 0, 1000) == 0
    assert cycles_at_random(with_candidates(), "redundant").tolist() == pytest.approx([0.49, 0.42, 0.09])


def test_kappa_is_zero_by_chance_and_the_same_for_what_is_kept_and_left_out() -> None:
    one, other = np.arange(16) < 8, np.arange(16) % 2 == 0
    bits = np.packbits

    def kappa(a: np.ndarray, b: np.ndarray) -> float | None:
        return agreement(bits(a), bits(b), 16)[2]

    assert kappa(one, other) == 0
    assert kappa(one, one) == 1
    assert kappa(one, ~one) == -1
    part = np.arange(16) < 6
    assert kappa(one, part) == kappa(~one, ~part) == pytest.approx(0.75)
    assert agreement(bits(one), bits(part), 16)[:2] == pytest.approx((6 / 8, 3 / 11))
    assert kappa(one, np.ones(16, dtype=bool)) is None


@pytest.mark.slow
def test_coresets_are_compared_at_one_budget_over_methods_seeds_and_models(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = np.arange(N) < 700
    put_kept(results, record("random_subset", 0), kept)
    put_kept(results, record("random_subset", 1), kept[::-1])
    put_kept(results, record("random_subset", 1, sweep="again"), kept[::-1])  # counts once
    put_kept(results, record("scan", 0), np.arange(N) < 760, score=np.arange(N))  # cut at 700, it is the same
    put_kept(
        results, record("scan", 0, model="resnet", run="resnet-scan-s0"), np.arange(N) < 740, np.arange(N)[::-1]
    )
    found, problems = overlaps(build_blocks(load(results)))
    told = {one.kind: one for one in found}
    assert problems == []
    assert sorted(one.kind for one in found) == ["methods", "models", "seeds"]
    assert (told["methods"].budget, told["methods"].sizes, told["methods"].kappa) == (0.7, (700, 700), 1)
    assert told["seeds"].jaccard == 0.4
    assert told["models"].jaccard == 0.4
    _, words, _ = make(results, capsys)
    assert "Agreement of coresets between methods." in words
    assert len(table(results, "pruned_overlap")) == 3


@pytest.mark.slow
def test_a_damaged_coreset_is_named(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = np.arange(N) < 700
    for method in ("a", "b", "c"):
        put_kept(results, record(method, 0), kept)
    path = folder_of(results, record("b", 0)) / "coreset.npz"
    path.write_bytes(b"damaged")
    _, words, _ = make(results, capsys)
    assert f"{path}: cannot be read" in words
    assert len(table(results, "pruned_overlap")) == 1


@pytest.mark.slow
def test_figures_are_drawn_linked_and_the_same_from_the_same_files(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_left(results, record("scan", 0), with_candidates())
    page, words, _ = make(results, capsys)
    out = results.parent / "report"
    for kind in ("zones", "churn", "cycles"):
        assert len(list(out.glob(f"figures/*-{kind}.svg"))) == 1, kind
    assert "Losses with the zones of candidates." in words
    hrefs = [href for href in re.findall(r'href="([^"#]+)"', page) if not href.startswith("data:")]
    assert [href for href in hrefs if not (out / href).is_file()] == []
    assert not re.findall(r'<img [^>]*src="(?!data:)', page)
    assert make(results, capsys)[0] == page
    cycles = [row for row in table(results, "pruned_cycles") if row["kind"] == "redundant"]
    assert [float(row["samples"]) for row in cycles] == [600, 200, 200]
    assert [float(row["samples_at_random"]) for row in cycles] == pytest.approx([490, 420, 90])
    churn = table(results, "pruned_churn")
    assert [row["jaccard"] for row in churn if row["kind"] == "redundant"] == ["", "0.5"]
    assert sum(int(row["samples"]) for row in table(results, "pruned_losses") if row["kind"] == "all") == 2 * N
    assert [json.loads(row["samples"]) for row in table(results, "pruned_visits")] == [0, 0, 0, 0, N]
