"""Tables 1 and 2: the study's accuracies and gains over MAML beside the paper's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plan import study
from ..plan.few_shot import (
    GREY_ELSEWHERE,
    GREY_METHODS,
    METHODS_OF_TABLE_1,
    TABLE1,
    best_rates,
    trained_validation,
)
from ..runs.experiment import Experiment
from ..runs.records import Record, load
from ..runs.statistics import Interval
from . import load_records as layers
from . import plotkit
from .frame import BySeed, finished, minus, numbers, over_seeds
from .markdown import Markdown, cell, interval, plain, table
from .naming import NETWORKS, NOT_RUN, setting, shots
from .plotkit import METHODS, SMALL, point, settings_line

TITLES = {method: look.name for method, look in METHODS.items()}
"""Methods by the end of their experiments' names, in the order of the tables."""


class Reported(NamedTuple):
    """A number of the paper."""

    accuracy: float | None
    """Percent; None where it is unknown."""
    std: float | None
    """Standard deviation over seeds, percentage points; None where it is unknown."""
    confidence: str
    """V verified, M from memory, U unknown."""
    note: str
    """What is doubtful about it, if anything is."""


@dataclass(frozen=True)
class Column:
    """One column of a table: where accuracies are measured, and what the paper says of it."""

    title: str
    runs: str
    """What the names of its experiments start with, such as ``convnet4-5shot``."""
    probe: str | None = None
    """The answer that counts, such as ``on:cub``; None is the test accuracy."""
    methods: Sequence[str] = ()
    """What it is about; all of the paper's methods and of those that are run, if it is empty."""
    reported: Mapping[str, Reported] = field(default_factory=dict)
    """The paper's numbers, by method."""
    edition: str = ""
    """What the data of the runs here are, where the paper's were others."""

    def shown(self, profile: str) -> list[str]:
        """Return what it is about where the runs are those of a profile, in order."""
        return sorted(self.methods or {*METHODS, *_planned(self, profile)}, key=METHODS.place)

    def named(self, row: str) -> str:
        """Return what a panel or table of runs is called below the heading of its row."""
        title = self.title.removeprefix(f"{row}, ")
        return f"{title} ({self.edition})" if self.edition else title


Rows = Mapping[str, Sequence[Column]]
"""Columns by the heading that they are drawn under."""


def columns_of_table1(folder: Path | str) -> dict[str, list[Column]]:
    """Read the paper's Table 1."""
    numbers = pd.read_csv(Path(folder) / "table1.csv")
    return {
        NETWORKS[network]: [
            Column(
                title=f"{NETWORKS[network]}, {shots(k)}",
                runs=f"{network}-{k}shot",
                reported=_reported(
                    numbers[(numbers["network"] == NETWORKS[network]) & (numbers["shots"] == k)]
                ),
            )
            for k in (1, 5)
        ]
        for network in ("convnet4", "resnet12")
    }


def columns_of_table2(folder: Path | str) -> dict[str, list[Column]]:
    """Read the paper's Table 2, and from Table 1 what the same networks reach at home."""
    numbers = pd.read_csv(Path(folder) / "table2.csv")
    home = columns_of_table1(folder)["ConvNet-4"]
    elsewhere = {
        "CUB": ("CUB", "on:cub", "2010 here"),
        "tieredImageNet": ("tieredImageNet", "on:tieredimagenet", ""),
        "Cars": ("Stanford Cars", "on:cars", ""),
    }
    return {
        shots(k): [
            Column("miniImageNet", at_home.runs, None, METHODS_OF_TABLE_1, at_home.reported),
            *(
                Column(
                    title,
                    at_home.runs,
                    probe,
                    METHODS_OF_TABLE_1,
                    _reported(numbers[(numbers["dataset"] == name) & (numbers["shots"] == k)]),
                    edition,
                )
                for name, (title, probe, edition) in elsewhere.items()
            ),
        ]
        for k, at_home in zip((1, 5), home, strict=True)
    }


def _reported(numbers: pd.DataFrame) -> dict[str, Reported]:
    keys = {title: method for method, title in TITLES.items()}
    found = {}
    for row in numbers.to_dict("records"):
        # the file of Table 2 has no column of confidence: all of it is verified
        confidence, _, note = row.get("confidence", "V").partition(" (")
        accuracy, std = (None if math.isnan(row[k]) else row[k] for k in ("accuracy", "std"))
        found[keys[row["method"]]] = Reported(accuracy, std, confidence, note.removesuffix(")"))
    return found


