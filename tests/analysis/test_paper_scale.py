"""What counts at the paper's scale: runs with the published settings alone, and what differs is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from claim_trees import REGISTRY, VIT, at_paper, judged

from analysis.claims.finding import Finding
from analysis.claims.registry import CLAIMS_FILE, read_claims
from analysis.claims.settings import PaperConfiguration
from analysis.claims.verdicts import NO_RECORDS, SUPPORTED, UNRESOLVED
from analysis.read.methods import is_published_scan
from analysis.read.results import Run
from benchmark.config.run import RunConfig
from benchmark.config.sweepfile import read_sweep
from benchmark.options import ConfigError, plain
from benchmark.plan.plan import make_plan
from benchmark.runs.folder import RunFolder

SWEEPS = Path(__file__).parents[2] / "sweeps"
MOCO = REGISTRY.paper["moco", "vit_small", "imagenet"]
LOSS = "small-loss"
FULL = [0.2, 0.2005, 0.1995]
SCAN = [0.2001, 0.2004, 0.1997]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def scan_and_full(results: Path, of: PaperConfiguration = VIT, **told: Any) -> Finding:
    return judged(results, *at_paper("full", FULL, of, **told), *at_paper("scan", SCAN, of, **told))[LOSS].at_paper


def test_some_of_the_papers_configurations_settle_nothing(results: Path) -> None:
    scan = at_paper("scan", SCAN)
    for seed, one in enumerate(scan):
        one["training"]["seconds"] += 0.1 * seed
    found = judged(results, *at_paper("full", FULL), *scan)
    loss = found[LOSS].at_paper
    assert (loss.verdict, loss.covered, loss.of) == (UNRESOLVED, ("clip · ViT-B-32 · cc3m_plus",), 16)
    assert loss.gaps[0].what.startswith("15 of the paper's 16 configurations: clip · RN50 · cc3m_plus")
    assert loss.gaps[0].command == "python -m benchmark.sweep sweeps/paper_main.yaml 'seed=[0,1,2]'"
    assert not any("not as published" in line or "arms" in line for line in loss.told)
    assert found[LOSS].here.verdict == NO_RECORDS
    assert found["overhead"].at_paper.verdict == SUPPORTED, "one configuration is enough for this one"


@pytest.mark.parametrize(
    ("option", "value", "of"),
    [
        ("batch_size", 64, VIT),
        ("lr", 1e-6, VIT),
        ("lr_reference_batch", 256, VIT),
        ("warmup_steps", 0, VIT),
        ("warmup_epochs", 2, VIT),
        ("weight_decay", 0.0, VIT),
        ("optimizer", "lars", VIT),
        ("beta2", 0.999, VIT),
        ("precision", "fp32", VIT),
        ("batch_size", 1024, MOCO),
        ("lr_clock", "reference", MOCO),
        ("warmup_epochs", 40, MOCO),
    ],
)
def test_a_run_with_another_setting_is_not_the_papers_and_it_says_which(
    option: str, value: Any, of: PaperConfiguration, results: Path
) -> None:
    found = scan_and_full(results, of, train={option: value})
    assert (found.verdict, found.covered) == (NO_RECORDS, ())
    (told,) = found.told
    assert told.startswith(f"not as published, so it does not count: {of.framework} · {of.model} · {of.pool}: ")
    name, published, shown = option, of.train.get(option, (None,))[0], value
    if option == "lr_reference_batch":  # what counts is the peak
        name, published, shown = "lr", 1e-3, 1e-3 * 800 / 256
    assert f"train.{name} {shown} (published {published})" in told


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"pool_facts": {"num_samples": 1000, "fingerprint": "f", "skipped": {}}},
            "samples of the pool 1000 (published 4113986)",
        ),
        ({"training": {"epochs": 3}}, "train.epochs 3 (published 32)"),
        ({"training": {"epochs": 64}}, "train.epochs 64 (published 32)"),
        ({"model": "ViT-nano"}, ""),
    ],
    ids=["small pool", "few epochs", "more epochs", "another model"],
)
def test_a_small_run_under_the_papers_names_is_not_the_papers(
    changes: dict[str, Any], said: str, results: Path
) -> None:
    found = scan_and_full(results, **changes)
    assert found.verdict == NO_RECORDS
    assert (said in found.told[0]) if said else not found.told


def test_a_run_that_does_not_count_at_the_papers_scale_counts_at_its_own(results: Path) -> None:
    records = [*at_paper("full", FULL, train={"lr": 1e-6}), *at_paper("scan", SCAN, train={"lr": 1e-6})]
    assert judged(results, *records)[LOSS].here.verdict == SUPPORTED


def test_scan_with_other_options_is_told_and_does_not_count(results: Path) -> None:
    other = at_paper("scan", SCAN, options={"cycle": 7, "redundant_share": 0.3}, label="scan(cycle=7)")
    found = judged(results, *at_paper("full", FULL), *other)
    assert found[LOSS].at_paper.verdict == NO_RECORDS
    assert found[LOSS].at_paper.told[-1].endswith("clip · ViT-B-32 · cc3m_plus: scan.cycle 7 (published 3)")
    assert found["coresets"].at_paper.told == (), "not about SCAN's own runs"


def test_a_setting_that_counts_too_is_told(results: Path) -> None:
    found = scan_and_full(results, train={"lr_clock": "progress"})
    assert found.verdict == UNRESOLVED
    assert "counts, though not as published in 1 configuration: train.lr_clock progress (published reference)" in (
        found.told
    )


def test_two_arms_of_a_configuration_count_as_one(results: Path) -> None:
    arms = [
        record
        for clock, loss in (("reference", 0.02), ("progress", 0.0))
        for record in (
            *at_paper("full", FULL, train={"lr_clock": clock}),
            *at_paper("scan", [value - loss for value in SCAN], train={"lr_clock": clock}),
        )
    ]
    found = judged(results, *arms)
    loss = found[LOSS].at_paper
    assert (len(loss.covered), loss.mean) == (1, pytest.approx(-0.01, abs=1e-4))
    (told,) = [line for line in loss.told if line.startswith("arms averaged seed by seed in 1 configuration (")]
    assert "train.lr_clock = reference: −2.0" in told
    assert "train.lr_clock = progress: 0.0" in told
    assert len(found["every-configuration"].at_paper.covered) == 1
    assert len(loss.runs) == 12


def test_an_arm_without_full_data_of_its_settings_is_told(results: Path) -> None:
    found = judged(results, *at_paper("scan", SCAN, train={"lr_clock": "progress"}), *at_paper("full", FULL),
                   *at_paper("scan", SCAN))[LOSS].at_paper  # fmt: skip
    assert len(found.runs) == 6
    assert any(line.endswith("train.lr_clock = progress: no full data of these settings") for line in found.told)


def test_all_sixteen_configurations_can_support_the_papers_claim(results: Path) -> None:
    records = [
        record
        for of in REGISTRY.paper.values()
        for name, values in (("full", FULL), ("scan", SCAN))
        for record in at_paper(name, values, of, options=None if name == "full" else shares(of))
    ]
    found = judged(results, *records)
    assert found[LOSS].at_paper.verdict == SUPPORTED
    assert len(found["every-configuration"].at_paper.covered) == 16
    assert found["every-configuration"].at_paper.verdict == SUPPORTED
    assert found["every-configuration"].at_paper.gaps == ()


def shares(of: PaperConfiguration) -> dict[str, float]:
    return dict.fromkeys(("redundant_share", "ill_matched_share"), 0.35 if of.framework == "moco" else 0.30)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[RunConfig, int | None]]:
    """The runs of paper_main and the sizes of their pools, where the sweep tells them."""
    plan = make_plan(read_sweep(SWEEPS / "paper_main.yaml"), tmp_path_factory.mktemp("results"))
    return [(one.config, one.samples) for one in plan if isinstance(one.config, RunConfig)]


@pytest.mark.slow
def test_the_sweep_of_the_paper_asks_for_the_published_settings(
    planned: list[tuple[RunConfig, int | None]],
) -> None:
    scans, covered = set(), set()
    for config, samples in planned:
        of = REGISTRY.paper[config.framework, config.model.name, config.pool_label]
        record = {
            "framework": config.framework,
            "config": plain(dataclasses.asdict(config)),
            "pool_facts": {"num_samples": of.num_samples if samples is None else samples},
            "training": {"epochs": config.train.epochs},
        }
        refused = [str(one) for one in of.departures(record) if not one.is_accepted]
        assert refused == [], config.name
        covered.add(of.key)
        if is_published_scan(Run(record, RunFolder(Path()), planned=True)):
            scans.add(of.key)
    assert covered == scans == set(REGISTRY.paper), "each configuration, with SCAN as published"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "      batch_size: 800",
            "      batch_sise: 800",
            r"paper\[0\].train.batch_sise: unknown option",
        ),
        ("{batch_size: 370,", "{batch_sise: 370,", r"paper\[1\].train.batch_sise: unknown option"),
        ("settings_tolerance: 0.01\n", "", "missing settings_tolerance"),
    ],
)
def test_a_mistake_in_the_published_settings_is_named(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = CLAIMS_FILE.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "claims.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_claims(tmp_path / "claims.yaml")
