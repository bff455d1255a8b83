"""From records to numbers: curves with intervals, and the tests of the claims.

The tests are the ones that the chapter "Decided beforehand" states; they were
committed before the runs.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from ..runs.records import Record
from ..runs.statistics import Interval, bootstrap_interval, t_interval

EMERGES, THAWS, SETTLES = 5, 95, 0.75
"""Claim 1: final sparsity from 0 % and from 100 %, percent, and of the spread at the end what it
was at the start."""

ABOVE = "interval above 0"
"""What most statistics need."""

LAYERS = ("layer1", "layer2", "layer3", "layer4", "output")
"""The layers of ConvNet-4, input to output."""


def by_experiment(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Group records by the name of their experiment, each group ordered by seed."""
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: r["seed"]):
        groups.setdefault(record["experiment"], []).append(record)
    return groups


def finished(records: Iterable[Record]) -> list[Record]:
    """Return the records that did not diverge."""
    return [r for r in records if r["status"] == "finished"]


def layer_sparsity(record: Record, layer: str) -> np.ndarray:
    """Return the sparsity of a layer over training, a share in [0, 1] per evaluation.

    The share is that of the layer's kernel (its tensor of two or more dimensions):
    a convolution's bias stands before batch normalisation and has no effect, so
    its mask stays where it was drawn.

    Parameters
    ----------
    record : dict
        A record.
    layer : str
        Name of the layer, such as ``layer1`` or ``output``.

    Returns
    -------
    ndarray of float, [evaluations]
    """
    names = (f"{layer}.conv.weight", f"{layer}.weight")
    name = next((n for n in names if n in record["tensors"]), None)
    if name is None:
        raise ValueError(f"{record['experiment']} has no layer {layer!r}")
    return np.asarray(record["curves"]["frozen"][name]) / record["tensors"][name]


class Curve(NamedTuple):
    """A mean over seeds with its 95 % interval at each meta-update."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curve(
    records: Sequence[Record], values: Callable[[Record], Sequence[float] | np.ndarray]
) -> Curve:
    """Average a curve over seeds.

    Parameters
    ----------
    records : sequence of dict
        Finished runs of one experiment.
    values : callable
        From a record to one number per evaluation.

    Returns
    -------
    Curve
        With percentile-bootstrap intervals; NaN ends for a single seed.
    """
    x = np.asarray(records[0]["curves"]["update"])
    points = [bootstrap_interval(v) for v in np.asarray([values(r) for r in records]).T]
    return Curve(
        x,
        np.array([p.mean for p in points]),
        np.array([p.low for p in points]),
        np.array([p.high for p in points]),
    )


def test_accuracies(records: Iterable[Record]) -> dict[int, float]:
    """Return test accuracies in percent by seed, of finished runs that were tested."""
    found = {r["seed"]: r["final"]["test_accuracy"] for r in finished(records)}
    return {seed: 100 * test["mean"] for seed, test in found.items() if test}


def paired_gain(a: Iterable[Record], b: Iterable[Record]) -> Interval | None:
    """Compare test accuracies of two experiments, paired by seed.

    Parameters
    ----------
    a, b : iterable of dict
        Records; runs with the same seed saw the same episodes and started from the
        same initialisation.

    Returns
    -------
    Interval or None
        Mean of a − b in percentage points with Student's 95 % interval; None without
        a common seed.
    """
    first, second = test_accuracies(a), test_accuracies(b)
    common = sorted(first.keys() & second.keys())
    return t_interval([first[s] - second[s] for s in common]) if common else None


def adam_walk(
    start: np.ndarray,
    updates: int,
    rule_rate: float,
    share: Callable[[np.ndarray], np.ndarray],
    generator: np.random.Generator,
) -> tuple[Curve, np.ndarray]:
    """Let numbers walk as Adam makes them walk where gradients are pure noise.

    Parameters
    ----------
    start : ndarray
        The numbers before the first update.
    updates : int
        Meta-updates.
    rule_rate : float
        Adam's rate; its other numbers are those of ``torch.optim.Adam``.
    share : callable
        ``share(m)`` says of each number whether it counts.
    generator : numpy.random.Generator
        Source of the gradients.

    Returns
    -------
    curve : Curve
        How many count, in percent, without an interval, at each update.
    end : ndarray
        The numbers after the last update.
    """
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
    nothing = np.full(updates + 1, np.nan)
    return Curve(np.arange(updates + 1), np.array(shares), nothing, nothing), m


@functools.cache
def noise_curve(
    level: int, updates: int, rule_rate: float = 7.5e-3, weights: int = 20_000
) -> Curve:
    """Return the sparsity that Adam makes of a mask whose gradients are pure noise.

    The null hypothesis of the left panel: every weight makes a random walk.

    Parameters
    ----------
    level : int
        Initial sparsity, percent.
    updates : int
        Meta-updates.
    rule_rate : float, default 0.0075
        Adam's rate.
    weights : int, default 20000
        Weights to simulate, from a fixed seed.

    Returns
    -------
    Curve
        In percent, without an interval, at each update.
    """
    generator = np.random.default_rng(0)
    start = generator.random(weights) - level / 100
    return adam_walk(start, updates, rule_rate, lambda m: m < 0, generator)[0]


class BesideNoise(NamedTuple):
    """Where runs from one initial sparsity end, and where pure noise would."""

    final: Interval
    """Final sparsity, percent, with Student's 95 % interval over seeds."""
    noise: float
    """That of masks driven by pure noise for as many updates."""

    @property
    def side(self) -> str:
        """On which side of noise the interval lies."""
        if self.final.low > self.noise:
            return "above it"
        return "below it" if self.final.high < self.noise else "not told apart"


