"""Claims 1 to 3, as the chapter "Decided beforehand" states them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import stats

from reproduction.claims.finding import ABOVE, TOO_FEW, Finding, evidence_line, left_out
from reproduction.report.curves import (
    LAYERS,
    layer_sparsity,
    paired_gain,
    test_accuracies,
)
from reproduction.report.frame import by_experiment, finished
from reproduction.runs.records import Record
from reproduction.runs.statistics import t_interval

EMERGES, THAWS, SETTLES = 5, 95, 0.75
"""Claim 1: final sparsity from 0 % and from 100 %, percent, and of the spread at the end what it
was at the start."""


def _name(prefix: str, percent: int) -> str:
    return f"{prefix}-sparse{percent}"


def emergence(records: Iterable[Record], prefix: str) -> Finding:
    """Test claim 1: sparsity emerges and converges from every initial level."""
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
    """Test claim 2: from 50 %, earlier layers end sparser than later ones."""
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
    """Test claim 3: more accurate than MAML at every initial sparsity, best around 50 %."""
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
