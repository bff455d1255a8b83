"""What pure noise would have made of a mask."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from ..runs.records import Record
from ..runs.statistics import Interval, t_interval
from .curves import Curve
from .frame import by_experiment, finished, numbers
from .markdown import interval, table


def adam_walk(
    start: np.ndarray,
    updates: int,
    rule_rate: float,
    share: Callable[[np.ndarray], np.ndarray],
    generator: np.random.Generator,
) -> tuple[Curve, np.ndarray]:
    """Let numbers walk as Adam makes them walk where gradients are pure noise."""
    m = start.astype(np.float32)
    first, second = np.zeros_like(m), np.zeros_like(m)
    shares = [100 * share(m).mean()]
    for t in range(1, updates + 1):
        gradient = generator.standard_normal(m.shape, np.float32)
        first += (1 - 0.9) * (gradient - first)
        second += (1 - 0.999) * (gradient**2 - second)
        spread = np.sqrt(second / (1 - 0.999**t)) + 1e-8
        m -= rule_rate * first / (1 - 0.9**t) / spread
        shares.append(100 * share(m).mean())
    return Curve.bare(np.arange(updates + 1), np.array(shares)), m


@functools.cache
def noise_curve(
    level: int, updates: int, rule_rate: float = 7.5e-3, weights: int = 20_000
) -> Curve:
    """Return the sparsity that Adam makes of a mask whose gradients are pure noise."""
    generator = np.random.default_rng(0)
    start = generator.random(weights) - level / 100
    return adam_walk(start, updates, rule_rate, lambda m: m < 0, generator)[0]


class BesideNoise(NamedTuple):
    """Where runs from one initial sparsity end, and where pure noise would, percent."""

    final: Interval
    noise: float

    @property
    def side(self) -> str:
        """On which side of noise Student's interval lies."""
        if self.final.low > self.noise:
            return "above it"
        return "below it" if self.final.high < self.noise else "not told apart"


def beside_noise(records: Iterable[Record]) -> dict[int, BesideNoise]:
    """Compare final sparsities with what pure noise would have made of the same masks."""
    ends: dict[int, BesideNoise] = {}
    for group in by_experiment(finished(records)).values():
        p = group[0]["parameters"]
        if p["method"] == "sparse-maml":
            level = round(100 * p["init_sparsity"])
            if level in ends:
                raise ValueError(f"records of several settings start from {level} %")
            final = t_interval(list(numbers(group, "sparsity").values()))
            noise = float(noise_curve(level, p["updates"], p["rule_rate"]).mean[-1])
            ends[level] = BesideNoise(final, noise)
    return dict(sorted(ends.items()))


def against_noise(records: Sequence[Record]) -> str:
    """Compare final sparsities with what pure noise would have made of the same masks."""
    rows = [
        (f"{level} %", interval(b.final), f"{b.noise:.1f}", b.side)
        for level, b in beside_noise(records).items()
    ]
    header = ("initial sparsity", "final sparsity (%)", "under pure noise (%)", "ends")
    return table(header, rows)
