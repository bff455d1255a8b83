"""Claims 1 to 3, Figure 1: sparsity emerges, earlier layers get sparser, accuracy gains."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from ..plan import few_shot, study
from ..report.curves import LAYERS
from ..report.noise import beside_noise
from ..runs.experiment import Experiment
from ..runs.records import Record
from .claim import (
    Claim,
    Diverged,
    Runs,
    Statistic,
    Verdict,
    above,
    all_of,
    below,
    by_its_test,
    difference,
    every,
    none_below,
)

STARTS = (0, 25, 50, 75, 100)
"""Claim 1: where runs start, percent."""

LEVELS = (0, 20, 50, 80, 100)
"""Claim 3: the same."""


def emergence(data: str, problem: str) -> Claim:
    """Claim 1 on one data set."""
    names = [f"fig1-{data}-sparse{p}" for p in STARTS]

    def curves(runs: Runs, name: str) -> dict[int, np.ndarray]:
        return {seed: 100 * c for seed, c in runs.curve(name, "sparsity").items()}

    def spread(runs: Runs) -> pd.Series:
        each = [curves(runs, name) for name in names]
        seeds = set.intersection(*map(set, each))
        ends = {s: np.array([c[s][[0, -1]] for c in each]) for s in seeds}
        return pd.Series(
            {s: np.ptp(e[:, 1]) / np.ptp(e[:, 0]) for s, e in ends.items()}, dtype=float
        )

    def slowing(name: str) -> Callable[[Runs], pd.Series]:
        def values(runs: Runs) -> pd.Series:
            return pd.Series({s: _slowing(c) for s, c in curves(runs, name).items()}, dtype=float)

        return values

    return Claim(
        "1",
        "Sparsity emerges and settles at its own level from any initial sparsity",
        "Gradient sparsity emerges and settles, whatever the initial sparsity",
        few_shot.FIG1,
        problem,
        _runs(names),
        (
            Statistic(
                "final sparsity from 0 %", lambda runs: runs(names[0], "sparsity"), above(5), "ends"
            ),
            Statistic(
                "final sparsity from 100 %",
                lambda runs: runs(names[-1], "sparsity"),
                below(95),
                "ends",
            ),
            Statistic("spread between levels, end / start", spread, below(0.75)),
            Statistic("change in first − last quarter, from 0 %", slowing(names[0]), above(0)),
            Statistic("change in first − last quarter, from 100 %", slowing(names[-1]), above(0)),
        ),
        Verdict("all five hold", every(), "the first two hold", every("ends")),
        Diverged(),
        "spread between levels, end / start",
        "ratio",
        _published_spread,
        together=True,
        noise=_above_noise,
    )


def _above_noise(records: Sequence[Record], _: bool) -> str:
    """Say from how many starts more weights freeze than under gradients of pure noise."""
    above = [b.side == "above it" for b in beside_noise(records).values()]
    return "yes" if all(above) else "in part" if any(above) else "no"


def _slowing(curve: np.ndarray) -> float:
    """Return how much less the last quarter changes than the first."""
    quarter = len(curve) // 4
    return float(abs(curve[quarter] - curve[0]) - abs(curve[-1] - curve[-1 - quarter]))


def layer_order(data: str, problem: str) -> Claim:
    """Claim 2 on one data set."""
    name = f"fig1-{data}-sparse50"

    def less(a: str, b: str) -> Callable[[Runs], pd.Series]:
        return lambda runs: runs(name, f"sparsity/{a}") - runs(name, f"sparsity/{b}")

    def rank(runs: Runs) -> pd.Series:
        ends = pd.DataFrame({n: runs(name, f"sparsity/{n}") for n in LAYERS})
        return pd.Series(
            {s: _rank_correlation(e) for s, e in zip(ends.index, ends.to_numpy(), strict=True)},
            dtype=float,
        )

    return Claim(
        "2",
        "Earlier layers get sparser, the output layer stays most plastic",
        "Earlier layers get sparser; the output layer stays most plastic",
        few_shot.FIG1,
        problem,
        _runs([name]),
        (
            *(
                Statistic(f"{a} − {b}", less(a, b), above(0), "neighbours")
                for a, b in itertools.pairwise(LAYERS)
            ),
            Statistic("layer1 − output", less("layer1", "output"), above(0), "trend"),
            Statistic("rank correlation of depth and sparsity", rank, below(0), "trend"),
        ),
        Verdict(
            "the first four hold, the differences between neighbouring layers",
            every("neighbours"),
            "the last two hold",
            every("trend"),
        ),
        Diverged(),
        "layer1 − output",
        paper=_first_to_last,
        noise=by_its_test,
    )


def _rank_correlation(values: np.ndarray) -> float:
    """Return Spearman's correlation of place and value; 0, no order, if all are equal."""
    if np.ptp(values) == 0:
        return 0.0
    return float(stats.spearmanr(range(len(values)), values).statistic)


def accuracy_gain(data: str, problem: str) -> Claim:
    """Claim 3 on one data set."""
    maml = f"fig1-{data}-maml"
    names = {p: f"fig1-{data}-sparse{p}" for p in LEVELS}

    def accuracies(runs: Runs) -> pd.DataFrame:
        every = {n: runs(n, "test_accuracy") for n in (maml, *names.values())}
        return pd.DataFrame(every).dropna()

    def on_average(runs: Runs) -> pd.Series:
        table = accuracies(runs)
        return table[list(names.values())].mean(axis=1) - table[maml]

    def middle(runs: Runs) -> pd.Series:
        table = accuracies(runs)
        return table[names[50]] - table[[n for p, n in names.items() if p != 50]].mean(axis=1)

    return Claim(
        "3",
        "More accurate than MAML at every initial sparsity, best around 50 %",
        "More accurate than MAML at every initial sparsity; best around 50 %",
        few_shot.FIG1,
        problem,
        _runs([maml, *names.values()]),
        (
            *(
                Statistic(f"sparse-MAML from {p} % − MAML", difference(n, maml), above(0), "gain")
                for p, n in names.items()
            ),
            Statistic("mean over levels − MAML", on_average, above(0), "mean"),
            Statistic("from 50 % − mean of the others", middle, above(0), "best"),
        ),
        Verdict(
            "the five gains and the last line hold",
            every("gain", "best"),
            "the mean over levels holds and no gain has its interval below 0",
            all_of(every("mean"), none_below("gain")),
        ),
        Diverged(),
        "mean over levels − MAML",
        paper=_gain_over_levels,
        baseline=maml,
    )


def _runs(names: list[str]) -> list[Experiment]:
    return [e for e in study.few_shot("study", few_shot.FIG1) if e.name in names]


def _published_spread(published: Path) -> float:
    left = pd.read_csv(published / "fig1_left_sparsity_by_epoch.csv")
    ends = left.sort_values("epoch").groupby("init_sparsity")["sparsity"]
    return float(np.ptp(ends.last()) / np.ptp(ends.first()))


def _first_to_last(published: Path) -> float:
    centre = pd.read_csv(published / "fig1_centre_sparsity_by_layer.csv").sort_values("epoch")
    ends = centre.groupby("layer", sort=False)["sparsity"].last()
    return float(ends["layer1"] - ends["output"])


def _gain_over_levels(published: Path) -> float:
    right = pd.read_csv(published / "fig1_right_accuracy_by_init.csv")
    return float((right["sparse_maml_accuracy"] - right["maml_accuracy"]).mean())


CLAIMS = [
    test(data, problem)
    for test in (emergence, layer_order, accuracy_gain)
    for data, problem in (("omniglot", "Omniglot"), ("miniimagenet", "miniImageNet"))
]
