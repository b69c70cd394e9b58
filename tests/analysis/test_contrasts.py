"""Registered contrasts: paired by seed, adjusted within a question, judged by the protocol's table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from report_trees import metric, put, record

from analysis import contrasts
from analysis.contrasts import answers, holm, read_registered, seeds_needed, verdict
from analysis.contrasts.figures import draw
from analysis.read.results import load
from benchmark.options import ConfigError

MARGIN = 0.005
TASKS = {"rows": [{"task": "linear_probe", "datasets": ["shapes", "digits"], "metrics": ["top1"]}]}
QUESTION = {
    "id": 1,
    "asks": "Which?",
    "sweeps": ["tiny"],
    "framework": "clip",
    "models": ["vit", "rn"],
    "pool": "shapes",
    "seeds": [0, 1, 2, 3],
    "ceiling": ["oracle", "full"],
    "shared": ["A1"],
    "contrasts": {
        "A1": {"asks": "scan - full", "pairs": [["scan", "full"]]},
        "A2": {"asks": "mean of two - full", "pairs": [[["scan", "oracle"], "full"]]},
    },
}


ROWS = {"name": "lead", "title": "What was found", "rows": [{"question": 1, "contrast": "A1", "says": "first"}]}
LEVELS = {"title": "recalls", "question": 1, "against": "full", "lines": {"scan": "scan", "best": "oracle"}}
DOSES = {**LEVELS, "lines": {"scan": ["scan", "oracle"]}}


def registered(folder: Path, figures: Any = (), **changes: Any) -> Path:
    path = folder / "contrasts.yaml"
    told = {"margin": MARGIN, "measures": {"clip": {"name": "mean", **TASKS}}, "secondary": {"clip": []}}
    question = {key: value for key, value in {**QUESTION, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump({**told, "questions": [question], "figures": list(figures)}, sort_keys=False))
    return path


def fill(folder: Path, gains: dict[str, list[float]], left_out: dict[str, float] | None = None) -> Path:
    """A record a model, method and seed; in one of two data sets a method gains twice what is said, in the other
    nothing; seeds differ more than methods."""
    results = folder / "results"
    for model in ("vit", "rn"):
        for method, of_seed in gains.items():
            for seed, gain in enumerate(of_seed):
                rows = [metric(0.3 + seed / 10 + 2 * gain), metric(0.5, dataset="digits")]
                name = f"clip-{model}-shapes-{method}-s{seed}-abc123"
                training = {"pruning_rate": (left_out or {}).get(method, 0.0)}
                put(results, record(method, seed, model=model, run=name, metrics=rows, training=training))
    return results


GAINS = {"full": [0.0] * 4, "scan": [0.010, 0.012, 0.008, 0.010], "oracle": [0.020, 0.022, 0.018, 0.020]}


def test_differences_are_paired_averaged_within_a_seed_and_told_as_a_share_of_the_ceiling(tmp_path: Path) -> None:
    told = read_registered(registered(tmp_path))
    first, second = answers(told.questions[0], told, load(fill(tmp_path, GAINS), ["tiny"]))
    assert first.differences == pytest.approx([0.010, 0.012, 0.008, 0.010])
    assert second.differences == pytest.approx([0.015, 0.017, 0.013, 0.015])
    assert first.share == pytest.approx(0.5)
    assert second.share is None
    assert first.verdict == second.verdict == "better, by more than matters"


def test_pools_are_averaged_within_a_seed_and_a_seed_needs_all_of_them(tmp_path: Path) -> None:
    results = fill(tmp_path, {name: gains[:3] for name, gains in GAINS.items()})
    for method, gain in (("full", 0.0), ("scan", 0.03), ("oracle", 0.03)):
        for model, seed in (("vit", 0), ("vit", 1), ("rn", 0), ("rn", 1)):
            rows = [metric(0.3 + 2 * gain), metric(0.5, dataset="digits")]
            name = f"clip-{model}-other-{method}-s{seed}-abc123"
            put(results, record(method, seed, model=model, pool="other", run=name, metrics=rows))
    told = read_registered(registered(tmp_path, pool=None, pools=["shapes", "other"]))
    found = answers(told.questions[0], told, load(results, ["tiny"]))
    assert found[0].differences == pytest.approx([0.020, 0.021])


def test_only_seeds_that_are_whole_for_all_arms_and_models_count(tmp_path: Path) -> None:
    results = fill(tmp_path, GAINS)
    (results / "tiny" / "clip-rn-shapes-oracle-s2-abc123" / "record.json").unlink()
    told = read_registered(registered(tmp_path))
    found = answers(told.questions[0], told, load(results, ["tiny"]))
    assert found[0].differences == pytest.approx((0.010, 0.012, 0.010))
    assert {len(one.differences) for one in found} == {3}


def test_a_method_that_no_run_has_is_refused_with_the_nearest(tmp_path: Path) -> None:
    told = read_registered(registered(tmp_path, contrasts={"A1": {"asks": "", "pairs": [["scam", "full"]]}}))
    with pytest.raises(ConfigError, match="'scam'; did you mean 'scan'"):
        answers(told.questions[0], told, load(fill(tmp_path, GAINS), ["tiny"]))


def test_a_data_set_that_no_run_was_measured_on_is_refused_with_the_nearest(tmp_path: Path) -> None:
    path = registered(tmp_path)
    path.write_text(path.read_text().replace("- shapes\n      - digits", "- shapes\n      - digit"))
    told = read_registered(path)
    said = "no run of tiny has linear_probe's 'top1 of digit'; did you mean 'top1 of digits'"
    with pytest.raises(ConfigError, match=said):
        answers(told.questions[0], told, load(fill(tmp_path, GAINS), ["tiny"]))


def test_the_command_leaves_a_table_a_csv_and_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = fill(tmp_path, GAINS)
    words = [str(registered(tmp_path, [ROWS])), "--results", str(results), "--out", str(tmp_path / "out")]
    assert contrasts.main(words) == 0
    assert "| A1 | scan - full | +1.00 | +0.74 to +1.26 |" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "contrasts.md", "contrasts.csv", "lead.png", "lead.svg"
    }  # fmt: skip
    assert contrasts.main([str(registered(tmp_path)), "--results", str(tmp_path)]) == 0
    assert "No seed is whole for all arms yet (0 of 4)." in capsys.readouterr().out
    assert contrasts.main([str(registered(tmp_path, poool="x")), "--results", str(results)]) == 2
    assert "did you mean 'pool'" in capsys.readouterr().err
    for wrong in ("x", {"asks": ""}):
        assert contrasts.main([str(registered(tmp_path, contrasts={"A1": wrong})), "--results", str(results)]) == 2
        assert "questions[0].contrasts.A1" in capsys.readouterr().err


@pytest.mark.parametrize(("levels", "told"), [(LEVELS, [0.0, 0.0]), (DOSES, [10.0, 30.0])])
def test_levels_are_differences_to_one_other_beside_what_was_left_out(
    tmp_path: Path, levels: dict[str, Any], told: list[float]
) -> None:
    results = fill(tmp_path, GAINS, {"scan": 0.1, "oracle": 0.3} if levels is DOSES else {})
    file = read_registered(registered(tmp_path, [{"name": "levels", "title": "Levels", "panels": [levels]}]))
    drawn = draw(file.figures[0], {}, file, lambda sweeps: load(results, sweeps))
    assert drawn is not None
    assert [row["points"] for row in drawn.data] == pytest.approx([1.0, 2.0])
    assert [row.get("x", row.get("pruned")) for row in drawn.data] == pytest.approx(told)
    assert draw(file.figures[0], {}, file, lambda sweeps: None) is None


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ({**ROWS, "panels": []}, "expected either rows or panels"),
        (
            {**ROWS, "rows": [{"question": 2, "contrast": "A1", "says": ""}]},
            r"rows\[0\].question: there is no '2'",
        ),
        ({**ROWS, "rows": [{"question": 1, "contrast": "A3", "says": ""}]}, "there is no 'A3'"),
        ({"name": "x", "title": "", "panels": [{**LEVELS, "lines": ["scan"]}]}, r"panels\[0\].lines"),
        ({"name": "x", "title": "", "panels": [LEVELS, {**LEVELS, "against": "oracle"}]}, "against one method"),
        ({"name": "x", "title": "", "panels": [LEVELS, DOSES]}, "as many doses as the others"),
    ],
)
def test_a_mistake_in_a_figure_names_its_place(tmp_path: Path, figure: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_registered(registered(tmp_path, [figure]))


@pytest.mark.parametrize(
    ("differences", "p", "said"),
    [
        ([0.010, 0.011, 0.012], 0.01, "better, by more than matters"),
        ([-0.010, -0.011, -0.012], 0.01, "worse, by more than matters"),
        ([0.010, 0.011, 0.012], 0.06, "unsettled"),  # the adjusted p decides
        ([0.003, 0.0031, 0.0032], 0.01, "the same within the margin"),
        ([0.004, 0.008, 0.006, 0.007], 0.03, "better; whether it matters is open"),
        ([-0.02, 0.02, 0.01], 0.6, "unsettled"),
        ([0.01, 0.01, 0.01], None, "unsettled"),  # no variance settles nothing
        ([0.01], None, "unsettled"),
        ([], None, "no records"),
    ],
)
def test_a_verdict_is_the_protocol_s(differences: list[float], p: float | None, said: str) -> None:
    assert verdict(differences, p, MARGIN) == said


def test_holm_s_adjustment() -> None:
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == pytest.approx([0.03, 0.06, None, 0.06, 0.02])


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=8))
def test_adjusted_p_values_keep_their_order_and_are_never_smaller(ps: list[float]) -> None:
    found = [p for p in holm(list(ps)) if p is not None]
    assert all(p <= one <= min(1, p * len(ps)) for p, one in zip(ps, found, strict=True))
    order = np.argsort(ps, kind="stable")
    assert np.all(np.diff(np.array(found)[order]) >= 0)


@given(st.floats(-0.02, 0.02), st.integers(3, 6), st.integers(0, 99))
def test_as_many_seeds_as_are_said_to_be_needed_settle_it(mean: float, n: int, seed: int) -> None:
    drawn = np.random.default_rng(seed).normal(0, 0.01, n)
    drawn += mean - drawn.mean()
    needed = seeds_needed(drawn.tolist(), MARGIN)
    if needed is None:
        return

    def with_seeds(count: int) -> list[float]:
        """The same mean and standard deviation."""
        sd, other = drawn.std(ddof=1), np.random.default_rng(0).normal(0, 1, count)
        return (mean + sd * (other - other.mean()) / other.std(ddof=1)).tolist()

    for count, is_settled in ((needed - 1, False), (needed, True)):
        if count >= n:
            found = with_seeds(count)
            assert (verdict(found, contrasts.p_value(found), MARGIN) != "unsettled") == is_settled
