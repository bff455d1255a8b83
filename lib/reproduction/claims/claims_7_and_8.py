"""Claims 7 and 8: rates that are learned become zero, and problems differ in their sparsity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..plan import few_shot, study
from ..report.curves import LAYERS
from ..report.frame import numbers, over_seeds
from ..report.sparsity_profiles import noise_rates
from ..runs.experiment import Experiment
from ..runs.records import Record
from ..runs.statistics import Interval
from .claim import (
    SHOWN,
    Claim,
    Line,
    Runs,
    Statistic,
    Verdict,
    above,
    against,
    below,
    by_its_test,
    every,
    without,
)
from .claims_5_and_6 import of_table1

P, P_IN_PART = 0.01, 0.05
"""Claim 8: below which p supports it, and supports it partly."""

PERMUTATIONS = 9_999
"""Random assignments of runs to problems behind the p-value of claim 8."""


def _relu_sparsity() -> Claim:
    name = "convnet4-5shot-sparse-relu-maml"
    return Claim(
        "7",
        "Sparsity also emerges when rates are learned under a ReLU",
        "Sparsity also emerges when rates are learned under a ReLU",
        few_shot.LEARNED_RATES,
        "miniImageNet",
        of_table1("convnet4", [5], "sparse-relu-maml"),
        (
            Statistic(
                "final share of rates at zero",
                lambda runs: runs(name, "sparsity"),
                above(5),
                "share",
            ),
            Statistic(
                "layer1 − output",
                lambda runs: runs(name, "sparsity/layer1") - runs(name, "sparsity/output"),
                without(0),
            ),
        ),
        Verdict("both hold", every(), "only the first holds", every("share")),
        against("sparse-ReLU-MAML", name),
        "final share of rates at zero",
        "%",
        noise=lambda records, _: _more_than_noise(records, name),
    )


def _more_than_noise(records: Sequence[Record], name: str) -> str:
    """Say whether more rates become zero than under gradients of pure noise."""
    share = over_seeds(numbers(records, "sparsity"))
    e = study.find_few_shot("study", name)
    null = noise_rates(e.inner_rate, e.updates, e.rule_rate).zero.mean[-1]
    return "yes" if share is not None and share.low > null else "no"


def by_problem(planned: Sequence[Experiment]) -> Claim:
    """Claim 8: a permutation test (Anderson, 2001) in which each experiment is a problem."""

    def profiles(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
        """Return the final sparsity of layers, a row for each run, and the problem of each."""
        tables = [
            pd.DataFrame({layer: runs(e.name, f"sparsity/{layer}") for layer in LAYERS})
            for e in planned
        ]
        groups = [t.to_numpy() for t in tables if len(t) > 1]
        labels = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
        return (np.concatenate(groups), labels) if len(groups) > 1 else (np.empty((0, 0)), labels)

    def outcome(value: float, labels: np.ndarray) -> Interval:
        return Interval(value, math.nan, math.nan, int(np.bincount(labels).min()))

    def ratio(runs: Runs) -> Interval:
        points, labels = profiles(runs)
        return outcome(pseudo_f(points, labels), labels) if len(points) else _NOTHING

    def p_value(runs: Runs) -> Interval:
        points, labels = profiles(runs)
        if not len(points):
            return _NOTHING
        rng = np.random.default_rng(0)
        found = pseudo_f(points, labels)
        as_large = sum(
            pseudo_f(points, rng.permutation(labels)) >= found for _ in range(PERMUTATIONS)
        )
        return outcome((1 + as_large) / (1 + PERMUTATIONS), labels)

    def in_part(lines: Sequence[Line]) -> bool:
        return all(line.interval.mean < P_IN_PART for line in lines)

    return Claim(
        "8",
        "The pattern of sparsity differs from problem to problem",
        "The pattern of sparsity differs from problem to problem",
        few_shot.BY_PROBLEM,
        "miniImageNet, CUB (2010), Omniglot, glyphs",
        planned,
        (
            Statistic("pseudo-F between problems", ratio, SHOWN),
            Statistic("p by permutation", p_value, below(P, "")),
        ),
        Verdict(f"p is below {P}", every(), f"p is below {P_IN_PART}", in_part),
        against("sparse-MAML on any of the problems", ""),
        "p by permutation",
        "p",
        noise=by_its_test,
    )


_NOTHING = Interval(math.nan, math.nan, math.nan, 0)


def pseudo_f(points: np.ndarray, labels: np.ndarray) -> float:
    """Return the ratio of variance between groups to that within, each by its freedom.

    Zero if the groups have the same centre; infinite if only what is within them is all equal.
    What rounding alone could make counts as equal.
    """
    sizes = np.bincount(labels)
    centres = np.stack([points[labels == k].mean(0) for k in range(len(sizes))])
    between = (sizes * ((centres - points.mean(0)) ** 2).sum(1)).sum() / (len(sizes) - 1)
    within = ((points - centres[labels]) ** 2).sum() / (len(points) - len(sizes))
    rounding = points.size * (1e-12 * np.abs(points).max()) ** 2
    if between <= rounding:
        return 0.0
    return float(between / within) if within > rounding else np.inf


CLAIMS = [_relu_sparsity(), by_problem(study.few_shot("study", few_shot.BY_PROBLEM))]
