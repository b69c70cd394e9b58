"""The page in a real Chromium, at a phone's and a desk's width, light and dark: it runs, fits and is legible."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chromium
import pytest
from chromium import Chromium, Tab
from report_trees import epochs, fail, metric, plan, put, put_foreign, record

from analysis.report import main

pytestmark = pytest.mark.slow

HOSTILE = '<script>window.hacked = 1</script>"\'><img src=x onerror="window.hacked = 1">'

ROOT = Path(__file__).parent.parent.parent
SCREEN = 800
"""Pixels down, at 1,280 across."""

FRESH = "localStorage.clear()"
"""Ahead of the page: nothing is left of another test."""
PROBES = (Path(__file__).parent / "probes.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it: two configurations, gaps, a broken record, a hostile name, figures."""
    folder = tmp_path_factory.mktemp("report")
    results = folder / "results"
    pruned = {
        "samples_seen": 2800,
        "pruning_rate": 0.3,
        "seconds": 150.0,
        "by_epoch": epochs([1000, 800, 600, 400]),
    }
    found = {"flag": "near_duplicate", "base_rate": 0.1, "precision": 0.2, "recall": 0.5, "auc": 0.3}
    runs = []
    for model in ("vit", "resnet"):
        for seed in range(3):
            for method, value in (("full", 0.6), ("scan", 0.62), (HOSTILE, 0.4)):
                changes: dict[str, Any] = {} if method == "full" else {"training": pruned}
                name = f"{model}-{'hostile' if method == HOSTILE else method}-s{seed}"
                runs.append(record(
                    method, seed, model=model, run=name, **changes,
                    metrics=[
                        metric(value + 0.001 * seed**2, task="zero_shot", protocol="zero_shot.v1"),
                        metric(value + 0.001 * seed**2),
                        metric(0.5, task="knn", protocol="knn.v1"),
                    ],
                    pruning_truth=[] if method == "full" else [found | {"candidates": {"redundant": 0.2}}],
                ))  # fmt: skip
    absent = [record("late", seed, run=f"late-{seed}") for seed in range(2)]
    put(results, *runs)
    plan(results, *runs, *absent)
    fail(results, absent[0], HOSTILE)
    put_foreign(results)
    (results / "evaluations/broken").mkdir()
    (results / "evaluations/broken/evaluation.json").write_text("{")
    assert main(["--results", str(results), "--out", str(folder / "report")]) == 0
    return folder / "report/index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if chromium.find() is None:
        if os.environ.get("CI"):
            pytest.fail("CI must look at the page: chromium is not installed")
        pytest.skip("chromium is not installed")
    profile = tmp_path_factory.mktemp("profile")
    started = Chromium(profile)
    yield started
    started.close()
    shutil.rmtree(profile, ignore_errors=True)


@pytest.fixture
def desk(browser: Chromium, page: Path) -> Tab:
    return opened(browser, page, 1280)


def opened(browser: Chromium, page: Path, width: int, scheme: str = "light", before: str = FRESH) -> Tab:
    tab = Tab(browser, page, width, scheme, before)
    tab.run(PROBES + "; 0")
    return tab


