"""Curves over training, and accuracies by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from reproduction.report.frame import finished
from reproduction.runs.records import Record
from reproduction.runs.statistics import Interval, bootstrap_interval, t_interval

LAYERS = ("layer1", "layer2", "layer3", "layer4", "output")
"""The layers of ConvNet-4, input to output."""


def layer_sparsity(record: Record, layer: str) -> np.ndarray:
    """Return the sparsity of a layer over training, a share in [0, 1] per evaluation."""
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
    """Average a curve over seeds."""
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
    """Compare test accuracies of two experiments, paired by seed."""
    first, second = test_accuracies(a), test_accuracies(b)
    common = sorted(first.keys() & second.keys())
    return t_interval([first[s] - second[s] for s in common]) if common else None
