"""Tables 1 and 2: the study's accuracies and gains over MAML beside the paper's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plan import few_shot, study
from ..runs.records import Record, load
from ..runs.statistics import Interval
from . import plotkit
from .frame import BySeed, finished, minus, numbers, over_seeds
from .load_records import results_folder
from .markdown import Markdown, cell, interval, plain, table
from .naming import NETWORKS, NOT_RUN, setting, shots
from .plotkit import METHODS


class Reported(NamedTuple):
    """A number of the paper, percent; None where it is unknown."""

    accuracy: float | None = None
    std: float | None = None  #: Over seeds
    confidence: str = "U"  #: V verified, M from memory, U unknown
    note: str = ""  #: What is doubtful about it

    def __str__(self) -> str:
        """Format as ``accuracy ± std (confidence)``."""
        number = "unknown" if self.accuracy is None else f"{self.accuracy:.2f}"
        spread = "" if self.std is None else f" ± {self.std:.2f}"
        return f"{number}{spread} ({self.confidence})"


@dataclass(frozen=True)
class Column:
    """A column of a table: where accuracies are measured, and what the paper says of it."""

    row: str  #: Heading that it is drawn under
    title: str
    runs: str  #: What the names of its experiments start with, such as ``convnet4-5shot``
    reported: Mapping[str, Reported]  #: The paper's numbers, by method
    probe: str | None = None  #: Answer that counts, such as ``on:cub``; None: the test accuracy
    methods: Sequence[str] = ()  #: What it is about; if empty, the paper's methods and what is run
    edition: str = ""  #: What the data of the runs here are, where the paper's were others

    @property
    def here(self) -> str:
        """Its title where runs are shown."""
        return f"{self.title} ({self.edition})" if self.edition else self.title

    def planned(self, profile: str) -> set[str]:
        """Return the methods that a profile runs."""
        return {
            e.name.removeprefix(f"{self.runs}-")
            for e in study.few_shot(profile, few_shot.TABLE1)
            if e.name.startswith(f"{self.runs}-") and self.probe in (None, *e.probes)
        }

    def all_methods(self, profile: str) -> list[str]:
        """Return what it is about where the runs are those of a profile, in order."""
        return sorted(self.methods or {*METHODS, *self.planned(profile)}, key=METHODS.place)

    def of(self, records: Iterable[Record], *methods: str) -> list[Record]:
        """Return the records of some methods."""
        names = {f"{self.runs}-{method}" for method in methods}
        return [r for r in records if r["experiment"] in names]

    def settings(self, name: str, records: Iterable[Record], profile: str) -> list[str]:
        """Return a paragraph about what its runs were made with; none without runs."""
        group = self.of(records, *self.all_methods(profile))
        return [plain(f"{name}: {setting(group)}")] if group else []

    def reported_gain(self, method: str) -> float | None:
        """Return the paper's gain over MAML, where both accuracies are known."""
        accuracy, maml = (self.reported.get(m, Reported()).accuracy for m in (method, "maml"))
        return None if accuracy is None or maml is None else accuracy - maml

    def gain(self, records: Sequence[Record], method: str) -> Interval | None:
        """Return the gain of the runs here over MAML, paired by seed."""
        return over_seeds(minus(*(accuracies(records, self, m) for m in (method, "maml"))))


def columns_of_table1(folder: Path | str) -> list[Column]:
    """Read the paper's Table 1."""
    file = Path(folder) / "table1.csv"
    return [
        Column(
            NETWORKS[network],
            shots(k),
            f"{network}-{k}shot",
            _reported(file, f"network == '{NETWORKS[network]}' and shots == {k}"),
        )
        for network in ("convnet4", "resnet12")
        for k in (1, 5)
    ]


AWAY = {
    "CUB": ("CUB", "on:cub", "2010 here"),
    "tieredImageNet": ("tieredImageNet", "on:tieredimagenet", ""),
    "Cars": ("Stanford Cars", "on:cars", ""),
}
"""Data sets of Table 2: title, what asks for them, and edition."""


