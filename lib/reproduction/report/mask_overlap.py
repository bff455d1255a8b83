"""Sparsity by problem: profiles over the layers, and overlap of single weights.

Both look at kernels alone, as :func:`reproduction.report.frame.kernels` lists them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from ..plan import study
from ..plan.few_shot import BY_PROBLEM
from ..runs import mask_codec
from ..runs.experiment import Experiment
from ..runs.records import Record
from ..runs.statistics import Interval
from .curves import LAYERS
from .frame import by_experiment, frame, kernels, mean
from .markdown import code, interval, table
from .naming import counted, problem_name, settings
from .plotkit import GREY, SMALL, Look, direct_labels, panels, settings_line, side_by_side

BINS = 20
"""Equally large groups of a tensor's initial mask numbers, within which chance is taken."""


def profile_table(records: Sequence[Record], profile: str) -> str:
    """Return the final sparsity of each kernel, by problem."""
    numbers, groups = frame(records), by_experiment(records)
    rows = [
        (
            problem_name(e),
            *(interval(mean(numbers, e.name, f"sparsity/{layer}")) for layer in LAYERS),
            counted(groups.get(e.name, [])),
        )
        for e in study.few_shot(profile, BY_PROBLEM)
    ]
    return table(("final sparsity (%)", *LAYERS, "seeds"), rows)


