"""What a verdict is called first, and two questions that it must stand.

A verdict of the tests that were fixed beforehand stays as it is.  The word before it says what it
is worth: whether noise would have earned it, and whether the runs could have shown the effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from scipy import stats

from ..report.markdown import number
from ..report.trained_long import gate
from ..runs.records import Record
from .claim import Claim
from .finding import Finding

ICONS = {"supported": "●", "partly": "◐", "contradicted": "✕", "undecided": "○"}
"""The four words, and a sign for each."""


class Answers(NamedTuple):
    """What stands beside a verdict."""

    word: str
    """One of :data:`ICONS`."""
    beats_noise: str
    could_be_seen: str


def answers(
    claim: Claim,
    finding: Finding,
    headline: dict[str, Any] | None,
    paper: float | None,
    records: Sequence[Record],
) -> Answers:
    """Return the word for a finding on some records, and the two answers."""
    learned = gate(r for r in records if r["experiment"] == claim.baseline)
    earned = finding.verdict.startswith(("supported", "partly"))
    noise = claim.noise(records, earned) if earned else "–"
    if headline is None or (claim.baseline and learned is None):
        return Answers("undecided", noise, "not run yet")
    if learned is not None and not learned.open:
        reason = (
            f"training added {number(learned.gained)} points"
            if learned.gained < 10
            else f"training still added {number(learned.late)} points at the end"
        )
        return Answers("undecided", noise, f"no: {reason}")
    return Answers(_word(finding, headline, paper), noise, _seen(headline, paper, earned))


def _word(finding: Finding, headline: dict[str, Any], paper: float | None) -> str:
    if finding.verdict.startswith("supported"):
        return "supported"
    if finding.verdict.startswith("partly"):
        return "partly"
    line = [x for x in finding.evidence.to_dict("records") if x["needed"] != "–"]
    against = any(x["high"] < 0 for x in line if x["needed"].endswith(("above 0", "below 0")))
    misses = paper is not None and headline["high"] < paper
    return "contradicted" if against or misses else "undecided"


def _seen(headline: dict[str, Any], paper: float | None, earned: bool) -> str:
    effect = effect_of(headline, paper)
    if effect is None:
        return "yes" if earned else "only what lies outside the interval"
    probability = chance(effect, spread(headline), headline["seeds"])
    return f"with a chance of {percent(probability)}"


def effect_of(headline: dict[str, Any] | None, paper: float | None) -> float | None:
    """Return the paper's number if it is a difference that the test compares with zero."""
    if headline is None or not headline["needed"].endswith("above 0"):
        return None
    return paper if math.isfinite(headline["low"]) else None


def chance(effect: float, spread: float, seeds: int) -> float:
    """Return how likely Student's 95 % interval of a mean lies above zero."""
    if spread == 0:
        return float(effect > 0)
    shift = effect * math.sqrt(seeds) / spread
    return float(stats.nct.sf(stats.t.ppf(0.975, seeds - 1), seeds - 1, shift))


def spread(line: dict[str, Any]) -> float:
    """Return the standard deviation over seeds behind an interval."""
    half = (line["high"] - line["low"]) / 2
    return half * math.sqrt(line["seeds"]) / stats.t.ppf(0.975, line["seeds"] - 1)


def percent(probability: float) -> str:
    """Return a probability in words."""
    return "over 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"
