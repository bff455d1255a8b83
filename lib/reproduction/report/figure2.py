"""Figure 2: accuracy and sparsity over inner rate, inner steps and width, here and in the paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..runs.records import Record
from ..runs.statistics import Interval, bootstrap_interval, t_interval
from .frame import finished
from .naming import NOT_RUN, stamp
from .plotkit import legend_above, line, panels, settings_line, sparsity_axis

PANELS = {"inner_steps": "inner steps", "inner_rate": "inner rate", "width": "channels"}
"""Parameters that Figure 2 changes, and what they are called."""

LARGE_RATES = (0.5, 1.0)
"""Inner rates at which survival is tested."""

METHODS = ("maml", "sparse-maml")


class Setting(NamedTuple):
    """Where a run stands in Figure 2."""

    inner_steps: int
    inner_rate: float
    width: int


PLACE = ["method", *Setting._fields]


def runs(records: Iterable[Record]) -> pd.DataFrame:
    """Return where each run stands and its numbers in percent; diverged ones count as chance."""
    rows = []
    for r in sorted(records, key=lambda r: r["seed"]):
        p, final, done = r["parameters"], r["final"], bool(finished([r]))
        if not done or final["test_accuracy"]:
            accuracy = final["test_accuracy"]["mean"] if done else 1 / p["ways"]
            sparsity = 100 * final["sparsity"] if done else math.nan
            place = [p[name] for name in PLACE]
            rows.append([r["experiment"], r["seed"], *place, 100 * accuracy, sparsity])
    columns = ["experiment", "seed", *PLACE, "accuracy", "sparsity"]
    table = pd.DataFrame(rows, columns=columns)
    for again in table[table.duplicated([*PLACE, "seed"])].itertuples():
        raise ValueError(
            f"{again.experiment} seed {again.seed} has the same method, inner steps, rate and "
            "width as another run"
        )
    return table


def common_setting(settings: Iterable[Setting]) -> Setting:
    """Return the setting from which each panel changes one thing: the most frequent values."""
    values = zip(*settings, strict=True)
    return Setting(*(max(set(column), key=column.count) for column in values))


def panel(settings: Iterable[Setting], name: str) -> list[Setting]:
    """Return the settings of a panel, in order of what it changes."""
    settings = list(settings)
    base = common_setting(settings)
    same = [s for s in settings if s._replace(**{name: getattr(base, name)}) == base]
    return sorted(same, key=lambda s: getattr(s, name))


def where_the_gain_is(records: Iterable[Record]) -> str:
    """Say how much of the mean gain the large inner rates make."""
    table = runs(records)
    maml, sparse = (
        table[table["method"] == m].pivot(index="seed", columns=Setting._fields, values="accuracy")
        for m in METHODS
    )
    both = maml.columns.intersection(sparse.columns)
    gain = (sparse[both] - maml[both]).dropna()
    large = both.get_level_values("inner_rate").isin(LARGE_RATES)
    if not large.any() or large.all() or len(gain) < 2:
        return ""
    at, elsewhere = (t_interval(list(gain.loc[:, part].mean(axis=1))) for part in (large, ~large))
    return (
        f"Over the inner rates {' and '.join(f'{r:g}' for r in LARGE_RATES)} the mean gain is "
        f"{at.mean:.2f} [{at.low:.2f}, {at.high:.2f}] points, over the other {(~large).sum()} "
        f"settings {elsewhere.mean:.2f} [{elsewhere.low:.2f}, {elsewhere.high:.2f}]."
    )


@dataclass
class Panel:
    """Test accuracies and sparse-MAML's final sparsity by value of one parameter, in percent."""

    maml: dict[float, Interval] = field(default_factory=dict)
    sparse: dict[float, Interval] = field(default_factory=dict)
    sparsity: dict[float, Interval] = field(default_factory=dict)
    diverged: dict[float, int] = field(default_factory=dict)  #: Runs of MAML


@dataclass
class Fig2:
    """What the three panels of Figure 2 show, from one source."""

    title: str
    stamp: str  #: Profile, data set, setting, seeds: printed under the panels
    panels: dict[str, Panel] = field(default_factory=dict)  #: By a key of ``PANELS``
    chance: float = 20.0  #: Accuracy of guessing, percent


def fig2_paper(folder: Path | str) -> Fig2:
    """Read the paper's Figure 2, as digitised from the published image."""
    out = Fig2(
        title="The paper",
        stamp="published figure, read off the image (±0.1 accuracy, ±1 sparsity points) · "
        "miniImageNet 5-way 5-shot · 84 px · means of 5 seeds · "
        "MAML leaves the published panel, below 62 %, from rate 0.2 on",
    )
    for name in PANELS:
        file = Path(folder) / f"fig2_{name.replace('inner_steps', 'steps')}.csv"
        rows = pd.read_csv(file, index_col=name)
        maml, sparse, sparsity = (
            {x: Interval(y, math.nan, math.nan, 1) for x, y in rows[column].dropna().items()}
            for column in ("maml_accuracy", "sparse_maml_accuracy", "final_sparsity")
        )
        out.panels[name] = Panel(maml, sparse, sparsity)
    return out


def fig2(title: str, records: Sequence[Record]) -> Fig2:
    """Collect Figure 2 from the records of one problem."""
    if not records:
        return Fig2(title, NOT_RUN)
    out = Fig2(title, stamp(records), chance=100 / records[0]["parameters"]["ways"])
    table = runs(records)
    settings = {Setting(*s) for s in table[list(Setting._fields)].itertuples(index=False)}
    groups = dict(list(table.groupby(PLACE)))
    placed = set()
    for name in PANELS:
        shown = out.panels[name] = Panel()
        for s in panel(settings, name) if settings else ():
            placed |= {(m, *s) for m in METHODS}
            x = float(getattr(s, name))
            for method, values in zip(METHODS, (shown.maml, shown.sparse), strict=True):
                if (method, *s) in groups:
                    of = groups[method, *s]
                    values[x] = bootstrap_interval(list(of["accuracy"]))
                    sparsity = list(of["sparsity"].dropna())
                    if method == "maml" and len(sparsity) < len(of):
                        shown.diverged[x] = len(of) - len(sparsity)
                    elif method == "sparse-maml" and sparsity:
                        shown.sparsity[x] = bootstrap_interval(sparsity)
    places = {r["experiment"]: tuple(r["parameters"][name] for name in PLACE) for r in records}
    if lost := [name for name, place in places.items() if place not in placed]:
        out.stamp += f"\nnot drawn: {', '.join(lost)}"
    return out


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
    if known := sorted({*shown.sparse, *shown.maml}):
        ax.set_xscale("log")
        ax.set_xticks(known, [f"{v:g}" for v in known])
        ax.minorticks_off()
    ax.set(xlabel=label, ylabel="test accuracy (%)")
    legend_above(ax, ax, twin)
