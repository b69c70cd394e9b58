"""Synthetic results for claims and paper tables: records with a pruner, a budget and a zero-shot value."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from report_trees import metric, put, record

from analysis.blocks.block import Block, build_blocks
from analysis.claims.finding import Finding, Judged
from analysis.claims.judge import judge
from analysis.claims.registry import Registry, read_claims
from analysis.claims.settings import PaperConfiguration
from analysis.read.results import Results, load

REGISTRY = read_claims()
VIT = REGISTRY.paper["clip", "ViT-B-32", "cc3m_plus"]

NOISE = (0.0, 0.01, -0.01, 0.005, -0.005, 0.008)
"""What seeds share, so that only paired differences are exact."""


def zero_shot(value: float, dataset: str = "shapes") -> dict[str, Any]:
    return metric(value, task="zero_shot", dataset=dataset, protocol="zero_shot.v1")


def run(
    name: str,
    seed: int,
    value: float,
    *,
    pruned: float = 0.0,
    options: dict[str, Any] | None = None,
    label: str = "",
    model: str = "vit",
    pool: str = "shapes",
    dataset: str = "shapes",
    training: dict[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A record of method ``name``, measured by zero-shot top-1."""
    label = label or name
    told = {"samples_seen": round(4000 * (1 - pruned)), "pruning_rate": pruned, "seconds": 200.0 * (1 - pruned)}
    made = record(
        label,
        seed,
        run=f"clip-{model}-{pool}-{label}-s{seed}-abc123",
        model=model,
        pool=pool,
        metrics=[zero_shot(value, dataset)],
        **{**changes, "training": {**told, **(training or {})}},
    )
    made["config"]["pruner"] = {"name": name, "options": options or {}}
    made["config"]["model"]["name"] = model
    return made


def runs(name: str, values: Sequence[float], **told: Any) -> list[dict[str, Any]]:
    """A record a value, of seeds 0, 1, …; the seeds' common noise is added."""
    return [run(name, seed, value + NOISE[seed], **told) for seed, value in enumerate(values)]


def at_paper(
    name: str, values: list[float], of: PaperConfiguration = VIT, train: dict[str, Any] | None = None, **told: Any
) -> list[dict[str, Any]]:
    """Records as published, a value a seed; ``train`` and ``told`` change them."""
    told = {"pruned": 0.0 if name == "full" else 0.32, "training": {"epochs": of.epochs}, **told}
    told = {"pool_facts": {"num_samples": of.num_samples, "fingerprint": "f", "skipped": {}}, **told}
    options = {**{key: published[0] for key, published in of.train.items()}, **(train or {})}
    found = []
    for seed, value in enumerate(values):
        config = {"train": options, "model": {"name": of.model, "options": {}}, "evaluate": []}
        told = {"framework": of.framework, "model": of.model, "pool": of.pool, "dataset": of.dataset, **told}
        made = run(name, seed, value, config=config, **told)
        made["run"] = f"{of.framework}-{made['run']}-{len(repr(options))}"
        made["metrics"][0]["task"] = "zero_shot" if of.framework == "clip" else "linear_probe"
        found.append(made)
    return found


def read(results: Path, *records: dict[str, Any]) -> tuple[Results, list[Block]]:
    put(results, *records)
    found = load(results)
    return found, build_blocks(found)


def judged(results: Path, *records: dict[str, Any], registry: Registry = REGISTRY) -> dict[str, Judged]:
    """Id of a claim -> its verdicts."""
    found, blocks = read(results, *records)
    return {one.claim.id: one for one in judge(registry, blocks, found)}


def here(results: Path, claim: str, *records: dict[str, Any]) -> Finding:
    """At the scale of the records."""
    return judged(results, *records)[claim].here
