"""The figures of the book, drawn from records and from the paper's published numbers."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.report.curves import Curve, curve, layer_sparsity
from reproduction.report.frame import by_experiment, finished, kernels, numbers
from reproduction.report.naming import stamp
from reproduction.report.noise import noise_curve
from reproduction.report.plotkit import (
    band,
    direct_labels,
    legend_above,
    line,
    nothing,
    panels,
    settings_line,
    sparsity_axis,
)

from ..runs.experiment import Experiment
from ..runs.records import Record
from ..runs.statistics import Interval, bootstrap_interval


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
    """Read the paper's Figure 1, as digitised from the published image."""
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


_OF_A_CURVE = ("name", "figure", "method", "init_sparsity", "probes")  # not of a row


def fig1(title: str, records: Sequence[Record]) -> list[Fig1]:
    """Collect Figure 1 from records: a row for each problem, and for each other setting."""
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
        values = list(numbers(done, "test_accuracy").values())
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
                for layer in kernels(done[0]["tensors"])
            }
    out.left = dict(sorted(out.left.items()))
    p = records[0]["parameters"]
    out.noise = {level: noise_curve(level, p["updates"], p["rule_rate"]) for level in out.left}
    return out


def _percent(c: Curve) -> Curve:
    return Curve(c.x, 100 * c.mean, 100 * c.low, 100 * c.high)


def draw_fig1(*rows: Fig1) -> Figure:
    """Draw Figure 1: a row of three panels for each source."""
    figure, parts = panels([row.title for row in rows], height=3.5)
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
        settings_line(part, note)
    return figure


def _lines(ax: Axes, curves: dict, palette: str, label: str, x_label: str) -> None:
    colours = sns.color_palette(palette, len(curves))
    ends = []
    for colour, (key, c) in zip(colours, curves.items(), strict=True):
        marker = "." if len(c.x) < 8 else None
        band(ax, *c, color=colour, label=label.format(key), marker=marker)
        ends.append((label.format(key), float(c.x[-1]), float(c.mean[-1]), colour))
    ax.set(ylim=(-2, 102), xlabel=x_label, ylabel="sparsity (%)")
    if curves:
        direct_labels(ax, ends)
    else:
        nothing(ax, "no finished run")


def _accuracy(ax: Axes, row: Fig1) -> None:
    blue, orange, green = sns.color_palette("deep", 3)
    ax.set_title("test accuracy and final sparsity", fontsize="medium", pad=20)
    if row.maml is not None:
        ax.axhline(row.maml.mean, color=green, ls="--", label="MAML")
        if np.isfinite(row.maml.low):
            ax.axhspan(row.maml.low, row.maml.high, color=green, alpha=0.15, lw=0)
    twin = sparsity_axis(ax, orange)
    line(ax, row.right_accuracy, "o-", color=blue, label="sparse-MAML")
    line(twin, row.right_sparsity, "s-", color=orange, label="final sparsity")
    ax.set(xlabel="initial sparsity (%)", ylabel="test accuracy (%)")
    legend_above(ax, ax, twin)