def columns_of_table2(folder: Path | str) -> list[Column]:
    """Read the paper's Table 2, and from Table 1 what the same networks reach at home."""
    file, methods = Path(folder) / "table2.csv", few_shot.METHODS_OF_TABLE_1
    columns = []
    for home in columns_of_table1(folder)[:2]:
        row, k = home.title, home.title.partition(" ")[0]
        columns.append(replace(home, row=row, title="miniImageNet", methods=methods))
        for name, (title, probe, edition) in AWAY.items():
            there = _reported(file, f"dataset == '{name}' and shots == {k}")
            columns.append(Column(row, title, home.runs, there, probe, methods, edition))
    return columns


def _reported(file: Path, which: str) -> dict[str, Reported]:
    """Return the paper's numbers of a column, by method."""
    keys = {look.name: method for method, look in METHODS.items()}
    there = {}
    for row in pd.read_csv(file).query(which).to_dict("records"):
        # the file of Table 2 has no column of confidence: all of it is verified
        confidence, _, note = row.get("confidence", "V").partition(" (")
        mean, std = (None if math.isnan(row[k]) else row[k] for k in ("accuracy", "std"))
        there[keys[row["method"]]] = Reported(mean, std, confidence, note.removesuffix(")"))
    return there


def rows_of(profile: str, columns: Iterable[Column]) -> list[Column]:
    """Return the columns in which a profile runs MAML, without the paper's numbers."""
    return [replace(c, reported={}) for c in columns if "maml" in c.planned(profile)]


def accuracies(records: Iterable[Record], column: Column, method: str) -> BySeed:
    """Return the accuracies of a method in a column, in percent, by seed."""
    return numbers(column.of(records, method), column.probe or "test_accuracy")


def _state(records: Sequence[Record], column: Column, method: str) -> tuple[str, str]:
    """Return the accuracy of a method, or why there is none; and how many seeds there are."""
    group, values = column.of(records, method), accuracies(records, column, method)
    if not group:
        return NOT_RUN, "–"
    diverged = len(group) - len(finished(group))
    why = "diverged" if diverged == len(group) else "no data here"
    lost = f" ({diverged} diverged)" if diverged else ""
    return cell(values) if values else why, f"{len(values)}{lost}"


def _in_one(records: Sequence[Record], column: Column, method: str) -> str:
    accuracy, seeds = _state(records, column, method)
    return accuracy if seeds == "–" else f"{accuracy} (seeds: {seeds})"


# Tables


def reported(columns: Sequence[Column]) -> str:
    """Return the paper's numbers, a table for each row."""
    parts = []
    for row, of_row in _by_row(columns).items():
        lines = [
            [look.name, *(str(c.reported.get(method, "–")) for c in of_row)]
            for method, look in METHODS.items()
            if any(method in c.reported for c in of_row)
        ]
        parts.append(table([row, *(c.title for c in of_row)], lines))
        for c in of_row:
            doubts = {METHODS[m].name: there.note for m, there in c.reported.items() if there.note}
            parts += [f"{name}, {row}, {c.title}: {note}." for name, note in doubts.items()]
    return "\n\n".join(parts)


def _by_row(columns: Iterable[Column]) -> dict[str, list[Column]]:
    rows: dict[str, list[Column]] = {}
    for column in columns:
        rows.setdefault(column.row, []).append(column)
    return rows


def side_by_side(
    columns: Sequence[Column], records: Sequence[Record], as_in_paper: Sequence[Record] = ()
) -> str:
    """Return the study's accuracies beside the paper's, a table for each column."""
    header = ("method", "the paper", "the study [95 % interval]", "seeds", "inner rate")
    parts = []
    for c in columns:
        here, in_paper = c.planned("study"), c.planned("paper")
        lines = [
            [
                METHODS[m].name,
                str(c.reported.get(m, "–")),
                *(_state(records, c, m) if m in here else ("–", "–")),
                _rate(f"{c.runs}-{m}") if m in here else "–",
                _in_one(as_in_paper, c, m) if m in in_paper else "–",
            ]
            for m in c.all_methods("study")
            if m in c.reported or m in here
        ]
        parts += [f"**{c.row}, {c.here}**", table((*header, "paper's settings, run here"), lines)]
        parts += c.settings("the study", records, "study")
        parts += c.settings("paper's settings", as_in_paper, "paper")
    return "\n\n".join(parts)