def search_records() -> list[Record]:
    """Return the records of the search of inner rates, as they came with the project."""
    return load(layers.results_folder(), study.few_shot("search", TABLE1))


def accuracies(records: Iterable[Record], column: Column, method: str) -> BySeed:
    """Return the accuracies of a method in a column, in percent, by seed."""
    group = [r for r in records if r["experiment"] == f"{column.runs}-{method}"]
    return numbers(group, column.probe or "test_accuracy")


def _planned(column: Column, profile: str) -> set[str]:
    """Return the methods of a column that a profile runs."""
    return {
        e.name.removeprefix(f"{column.runs}-")
        for e in study.few_shot(profile, TABLE1)
        if e.name.startswith(f"{column.runs}-")
        and (column.probe is None or column.probe in e.probes)
    }


def _of(records: Iterable[Record], column: Column, profile: str) -> list[Record]:
    """Return the records of a column's methods."""
    names = {f"{column.runs}-{method}" for method in column.shown(profile)}
    return [r for r in records if r["experiment"] in names]


def _state(records: Sequence[Record], column: Column, method: str) -> tuple[str, str]:
    """Return what there is of a method: its accuracy, or why there is none; and the seeds."""
    group = [r for r in records if r["experiment"] == f"{column.runs}-{method}"]
    values = accuracies(group, column, method)
    diverged = len(group) - len(finished(group))
    seeds = f"{len(values)}" + (f" ({diverged} diverged)" if diverged else "")
    if values:
        return cell(values), seeds
    if not group:
        return NOT_RUN, "–"
    return ("diverged" if diverged == len(group) else "no data here"), seeds


def reported(rows: Rows) -> str:
    """Return the paper's numbers, a table for each heading."""
    parts = []
    for title, columns in rows.items():
        methods = [m for m in TITLES if any(m in c.reported for c in columns)]
        lines = [[TITLES[m], *(_number(c.reported.get(m)) for c in columns)] for m in methods]
        names = [c.title.removeprefix(f"{title}, ") for c in columns]
        parts.append(table([title, *names], lines))
        for name, column in zip(names, columns, strict=True):
            parts += _notes(f"{title}, {name}", column)
    return "\n\n".join(parts)


def _number(there: Reported | None) -> str:
    if there is None:
        return "–"
    number = "unknown" if there.accuracy is None else f"{there.accuracy:.2f}"
    spread = "" if there.std is None else f" ± {there.std:.2f}"
    return f"{number}{spread} ({there.confidence})"


def _notes(place: str, column: Column) -> list[str]:
    noted = {m: there.note for m, there in column.reported.items() if there.note}
    return [f"{TITLES[method]}, {place}: {note}." for method, note in noted.items()]


def side_by_side(rows: Rows, records: Sequence[Record], as_in_paper: Sequence[Record] = ()) -> str:
    """Return the study's accuracies beside the paper's, a table for each column."""
    parts = []
    for title, columns in rows.items():
        for column in columns:
            lines = [
                _line(column, method, records, as_in_paper)
                for method in column.shown("study")
                if method in column.reported or method in _planned(column, "study")
            ]
            header = (
                "method",
                "the paper",
                "the study [95 % interval]",
                "seeds",
                "inner rate",
                "paper's settings, run here",
            )
            parts += [f"**{title}, {column.named(title)}**", table(header, lines)]
            for name, profile, group in (
                ("the study", "study", records),
                ("paper's settings", "paper", as_in_paper),
            ):
                if of_column := _of(group, column, profile):
                    parts.append(plain(f"{name}: {setting(of_column)}"))
    return "\n\n".join(parts)


GREY = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST", "glyphs": "glyphs"}
"""Data sets of one channel, on which networks are tested that were trained on Omniglot."""


def from_omniglot(records: Sequence[Record], as_in_paper: Sequence[Record] = ()) -> str:
    """Return how networks that were trained on Omniglot do there and on other images."""
    columns = [
        Column("Omniglot", "grey-5shot", None, GREY_METHODS),
        *(Column(GREY[d], "grey-5shot", f"on:{d}", GREY_METHODS) for d in GREY_ELSEWHERE),
    ]
    lines = []
    for column in columns:
        cells = [text for m in GREY_METHODS for text in _state(records, column, m)]
        gain = _paired(records, column, "sparse-maml")
        paper = (" (seeds: ".join(_state(as_in_paper, column, m)) + ")" for m in GREY_METHODS)
        slots = (slot.removesuffix(" (seeds: –)") for slot in paper)
        lines.append([column.title, *cells, interval(gain), *slots])
    header = (
        "tested on",
        "MAML",
        "seeds",
        "sparse-MAML",
        "seeds",
        "gain (points)",
        "paper's budget: MAML",
        "paper's budget: sparse-MAML",
    )
    parts = [table(header, lines)]
    for name, group in (("the study", records), ("paper's budget", as_in_paper)):
        if of_column := _of(group, columns[0], "study"):
            parts.append(plain(f"{name}: {setting(of_column)}"))
    return "\n\n".join(parts)


