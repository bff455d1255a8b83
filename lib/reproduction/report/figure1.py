"""The figures of the book, drawn from records and from the paper's published numbers."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from ..runs.experiment import Experiment
from ..runs.records import Record
from ..runs.statistics import Interval, bootstrap_interval
from .analysis import LAYERS, Curve, by_experiment, curve, finished, layer_sparsity, noise_curve
from .analysis import test_accuracies as accuracies_by_seed


def set_theme() -> None:
    """Set the style of every figure: seaborn's, on a transparent ground."""
    sns.set_theme(
        context="paper",
        style="ticks",
        palette="deep",
        rc={
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "savefig.facecolor": "none",
            "savefig.transparent": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.dpi": 110,
            "legend.frameon": False,
            "legend.fontsize": 7.5,
            "text.parse_math": False,  # a dollar in the text of a record begins no formula
        },
    )


class Look(NamedTuple):
    """How a method is drawn, on every page."""

    name: str
    colour: int
    """Place in seaborn's palette."""
    marker: str = "o"
    line: str = "-"

    @property
    def rgb(self) -> tuple[float, float, float]:
        """Its colour; the palette begins anew where it ends."""
        palette = sns.color_palette("deep")
        return palette[self.colour % len(palette)]


class Looks(dict[str, Look]):
    """Looks by method.  One without a line of its own has its name as title, and some colour."""

    def __missing__(self, method: str) -> Look:
        """Return the same look for the same name, without keeping it."""
        return Look(method, zlib.crc32(method.encode()))

    def place(self, method: str) -> tuple[int, str]:
        """Return what sorts methods: in the order of the table, those without a line last."""
        return (list(self).index(method) if method in self else len(self), method)


METHODS = Looks(
    {
        "maml": Look("MAML", 2, "^"),
        "anil": Look("ANIL", 4, "v"),
        "boil": Look("BOIL", 5, "D"),
        "meta-sgd": Look("Meta-SGD", 6),
        "sparse-maml": Look("sparse-MAML", 0),
        "sparse-relu-maml": Look("sparse-ReLU-MAML", 3, "s"),
        "sparse-maml-plus": Look("sparse-MAML+", 9),
        "relu-maml": Look("true-ReLU variant", 7),
        "exp-maml": Look("exponential variant", 8),
        "masked-weights": Look("masked weights", 1),
        "maml-second-order": Look("MAML, second order", 2),
    }
)
"""Methods of the few-shot half, in the order of the tables."""


@dataclass
class Fig1:
    """What the three panels of Figure 1 show, from one source; shares in percent."""

    title: str
    stamp: str
    """Profile, data set, setting, seeds: printed under the panels."""
    left: dict[int, Curve] = field(default_factory=dict)
    """Sparsity over training by initial sparsity."""
    centre: dict[str, Curve] = field(default_factory=dict)
    """Sparsity of each layer over training, from 50 %."""
    right_accuracy: dict[int, Interval] = field(default_factory=dict)
    """Test accuracy by initial sparsity."""
    right_sparsity: dict[int, Interval] = field(default_factory=dict)
    """Final sparsity by initial sparsity."""
    maml: Interval | None = None
    """Test accuracy of MAML."""
    diverged: list[str] = field(default_factory=list)
    """Runs that diverged: experiment, seed and update."""
    not_drawn: list[str] = field(default_factory=list)
    """Experiments that have no place in the panels, and accuracies that were not measured."""
    noise: dict[int, Curve] = field(default_factory=dict)
    """Sparsity by initial sparsity if all gradients of the mask were pure noise."""
    x_label: str = "meta-update"


LEFT = (0, 25, 50, 75, 100)
RIGHT = (0, 20, 50, 80, 100)


def _exact(value: float) -> Interval:
    return Interval(value, np.nan, np.nan, 1)


