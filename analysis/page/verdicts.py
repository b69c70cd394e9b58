"""A claim's finding in the words of the page: the verdict, one line of figures, and what stands beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analysis.claims.finding import Finding, Judged
from analysis.claims.verdicts import SAME, SUPPORTED

NOT_SPECIFIC = "not specific to SCAN"
"""How a control's line ends that meets the same rule."""


@dataclass(frozen=True)
class Verdict:
    """One line of the first screen."""

    id: str
    said: str
    style: str
    """Class of the page's style sheet."""
    claim: str
    line: str
    control: str


def verdicts(judged: Sequence[Judged], seeds: str) -> list[Verdict]:
    """Each claim at the paper's scale if a record of it is there, else at the scale of the records.

    None where no claim has a record. ``seeds`` is told above them and not in each.
    """
    found = [(one, at_scale(one)) for one in judged]
    return [_verdict(*both, seeds) for both in found] if any(one.covered for _, one in found) else []


def at_scale(one: Judged) -> Finding:
    return one.at_paper if one.at_paper.covered else one.here


def _verdict(one: Judged, found: Finding, seeds: str) -> Verdict:
    claim = one.claim.claim.rstrip(".")
    told = found.line.replace(f" ({seeds})", "")
    return Verdict(one.claim.id, found.said, style(found), claim, told, _control(found))


def _control(found: Finding) -> str:
    """What the control says of a positive verdict; with the others it stands among the claims."""
    if found.control.endswith(NOT_SPECIFIC):
        return NOT_SPECIFIC
    return found.control if found.verdict in (SUPPORTED, SAME) else ""


def scale_told(judged: Sequence[Judged]) -> str:
    """At which scale the verdicts are."""
    if not any(at_scale(one).covered for one in judged):
        return "None of the claims has a record here (pools with planted faults take no part)."
    at_paper = sum(bool(one.at_paper.covered) for one in judged)
    if at_paper == len(judged):
        return "At the paper's scale, by rules that were written before the first record."
    if at_paper:
        return f"{at_paper} of {len(judged)} at the paper's scale, the others at that of these records."
    return (
        "At the scale of these records: a scaled-down form of each claim. At the paper's scale there is no record."
    )


def style(found: Finding) -> str:
    return found.verdict.replace(" ", "-")
