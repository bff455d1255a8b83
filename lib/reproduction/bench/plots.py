"""The figure of a benchmark."""

from __future__ import annotations

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.report.plotkit import set_theme

from .forms import USUAL
from .results import Result


def draw(result: Result) -> Figure:
    """Draw how fast each contender is in each case, over the usual form."""
    set_theme()
    cases = result["cases"]
    rows = -(-len(cases) // 2)
    heights = [max(len(c["contenders"]) for c in cases[i : i + 2]) for i in range(0, len(cases), 2)]
    figure, axes = plt.subplots(
        rows,
        2,
        figsize=(8.4, 0.6 * rows + 0.24 * sum(heights)),
        layout="constrained",
        squeeze=False,
        height_ratios=heights,
    )
    for ax, case in zip(axes.flat, cases, strict=False):
        _panel(ax, case)
    for ax in axes.flat[len(cases) :]:
        ax.set_visible(False)
    at = result["machine"]
    figure.supxlabel(
        f"{at['processor']}, one thread, {result['finished'][:10]}"
        + (" · a short trial" if result["quick"] else ""),
        fontsize=7,
    )
    plt.close(figure)  # the notebook shows what is returned
    return figure


def _panel(ax: Axes, case: dict) -> None:
    palette = sns.color_palette()
    done = [row for row in case["contenders"] if row["status"] == "measured"]
    for place, row in enumerate(done):
        speedup, rate = row["speedup"], row["rate"]["median"]
        ours = row["contender"].startswith("library")
        colour = palette[0] if ours else "0.35" if row["contender"] == USUAL else "0.65"
        ax.barh(place, speedup["median"], color=colour, height=0.7)
        ax.hlines(place, speedup["low"], speedup["high"], color="black", lw=1.2)
        ax.annotate(
            f"{rate:.3g}/s",
            (max(speedup["high"], speedup["median"]), place),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )
    ax.set_yticks(range(len(done)), [row["title"] for row in done], fontsize=7)
    ax.invert_yaxis()
    ax.axvline(1, color="0.35", lw=0.8, ls=":")
    ax.margins(x=0.2)
    ax.set_title(case["title"], fontsize=8)
    ax.set_xlabel(f"{case['unit']}s a second, times the usual form", fontsize=7)