def fig1_paper(folder: Path | str) -> Fig1:
    """Read the paper's Figure 1, as digitised from the published image.

    Parameters
    ----------
    folder : path
        Folder of the ``fig1_*.csv`` files, ``results/paper``.

    Returns
    -------
    Fig1
        Means only; accuracies are read off to about ±0.1 points, sparsities to ±1.
    """
    folder = Path(folder)

    def lines(table: pd.DataFrame, by: str) -> dict:
        return {
            key: Curve(
                rows["epoch"].to_numpy(),
                rows["sparsity"].to_numpy(),
                np.full(len(rows), np.nan),
                np.full(len(rows), np.nan),
            )
            for key, rows in table.groupby(by, sort=False)
        }

    right = pd.read_csv(folder / "fig1_right_accuracy_by_init.csv").set_index("init_sparsity")
    left = lines(pd.read_csv(folder / "fig1_left_sparsity_by_epoch.csv"), "init_sparsity")
    return Fig1(
        title="The paper",
        stamp="published figure, read off the image (±0.1 accuracy, ±1 sparsity points) · "
        "miniImageNet 5-way 5-shot · 84 px · 64 channels · means of 5 seeds",
        left=dict(sorted(left.items())),
        centre=lines(pd.read_csv(folder / "fig1_centre_sparsity_by_layer.csv"), "layer"),
        right_accuracy={int(i): _exact(v) for i, v in right["sparse_maml_accuracy"].items()},
        right_sparsity={int(i): _exact(v) for i, v in right["final_sparsity"].items()},
        maml=_exact(float(right["maml_accuracy"].iloc[0])),
        x_label="epoch (100 meta-updates)",
    )


ONE_PROBLEM = ("profile", "data", "ways", "shots", "image_size", "updates", "meta_batch")
"""Parameters that a line about records gives once, so that all of them must have the same."""


def setting(records: Sequence[Record]) -> str:
    """Say in one line what some records of one problem were made with.

    Parameters
    ----------
    records : sequence of dict
        At least one, all of one problem.

    Returns
    -------
    str
        Profile, data, sizes, steps, seeds; the seeds are those that every experiment has.

    Raises
    ------
    ValueError
        If the records are of several problems or budgets.
    """
    p = records[0]["parameters"]
    for r in records:
        for name in ONE_PROBLEM:
            if r["parameters"][name] != p[name]:
                raise ValueError(
                    f"{r['experiment']} and {records[0]['experiment']} cannot stand under one "
                    f"label: {name} is {r['parameters'][name]!r} and {p[name]!r}"
                )

    def value(name: str) -> str:
        found = sorted({r["parameters"][name] for r in records})
        return ", ".join(f"{v:g}" for v in found)

    seeds = set.intersection(*({r["seed"] for r in g} for g in by_experiment(records).values()))
    listed = ", ".join(map(str, sorted(seeds)))
    return (
        f"profile {p['profile']} · {p['data']} {p['ways']}-way {p['shots']}-shot · "
        f"{p['image_size']} px · {value('width')} channels · K = {value('inner_steps')} · "
        f"inner rate {value('inner_rate')} · {p['updates']} updates × {p['meta_batch']} tasks · "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {listed or '(none in common)'}"
    )


def stamp(records: Sequence[Record]) -> str:
    """Return the setting and what the bands show, to print under a figure."""
    several = any(len(group) > 1 for group in by_experiment(records).values())
    return setting(records) + (
        " · mean, 95 % bootstrap interval over seeds" if several else " · no interval"
    )


_OF_A_CURVE = ("name", "figure", "method", "init_sparsity", "probes")  # not of a row


