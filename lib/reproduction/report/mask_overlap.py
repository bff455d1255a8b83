"""Sparsity by problem: profiles over the layers, and overlap of single weights.

Both look at kernels alone (tensors of two or more dimensions).  Biases of convolutions have
no effect, so their masks stay where they were drawn.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
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
from ..runs import mask_codec as masks
from ..runs.experiment import Experiment
from ..runs.records import Record
from ..runs.statistics import Interval
from .curves import LAYERS
from .frame import BySeed, by_experiment, numbers
from .frame import over_seeds as mean_over_seeds
from .markdown import cell, code, table
from .naming import NOT_RUN, counted, intervals, problem_name, setting
from .plotkit import GREY, SMALL, line, panels, settings_line

BINS = 20
"""Equally large groups of a tensor's initial mask numbers, within which chance is taken."""

_MARKERS = "os^Dv"


def problems(profile: str) -> dict[str, str]:
    """Return what the problems of a profile are called, by the name of the experiment."""
    return {e.name: problem_name(e) for e in study.few_shot(profile, BY_PROBLEM)}


def profile_table(records: Sequence[Record], profile: str) -> str:
    """Return the final sparsity of each kernel, by problem."""
    groups = by_experiment(records)
    rows = []
    for experiment, name in problems(profile).items():
        group = groups.get(experiment, [])
        rows.append((name, *(cell(_sparsity(group, layer)) for layer in LAYERS), counted(group)))
    return table(("final sparsity (%)", *LAYERS, "seeds"), rows)


def _sparsity(group: Sequence[Record], layer: str) -> BySeed:
    return numbers(group, f"sparsity/{layer}")