def _rate(name: str) -> str:
    """Return the inner rate of a run of the study, and whether the search has chosen it."""
    rate = f"{study.find_few_shot('study', name).inner_rate:g}"
    return rate if name.removesuffix("-second-order") in study.RATES else f"{rate} (not searched)"


GREY = {None: "Omniglot", "fashion-mnist": "FashionMNIST", "mnist": "MNIST", "glyphs": "glyphs"}
"""Where networks are tested that were trained on Omniglot: there, and on images of one channel."""


def from_omniglot(records: Sequence[Record], as_in_paper: Sequence[Record] = ()) -> str:
    """Return how networks that were trained on Omniglot do there and on other images."""
    methods = few_shot.GREY_METHODS
    columns = [
        Column("", GREY[data], "grey-5shot", {}, data and f"on:{data}", methods)
        for data in (None, *few_shot.GREY_ELSEWHERE)
    ]
    lines = [
        [
            c.title,
            *(text for m in methods for text in _state(records, c, m)),
            interval(c.gain(records, "sparse-maml")),
            *(_in_one(as_in_paper, c, m) for m in methods),
        ]
        for c in columns
    ]
    names = [METHODS[m].name for m in methods]
    here = [title for name in names for title in (name, "seeds")]
    budget = [f"paper's budget: {name}" for name in names]
    parts = [table(["tested on", *here, "gain (points)", *budget], lines)]
    parts += columns[0].settings("the study", records, "study")
    parts += columns[0].settings("paper's budget", as_in_paper, "study")
    return "\n\n".join(parts)


def search_records() -> list[Record]:
    """Return the records of the search of inner rates, as they came with the project."""
    return load(results_folder(), study.few_shot("search", few_shot.TABLE1))


def search_tables(records: Sequence[Record]) -> str:
    """Return the search of inner rates: validation accuracy by method and rate."""
    known, best = {r["experiment"]: r for r in records}, few_shot.best_rates(records)
    columns: dict[str, dict[str, dict[float, Record | None]]] = {}  # by run and rate
    for e in study.few_shot("search", few_shot.TABLE1):
        runs = columns.setdefault(f"{NETWORKS[e.network]}, {shots(e.shots)}", {})
        runs.setdefault(e.name.rpartition("-rate")[0], {})[e.inner_rate] = known.get(e.name)
    parts = []
    for column, runs in columns.items():
        rates = list(next(iter(runs.values())))
        names = {run: METHODS[run.partition("shot-")[2]].name for run in runs}
        chosen = {run: best.get(run) for run, tried in runs.items() if all(tried.values())}
        lines = [
            [names[run], *(_searched(r, rate == chosen.get(run)) for rate, r in tried.items())]
            for run, tried in runs.items()
        ]
        parts.append(table([column, *(f"rate {rate:g}" for rate in rates)], lines))
        if ends := [names[run] for run, rate in chosen.items() if rate in (min(rates), max(rates))]:
            more = "Best at an end of the grid, so that more may lie beyond"
            parts.append(f"{more}: {', '.join(ends)}.")
        if group := [r for tried in runs.values() for r in tried.values() if r]:
            parts.append(plain(setting(group)))
    return "\n\n".join(parts)


def _searched(record: Record | None, best: bool) -> str:
    if record is None or not finished([record]):
        return "diverged" if record else NOT_RUN
    accuracy = f"{100 * few_shot.trained_validation(record):.1f}"
    return Markdown(f"**{accuracy}**") if best else accuracy


def power(columns: Sequence[Column], records: Sequence[Record]) -> str:
    """Return which gains of sparse-MAML over MAML the study could have told from zero."""
    lines = []
    for c in columns:
        gain = c.gain(records, "sparse-maml")
        half = f"{(gain.high - gain.low) / 2:.1f}" if gain and gain.n > 1 else None
        seeds = str(gain.n if gain else 0)
        lines.append((f"{c.row}, {c.title}", seeds, half or "two seeds are needed"))
    return table(("column", "seeds", "smallest gain seen as one (points)"), lines)