def beside_noise(records: Iterable[Record]) -> dict[int, BesideNoise]:
    """Compare final sparsities with what pure noise would have made of the same masks.

    Parameters
    ----------
    records : iterable of dict
        Records of Figure 1 on one problem.

    Returns
    -------
    dict
        By initial sparsity in percent, in order.

    Raises
    ------
    ValueError
        If several experiments start from one sparsity.
    """
    found = {}
    for group in by_experiment(finished(records)).values():
        p = group[0]["parameters"]
        if p["method"] == "sparse-maml":
            level = round(100 * p["init_sparsity"])
            if level in found:
                raise ValueError(f"records of several settings start from {level} %")
            final = t_interval([100 * r["final"]["sparsity"] for r in group])
            noise = float(noise_curve(level, p["updates"], p["rule_rate"]).mean[-1])
            found[level] = BesideNoise(final, noise)
    return dict(sorted(found.items()))


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


def _name(prefix: str, percent: int) -> str:
    return f"{prefix}-sparse{percent}"


def emergence(records: Iterable[Record], prefix: str) -> Finding:
    """Test claim 1: sparsity emerges and converges from every initial level.

    Parameters
    ----------
    records : iterable of dict
        Records of Figure 1 on one problem.
    prefix : str
        What the names of the experiments start with, such as ``fig1-omniglot``.

    Returns
    -------
    Finding
        In percent, except for the ratio.
    """
    claim = "1. Gradient sparsity emerges and settles, whatever the initial sparsity"
    records = list(records)
    groups = by_experiment(finished(records))
    levels = (0, 25, 50, 75, 100)
    without = left_out(records, (_name(prefix, p) for p in levels))
    curves = {
        p: {
            r["seed"]: 100 * np.asarray(r["curves"]["sparsity"])
            for r in groups.get(_name(prefix, p), [])
        }
        for p in levels
    }
    seeds = sorted(set.intersection(*(set(c) for c in curves.values())))
    if len(seeds) < 2:
        return Finding(claim, TOO_FEW + without, pd.DataFrame())
    ends = {p: [curves[p][s][-1] for s in seeds] for p in levels}
    from_none, from_all = t_interval(ends[0]), t_interval(ends[100])
    ratio = t_interval(
        [
            np.ptp([curves[p][s][-1] for p in levels]) / np.ptp([curves[p][s][0] for p in levels])
            for s in seeds
        ]
    )
    quarter = len(curves[50][seeds[0]]) // 4
    slowing = {
        p: t_interval(
            [
                abs(c[quarter] - c[0]) - abs(c[-1] - c[-1 - quarter])
                for c in (curves[p][s] for s in seeds)
            ]
        )
        for p in (0, 100)
    }
    evidence = [
        evidence_line("final sparsity from 0 %", from_none, f"interval above {EMERGES}"),
        evidence_line("final sparsity from 100 %", from_all, f"interval below {THAWS}"),
        evidence_line("spread between levels, end / start", ratio, f"interval below {SETTLES}"),
    ] + [
        evidence_line(f"change in first − last quarter, from {p} %", i, ABOVE)
        for p, i in slowing.items()
    ]
    table = pd.DataFrame(evidence)
    holds = list(table["holds"])
    verdict = (
        "supported" if all(holds) else "partly supported" if all(holds[:2]) else "not supported"
    )
    return Finding(claim, verdict + without, table)


