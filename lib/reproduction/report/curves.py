"""Curves over training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ..runs.records import Record
from ..runs.statistics import bootstrap_interval
from .frame import kernels

LAYERS = ("layer1", "layer2", "layer3", "layer4", "output")
"""The layers of ConvNet-4, input to output."""


def layer_sparsity(record: Record, layer: str) -> np.ndarray:
    """Return the sparsity of a layer over training, a share in [0, 1] per evaluation."""
    name = kernels(record["tensors"])[layer]
    return np.asarray(record["curves"]["frozen"][name]) / record["tensors"][name]


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
