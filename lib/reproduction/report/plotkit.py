"""What every figure of the book is made with: one theme, rows of panels, bands, points, forests.

A figure is as wide as the page that shows it, so its letters have the size that is set here.
"""

from __future__ import annotations

import math
import textwrap
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy

from wheretolearn.rules import METHODS as METHODS_OF_THE_LIBRARY

from ..runs.statistics import Interval

WIDTH = 7.2
"""Of a figure, inches; the page shows an inch as 96 pixels."""

SMALL = 7.0
"""Points of the smallest letters: 9.3 pixels on the page."""

LETTERS = 115
"""As many of the smallest fit into a line as wide as the figure."""

GREY = "0.5"


def panels(titles: Sequence[str], height: float) -> tuple[Figure, list[SubFigure]]:
    """Make a figure with a titled row for each source, `height` inches each; rows are empty."""
    set_theme()
    figure = plt.figure(figsize=(WIDTH, height * len(titles)), layout="constrained")
    parts = list(np.atleast_1d(np.asarray(figure.subfigures(len(titles), 1, hspace=0.06))))
    for part, title in zip(parts, titles, strict=True):
        part.set_facecolor("none")
        part.suptitle(title, fontweight="bold", x=0.01, ha="left", fontsize=9)
    plt.close(figure)  # the caller shows it, once
    return figure, parts


def settings_line(part: SubFigure | Figure, text: str) -> None:
    """Print what a row was made with under it."""
    lines = [
        piece
        for one in text.splitlines()
        for piece in textwrap.wrap(one, LETTERS, break_on_hyphens=False)
    ]
    part.supxlabel("\n".join(lines), fontsize=SMALL, color="0.35")


def band(
    ax: Axes,
    x: Sequence[float] | np.ndarray,
    mean: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    **line: Any,
) -> Line2D:
    """Draw a curve with its interval, where it has one; return the line."""
    (drawn,) = ax.plot(x, mean, **line)
    if np.isfinite(low).any():
        ax.fill_between(x, low, high, color=drawn.get_color(), alpha=0.2, lw=0)
    return drawn


def point(
    ax: Axes, place: float, value: Interval, look: Look, *, across: bool = False, **style: Any
) -> None:
    """Draw a mean with its interval: upright at x = `place`, or `across` at y = `place`."""
    at = (value.mean, place) if across else (place, value.mean)
    ax.plot(*at, look.marker, color=look.rgb, **({"ms": 4.5} | style))
    if math.isfinite(value.low):
        bar = ax.hlines if across else ax.vlines
        bar(place, value.low, value.high, color=look.rgb, lw=2, alpha=0.6)


def forest(
    ax: Axes,
    rows: Mapping[str, tuple[Interval | str | None, Look]],
    label: str,
    *,
    zero: bool = True,
) -> None:
    """Draw one interval a row, or why there is none; mostly around a line at zero."""
    if zero:
        ax.axvline(0, color=GREY, lw=1)
    for y, (value, look) in enumerate(rows.values()):
        if isinstance(value, Interval):
            point(ax, y, value, look, across=True)
        else:
            nothing(ax, value or "not run yet", y)
    if not ax.lines:
        ax.set_xticks([])
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(ylim=(len(rows) - 0.4, -0.6), xlabel=label)


def nothing(ax: Axes, why: str, y: float | None = None) -> None:
    """Say why there is nothing to see: in a panel, or in a row of it."""
    place = (0.5, 0.5 if y is None else y)
    transform = ax.transAxes if y is None else ax.get_yaxis_transform()
    ax.text(*place, why, transform=transform, ha="center", va="center", color=GREY, fontsize=SMALL)


def line(ax: Axes, values: Mapping[Any, Interval | None], style: str, **look: Any) -> None:
    """Draw means over a parameter, joined, each with its interval where it has one."""
    known = {x: v for x, v in sorted(values.items()) if v is not None}
    if known:
        means = [v.mean for v in known.values()]
        (drawn,) = ax.plot(list(known), means, style, **({"ms": 4.5, "lw": 1.2} | look))
        for x, v in known.items():
            if math.isfinite(v.low):
                ax.vlines(x, v.low, v.high, color=drawn.get_color(), lw=2, alpha=0.6)


