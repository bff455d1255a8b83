"""What sparse-MAML found of planted coordinates: figure and table."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..runs import synthetic_support
from ..runs.statistics import Interval, t_interval
from . import frame, plotkit
from .markdown import code, interval, table

KINDS = {kind: title.capitalize() for kind, title in synthetic_support.KINDS.items()}


def over_seeds(values: pd.Series) -> Interval | None:
    """Return Student's 95 % interval in percent; a precision that is no number is left out."""
    return frame.over_seeds(100 * values.dropna())


def draw(survey: pd.DataFrame) -> Figure:
    """Draw precision and recall over each thing that changes, in percent."""
    kinds = dict(list(survey.groupby("features", sort=False)))
    figure, parts = plotkit.panels([KINDS[kind] for kind in kinds], height=3.2)
    for part, of in zip(parts, kinds.values(), strict=True):
        panels = dict(list(of.groupby("panel", sort=False)))
        axes = part.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (name, rows) in zip(axes, panels.items(), strict=True):
            _panel(ax, rows)
            ax.set(xlabel=name.replace("_", " "), ylim=(-2, 105))
        axes[0].set_ylabel("percent")
        part.legend(*axes[0].get_legend_handles_labels(), loc="upper right", ncols=4)
        seeds = ", ".join(map(str, sorted(set(of["seed"]))))
        plotkit.settings_line(part, f"means over seeds {seeds}, Student's 95 % intervals")
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    by = {f"{value:g}": group for value, group in rows.groupby("value", sort=False)}
    for score, chance, marker, colour in (
        ("precision", "chance", "o", "C0"),
        ("recall", "density", "s", "C1"),
    ):
        scores = {x: over_seeds(group[score]) for x, group in enumerate(by.values())}
        plotkit.line(ax, scores, f"{marker}-", color=colour, label=score, ms=5)
        level = [100 * group[chance].mean() for group in by.values()]
        ax.plot(level, ls=":", color=colour, label=f"{score} by chance")
    ax.set_xticks(range(len(by)), list(by))


def table_of(survey: pd.DataFrame) -> str:
    """Return the survey as Markdown: for each kind, what was found and what it is worth."""
    scores = ("changed", "value", "precision (%)", "by chance", "recall (%)", "by chance", "seeds")
    losses = ("changed", "value", "loss", "MAML's − this", "this − the right mask's")
    parts = []
    for kind, of in survey.groupby("features", sort=False):
        found, worth = [], []
        for (panel, value), rows in of.groupby(["panel", "value"], sort=False):
            name, mean = (code(panel), f"{value:g}"), rows.mean(numeric_only=True)
            precision, recall = (interval(over_seeds(rows[s])) for s in ("precision", "recall"))
            chance, density = f"{100 * mean['chance']:.0f}", f"{100 * mean['density']:.0f}"
            found.append((*name, precision, chance, recall, density, str(len(rows))))
            more = (("loss_dense", "loss"), ("loss", "loss_right"), ("loss_random", "loss_dense"))
            worth.append(
                (*name, f"{mean['loss']:.2f}", *(_more(rows[a] - rows[b]) for a, b in more))
            )
        parts += [f"**{KINDS[kind]}**", table(scores, found)]
        parts.append(table((*losses, "a random mask's − MAML's"), worth))
    return "\n\n".join(parts)


def _more(differences: pd.Series) -> str:
    more = t_interval(list(differences))
    ends = f" [{more.low:.2f}, {more.high:.2f}]" if math.isfinite(more.low) else ""
    return f"{more.mean:+.2f}{ends}"
