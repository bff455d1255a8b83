"""What sparse-MAML found of planted coordinates: figure and table."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..runs.statistics import Interval, t_interval
from ..runs.synthetic_support import KINDS
from . import plotkit
from .markdown import code, interval, table


def over_seeds(values: pd.Series) -> Interval:
    """Return Student's 95 % interval in percent; a precision that is no number is left out."""
    known = [100 * v for v in values if math.isfinite(v)]
    return t_interval(known) if known else Interval(math.nan, math.nan, math.nan, 0)


def draw(survey: pd.DataFrame) -> Figure:
    """Draw precision and recall over each thing that changes, in percent."""
    kinds = list(survey.groupby("features", sort=False))
    figure, parts = plotkit.panels([KINDS[kind].capitalize() for kind, _ in kinds], height=3.2)
    for part, (_, of) in zip(parts, kinds, strict=True):
        panels = of.groupby("panel", sort=False)
        axes = part.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (name, rows) in zip(axes, panels, strict=True):
            _panel(ax, rows)
            ax.set(xlabel=str(name).replace("_", " "), ylim=(-2, 105))
        axes[0].set_ylabel("percent")
        part.legend(*axes[0].get_legend_handles_labels(), loc="upper right", ncols=4)
        seeds = ", ".join(map(str, sorted(set(of["seed"]))))
        note = f"means over seeds {seeds}, Student's 95 % intervals"
        plotkit.settings_line(part, note)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    by = {f"{value:g}": group for value, group in rows.groupby("value", sort=False)}
    x = range(len(by))
    for of, chance, marker in (("precision", "chance", "o"), ("recall", "density", "s")):
        found = [over_seeds(group[of]) for group in by.values()]
        (line,) = ax.plot(x, [i.mean for i in found], marker=marker, ms=5, label=of)
        own = line.get_color()
        ax.vlines(x, [i.low for i in found], [i.high for i in found], color=own, lw=2, alpha=0.6)
        level = [100 * group[chance].mean() for group in by.values()]
        ax.plot(x, level, ls=":", color=own, label=f"{of} by chance")
    ax.set_xticks(list(x), list(by))


def table_of(survey: pd.DataFrame) -> str:
    """Return the survey as Markdown."""
    scores = ("changed", "value", "precision (%)", "by chance", "recall (%)", "by chance", "seeds")
    losses = ("changed", "value", "loss", "MAML's − this", "this − the right mask's")
    parts = []
    for kind, of in survey.groupby("features", sort=False):
        groups = [
            ((code(panel), f"{value:g}"), rows)
            for (panel, value), rows in of.groupby(["panel", "value"], sort=False)
        ]
        found = [
            (
                *name,
                interval(over_seeds(rows["precision"])),
                f"{100 * rows['chance'].mean():.0f}",
                interval(over_seeds(rows["recall"])),
                f"{100 * rows['density'].mean():.0f}",
                str(len(rows)),
            )
            for name, rows in groups
        ]
        worth = [
            (
                *name,
                f"{rows['loss'].mean():.2f}",
                _more(rows, "loss_dense", "loss"),
                _more(rows, "loss", "loss_right"),
                _more(rows, "loss_random", "loss_dense"),
            )
            for name, rows in groups
        ]
        parts += [
            f"**{KINDS[kind].capitalize()}**",
            table(scores, found),
            table((*losses, "a random mask's − MAML's"), worth),
        ]
    return "\n\n".join(parts)


def _more(rows: pd.DataFrame, a: str, b: str) -> str:
    """Return how much higher one loss is than another, paired by seed."""
    found = t_interval(list(rows[a] - rows[b]))
    ends = f" [{found.low:.2f}, {found.high:.2f}]" if math.isfinite(found.low) else ""
    return f"{found.mean:+.2f}{ends}"
