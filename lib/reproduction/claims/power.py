"""What the seeds at hand could have shown: the power of the tests behind the ledger."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..report.markdown import number, table
from .ledger import Entry
from .words import chance, effect_of, percent, spread


def power(found: Sequence[Entry]) -> str:
    """Return what the seeds at hand could have shown, as a table in Markdown."""
    rows = []
    for e in found:
        line = e.headline
        if line is None or not math.isfinite(line["low"]):
            continue
        effect = effect_of(line, e.paper)
        deviation, seeds = spread(line), line["seeds"]
        rows.append(
            (
                f"{e.claim.number} ({e.claim.problem})",
                line["statistic"],
                f"±{number(_half(line))} {e.claim.unit}",
                str(seeds),
                "–" if effect is None else f"{effect:.2f}",
                "–" if effect is None else percent(chance(effect, deviation, seeds)),
                "–" if effect is None else _seeds_for(effect, deviation),
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


def _seeds_for(effect: float, deviation: float, wanted: float = 0.8) -> str:
    """Return at how many seeds an effect would be seen with a probability of `wanted`."""
    enough = (n for n in range(2, 1000) if chance(effect, deviation, n) >= wanted)
    return str(next(enough, "1000 or more"))


def _half(line: dict[str, Any]) -> float:
    return (line["high"] - line["low"]) / 2