def methods(tab: Tab) -> list[str]:
    """Of the rows of the first main table that are shown."""
    found: list[str] = tab.run("shownRows('#table-0')")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_runs_fits_and_is_legible(browser: Chromium, page: Path, width: int, scheme: str) -> None:
    tab = opened(browser, page, width, scheme)
    fits = "[innerWidth, document.documentElement.scrollWidth <= innerWidth]"
    assert (tab.run(fits), tab.run("overflowing()")) == ([width, True], [])
    tab.run("openAll()")
    assert (tab.run(fits), tab.run("overflowing()")) == ([width, True], [])
    letters, cut = tab.run("cutLetters()")
    assert (letters > 100, cut) == (True, [])
    is_dark = tab.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert is_dark == (scheme == "dark")
    for _ in range(2):
        count, low = tab.run("lowContrast()")
        assert (count > 200, low) == (True, [])
        tab.run("document.getElementById('theme').click()")
    assert tab.errors() == []
    assert tab.run("window.hacked === undefined")
    assert [url for url in tab.requests() if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize(
    ("spoil", "probe", "found"),
    [
        ("document.body.style.color = '#999'", "lowContrast()[1].length > 50", True),
        ("document.querySelector('figure text').setAttribute('x', -50)", "cutLetters()[1].length", 1),
        ("document.querySelector('.answer').style.width = '2000px'", "overflowing().length > 0", True),
    ],
    ids=["contrast", "cut", "overflow"],
)
def test_the_probes_see_what_they_are_to_see(desk: Tab, spoil: str, probe: str, found: object) -> None:
    desk.run(spoil)
    assert desk.run(probe) == found


def test_errors_of_a_script_and_refused_requests_are_seen(desk: Tab) -> None:
    desk.run(
        "setTimeout(() => { throw new Error('as a test') }); new Image().src = 'https://example.invalid/x.png'"
    )
    desk.run("new Promise(end => setTimeout(end, 100))")
    assert any("as a test" in error for error in desk.errors())
    assert any("Content Security Policy" in error for error in desk.errors())


def test_sorting_orders_rows_by_number_and_by_name(desk: Tab) -> None:
    head = "document.querySelectorAll('#table-0 thead button')"
    desk.run(f"{head}[4].click()")
    assert methods(desk) == ["scan", "full", HOSTILE]
    assert desk.run(f"{head}[4].closest('th').getAttribute('aria-sort')") == "descending"
    desk.run(f"{head}[4].click()")
    assert methods(desk) == [HOSTILE, "full", "scan"]
    desk.run(f"{head}[0].click()")
    assert methods(desk) == [HOSTILE, "full", "scan"]
    assert desk.run(f"{head}[0].closest('th').getAttribute('aria-sort')") == "ascending"


def test_sorting_works_from_the_keyboard(desk: Tab) -> None:
    desk.run("document.getElementById('tables').open = true")
    desk.run("document.querySelectorAll('#table-0 thead button')[4].focus()")
    desk.press("Enter", 13)
    assert methods(desk)[0] == "scan"


def test_a_phone_sorts_through_a_list(browser: Chromium, page: Path) -> None:
    tab = opened(browser, page, 390)
    tab.run("enter('#table-0 .sortby select', '4', 'change')")
    assert methods(tab)[0] == "scan"


def test_every_table_can_be_sorted(desk: Tab) -> None:
    assert desk.run("document.querySelectorAll('table').length") > 7
    assert desk.run("document.querySelectorAll('table:not(.sortable)').length") == 0
    desk.run("document.querySelectorAll('table thead button').forEach(button => button.click())")
    assert desk.errors() == []


def test_text_filters_the_rows_of_all_tables(desk: Tab) -> None:
    desk.run("enter('#filter input', 'SCAN', 'input')")
    assert methods(desk) == ["scan"]
    assert desk.run("shownRows('#provenance')") == ["scan"] * 2
    assert desk.run("document.getElementById('tables').open"), "what was looked for is shown"
    assert " of " in desk.run("document.querySelector('#filter output').textContent")
    desk.run("enter('#filter input', 'nothing has this', 'input')")
    assert desk.run("shownRows('table')") == []


def test_choices_filter_blocks_figures_and_rows(desk: Tab) -> None:
    desk.run("enter('#filter select[name=model]', 'resnet', 'change')")
    blocks = "[...document.querySelectorAll('.block[data-model]:not([hidden])')].map(block => block.dataset.model)"
    assert set(desk.run(blocks)) == {"resnet"}
    desk.run("enter('#filter select[name=method]', 'scan', 'change')")
    assert desk.run("shownRows('[id^=table]')") == ["scan"]
    desk.run("document.querySelector('#filter button[type=reset]').click()")
    desk.run("new Promise(end => setTimeout(end, 20))")
    assert desk.run("document.querySelectorAll('tr[hidden], .block[hidden]').length") == 0


def test_folding_closes_and_opens_all_blocks(desk: Tab) -> None:
    desk.run("document.getElementById('tables').open = true")
    count = "document.querySelectorAll('details.block[open]').length"
    before = desk.run(count)
    desk.run("document.querySelector('[data-fold=close]').click()")
    assert (before > 3, desk.run(count)) == (True, 0)
    desk.run("document.querySelector('[data-fold=open]').click()")
    assert desk.run(count) == before


def test_a_link_opens_the_block_it_leads_to(desk: Tab) -> None:
    desk.run("document.querySelector('a[href=\"#claim-small-loss\"]').click()")
    desk.run("new Promise(end => setTimeout(end, 50))")
    assert desk.run("[...document.querySelectorAll('details.part[open]')].map(one => one.id)") == ["claims"]


def test_the_colours_chosen_are_kept(browser: Chromium, page: Path) -> None:
    tab = opened(browser, page, 1280, before="")
    tab.run("document.getElementById('theme').click()")
    chosen = tab.run("document.documentElement.dataset.theme")
    assert chosen in ("dark", "light")
    tab.load_again()
    assert tab.run("document.documentElement.dataset.theme") == chosen


def test_a_page_that_may_store_nothing_runs(browser: Chromium, page: Path) -> None:
    denied = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied'); } })"
    tab = opened(browser, page, 1280, before=denied)
    tab.run("document.getElementById('theme').click()")
    assert tab.run("document.documentElement.dataset.theme") == "dark"
    tab.run("enter('#filter input', 'scan', 'input')")
    assert (methods(tab), tab.errors()) == (["scan"], [])


def test_headings_and_controls_are_named(desk: Tab) -> None:
    unnamed = "img:not([alt]), [role=region]:not([aria-label]), th:not([scope])"
    assert desk.run(f"document.querySelectorAll('{unnamed}').length") == 0
    assert desk.run("[...document.querySelectorAll('input, select')].filter(e => !e.labels.length).length") == 0
    levels = desk.run("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_the_first_screen_answers_draws_and_judges(browser: Chromium, page: Path) -> None:
    for width in (1280, 390):
        tab = opened(browser, page, width)
        parts = (".answer", f".{'wide' if width > 640 else 'narrow'}-only svg", ".verdicts", ".quiet")
        boxes = [
            f"(b => [b.top, b.bottom])(document.querySelector('{part}').getBoundingClientRect())" for part in parts
        ]
        places = [tab.run(box) for box in boxes]
        assert places == sorted(places)
        assert all(bottom > top >= 0 for top, bottom in places)
        if width > 640:
            assert places[-1][1] <= SCREEN


def test_sixteen_configurations_make_eight_screens_and_less_than_5_mb(browser: Chromium, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("perf_report", ROOT / "perf/report.py")
    assert spec is not None
    assert spec.loader is not None
    perf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(perf)
    perf.make(tmp_path / "results", num_methods=9, num_seeds=3, at_most=16 * 9 * 3)
    assert main(["--results", str(tmp_path / "results"), "--out", str(tmp_path / "report")]) == 0
    index = tmp_path / "report/index.html"
    text = index.read_text(encoding="utf-8")
    assert "432 records; 432 runs planned, none missing" in " ".join(text.split())
    assert len(text.encode()) < 5e6
    assert len(list(tmp_path.glob("report/figures/*.svg"))) <= 24
    for _, model, pool in perf.CONFIGURATIONS:
        assert f'data-model="{model}" data-pool="{pool}"' in text
    tab = opened(browser, index, 1280)
    assert tab.run("document.documentElement.scrollHeight") <= 8 * SCREEN
    assert tab.run("document.querySelector('.quiet').getBoundingClientRect().bottom") <= SCREEN
    assert tab.run("cutLetters()")[1] == []


def test_pointing_at_a_method_colours_all_that_is_drawn_of_it(desk: Tab) -> None:
    desk.run(
        "(one => one.dispatchEvent(new PointerEvent('pointerover', { bubbles: true })))"
        "(document.querySelector('.wide-only [data-m] path, .wide-only [data-m] use'))"
    )
    on = desk.run("[...document.querySelectorAll('[data-m].on')].map(one => one.dataset.m)")
    assert (len(on) > 2, len(set(on))) == (True, 1)


def test_controls_are_not_printed(browser: Chromium, page: Path) -> None:
    tab = opened(browser, page, 1100)
    tab.call("Emulation.setEmulatedMedia", media="print")
    for name in ("#filter", "nav", "#theme"):
        assert tab.run(f"document.querySelector('{name}').checkVisibility()") is False
    assert tab.run("document.querySelector('.grid thead button').checkVisibility()")
