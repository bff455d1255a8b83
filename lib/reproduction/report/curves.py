"""Curves over training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from ..runs.records import Record
from ..runs.statistics import bootstrap_interval
from .plotkit import End, band, direct_labels

LAYERS = ("layer1", "layer2", "layer3", "layer4", "output")
"""The layers of ConvNet-4, input to output."""


def frozen_share(record: Record, kernels: Sequence[str]) -> np.ndarray:
    """Return the share of weights that the inner loop cannot move, percent, over training."""
    frozen = np.sum([record["curves"]["frozen"][n] for n in kernels], axis=0)
    return 100 * frozen / sum(record["tensors"][n] for n in kernels)


class Curve(NamedTuple):
    """A mean over seeds with its 95 % interval at each meta-update."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def bare(cls, x: np.ndarray, mean: np.ndarray) -> Curve:
        """Return a curve without an interval."""
        none = np.full(len(x), np.nan)
        return cls(x, mean, none, none)


def curve(
    records: Sequence[Record], values: Callable[[Record], Sequence[float] | np.ndarray]
) -> Curve:
    """Average a curve over seeds."""
    points = [bootstrap_interval(v) for v in np.asarray([values(r) for r in records]).T]
    mean, low, high, _ = np.array(points).T
    return Curve(np.asarray(records[0]["curves"]["update"]), mean, low, high)


def draw_curves(
    ax: Axes, curves: Mapping[str, Curve], palette: str, others: Iterable[End] = ()
) -> None:
    """Draw curves with their bands, named at their ends, as are others that are drawn already."""
    ends = list(others)
    for colour, (name, c) in zip(
        sns.color_palette(palette, len(curves)), curves.items(), strict=True
    ):
        band(ax, *c, color=colour, marker="." if len(c.x) < 8 else None, label=name)
        ends.append((name, float(c.x[-1]), float(c.mean[-1]), colour))
    direct_labels(ax, ends)