def _line(
    column: Column, method: str, records: Sequence[Record], as_in_paper: Sequence[Record]
) -> list[str]:
    name = f"{column.runs}-{method}"
    planned = method in _planned(column, "study")
    found, seeds = _state(records, column, method) if planned else ("–", "–")
    slot = "–"
    if method in _planned(column, "paper"):
        slot, n = _state(as_in_paper, column, method)
        slot += f" (seeds: {n})" if n != "–" else ""
    return [
        METHODS[method].name,
        _number(column.reported.get(method)),
        found,
        seeds,
        _rate(name) if planned else "–",
        slot,
    ]


def _rate(name: str) -> str:
    """Return the inner rate of a run of the study, and whether the search has chosen it."""
    rate = f"{study.find_few_shot('study', name).inner_rate:g}"
    return rate if name.removesuffix("-second-order") in study.RATES else f"{rate} (not searched)"


def search_tables(records: Sequence[Record]) -> str:
    """Return the search of inner rates: validation accuracy by method and rate."""
    found = {r["experiment"]: r for r in records}
    chosen = best_rates(records)
    columns: dict[str, dict[str, list[Experiment]]] = {}  # column -> run -> its searches
    for e in study.few_shot("search", TABLE1):
        of_column = columns.setdefault(f"{NETWORKS[e.network]}, {shots(e.shots)}", {})
        of_column.setdefault(e.name.rpartition("-rate")[0], []).append(e)
    parts = []
    for column, runs in columns.items():
        rates = [e.inner_rate for e in next(iter(runs.values()))]
        edge, lines = [], []
        for name, searches in runs.items():
            title = METHODS[name.partition("shot-")[2]].name
            best = chosen.get(name) if all(e.name in found for e in searches) else None
            cells = (_searched(found.get(e.name), e.inner_rate == best) for e in searches)
            lines.append([title, *cells])
            if best in (min(rates), max(rates)):
                edge.append(title)
        parts.append(table([column, *(f"rate {rate:g}" for rate in rates)], lines))
        if edge:
            parts.append(f"Best at an end of the grid, so that more may lie beyond: {_and(edge)}.")
        if tried := [found[e.name] for of in runs.values() for e in of if e.name in found]:
            parts.append(plain(setting(tried)))
    return "\n\n".join(parts)


