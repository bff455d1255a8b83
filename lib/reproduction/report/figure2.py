"""Figure 2, drawn from records and from the paper's published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.report.naming import stamp
from reproduction.report.plotkit import legend_above, line, panels, settings_line, sparsity_axis

from ..runs.records import Record
from ..runs.statistics import Interval, bootstrap_interval
from .robustness import PANELS, Runs, at, by_setting, panel

_PAPER = {"inner_steps": "steps", "inner_rate": "inner_rate", "width": "width"}  # names of files
_METHODS = ("maml", "sparse-maml")


@dataclass
class Panel:
    """Accuracies and sparsity over one parameter, in percent."""

    maml: dict[float, Interval] = field(default_factory=dict)
    """Test accuracy of MAML by value of the parameter."""
    sparse: dict[float, Interval] = field(default_factory=dict)
    """Test accuracy of sparse-MAML."""
    sparsity: dict[float, Interval] = field(default_factory=dict)
    """Final sparsity of sparse-MAML."""
    diverged: dict[float, int] = field(default_factory=dict)
    """Runs of MAML that diverged."""


@dataclass
class Fig2:
    """What the three panels of Figure 2 show, from one source."""

    title: str
    stamp: str
    """Profile, data set, setting, seeds: printed under the panels."""
    panels: dict[str, Panel] = field(default_factory=dict)
    """By the parameter that changes, a key of ``robustness.PANELS``."""
    chance: float = 20.0
    """Accuracy of guessing, percent."""


def fig2_paper(folder: Path | str) -> Fig2:
    """Read the paper's Figure 2, as digitised from the published image."""
    out = Fig2(
        title="The paper",
        stamp="published figure, read off the image (±0.1 accuracy, ±1 sparsity points) · "
        "miniImageNet 5-way 5-shot · 84 px · means of 5 seeds · "
        "MAML leaves the published panel, below 62 %, from rate 0.2 on",
    )
    for name, short in _PAPER.items():
        rows = pd.read_csv(Path(folder) / f"fig2_{short}.csv").set_index(name)

        def values(column: str, rows: pd.DataFrame = rows) -> dict[float, Interval]:
            known = rows[column].dropna().items()
            return {float(x): Interval(float(y), np.nan, np.nan, 1) for x, y in known}

        out.panels[name] = Panel(
            values("maml_accuracy"), values("sparse_maml_accuracy"), values("final_sparsity")
        )
    return out


def fig2(title: str, records: Sequence[Record]) -> Fig2:
    """Collect Figure 2 from the records of one problem."""
    if not records:
        return Fig2(title=title, stamp="not run yet")
    found = by_setting(records)
    out = Fig2(title, stamp(records), chance=100 / records[0]["parameters"]["ways"])
    settings = {s for runs in found.values() for s in runs}
    placed = {s for name in PANELS for s in panel(settings, name)}
    lost = [r for r in records if r["parameters"]["method"] not in _METHODS or at(r) not in placed]
    if lost:
        out.stamp += f"\nnot drawn: {', '.join(dict.fromkeys(r['experiment'] for r in lost))}"
    for name in PANELS:
        shown = out.panels[name] = Panel()
        for setting in panel(settings, name):
            x = float(getattr(setting, name))
            runs = {m: found[m][setting] for m in found if setting in found[m]}
            for method, values in (("maml", shown.maml), ("sparse-maml", shown.sparse)):
                if method in runs:
                    values[x] = bootstrap_interval(list(runs[method].accuracy.values()))
            _note_diverged(shown, x, runs)
            if "sparse-maml" in runs and runs["sparse-maml"].sparsity:
                finals = list(runs["sparse-maml"].sparsity.values())
                shown.sparsity[x] = bootstrap_interval(finals)
    return out


def _note_diverged(shown: Panel, x: float, runs: dict[str, Runs]) -> None:
    if "maml" in runs and runs["maml"].diverged:
        shown.diverged[x] = runs["maml"].diverged


def draw_fig2(*rows: Fig2) -> Figure:
    """Draw Figure 2: a row of three panels for each source."""
    figure, parts = panels([row.title for row in rows], height=3.4)
    for part, row in zip(parts, rows, strict=True):
        axes = part.subplots(1, 3)
        for ax, (name, label) in zip(axes, PANELS.items(), strict=True):
            _draw(ax, row.panels.get(name, Panel()), label, row.chance)
        settings_line(part, row.stamp)
    return figure


def _draw(ax: Axes, shown: Panel, label: str, chance: float) -> None:
    blue, orange, green = sns.color_palette("deep", 3)
    twin = sparsity_axis(ax, orange)
    line(ax, shown.sparse, "o-", color=blue, label="sparse-MAML")
    line(ax, shown.maml, "^--", color=green, label="MAML")
    line(twin, shown.sparsity, "s-", color=orange, label="final sparsity")
    for place, count in shown.diverged.items():
        ax.annotate(f"{count} diverged", (place, chance), fontsize=7, ha="center", va="bottom")
    known = sorted({*shown.sparse, *shown.maml})
    if known:
        ax.set_xscale("log")
        ax.set_xticks(known, [f"{v:g}" for v in known])
        ax.minorticks_off()
    ax.set(xlabel=label, ylabel="test accuracy (%)")
    legend_above(ax, ax, twin)