def layer_order(records: Iterable[Record], prefix: str) -> Finding:
    """Test claim 2: from 50 %, earlier layers end sparser than later ones.

    Parameters and result are those of :func:`emergence`; differences in
    percentage points.
    """
    claim = "2. Earlier layers get sparser; the output layer stays most plastic"
    records = list(records)
    group = by_experiment(finished(records)).get(_name(prefix, 50), [])
    without = left_out(records, [_name(prefix, 50)])
    if len(group) < 2:
        return Finding(claim, TOO_FEW + without, pd.DataFrame())
    ends = np.array([[100 * layer_sparsity(r, layer)[-1] for layer in LAYERS] for r in group])
    steps = [
        (f"{a} − {b}", t_interval(ends[:, i] - ends[:, i + 1]))
        for i, (a, b) in enumerate(itertools.pairwise(LAYERS))
    ]
    whole = t_interval(ends[:, 0] - ends[:, -1])
    rank = t_interval([_rank_correlation(e) for e in ends])
    evidence = [evidence_line(n, i, ABOVE) for n, i in steps]
    evidence.append(evidence_line("layer1 − output", whole, ABOVE))
    evidence.append(
        evidence_line("rank correlation of depth and sparsity", rank, "interval below 0")
    )
    table = pd.DataFrame(evidence)
    ordered = all(table["holds"][: len(steps)])
    trend = bool(table["holds"].iloc[-2] and table["holds"].iloc[-1])
    verdict = "supported" if ordered else "partly supported" if trend else "not supported"
    return Finding(claim, verdict + without, table)


def _rank_correlation(values: np.ndarray) -> float:
    """Return Spearman's correlation of place and value; 0, no order, if all are equal."""
    if np.ptp(values) == 0:
        return 0.0
    return float(stats.spearmanr(range(len(values)), values).statistic)


def accuracy_gain(records: Iterable[Record], prefix: str) -> Finding:
    """Test claim 3: more accurate than MAML at every initial sparsity, best around 50 %.

    Parameters and result are those of :func:`emergence`; accuracies in
    percentage points, paired by seed.
    """
    claim = "3. More accurate than MAML at every initial sparsity; best around 50 %"
    records = list(records)
    groups = by_experiment(records)
    maml = groups.get(f"{prefix}-maml", [])
    levels = (0, 20, 50, 80, 100)
    without = left_out(records, [f"{prefix}-maml", *(_name(prefix, p) for p in levels)])
    gains = {p: paired_gain(groups.get(_name(prefix, p), []), maml) for p in levels}
    sparse = {p: test_accuracies(groups.get(_name(prefix, p), [])) for p in levels}
    base = test_accuracies(maml)
    seeds = sorted(set(base).intersection(*(set(a) for a in sparse.values())))
    known = {p: g for p, g in gains.items() if g is not None and g.n >= 2}
    if len(known) < len(levels) or len(seeds) < 2:
        return Finding(claim, TOO_FEW + without, pd.DataFrame())
    mean_gain = t_interval(
        [float(np.mean([sparse[p][s] for p in levels])) - base[s] for s in seeds]
    )
    others = [p for p in levels if p != 50]
    middle = t_interval(
        [sparse[50][s] - float(np.mean([sparse[p][s] for p in others])) for s in seeds]
    )
    evidence = [evidence_line(f"sparse-MAML from {p} % − MAML", g, ABOVE) for p, g in known.items()]
    evidence.append(evidence_line("mean over levels − MAML", mean_gain, ABOVE))
    evidence.append(evidence_line("from 50 % − mean of the others", middle, ABOVE))
    table = pd.DataFrame(evidence)
    *each, on_average, at_best = table["holds"]
    worse = any(g.high < 0 for g in known.values())
    if all(each) and at_best:
        verdict = "supported"
    elif on_average and not worse:
        verdict = "partly supported"
    else:
        verdict = "not supported"
    return Finding(claim, verdict + without, table)