def fig1(title: str, records: Sequence[Record]) -> list[Fig1]:
    """Collect Figure 1 from records: a row for each problem, and for each other setting.

    Parameters
    ----------
    title : str
        Heading; of several rows each adds what it is about.
    records : sequence of dict
        Runs of MAML, and of sparse-MAML by initial sparsity; what is missing stays empty.  A run
        of another method has no place, and is named as not drawn.

    Returns
    -------
    list of Fig1
        At least one.

    Raises
    ------
    ValueError
        If several experiments, or runs of one seed, belong to one place of a row.
    """
    rows: dict[str, list[Record]] = {}
    usual = Experiment(name="", figure="").parameters()  # older records lack newer parameters
    for r in records:
        shared = {k: v for k, v in (usual | r["parameters"]).items() if k not in _OF_A_CURVE}
        rows.setdefault(json.dumps(shared, sort_keys=True), []).append(r)
    if not rows:
        return [Fig1(title=title, stamp="not run yet")]
    own = [f"{title}: {_problem(group)}" if len(rows) > 1 else title for group in rows.values()]
    return [_row(heading, group) for heading, group in zip(own, rows.values(), strict=True)]


def _problem(group: Sequence[Record]) -> str:
    """Return the problem of a row, and the changes that are at the end of its runs' names."""
    p, (_, _, changes) = group[0]["parameters"], group[0]["experiment"].partition("+")
    return f"{p['data']} {p['ways']}-way {p['shots']}-shot" + (changes and f", {changes}")


def _row(title: str, records: Sequence[Record]) -> Fig1:
    out = Fig1(title=title, stamp=stamp(records))
    taken: dict[int | None, str] = {}  # by initial sparsity, None for MAML
    for name, group in by_experiment(records).items():
        p = group[0]["parameters"]
        if p["method"] not in ("maml", "sparse-maml"):
            out.not_drawn.append(name)
            continue
        level = None if p["method"] == "maml" else round(100 * p["init_sparsity"])
        if level in taken or len({r["seed"] for r in group}) < len(group):
            raise ValueError(f"runs of {taken.get(level, name)} and of {name} have one place")
        taken[level] = name
        out.diverged += [
            f"{name} seed {r['seed']} (update {r['diverged_at']})"
            for r in group
            if r["status"] == "diverged"
        ]
        done = finished(group)
        if not done:
            continue
        values = list(accuracies_by_seed(done).values())
        accuracy = bootstrap_interval(values) if values else None
        if accuracy is None:
            out.not_drawn.append(f"test accuracy of {name}")
        if level is None:
            out.maml = accuracy
            continue
        if level in LEFT or level not in RIGHT:
            out.left[level] = _percent(curve(done, lambda r: r["curves"]["sparsity"]))
        if level in RIGHT or level not in LEFT:
            if accuracy is not None:
                out.right_accuracy[level] = accuracy
            finals = [100 * r["final"]["sparsity"] for r in done]
            out.right_sparsity[level] = bootstrap_interval(finals)
        if level == 50:
            out.centre = {
                layer: _percent(curve(done, functools.partial(layer_sparsity, layer=layer)))
                for layer in LAYERS
            }
    out.left = dict(sorted(out.left.items()))
    p = records[0]["parameters"]
    out.noise = {level: noise_curve(level, p["updates"], p["rule_rate"]) for level in out.left}
    return out


def _percent(c: Curve) -> Curve:
    return Curve(c.x, 100 * c.mean, 100 * c.low, 100 * c.high)


def draw_fig1(*rows: Fig1) -> Figure:
    """Draw Figure 1: a row of three panels for each source.

    Parameters
    ----------
    *rows : Fig1
        Sources, such as the paper and the study.

    Returns
    -------
    Figure
    """
    figure, parts = rows_of_panels([row.title for row in rows], height=3.5)
    for part, row in zip(parts, rows, strict=True):
        left, centre, right = part.subplots(1, 3, width_ratios=[1, 1, 1.15])
        _lines(left, row.left, "flare", "{} %", row.x_label)
        for colour, c in zip(
            sns.color_palette("flare", len(row.left)), row.noise.values(), strict=False
        ):
            left.plot(c.x, c.mean, color=colour, ls=":", lw=1)
        left.set_title("sparsity, by initial sparsity", fontsize="medium", pad=20)
        _lines(centre, row.centre, "crest", "{}", row.x_label)
        centre.set_title("sparsity by layer, from 50 %", fontsize="medium", pad=20)
        _accuracy(right, row)
        note = row.stamp
        if row.diverged:
            note += "\n× diverged: " + ", ".join(row.diverged)
        if row.not_drawn:
            note += "\nnot drawn: " + ", ".join(row.not_drawn)
        part.supxlabel(note, fontsize=7, color="0.35")
    plt.close(figure)  # the caller shows it, once
    return figure


