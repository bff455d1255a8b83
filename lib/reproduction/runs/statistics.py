"""Intervals: over test episodes, over seeds, and of paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """Format as ``mean [low, high]``."""
        return f"{self.mean:z.1f} [{self.low:z.1f}, {self.high:z.1f}]"


def _finite(values: Sequence[float]) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) == 0 or not np.isfinite(x).all():
        raise ValueError("an interval needs a non-empty list of finite numbers")
    return x


def episode_interval(values: Sequence[float]) -> Interval:
    """Return the normal 95 % interval of a mean over many independent episodes."""
    x = _finite(values)
    half = 1.959964 * x.std(ddof=1) / math.sqrt(len(x)) if len(x) > 1 else math.nan
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))


def bootstrap_interval(values: Sequence[float], resamples: int = 10_000) -> Interval:
    """Return the percentile-bootstrap 95 % interval of a mean over seeds."""
    x = _finite(values)
    if len(x) == 1:
        return Interval(float(x[0]), math.nan, math.nan, 1)
    if np.ptp(x) == 0:
        return Interval(float(x[0]), float(x[0]), float(x[0]), len(x))
    from scipy import stats  # noqa: PLC0415 - a run needs none of it, and it takes a second

    low, high = stats.bootstrap(
        (x,), np.mean, n_resamples=resamples, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return Interval(float(x.mean()), float(low), float(high), len(x))


def t_interval(values: Sequence[float]) -> Interval:
    """Return Student's 95 % interval of a mean over seeds."""
    x = _finite(values)
    if len(x) == 1:
        return Interval(float(x[0]), math.nan, math.nan, 1)
    from scipy.special import stdtrit  # noqa: PLC0415 - see above

    half = stdtrit(len(x) - 1, 0.975) * x.std(ddof=1) / math.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half), len(x))
