"""The outcome of a test: statistics, what was needed of each, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pandas as pd

from reproduction.report.frame import by_experiment
from reproduction.report.markdown import bounds, inline, table
from reproduction.runs.records import Record
from reproduction.runs.statistics import Interval

ABOVE = "interval above 0"
"""What most statistics need."""


class Finding(NamedTuple):
    """The outcome of a test that was stated beforehand."""

    claim: str
    verdict: str
    """supported, partly supported, not supported, or not testable; then, in parentheses,
    which of the claim's runs diverged, if any: the evidence rests on the others."""
    evidence: pd.DataFrame
    """One line for each statistic, with interval, threshold and outcome."""


NOTHING = "–"
"""What is needed of a statistic that is shown beside a test and decides nothing."""


_HOLDS: dict[str, Callable[[float, float, float], bool]] = {
    "above": lambda low, high, bar: low > bar,
    "below": lambda low, high, bar: high < bar,
    "not above": lambda low, high, bar: low <= bar,
    "not below": lambda low, high, bar: high >= bar,
    "without": lambda low, high, bar: low > bar or high < bar,
    "within": lambda low, high, bar: -bar < low and high < bar,
}


def evidence_line(statistic: str, interval: Interval, needed: str) -> dict[str, Any]:
    """Return one line of a finding's evidence.

    Parameters
    ----------
    statistic : str
        What it is called.
    interval : Interval
        What was found.  Where it has no ends, its mean decides.
    needed : str
        What is needed of it, such as ``interval above 5`` or ``interval within ±2``, or
        :data:`NOTHING`.  These words decide whether the line holds.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If the words are none of a line.
    """
    mean, low, high, n = interval
    holds = True
    if needed != NOTHING:
        ends = (low, high) if math.isfinite(low) else (mean, mean)
        words, _, bar = needed.removeprefix("interval ").rpartition(" ")
        if words not in _HOLDS:
            raise ValueError(f"{statistic}: nothing can be decided by {needed!r}")
        holds = bool(_HOLDS[words](*ends, float(bar.removeprefix("±"))))
    return {
        "statistic": statistic,
        "mean": mean,
        "low": low,
        "high": high,
        "seeds": n,
        "needed": needed,
        "holds": holds,
    }


def left_out(records: Iterable[Record], names: Iterable[str] | None = None) -> str:
    """Return the end of a verdict: which runs diverged; nothing if none did.

    Parameters
    ----------
    records : iterable of dict
        Records of any experiments.
    names : iterable of str, optional
        The experiments that matter; all of them by default.

    Returns
    -------
    str
        In parentheses, after a space: how many of how many runs, and their seeds.
    """
    named = None if names is None else set(names)
    groups = {n: g for n, g in by_experiment(records).items() if named is None or n in named}
    parts, lost = [], 0
    for name, group in groups.items():
        seeds = [str(r["seed"]) for r in group if r["status"] == "diverged"]
        lost += len(seeds)
        if len(seeds) == len(group) > 1:
            parts.append(f"every run of {name}")
        elif seeds:
            parts.append(f"{name} seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}")
    count = sum(map(len, groups.values()))
    if not lost:
        return ""
    return f" ({lost} of {count} runs diverged and are left out: {'; '.join(parts)})"


TOO_FEW = "not testable (an interval over seeds needs at least two)"


def verdicts(findings: Iterable[Finding]) -> str:
    """Return the outcome of tests, a heading and a table for each.

    Parameters
    ----------
    findings : iterable of Finding
        From :mod:`reproduction.report.analysis`.

    Returns
    -------
    str
        Markdown.
    """
    parts = []
    for claim, verdict, evidence in findings:
        parts.append(f"**{inline(f'{claim}: {verdict}')}.**")
        if len(evidence):
            rows = [
                (
                    row.statistic,
                    bounds(row.mean, row.low, row.high)
                    if math.isfinite(row.mean)
                    else "not run yet",
                    str(row.seeds),
                    row.needed,
                    _held(row.holds, row.needed) if math.isfinite(row.mean) else "–",
                )
                for row in evidence.itertuples()
            ]
            header = ("statistic", "mean [95 % interval]", "seeds", "needed", "held")
            parts.append(table(header, rows))
    return "\n\n".join(parts)


def _held(holds: bool, needed: str) -> str:
    """Say whether a line of evidence holds; of one that needs nothing, nothing."""
    return "–" if needed == NOTHING else "yes" if holds else "no"