def rows_of_panels(titles: Sequence[str], height: float) -> tuple[Figure, list[SubFigure]]:
    """Make a figure with a titled row for each source.

    Parameters
    ----------
    titles : sequence of str
        One for each row.
    height : float
        Of a row, inches.

    Returns
    -------
    figure : Figure
    parts : list of SubFigure
        Its rows, empty.
    """
    set_theme()
    figure = plt.figure(figsize=(9.2, height * len(titles)), layout="constrained")
    parts = list(np.atleast_1d(np.asarray(figure.subfigures(len(titles), 1, hspace=0.06))))
    for part, title in zip(parts, titles, strict=True):
        part.set_facecolor("none")
        part.suptitle(title, fontweight="bold", x=0.01, ha="left")
    return figure, parts


def sparsity_axis(twin: Axes, colour: tuple[float, float, float]) -> None:
    """Label a twin axis on the right: final sparsity, percent."""
    twin.set(ylim=(-2, 102))
    twin.set_ylabel("final sparsity (%)", color=colour)
    twin.spines["right"].set_visible(True)
    twin.spines["top"].set_visible(False)


def _lines(ax: Axes, curves: dict, palette: str, label: str, x_label: str) -> None:
    for colour, (key, c) in zip(
        sns.color_palette(palette, len(curves)), curves.items(), strict=True
    ):
        marker = "." if len(c.x) < 8 else None
        ax.plot(c.x, c.mean, color=colour, label=label.format(key), marker=marker)
        if np.isfinite(c.low).all():
            ax.fill_between(c.x, c.low, c.high, color=colour, alpha=0.25, lw=0)
    ax.set(ylim=(-2, 102), xlabel=x_label, ylabel="sparsity (%)")
    if curves:
        legend_above(ax, ax)
    else:
        ax.text(0.5, 0.5, "no finished run", transform=ax.transAxes, ha="center")


def _accuracy(ax: Axes, row: Fig1) -> None:
    blue, orange, green = sns.color_palette("deep", 3)
    ax.set_title("test accuracy and final sparsity", fontsize="medium", pad=20)
    if row.maml is not None:
        ax.axhline(row.maml.mean, color=green, ls="--", label="MAML")
        if np.isfinite(row.maml.low):
            ax.axhspan(row.maml.low, row.maml.high, color=green, alpha=0.15, lw=0)
    twin = ax.twinx()
    for axes, values, colour, marker, name in (
        (ax, row.right_accuracy, blue, "o", "sparse-MAML"),
        (twin, row.right_sparsity, orange, "s", "final sparsity"),
    ):
        levels = sorted(values)
        mean = [values[i].mean for i in levels]
        axes.plot(levels, mean, color=colour, marker=marker, ms=5, label=name, lw=1.3)
        if levels and all(np.isfinite(values[i].low) for i in levels):
            low, high = ([getattr(values[i], end) for i in levels] for end in ("low", "high"))
            axes.vlines(levels, low, high, color=colour, lw=2, alpha=0.6)
    ax.set(xlabel="initial sparsity (%)", ylabel="test accuracy (%)")
    sparsity_axis(twin, orange)
    legend_above(ax, ax, twin)


def legend_above(ax: Axes, *shown: Axes) -> None:
    """Put a legend of what some axes show over a panel, in one line."""
    found = [a.get_legend_handles_labels() for a in shown]
    handles = [h for group, _ in found for h in group]
    names = [n for _, group in found for n in group]
    ax.legend(
        handles,
        names,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.98),
        ncols=len(names),
        handlelength=0.9,
        handletextpad=0.4,
        columnspacing=0.8,
        borderaxespad=0.1,
    )
