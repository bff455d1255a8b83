"""Figure 1, drawn from records and from the paper's published numbers."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..runs.experiment import Experiment
from ..runs.records import Record
from ..runs.statistics import Interval, bootstrap_interval
from .curves import Curve, curve, draw_curves, frozen_share
from .frame import by_experiment, finished, kernels, numbers
from .naming import NOT_RUN, stamp
from .noise import noise_curve
from .plotkit import legend_above, line, nothing, panels, settings_line, sparsity_axis

LEFT = (0, 25, 50, 75, 100)
"""Initial sparsities whose course is drawn, percent."""

RIGHT = (0, 20, 50, 80, 100)
"""Initial sparsities whose accuracy is drawn."""


@dataclass
class Fig1:
    """What the three panels of Figure 1 show, from one source; shares in percent."""

    title: str
    stamp: str  #: What it was made with: printed under the panels
    left: dict[int, Curve] = field(default_factory=dict)  #: By initial sparsity
    centre: dict[str, Curve] = field(default_factory=dict)  #: By layer, from 50 %
    right_accuracy: dict[int, Interval] = field(default_factory=dict)  #: By initial sparsity
    right_sparsity: dict[int, Interval] = field(default_factory=dict)
    maml: Interval | None = None  #: Test accuracy
    diverged: list[str] = field(default_factory=list)  #: Experiment, seed and update
    not_drawn: list[str] = field(default_factory=list)  #: What has no place, or was not measured
    noise: dict[int, Curve] = field(default_factory=dict)  #: Left, if gradients were pure noise
    x_label: str = "meta-update"


def fig1_paper(folder: Path | str) -> Fig1:
    """Read the paper's Figure 1, as digitised from the published image."""

    def curves(file: str, by: str) -> dict:
        table = pd.read_csv(Path(folder) / file)
        return {
            key: Curve.bare(rows["epoch"].to_numpy(), rows["sparsity"].to_numpy())
            for key, rows in table.groupby(by, sort=by == "init_sparsity")
        }

    def bare(value: float) -> Interval:
        return Interval(float(value), math.nan, math.nan, 1)

    right = pd.read_csv(Path(folder) / "fig1_right_accuracy_by_init.csv", index_col="init_sparsity")
    return Fig1(
        title="The paper",
        stamp="published figure, read off the image (±0.1 accuracy, ±1 sparsity points) · "
        "miniImageNet 5-way 5-shot · 84 px · 64 channels · means of 5 seeds",
        left=curves("fig1_left_sparsity_by_epoch.csv", "init_sparsity"),
        centre=curves("fig1_centre_sparsity_by_layer.csv", "layer"),
        right_accuracy=right["sparse_maml_accuracy"].map(bare).to_dict(),
        right_sparsity=right["final_sparsity"].map(bare).to_dict(),
        maml=bare(right["maml_accuracy"].iloc[0]),
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
        return [Fig1(title, NOT_RUN)]
    several = len(rows) > 1
    return [
        _row(f"{title}: {_problem(group)}" if several else title, group) for group in rows.values()
    ]


def _problem(group: Sequence[Record]) -> str:
    """Return the problem of a row, and the changes that are at the end of its runs' names."""
    p, (_, _, changes) = group[0]["parameters"], group[0]["experiment"].partition("+")
    return f"{p['data']} {p['ways']}-way {p['shots']}-shot" + (changes and f", {changes}")


def _row(title: str, records: Sequence[Record]) -> Fig1:
    out = Fig1(title, stamp(records))
    taken: dict[int | None, str] = {}  # by initial sparsity, None for MAML
    for name, group in by_experiment(records).items():
        p, done = group[0]["parameters"], finished(group)
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
            if r["status"] != "finished"
        ]
        if done:
            _place(out, level, name, done)
    p, out.left = records[0]["parameters"], dict(sorted(out.left.items()))
    out.noise = {level: noise_curve(level, p["updates"], p["rule_rate"]) for level in out.left}
    return out


def _place(out: Fig1, level: int | None, name: str, done: Sequence[Record]) -> None:
    """Put the finished runs of an experiment into the panels; without a level, those of MAML."""
    values = list(numbers(done, "test_accuracy").values())
    accuracy = bootstrap_interval(values) if values else None
    if accuracy is None:
        out.not_drawn.append(f"test accuracy of {name}")
    if level is None:
        out.maml = accuracy
        return
    if level in LEFT or level not in RIGHT:
        out.left[level] = curve(done, lambda r: 100 * np.array(r["curves"]["sparsity"]))
    if level in RIGHT or level not in LEFT:
        if accuracy is not None:
            out.right_accuracy[level] = accuracy
        out.right_sparsity[level] = bootstrap_interval(list(numbers(done, "sparsity").values()))
    if level == 50:
        out.centre = {
            layer: curve(done, functools.partial(frozen_share, kernels=[kernel]))
            for layer, kernel in kernels(done[0]["tensors"]).items()
        }


def draw_fig1(*rows: Fig1) -> Figure:
    """Draw Figure 1: a row of three panels for each source."""
    figure, parts = panels([row.title for row in rows], height=3.5)
    for part, row in zip(parts, rows, strict=True):
        left, centre, right = part.subplots(1, 3, width_ratios=[1, 1, 1.15])
        courses = {f"{level} %": c for level, c in row.left.items()}
        _courses(left, "sparsity, by initial sparsity", courses, "flare", row.x_label)
        _courses(centre, "sparsity by layer, from 50 %", row.centre, "crest", row.x_label)
        colours = sns.color_palette("flare", len(row.noise))
        for colour, c in zip(colours, row.noise.values(), strict=True):
            left.plot(c.x, c.mean, color=colour, ls=":", lw=1)
        _accuracy(right, row)
        lists = {"× diverged": row.diverged, "not drawn": row.not_drawn}
        told = [f"{what}: {', '.join(names)}" for what, names in lists.items() if names]
        settings_line(part, "\n".join([row.stamp, *told]))
    return figure


def _courses(ax: Axes, title: str, curves: dict[str, Curve], palette: str, x_label: str) -> None:
    ax.set_title(title, fontsize="medium", pad=20)
    ax.set(ylim=(-2, 102), xlabel=x_label, ylabel="sparsity (%)")
    draw_curves(ax, curves, palette)
    if not curves:
        nothing(ax, "no finished run")


def _accuracy(ax: Axes, row: Fig1) -> None:
    blue, orange, green = sns.color_palette("deep", 3)
    ax.set_title("test accuracy and final sparsity", fontsize="medium", pad=20)
    if row.maml is not None:
        ax.axhline(row.maml.mean, color=green, ls="--", label="MAML")
        if math.isfinite(row.maml.low):
            ax.axhspan(row.maml.low, row.maml.high, color=green, alpha=0.15, lw=0)
    twin = sparsity_axis(ax, orange)
    line(ax, row.right_accuracy, "o-", color=blue, label="sparse-MAML")
    line(twin, row.right_sparsity, "s-", color=orange, label="final sparsity")
    ax.set(xlabel="initial sparsity (%)", ylabel="test accuracy (%)")
    legend_above(ax, ax, twin)
