"""What sparse-MAML found of planted coordinates: figure and table."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from .figures import set_theme
from .tables import table


def draw(survey: pd.DataFrame) -> Figure:
    """Draw precision and recall over each thing that changes, with the seeds' extremes.

    Parameters
    ----------
    survey : DataFrame
        From :func:`wheretolearn.planted.survey`.

    Returns
    -------
    Figure
    """
    set_theme()
    panels = survey.groupby("panel", sort=False)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(9.2, 2.9), layout="constrained", sharey=True
    )
    for ax, (name, rows) in zip(axes, panels, strict=True):
        values = rows["value"].astype(str)
        for of, chance, marker in (("precision", "chance", "o"), ("recall", "density", "s")):
            by = rows.groupby(values, sort=False)[of]
            (line,) = ax.plot(by.mean().index, by.mean(), marker=marker, label=of)
            ax.vlines(by.mean().index, by.min(), by.max(), color=line.get_color(), alpha=0.5, lw=2)
            level = rows.groupby(values, sort=False)[chance].mean()
            ax.plot(level.index, level, ls=":", color=line.get_color(), label=f"{of} by chance")
        ax.set(xlabel=str(name).replace("_", " "), ylim=(-0.02, 1.05))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    plt.close(figure)  # the caller shows it, once
    return figure


def table_of(survey: pd.DataFrame) -> str:
    """Return the survey as Markdown: means over seeds.

    Parameters
    ----------
    survey : DataFrame
        From :func:`wheretolearn.planted.survey`.

    Returns
    -------
    str
    """
    fields = ("precision", "chance", "recall", "density", "loss", "loss_dense")
    means = survey.groupby(["panel", survey["value"].astype(str)], sort=False)[list(fields)].mean()
    header = ("changed", "value", "precision", "by chance", "recall", "by chance", "loss", "MAML's")
    rows = [
        (f"`{panel}`", value, *(f"{v:.2f}" for v in line))
        for (panel, value), line in zip(means.index, means.to_numpy(), strict=True)
    ]
    return table(header, rows)