End = tuple[str, float, float, Any]
"""Where a curve ends on the right: its name, x, y and colour."""


def side_by_side(
    ax: Axes, places: Sequence[str], lines: Mapping[Look, Sequence[Interval | None]]
) -> list[End]:
    """Draw several things over the same places, a little apart; return where they end."""
    ends, aside = [], 0.07 * (len(lines) - 1) / 2
    for shift, (look, values) in zip(
        np.linspace(-aside, aside, len(lines)), lines.items(), strict=True
    ):
        known = {place + shift: v for place, v in enumerate(values) if v}
        line(ax, known, f"{look.marker}-", color=look.rgb, label=look.name)
        ends += [(look.name, x + aside - shift, known[x].mean, look.rgb) for x in [*known][-1:]]
    ax.set_xticks(range(len(places)), places)
    ax.set_xlim(-0.25, len(places) - 0.75)
    if not ends:
        nothing(ax, "no finished run")
        ax.set_yticks([])
    return ends


def direct_labels(ax: Axes, ends: Iterable[End]) -> None:
    """Name curves at their right ends, apart; limits are set before."""
    low, high = ax.get_ylim()
    gap = (high - low) * 1.2 * SMALL / 72 / _inches(ax)
    ends = sorted(ends, key=lambda end: end[2])
    places, top = [], -math.inf
    for _, _, y, _ in ends:
        top = max(y, top + gap)
        places.append(top)
    top = high + gap
    for i in reversed(range(len(ends))):  # those that were moved out at the top, back
        top = places[i] = min(places[i], top - gap)
    beside = offset_copy(ax.transData, ax.get_figure(root=True), x=10, units="points")
    for (name, x, end, colour), y in zip(ends, places, strict=True):
        ax.annotate(
            name,
            (x, end),
            (x, y),
            textcoords=beside,
            color=colour,
            fontsize=SMALL,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "relpos": (0, 0.5)},
        )


def _inches(ax: Axes) -> float:
    """Return the height of a panel before the layout makes room for what is around it."""
    return 0.75 * ax.get_window_extent().height / ax.figure.dpi


def sparsity_axis(ax: Axes, colour: tuple[float, float, float]) -> Axes:
    """Add an axis on the right of a panel: final sparsity, percent."""
    twin = ax.twinx()
    twin.set(ylim=(-2, 102))
    twin.set_ylabel("final sparsity (%)", color=colour)
    twin.spines["right"].set_visible(True)
    return twin


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
            "font.size": 8,
            "axes.titlesize": 8,
            "axes.labelsize": 8,
            "xtick.labelsize": SMALL,
            "ytick.labelsize": SMALL,
            "legend.fontsize": SMALL,
            "legend.frameon": False,
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
    {name: Look(m.title, m.colour, m.marker) for name, m in METHODS_OF_THE_LIBRARY.items()}
    | {"maml-second-order": Look("MAML, second order", 2)}
)
"""Methods of the few-shot half, in the order of the tables."""


def legend_above(ax: Axes, *axes: Axes) -> None:
    """Put a legend of what some axes show over a panel, in one line."""
    each = [a.get_legend_handles_labels() for a in axes]
    handles = [h for group, _ in each for h in group]
    names = [n for _, group in each for n in group]
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


def legend_over(part: SubFigure, axes: Iterable[Axes]) -> None:
    """Name over a row what its panels show, each thing once."""
    each = [ax.get_legend_handles_labels() for ax in axes]
    named = {n: h for handles, names in each for h, n in zip(handles, names, strict=True)}
    if named:
        part.legend(
            named.values(), named.keys(), loc="outside upper center", ncols=4, handlelength=1.2
        )