def _and(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _searched(record: Record | None, best: bool) -> str:
    if record is None:
        return NOT_RUN
    if not finished([record]):
        return "diverged"
    accuracy = f"{100 * trained_validation(record):.1f}"
    return Markdown(f"**{accuracy}**") if best else accuracy


def power(rows: Rows, records: Sequence[Record]) -> str:
    """Return which gains of sparse-MAML over MAML the study could have told from zero."""
    lines = []
    for column in (c for columns in rows.values() for c in columns):
        gain = _paired(records, column, "sparse-maml")
        seeds = gain.n if gain else 0
        half = f"{(gain.high - gain.low) / 2:.1f}" if gain and seeds > 1 else "two seeds are needed"
        lines.append((column.title, str(seeds), half))
    return table(("column", "seeds", "smallest gain seen as one (points)"), lines)


class Gain(NamedTuple):
    """What a method gains over MAML in a column, in percentage points."""

    method: str
    paper: float | None
    study: Interval | None
    """Paired by seed, with Student's 95 % interval."""
    note: str
    """How many seeds there are, or why none."""


def gains(column: Column, records: Sequence[Record], profile: str) -> list[Gain]:
    """Return what each method gains over MAML."""
    planned = _planned(column, profile)
    found = []
    for method in (m for m in column.shown(profile) if m != "maml"):
        paper = _reported_gain(column, method)
        gain = _paired(records, column, method)
        if method in planned or paper is not None:
            found.append(Gain(method, paper, gain, _note(column, method, records, gain)))
    return found


def _note(column: Column, method: str, records: Sequence[Record], gain: Interval | None) -> str:
    if gain is None:
        states = [_state(records, column, m)[0] for m in (method, "maml")]
        return next((s for s in states if s in (NOT_RUN, "diverged", "no data here")), "no pair")
    return "1 seed" if gain.n == 1 else f"{gain.n} seeds"


def _reported_gain(column: Column, method: str) -> float | None:
    cells = [column.reported.get(m) for m in (method, "maml")]
    known = [c.accuracy for c in cells if c is not None and c.accuracy is not None]
    return known[0] - known[1] if len(known) == 2 else None


def _paired(records: Sequence[Record], column: Column, method: str) -> Interval | None:
    return over_seeds(minus(*(accuracies(records, column, m) for m in (method, "maml"))))


def rows_of(profile: str, rows: Rows) -> dict[str, list[Column]]:
    """Return the columns in which a profile runs MAML, without the paper's numbers."""
    found = {
        title: [
            replace(column, reported={})
            for column in columns
            if "maml" in _planned(column, profile)
        ]
        for title, columns in rows.items()
    }
    return {title: columns for title, columns in found.items() if columns}


def draw_reported(rows: Rows) -> Figure:
    """Draw the paper's gains over MAML: a row for each heading, a panel for each column."""
    gained = {
        row: {c.title.removeprefix(f"{row}, "): _reported_gains(c) for c in columns}
        for row, columns in rows.items()
    }
    note = "differences of the paper's means; without an interval: differences by seed are unknown"
    return _draw(gained, dict.fromkeys(rows, note))


def _reported_gains(column: Column) -> list[Gain]:
    found = []
    for method in (m for m in TITLES if m != "maml" and m in column.reported):
        gain = _reported_gain(column, method)
        found.append(Gain(method, gain, None, "unknown" if gain is None else ""))
    return found


def draw_gains(rows: Rows, records: Sequence[Record], profile: str = "study") -> Figure:
    """Draw gains over MAML, paired by seed, beside the paper's."""
    gained = {
        row: {c.named(row): gains(c, records, profile) for c in columns}
        for row, columns in rows.items()
    }
    return _draw(gained, {row: _stamp(columns, records, profile) for row, columns in rows.items()})


def _stamp(columns: Sequence[Column], records: Sequence[Record], profile: str) -> str:
    groups = {c.runs: _of(records, c, profile) for c in columns}
    lines = [setting(group) for group in groups.values() if group]
    return "\n".join([*lines, "paired by seed, Student's 95 % interval"]) if lines else NOT_RUN


def _draw(rows: Mapping[str, Mapping[str, Sequence[Gain]]], stamps: Mapping[str, str]) -> Figure:
    """Draw rows of panels: diamonds are the paper's gains, dots those of the runs here."""
    methods = {
        row: sorted({g.method for gains in of.values() for g in gains}, key=METHODS.place)
        for row, of in rows.items()
    }
    tallest = max(len(m) for m in methods.values())
    figure, parts = plotkit.panels(list(rows), height=1.5 + 0.24 * tallest)
    for part, (row, of) in zip(parts, rows.items(), strict=True):
        axes = part.subplots(1, len(of), sharex=True, sharey=True, squeeze=False)[0]
        for ax, (title, gains) in zip(axes, of.items(), strict=True):
            _panel(ax, gains, methods[row])
            ax.set_title(title)
        settings_line(part, f"{stamps[row]} · diamonds: the paper, dots: runs here")
    return figure


def _panel(ax: Axes, shown: Sequence[Gain], methods: Sequence[str]) -> None:
    ax.axvline(0, color=plotkit.GREY, lw=0.8)
    for gain in shown:
        y, look = methods.index(gain.method), METHODS[gain.method]
        if gain.paper is not None:
            ax.plot(gain.paper, y, "D", color=look.rgb, mfc="none", ms=6)
        if gain.study is not None:
            point(ax, y, gain.study, look._replace(marker="o"), across=True)
        ax.annotate(
            gain.note,
            (1.03, y),
            xycoords=ax.get_yaxis_transform(),
            fontsize=SMALL,
            color=plotkit.GREY,
            va="center",
        )
    ax.set_yticks(range(len(methods)), [METHODS[m].name for m in methods])
    ax.set_ylim(len(methods) - 0.4, -0.6)
    ax.margins(x=0.09)
    ax.set_xlabel("gain over MAML (points)")
