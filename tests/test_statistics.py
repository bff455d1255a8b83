"""Intervals against closed forms, SciPy and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reproduction.runs.statistics import Interval, bootstrap_interval, episode_interval, t_interval

VALUES = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)
ALL = [episode_interval, bootstrap_interval, t_interval]


@given(VALUES)
def test_t_interval_is_that_of_scipy(values):
    got = t_interval(values)
    error = stats.sem(values)
    if error == 0:
        assert got.low == got.mean == got.high
        return
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
    assert got[:3] == pytest.approx((np.mean(values), low, high), rel=1e-9, abs=1e-9)
    assert got.n == len(values)


@given(VALUES)
def test_episode_interval_is_the_closed_form(values):
    got = episode_interval(values)
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    half = 1.959963984540054 * math.sqrt(variance / len(values))
    assert got[:3] == pytest.approx((mean, mean - half, mean + half), rel=1e-6, abs=1e-3)
    assert got.n == len(values)


def test_t_interval_by_hand():
    """1, 2, 3: s = 1, t(0.975; 2) = 4.302653, half the width is t / sqrt(3)."""
    assert t_interval([1, 2, 3])[:3] == pytest.approx((2, 2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_bootstrap_interval_is_that_of_all_resamples():
    """Of three values there are 27 resamples; their quantiles need no chance."""
    values = [0.0, 1.0, 5.0]
    means = sorted((a + b + c) / 3 for a in values for b in values for c in values)
    got = bootstrap_interval(values)
    assert got.mean == 2
    assert got.low == pytest.approx(means[0])  # P(lowest) = 1/27 > 2.5 %
    assert got.high == pytest.approx(means[-1])
    values = list(np.random.default_rng(3).normal(size=40))
    got = bootstrap_interval(values)
    half = 1.96 * np.std(values) / math.sqrt(40)  # ddof 0: what resampling sees
    assert got.low == pytest.approx(np.mean(values) - half, abs=0.03)
    assert got.high == pytest.approx(np.mean(values) + half, abs=0.03)


def test_bootstrap_interval_is_reproducible():
    values = [0.1, 0.5, 0.2, 0.9, 0.4]
    np.random.seed(1)  # noqa: NPY002
    first = bootstrap_interval(values)
    np.random.seed(2)  # noqa: NPY002
    assert bootstrap_interval(values) == first
    assert bootstrap_interval(values[::-1]).mean == pytest.approx(first.mean)


def test_coverage_with_five_values():
    """The percentile bootstrap covers about 83 %, Student's interval 95 %."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((400, 5))
    covered = sum(i.low < 0 < i.high for i in (bootstrap_interval(s, 400) for s in samples))
    # standard error 1.9 points
    assert covered / len(samples) == pytest.approx(0.83, abs=0.06)
    # the same interval, written apart and vectorised: standard error 0.3 points
    many = rng.standard_normal((15_000, 5))
    means = many[:, rng.integers(0, 5, (600, 5))].mean(-1)  # [samples, resamples]
    low, high = np.percentile(means, [2.5, 97.5], axis=1)
    assert ((low < 0) & (high > 0)).mean() == pytest.approx(0.83, abs=0.015)
    student = [t_interval(s) for s in many[:4000]]
    assert np.mean([i.low < 0 < i.high for i in student]) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("interval", ALL)
@pytest.mark.parametrize(
    "values", [[], [math.nan], [1.0, math.inf], [1.0, math.nan, 2.0], [[1.0, 2.0]]]
)
def test_what_has_no_interval_is_refused(interval, values):
    with pytest.raises(ValueError, match="non-empty list of finite numbers"):
        interval(values)


@pytest.mark.parametrize("interval", ALL)
def test_degenerate_values(interval):
    one = interval([0.25])
    assert (one.mean, one.n) == (0.25, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert interval([0.5] * 5) == (0.5, 0.5, 0.5, 5)


@given(VALUES)
def test_an_interval_holds_its_mean(values):
    for interval in (t_interval, episode_interval):
        got = interval(values)
        assert got.low <= got.mean <= got.high


def test_shown():
    assert str(Interval(50.0, 25.0, 75.0, 3)) == "50.0 [25.0, 75.0]"