# Gains over MAML


class Gain(NamedTuple):
    """What a method gains over MAML in a column, in percentage points."""

    method: str
    paper: float | None
    study: Interval | None  #: Paired by seed, with Student's 95 % interval
    note: str  #: How many seeds there are, or why none


def gains(column: Column, records: Sequence[Record], profile: str) -> list[Gain]:
    """Return what each method gains over MAML."""
    planned, found = column.planned(profile), []
    for method in column.all_methods(profile):
        paper, gain = column.reported_gain(method), column.gain(records, method)
        if method != "maml" and (method in planned or paper is not None):
            if gain is None:
                states = [_state(records, column, m)[0] for m in (method, "maml")]
                whys = (NOT_RUN, "diverged", "no data here")
                note = next((s for s in states if s in whys), "no pair")
            else:
                note = "1 seed" if gain.n == 1 else f"{gain.n} seeds"
            found.append(Gain(method, paper, gain, note))
    return found


def draw_reported(columns: Sequence[Column]) -> Figure:
    """Draw the paper's gains over MAML: a row for each heading, a panel for each column."""
    rows: dict[str, dict[str, list[Gain]]] = {c.row: {} for c in columns}
    for c in columns:
        paper = {m: c.reported_gain(m) for m in METHODS if m != "maml" and m in c.reported}
        rows[c.row][c.title] = [
            Gain(m, gain, None, "unknown" if gain is None else "") for m, gain in paper.items()
        ]
    note = "differences of the paper's means; without an interval: differences by seed are unknown"
    return _draw(rows, dict.fromkeys(rows, note))


def draw_gains(
    columns: Sequence[Column], records: Sequence[Record], profile: str = "study"
) -> Figure:
    """Draw gains over MAML, paired by seed, beside the paper's."""
    rows, notes = {}, {}
    for row, of_row in _by_row(columns).items():
        rows[row] = {c.here: gains(c, records, profile) for c in of_row}
        groups = {c.runs: c.of(records, *c.all_methods(profile)) for c in of_row}
        lines = [setting(group) for group in groups.values() if group]
        pairing = "paired by seed, Student's 95 % interval"
        notes[row] = "\n".join([*lines, pairing]) if lines else NOT_RUN
    return _draw(rows, notes)


def _draw(rows: Mapping[str, Mapping[str, Sequence[Gain]]], notes: Mapping[str, str]) -> Figure:
    """Draw rows of panels: diamonds are the paper's gains, dots those of the runs here."""
    methods = {
        row: sorted({g.method for gained in panels.values() for g in gained}, key=METHODS.place)
        for row, panels in rows.items()
    }
    figure, parts = plotkit.panels(list(rows), 1.5 + 0.24 * max(map(len, methods.values())))
    for part, (row, panels) in zip(parts, rows.items(), strict=True):
        axes = part.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for ax, (title, gained) in zip(axes, panels.items(), strict=True):
            _panel(ax, gained, methods[row])
            ax.set_title(title)
        plotkit.settings_line(part, f"{notes[row]} · diamonds: the paper, dots: runs here")
    return figure


def _panel(ax: Axes, gained: Sequence[Gain], methods: Sequence[str]) -> None:
    ax.axvline(0, color=plotkit.GREY, lw=0.8)
    for gain in gained:
        y, look = methods.index(gain.method), METHODS[gain.method]
        if gain.paper is not None:
            ax.plot(gain.paper, y, "D", color=look.rgb, mfc="none", ms=6)
        if gain.study is not None:
            plotkit.point(ax, y, gain.study, look._replace(marker="o"), across=True)
        beside = {"color": plotkit.GREY, "fontsize": plotkit.SMALL, "va": "center"}
        ax.text(1.03, y, gain.note, beside, transform=ax.get_yaxis_transform())
    ax.set_yticks(range(len(methods)), [METHODS[m].name for m in methods])
    ax.set(ylim=(len(methods) - 0.4, -0.6), xlabel="gain over MAML (points)")
    ax.margins(x=0.09)
