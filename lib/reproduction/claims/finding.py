"""The outcome of a test, and its table."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from ..report.markdown import bounds, inline, table


class Finding(NamedTuple):
    """The outcome of a test."""

    claim: str
    verdict: str
    """supported, partly supported, not supported, or not testable; then, in parentheses,
    which of the claim's runs diverged, if any."""
    evidence: pd.DataFrame
    """One line for each statistic, with interval, what was needed, and whether it holds."""


NOTHING = "–"
"""What is needed of a statistic that decides nothing."""

TOO_FEW = "not testable (an interval over seeds needs at least two)"


def verdicts(findings: Iterable[Finding]) -> str:
    """Return the outcome of tests as Markdown, a heading and a table for each."""
    parts = []
    for claim, verdict, evidence in findings:
        parts.append(f"**{inline(f'{claim}: {verdict}')}.**")
        if len(evidence):
            header = ("statistic", "mean [95 % interval]", "seeds", "needed", "held")
            parts.append(table(header, (_row(line) for line in evidence.itertuples())))
    return "\n\n".join(parts)


def _row(line: Any) -> tuple[str, ...]:
    known = math.isfinite(line.mean)
    outcome = bounds(line.mean, line.low, line.high) if known else "not run yet"
    held = "–" if line.needed == NOTHING or not known else "yes" if line.holds else "no"
    return line.statistic, outcome, str(line.seeds), line.needed, held