def draw_profiles(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the final sparsity over the layers, a line for each problem."""
    figure, (part,) = panels([title], height=3.3)
    ax = part.subplots()
    groups, named = by_experiment(records), problems(profile)
    colours = sns.color_palette("deep", len(named))
    for i, (experiment, name) in enumerate(named.items()):
        group = groups.get(experiment, [])
        values = {
            x + 0.07 * (i - (len(named) - 1) / 2): mean_over_seeds(_sparsity(group, layer))
            for x, layer in enumerate(LAYERS)
        }
        style = {"marker": _MARKERS[i % len(_MARKERS)], "color": colours[i]}
        if any(values.values()):
            line(ax, values, "-", label=name, **style)
        else:
            ax.plot([], [], label=f"{name}: {'diverged' if group else NOT_RUN}", **style)
    ax.axhline(50, color=GREY, ls=":", lw=1, label="where masks start, and noise stays")
    ax.set_xticks(range(len(LAYERS)), LAYERS)
    ax.set(ylabel="final sparsity (%)", xlim=(-0.5, len(LAYERS) - 0.5))
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    settings_line(part, stamp(records, profile, intervals(records)))
    return figure


def stamp(records: Sequence[Record], profile: str, shows: str) -> str:
    """Say what all problems were run with, and after it what each has of its own."""
    groups = by_experiment(records)
    parts = {
        name: setting(groups[experiment]).split(" · ")
        for experiment, name in problems(profile).items()
        if experiment in groups
    }
    if not parts:
        return NOT_RUN
    first, *others = parts.values()
    shared = [p for p in first if all(p in other for other in others)]
    own = [
        f"{name}: {', '.join(p for p in mine[2:] if p not in shared)}"  # after profile and data
        for name, mine in parts.items()
        if not set(mine[2:]) <= set(shared)
    ]
    return "\n".join([" · ".join([*shared, shows]), *own])


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
    """The mask of one run, and where it started."""

    experiment: str
    seed: int
    moves: dict[str, np.ndarray]
    """Which weights move at the best validation: bool, of the kernel's shape, by layer."""
    start: dict[str, np.ndarray]
    """The numbers m before meta-training, of the same shapes; negative ones are frozen."""


def read_masks(records: Sequence[Record]) -> list[Mask]:
    """Return the masks of runs whose records hold them."""
    found = []
    for r in records:
        if not r["final"].get("masks"):  # as those of runs that diverged
            continue
        experiment = study.find_few_shot(r["profile"], r["experiment"])
        shapes = _kernels(experiment)
        moves = masks.unpack(r["final"]["masks"], dict(shapes.values()))
        start = start_of(experiment, r["seed"])
        found.append(
            Mask(
                r["experiment"],
                r["seed"],
                {layer: moves[n] for layer, (n, _) in shapes.items()},
                {layer: start[n] for layer, (n, _) in shapes.items()},
            )
        )
    return found


@functools.cache
def _shapes(experiment: Experiment) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = experiment.build_network()
    return {n: tuple(p.shape) for n, p in network.named_parameters()}


def _kernels(experiment: Experiment) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return name and shape of each layer's kernel."""
    return {
        n.partition(".")[0]: (n, shape)
        for n, shape in _shapes(experiment).items()
        if len(shape) > 1
    }


def start_of(experiment: Experiment, seed: int) -> dict[str, np.ndarray]:
    """Draw again the numbers m that a run's mask started from."""
    params = {n: torch.empty(shape) for n, shape in _shapes(experiment).items()}
    numbers = experiment.rule.init(params, torch.Generator().manual_seed(seed))
    return {n: m.numpy() for n, m in numbers.items()}


def pairs(records: Sequence[Record]) -> pd.DataFrame:
    """Compare the masks of all runs, two by two."""
    lines = []
    for a, b in itertools.combinations(read_masks(records), 2):
        common = [n for n in a.moves if n in b.moves and a.moves[n].shape == b.moves[n].shape]
        start = _starts(a, b, common)
        for layer, layers in [*((n, [n]) for n in common), *([("all", common)] if common else [])]:
            lines.append(
                {
                    "a": a.experiment,
                    "b": b.experiment,
                    "seed_a": a.seed,
                    "seed_b": b.seed,
                    "start": start,
                    "layer": layer,
                    "kappa": _kappa(a.moves, b.moves, a.start, layers, 1),
                    "beyond": _kappa(a.moves, b.moves, a.start, layers, BINS)
                    if start == "same"
                    else math.nan,
                }
            )
    return pd.DataFrame(lines, columns=_COLUMNS)


_COLUMNS = ["a", "b", "seed_a", "seed_b", "start", "layer", "kappa", "beyond"]


def _starts(a: Mask, b: Mask, layers: Sequence[str]) -> str:
    if a.seed != b.seed:
        return "other"
    return "same" if all(np.array_equal(a.start[n], b.start[n]) for n in layers) else "shifted"


def _kappa(
    a: Mapping[str, np.ndarray],
    b: Mapping[str, np.ndarray],
    start: Mapping[str, np.ndarray],
    layers: Sequence[str],
    bins: int,
) -> float:
    """Return the agreement on some layers, given the layer and the bin of the start."""
    given = [bins * i + _bin(start[n].ravel(), bins) for i, n in enumerate(layers)]
    one, two = (np.concatenate([m[n].ravel() for n in layers]) for m in (a, b))
    return agreement(one, two, np.concatenate(given))


def _bin(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the number of the equally large group that each value falls into."""
    if bins == 1:
        return np.zeros(len(values), dtype=int)
    return values.argsort(kind="stable").argsort(kind="stable") * bins // len(values)


def kept(records: Sequence[Record]) -> pd.DataFrame:
    """Compare each run's mask with the one that it started from."""
    lines = []
    for m in read_masks(records):
        drawn = {n: s >= 0 for n, s in m.start.items()}
        for layer, layers in [*((n, [n]) for n in m.moves), ("all", list(m.moves))]:
            value = _kappa(m.moves, drawn, m.start, layers, 1)
            lines.append((m.experiment, m.seed, m.seed, layer, value))
    return pd.DataFrame(lines, columns=["a", "seed_a", "seed_b", "layer", "kappa"])


def over_seeds(lines: pd.DataFrame, column: str) -> Interval | None:
    """Return the mean of a column over pairs of runs, with an interval over seeds."""
    lines = lines.dropna(subset=[column])
    if lines.empty:
        return None
    seeds = sorted({*lines["seed_a"], *lines["seed_b"]})
    left = np.array(
        [lines.loc[(lines["seed_a"] != s) & (lines["seed_b"] != s), column].mean() for s in seeds]
    )
    n, mean = len(seeds), float(lines[column].mean())
    if n < 2 or not np.isfinite(left).all():
        return Interval(mean, math.nan, math.nan, n)
    half = stats.t.ppf(0.975, n - 1) * math.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    return Interval(mean, float(mean - half), float(mean + half), n)


def overlap_table(records: Sequence[Record]) -> str:
    """Return the overlap of masks by layer, within problems and between them."""
    found, old = pairs(records), kept(records)
    within = found["a"] == found["b"]
    columns = {
        "one problem, two seeds": (found[within & (found["start"] == "other")], "kappa"),
        "two problems, two seeds": (found[~within & (found["start"] == "other")], "kappa"),
        "two problems, one seed": (found[~within & (found["start"] == "same")], "kappa"),
        "the same, start taken out": (found[~within & (found["start"] == "same")], "beyond"),
        "a mask and its own start": (old, "kappa"),
    }
    rows = [
        (
            "all" if layer == "all" else code(layer),
            *(_cell(over_seeds(g[g["layer"] == layer], c)) for g, c in columns.values()),
        )
        for layer in (*LAYERS, "all")
    ]
    return table(("kappa", *columns), rows)


def _cell(value: Interval | None) -> str:
    if value is None:
        return "–"
    ends = f" [{value.low:z.2f}, {value.high:z.2f}]" if math.isfinite(value.low) else ""
    return f"{value.mean:z.2f}{ends}"


def matrix(lines: pd.DataFrame, column: str, names: Sequence[str]) -> np.ndarray:
    """Arrange means over pairs of runs problem by problem."""
    found = np.full((len(names), len(names)), math.nan)
    for (i, a), (j, b) in itertools.product(enumerate(names), repeat=2):
        here = {(a, b), (b, a)}
        chosen = [pair in here for pair in zip(lines["a"], lines["b"], strict=True)]
        found[i, j] = lines.loc[chosen, column].mean()
    return found


def draw_overlap(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the overlap of masks problem by problem, as heat maps with numbers."""
    named = problems(profile)
    found = pairs(records)
    every = found[found["layer"] == "all"]
    apart, together = (every[every["start"] == s] for s in ("other", "same"))
    maps = {
        "two seeds": matrix(apart, "kappa", list(named)),
        "one seed": matrix(together, "kappa", list(named)),
        "one seed, start taken out": matrix(together, "beyond", list(named)),
    }
    known = np.concatenate([m[np.isfinite(m)] for m in maps.values()])
    limit = max(0.1, np.abs(known).max(initial=0))
    figure, (part,) = panels([title], height=3.7)
    axes = part.subplots(1, len(maps), sharey=True)
    with_masks = {m.experiment for m in read_masks(records)}
    labels = [
        n.replace(", ", "\n") + ("" if e in with_masks else "\n(no masks yet)")
        for e, n in named.items()
    ]
    for ax, (name, values) in zip(axes, maps.items(), strict=True):
        _heat_map(ax, values, limit)
        ax.set_title(name)
        ax.set_xticks(np.arange(len(labels)) + 0.5, labels, rotation=90, fontsize=SMALL)
    axes[0].set_yticks(np.arange(len(labels)) + 0.5, labels, rotation=0, fontsize=SMALL)
    settings_line(part, stamp(records, profile, "kappa of the kernels, mean over pairs of runs"))
    return figure


def _heat_map(ax: Axes, values: np.ndarray, limit: float) -> None:
    sns.heatmap(
        values,
        ax=ax,
        vmin=-limit,
        vmax=limit,
        cmap="vlag",
        annot=True,
        fmt="z.2f",
        annot_kws={"fontsize": SMALL},
        cbar=False,
        square=True,
        linewidths=0.5,
    )
    for row, column in np.argwhere(~np.isfinite(values)):
        ax.text(column + 0.5, row + 0.5, "–", ha="center", va="center", color="0.5", fontsize=8)
    ax.tick_params(length=0)