def draw_profiles(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the final sparsity over the layers, a line for each problem."""
    figure, (part,) = panels([title], height=3.3)
    ax, numbers, planned = part.subplots(), frame(records), study.few_shot(profile, BY_PROBLEM)
    lines = {
        Look(problem_name(e), i, "os^Dv"[i % 5]): [
            mean(numbers, e.name, f"sparsity/{layer}") for layer in LAYERS
        ]
        for i, e in enumerate(planned)
    }
    if ends := side_by_side(ax, LAYERS, lines):
        ax.axhline(50, color=GREY, ls=":", lw=1)
        direct_labels(ax, ends)
    ax.set_ylabel("final sparsity (%)")
    settings_line(part, settings(records, planned))
    return figure


def agreement(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float:
    """Return how much two masks agree beyond chance (Cohen's kappa, by strata)."""
    _, stratum = np.unique(given, return_inverse=True)
    size = np.bincount(stratum)
    share_a, share_b = (np.bincount(stratum, weights=m) / size for m in (a, b))
    by_chance = share_a * share_b + (1 - share_a) * (1 - share_b)
    expected = float((size * by_chance).sum() / size.sum())
    if 1 - expected < 1e-12:
        return math.nan
    return (float((a == b).mean()) - expected) / (1 - expected)


class Mask(NamedTuple):
    """The mask of one run, and where it started; arrays of the kernels' shapes, by layer."""

    experiment: str
    seed: int
    moves: dict[str, np.ndarray]
    """Which weights move at the best validation."""
    start: dict[str, np.ndarray]
    """The numbers m before meta-training; negative ones are frozen."""


def read_masks(records: Sequence[Record]) -> list[Mask]:
    """Return the masks of runs whose records hold them; those that diverged have none."""
    masks = []
    for r in records:
        if packed := r["final"].get("masks"):
            experiment = study.find_few_shot(r["profile"], r["parameters"]["name"])
            layers = kernels(_shapes(experiment))
            moves = mask_codec.unpack(packed, {n: _shapes(experiment)[n] for n in layers.values()})
            start = start_of(experiment, r["seed"])
            by_layer = ({layer: m[n] for layer, n in layers.items()} for m in (moves, start))
            masks.append(Mask(r["experiment"], r["seed"], *by_layer))
    return masks


@functools.cache
def _shapes(experiment: Experiment) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = experiment.build_network()
    return {n: tuple(p.shape) for n, p in network.named_parameters()}


def start_of(experiment: Experiment, seed: int) -> dict[str, np.ndarray]:
    """Draw again the numbers m that a run's mask started from."""
    params = {n: torch.empty(shape) for n, shape in _shapes(experiment).items()}
    numbers = experiment.rule.init(params, torch.Generator().manual_seed(seed))
    return {n: m.numpy() for n, m in numbers.items()}


def pairs(records: Sequence[Record]) -> pd.DataFrame:
    """Compare the masks of all runs, two by two, on each layer of equal shape and on all."""
    rows = []
    for a, b in itertools.combinations(read_masks(records), 2):
        kappa = dict(_kappas(a.moves, b.moves, a.start))
        same = all(np.array_equal(a.start[n], b.start[n]) for n in kappa if n != "all")
        start = "other" if a.seed != b.seed else "same" if same else "shifted"
        beyond = dict(_kappas(a.moves, b.moves, a.start, BINS)) if start == "same" else {}
        who = (a.experiment, b.experiment, a.seed, b.seed, start)
        rows += [(*who, layer, k, beyond.get(layer, math.nan)) for layer, k in kappa.items()]
    columns = ["a", "b", "seed_a", "seed_b", "start", "layer", "kappa", "beyond"]
    return pd.DataFrame(rows, columns=columns)


def with_start(records: Sequence[Record]) -> pd.DataFrame:
    """Compare each run's mask with the one that it started from."""
    rows = [
        (m.experiment, m.seed, m.seed, layer, kappa)
        for m in read_masks(records)
        for layer, kappa in _kappas(m.moves, {n: s >= 0 for n, s in m.start.items()}, m.start)
    ]
    return pd.DataFrame(rows, columns=["a", "seed_a", "seed_b", "layer", "kappa"])


def _kappas(
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
    start: Mapping[str, np.ndarray],
    bins: int = 1,
) -> Iterator[tuple[str, float]]:
    """Yield the agreement on each layer and on all, given the layer and the bin of the start."""
    layers = [n for n, m in a.items() if n in b and m.shape == b[n].shape]
    strata = {n: bins * i + _bin(start[n].ravel(), bins) for i, n in enumerate(layers)}
    for name, part in [*((n, [n]) for n in layers), *([("all", layers)] if layers else [])]:
        one, two = (np.concatenate([m[n].ravel() for n in part]) for m in (a, b))
        yield name, agreement(one, two, np.concatenate([strata[n] for n in part]))


def _bin(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the number of the equally large group that each value falls into."""
    if bins == 1:
        return np.zeros(len(values), dtype=int)
    return values.argsort(kind="stable").argsort(kind="stable") * bins // len(values)


def over_seeds(lines: pd.DataFrame, column: str) -> Interval | None:
    """Return the mean of a column over pairs of runs, with a jackknife interval over seeds."""
    lines = lines.dropna(subset=[column])
    if lines.empty:
        return None
    seeds = sorted({*lines["seed_a"], *lines["seed_b"]})
    without = [lines[(lines["seed_a"] != s) & (lines["seed_b"] != s)][column] for s in seeds]
    n, middle, left = len(seeds), float(lines[column].mean()), np.array([x.mean() for x in without])
    if n < 2 or not np.isfinite(left).all():
        return Interval(middle, math.nan, math.nan, n)
    half = stats.t.ppf(0.975, n - 1) * math.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    return Interval(middle, float(middle - half), float(middle + half), n)


def overlap_table(records: Sequence[Record]) -> str:
    """Return the overlap of masks by layer, within problems and between them."""
    both = pairs(records)
    within, seeds = both["a"] == both["b"], both["start"]
    columns = {
        "one problem, two seeds": (both[within & (seeds == "other")], "kappa"),
        "two problems, two seeds": (both[~within & (seeds == "other")], "kappa"),
        "two problems, one seed": (both[~within & (seeds == "same")], "kappa"),
        "the same, start taken out": (both[~within & (seeds == "same")], "beyond"),
        "a mask and its own start": (with_start(records), "kappa"),
    }
    rows = [
        (
            "all" if layer == "all" else code(layer),
            *(
                _cell(over_seeds(lines[lines["layer"] == layer], c))
                for lines, c in columns.values()
            ),
        )
        for layer in (*LAYERS, "all")
    ]
    return table(("kappa", *columns), rows)


def _cell(value: Interval | None) -> str:
    if value is None:
        return "–"
    ends = f" [{value.low:z.2f}, {value.high:z.2f}]" if math.isfinite(value.low) else ""
    return f"{value.mean:z.2f}{ends}"


def draw_overlap(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the overlap of masks problem by problem, as heat maps with numbers."""
    planned = study.few_shot(profile, BY_PROBLEM)
    lines = pairs(records).query("layer == 'all'")
    mirrored = pd.concat([lines, lines.rename(columns={"a": "b", "b": "a"})])
    names = [e.name for e in planned]
    maps = {
        heading: mirrored[mirrored["start"] == start]
        .pivot_table(column, "a", "b")
        .reindex(index=names, columns=names)
        .to_numpy(float)
        for heading, start, column in (
            ("two seeds", "other", "kappa"),
            ("one seed", "same", "kappa"),
            ("one seed, start taken out", "same", "beyond"),
        )
    }
    limit = max(0.1, *(np.nanmax(np.abs(m), initial=0) for m in maps.values()))
    with_masks = {m.experiment for m in read_masks(records)}
    labels = [
        problem_name(e).replace(", ", "\n") + ("" if e.name in with_masks else "\n(no masks yet)")
        for e in planned
    ]
    figure, (part,) = panels([title], height=3.7)
    axes = part.subplots(1, len(maps), sharey=True)
    for ax, (heading, values) in zip(axes, maps.items(), strict=True):
        _heat_map(ax, values, limit)
        ax.set_title(heading)
        ax.set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=90, fontsize=SMALL)
    axes[0].set_yticks(np.arange(len(labels)) + 0.5, labels, rotation=0, fontsize=SMALL)
    settings_line(part, settings(records, planned, "kappa of the kernels, mean over pairs of runs"))
    return figure


def _heat_map(ax: Axes, values: np.ndarray, limit: float) -> None:
    style = {"cmap": "vlag", "square": True, "linewidths": 0.5, "cbar": False}
    letters = {"fontsize": SMALL}
    sns.heatmap(
        values, ax=ax, vmin=-limit, vmax=limit, annot=True, fmt="z.2f", annot_kws=letters, **style
    )
    for row, column in np.argwhere(~np.isfinite(values)):
        ax.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color=GREY, fontsize=SMALL)
    ax.tick_params(length=0)
