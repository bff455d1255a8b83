"""What the seeds at hand could have shown: the power of the tests behind the ledger."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scipy import stats

from ..report.markdown import number, table
from .ledger import Entry, shown


def power(found: Sequence[Entry]) -> str:
    """Return what the seeds at hand could have shown, as a table in Markdown."""
    rows = []
    for e in found:
        line = e.headline
        if line is None or not math.isfinite(line["low"]):
            continue
        effect = _effect(e)
        spread, seeds = _spread_over_seeds(line), line["seeds"]
        rows.append(
            (
                f"{e.claim.number} ({e.claim.problem})",
                line["statistic"],
                f"±{number(_half(line))} {e.claim.unit}",
                str(seeds),
                "–" if effect is None else f"{effect:.2f}",
                "–" if effect is None else _percent(chance(effect, spread, seeds)),
                "–" if effect is None else _seeds_for(effect, spread),
            )
        )
    header = (
        "claim",
        "statistic",
        "half of the interval",
        "seeds",
        "the paper's effect",
        "chance to see it",
        "seeds for a chance of 80 %",
    )
    return table(header, rows) if rows else "There is no interval yet."


def in_doubt(found: Sequence[Entry]) -> str:
    """Say how likely effects of the paper's size were to be seen where nothing was supported."""
    parts, open_ones = [], []
    for e in found:
        effect, line = _effect(e), e.headline
        if line is None or not e.verdict.startswith("not supported"):
            continue
        if effect is None:
            if math.isfinite(line["low"]):
                open_ones.append(f"- claim {e.claim.number}: {shown(e)}")
            continue
        seen = chance(effect, _spread_over_seeds(line), line["seeds"])
        parts.append(
            f"- claim {e.claim.number} on {e.claim.problem}: {_percent(seen)} "
            f"({line['statistic']}: {effect:.2f} {e.claim.unit}, interval "
            f"±{number(_half(line))}, {line['seeds']} seeds)"
        )
    paragraphs = [
        "*Not supported* speaks against a claim only as far as the runs could have shown an effect."
    ]
    if parts:
        paragraphs += [
            "If an effect were as large as the paper's, and its spread over seeds what it is here, "
            "its interval would lie above zero with this probability:",
            "\n".join(parts),
            "These numbers are rough: the spread itself comes from as few seeds. They are for the "
            "one statistic named; *supported* asks for more of them at once, and was less likely.",
        ]
    if open_ones:
        paragraphs += [
            "Where no size of the effect is published for equal conditions, only what lies outside "
            "the interval is ruled out:",
            "\n".join(open_ones),
        ]
    return "\n\n".join(paragraphs)


def chance(effect: float, spread: float, seeds: int) -> float:
    """Return how likely Student's 95 % interval of a mean lies above zero."""
    if spread == 0:
        return float(effect > 0)
    shift = effect * math.sqrt(seeds) / spread
    return float(stats.nct.sf(stats.t.ppf(0.975, seeds - 1), seeds - 1, shift))


def _seeds_for(effect: float, spread: float, wanted: float = 0.8) -> str:
    """Return at how many seeds an effect would be seen with a probability of `wanted`."""
    enough = (n for n in range(2, 1000) if chance(effect, spread, n) >= wanted)
    return str(next(enough, "1000 or more"))


def _effect(entry: Entry) -> float | None:
    """Return the paper's number if it is a difference that the test compares with zero."""
    line = entry.headline
    tested = line is not None and line["needed"].endswith("above 0") and math.isfinite(line["low"])
    return entry.paper if tested else None


def _percent(probability: float) -> str:
    return "over 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def _half(line: dict[str, Any]) -> float:
    return (line["high"] - line["low"]) / 2


def _spread_over_seeds(line: dict[str, Any]) -> float:
    """Return the standard deviation over seeds behind an interval."""
    return _half(line) * math.sqrt(line["seeds"]) / stats.t.ppf(0.975, line["seeds"] - 1)
