"""The published arm: the options that make ``scan`` compute what the released code (guoyang9/SCAN) computes.

``published: true`` in a grid sets all of them. Each is an option of its own, with ours as its default;
docs/scan.md says what each changes. Hyper-parameters (rates, epochs, batch) are the grid's as ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmark.options import ConfigError

TRAIN: dict[str, dict[str, Any]] = {
    "clip": {"lr_clock": "reference", "batch_norm": "rank", "feature_gradient": "mean", "logits": "autocast"},
    "moco": {"warmup_from_zero": True, "logits": "autocast"},
}
"""Options of ``train`` by framework. MoCo's released code synchronises batch normalisation and counts epochs."""
SCAN: dict[str, dict[str, Any]] = {"clip": {}, "moco": {"rank_within": "rank"}}
"""Options of ``scan`` and of its control by framework."""
SHARES = {"moco": {"redundant_share": 0.35, "ill_matched_share": 0.35}}
"""Published shares where they are not the method's defaults (``main_moco.py``); a grid may say others."""
SCANS = ("scan", "scan_random")
WORD = "published"
"""What the names of the arm's runs say, and the key of a grid."""


def published_train(framework: str, train: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A grid's ``train`` with the arm's options. Raises ConfigError for one that says something else."""
    return _merged(TRAIN.get(framework, {}), train, where)


def published_pruner(framework: str, name: str, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A method's options with the arm's, as ``published_train``; other methods than SCAN's stay as they are."""
    if name not in SCANS:
        return dict(options)
    return {**SHARES.get(framework, {}), **_merged(SCAN.get(framework, {}), options, where)}


def is_published(framework: str, train: Mapping[str, Any]) -> bool:
    """Whether training options, which may lack later ones, are those of the arm."""
    wanted = TRAIN.get(framework, {})
    return bool(wanted) and all(train.get(key) == value for key, value in wanted.items())


def _merged(arm: Mapping[str, Any], own: Mapping[str, Any], where: str) -> dict[str, Any]:
    for key, value in arm.items():
        if own.get(key, value) != value:
            raise ConfigError(
                f"{where}.{key}: {own[key]!r}, but '{WORD}: true' sets {value!r}: leave out one of the two (each"
                " option of the arm can be set by itself)"
            )
    return {**own, **arm}
