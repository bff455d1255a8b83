"""Tasks in sequence: tables and drawings of La-MAML and its relatives, from records.

Accuracies and their differences are in percent and percentage points, intervals Student's over
seeds.  A run that diverged is left out of means, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from wheretolearn.continual.methods import LEARNERS
from wheretolearn.continual.streams.pixels import RECIPES

from ..plan import streams as plan
from ..plan import study
from ..runs.records import Record
from ..runs.statistics import t_interval
from ..runs.streams import ContinualExperiment
from . import frame, plotkit
from .curves import Curve
from .frame import BySeed, by_experiment, finished, minus, numbers, over_seeds
from .markdown import cell, table, with_missing
from .naming import NOT_RUN, counted, intervals, lacking, seeds_named, why_absent
from .plotkit import GREY, Look

LOOKS = plotkit.Looks({n: Look(m.title, m.colour, m.marker) for n, m in LEARNERS.items()})
"""How each learner is called and drawn, in the order of the tables."""

COMPARED = ("online", "replay", "la-maml", "sparse-la-maml", "sparse-la-maml-plain")
"""Learners whose course through a stream is drawn."""

METRICS = {"ra": "RA", "bti": "BTI", "la": "LA"}
COSINES = {
    "gradient": "gradients",
    "step": "both under the rule",
    "effect": "the new one under the rule",
}
SLIPS = {
    "clamped": "inner gradients clamped at 2, as the code means to",
    "past-only": "replay from what was held when the task began, as the code means to",
    "off-by-one": "a reservoir that is off by one, as the code has it",
}
"""The slips of La-MAML's released code, by the end of the experiment's name."""

CHANGED = {
    "xavier": ("from Kaiming's", "from Xavier's"),
    "exact": ("single precision", "double precision"),
    "slower": ("as published", "with C-MAML's inner rate"),
}
"""Without a change and with it, by the end of the experiment's name."""


class Reported(NamedTuple):
    """A number of Gupta et al. (2020) as quoted, with its standard deviation; percent."""

    mean: float
    std: float

    def __str__(self) -> str:
        """Format as ``mean ± std``."""
        return f"{self.mean:.2f} ± {self.std:.2f}"


Quoted = Mapping[tuple[str, str], Mapping[str, Reported]]
"""By learner and stream, then by metric, ``ra`` or ``bti``."""


def reported(folder: Path | str) -> dict[tuple[str, str], dict[str, Reported]]:
    """Read the numbers that La-MAML's authors reported."""
    streams = dict(zip(("Rotations", "Permutations", "Many"), plan.STREAMS, strict=True))
    return {
        (row["method"].lower(), streams[row["benchmark"]]): {
            name: Reported(row[name.upper()], row[f"{name.upper()}_std"]) for name in ("ra", "bti")
        }
        for row in pd.read_csv(Path(folder) / "la_maml_reported.csv").to_dict("records")
    }


def distance(group: Iterable[Record], there: Reported) -> float | None:
    """Return how many reported standard deviations RA lies above the reported mean."""
    here = over_seeds(numbers(group, "ra"))
    return None if here is None else (here.mean - there.mean) / there.std


class Runs(NamedTuple):
    """An experiment and its records, how it is called, and what was reported of the same."""

    experiment: ContinualExperiment
    records: Sequence[Record]
    look: Look
    name: str
    settings: str
    reported: Mapping[str, Reported]

    def of(self, metric: str) -> BySeed:
        """Return a number at the end of its runs."""
        return numbers(self.records, metric)


Streams = Mapping[str, Sequence[Runs]]


def planned(profile: str, figure: str = plan.LA_MAML) -> list[ContinualExperiment]:
    """Return the experiments of a profile, those left out that change one thing of another."""
    chosen = [
        e
        for e in study.experiments(profile, figure)
        if isinstance(e, ContinualExperiment)
        and e.name.removesuffix("-tuned") == f"{e.stream}-{e.learner}"
    ]
    streams = list(plan.TITLES)
    return sorted(chosen, key=lambda e: (streams.index(e.stream), LOOKS.place(e.learner), e.tuned))


def _by_stream(
    records: Iterable[Record],
    profile: str,
    figure: str,
    quoted: Quoted | None = None,
    learners: Iterable[str] = (),
) -> Streams:
    """Return the planned runs of each stream, or the best ones of some learners."""
    groups, streams = by_experiment(records), dict[str, list[Runs]]()
    for e in planned(profile, figure):
        look, method = LOOKS[e.learner], LEARNERS.get(e.learner)
        published = method is not None and method.published and e.stream in plan.STREAMS
        settings = "tuned" if e.tuned else "published" if published else "not searched"
        name = f"{look.name}, tuned" if e.tuned else look.name
        there = {} if e.tuned else (quoted or {}).get((e.learner, e.stream), {})
        runs = Runs(e, groups.get(e.name, []), look, name, settings, there)
        streams.setdefault(e.stream, []).append(runs)
    return {s: _best(every, learners) if learners else every for s, every in streams.items()}


def _best(every: Iterable[Runs], learners: Iterable[str]) -> list[Runs]:
    """Return one experiment for each of some learners: the tuned one, where there is one."""
    last = {r.experiment.learner: r for r in sorted(every, key=lambda r: r.experiment.tuned)}
    return [last[learner] for learner in learners if learner in last]


# Tables


def _tables(
    streams: Streams, first: str, cells: Callable[[Runs, Sequence[Runs]], dict[str, str]]
) -> str:
    """Return a table for each stream; `cells` returns those of a line by their headings."""
    parts = []
    for stream, every in streams.items():
        known = [runs for runs in every if runs.records or runs.reported]
        rows = [{first: r.look.name, "settings": r.settings} | cells(r, every) for r in known]
        header, missing = list(rows[0]) if rows else [], [r.name for r in every if r not in known]
        lines = [list(row.values()) for row in rows]
        parts += [f"**{plan.TITLES[stream]}**", with_missing(header, lines, missing)]
    return "\n\n".join(parts)


def results_table(records: Sequence[Record], profile: str, quoted: Quoted | None = None) -> str:
    """Return retained accuracy, interference and learning accuracy, a table for each stream."""

    def cells(runs: Runs, every: Sequence[Runs]) -> dict[str, str]:
        row = {f"{title} (%)": cell(runs.of(metric)) for metric, title in METRICS.items()}
        row["seeds"] = counted(runs.records)
        if any(r.reported for r in every):
            far = distance(runs.records, runs.reported["ra"]) if runs.reported else None
            for metric in ("ra", "bti"):
                row[f"{METRICS[metric]}, reported"] = str(runs.reported.get(metric, "–"))
            row["RA − reported (s.d.)"] = "–" if far is None else f"{far:+.1f}"
        return row

    return _tables(_by_stream(records, profile, plan.LA_MAML, quoted), "learner", cells)


def sparsity_table(records: Sequence[Record], profile: str) -> str:
    """Return the share of frozen weights at the end of a stream, a table for each stream."""

    def cells(runs: Runs, _: Sequence[Runs]) -> dict[str, str]:
        done = finished(runs.records)
        row = {
            title: cell({r["seed"]: frozen_share(r, kernel)[-1] for r in done})
            for kernel, title in kernels(runs.records[0]).items()
        }
        row["all weights"] = cell(runs.of("sparsity"))
        row["released on the way"] = cell({r["seed"]: released_share(r) for r in done})
        return row | {"seeds": counted(runs.records)}

    return _tables(_by_stream(records, profile, plan.SPARSITY), "frozen at the end (%)", cells)


def cosine_table(records: Sequence[Record], profile: str) -> str:
    """Return the mean cosines between gradients on new and on earlier tasks."""

    def cells(runs: Runs, every: Sequence[Runs]) -> dict[str, str]:
        (base,) = _best(every, ["la-maml"])
        step, less = runs.of("step"), f"both under the rule, less those of {base.name}"
        row = {title: cell(runs.of(kind)) for kind, title in COSINES.items()}
        row["both under the rule − gradients"] = cell(minus(step, runs.of("gradient")))
        row[less] = "–" if runs is base else cell(minus(step, base.of("step")))
        return row | {"seeds": counted(runs.records)}

    return _tables(_by_stream(records, profile, plan.SPARSITY), "cosine × 100", cells)


def _less(a: Sequence[Record], b: Sequence[Record]) -> list[str]:
    """Return the differences of two experiments in each metric."""
    return [cell(minus(numbers(a, metric), numbers(b, metric))) for metric in METRICS]


def slips_table(records: Sequence[Record]) -> str:
    """Return what the slips of the released code do to La-MAML on Rotations."""
    groups = by_experiment(records)
    base, rows = groups.get("rotations-la-maml", []), []
    for slip, title in SLIPS.items():
        group = groups.get(f"rotations-la-maml-{slip}", [])
        rows.append((title, *_less(group, base), counted(group)))
    return table(("with", *(f"{title}: change" for title in METRICS.values()), "seeds"), rows)


def changed_table(records: Sequence[Record], quoted: Quoted, change: str) -> str:
    """Return what a change does to learners of MER's script, beside what was reported."""
    groups, parts = by_experiment(records), []
    for metric in ("ra", "bti"):
        rows = []
        for e in plan.changed(change):
            pair = [groups.get(name, []) for name in (f"{e.stream}-{e.learner}", e.name)]
            cells = [cell(numbers(group, metric)) for group in pair]
            there = str(quoted[e.learner, e.stream][metric])
            names = (plan.TITLES[e.stream], LOOKS[e.learner].name)
            rows.append((*names, *cells, there, counted(pair[1])))
        header = ("stream", "learner", *CHANGED[change], "reported", "seeds")
        parts += [f"**{METRICS[metric]} (%)**", table(header, rows)]
    return "\n\n".join(parts)


def compared_table(records: Sequence[Record]) -> str:
    """Return how sparse-La-MAML differs from the other learners that were searched for."""
    rows = []
    for stream, every in _by_stream(records, "study", plan.LA_MAML).items():
        (ours,) = _best(every, [plan.SPARSE_FORM])
        rows += [
            (plan.TITLES[stream], r.look.name, *_less(ours.records, r.records), counted(r.records))
            for r in every
            if r.settings == "tuned" and r is not ours
        ]
    differences = (f"{title}: difference" for title in METRICS.values())
    return table(("stream", "beside", *differences, "seeds"), rows)


# Figures

Course = Callable[[Record], Any]  # numbers or None, one for each task


def _draw(
    title: str,
    streams: Streams,
    height: float,
    row: Callable[[SubFigure, Sequence[Runs]], None],
    shows: str = "",
) -> Figure:
    """Draw a row for each stream, and below it what it was made with."""
    figure, parts = plotkit.panels([f"{title}: {plan.TITLES[s]}" for s in streams], height)
    for part, every in zip(parts, streams.values(), strict=True):
        row(part, every)
        plotkit.settings_line(part, _stamp(every, shows))
    return figure


def _stamp(every: Sequence[Runs], shows: str) -> str:
    """Say what the runs of one stream were made with, which are missing and which diverged."""
    records, e = [r for runs in every for r in runs.records], every[0].experiment
    if not records:
        return NOT_RUN
    parts = [f"profile {e.profile}", plan.TITLES[e.stream]]
    if (recipe := RECIPES.get(e.stream)) is not None:
        parts.append(f"{recipe.tasks} tasks × {recipe.samples:,} samples")
    memories = {runs.experiment.parameters()["settings"].get("memory") for runs in every}
    if memories := memories - {None, 0}:
        parts.append(f"memory {', '.join(map(str, sorted(memories)))}")
    if e.stream != "split-cifar100":
        parts.append(f"hidden layers of {e.width}")
    parts += [seeds_named(records, lambda r: r["experiment"]), shows or intervals(records)]
    lines = lacking({runs.experiment.name: runs.records for runs in every})
    return "\n".join([" · ".join(parts), *lines])


def draw_results(
    title: str, records: Sequence[Record], profile: str, quoted: Quoted | None = None
) -> Figure:
    """Draw retained accuracy and interference, a point for each learner."""

    def row(part: SubFigure, every: Sequence[Runs]) -> None:
        for ax, metric in zip(part.subplots(1, 2, sharey=True), ("ra", "bti"), strict=True):
            lines = {}
            for y, (_, group, look, name, _, there) in enumerate(every):
                if metric in there:
                    ax.plot(there[metric].mean, y, "D", color=GREY, mfc="none", ms=6)
                mean = over_seeds(numbers(group, metric))
                lines[name] = (mean or why_absent(group), look._replace(marker="o"))
            plotkit.forest(ax, lines, f"{METRICS[metric]} (%)", zero=False)
            ax.margins(x=0.09)
            ax.set_xlim(_possible(ax.get_xlim(), metric))

    streams = _by_stream(records, profile, plan.LA_MAML, quoted)
    shows = "dots with Student's 95 % interval: runs here; diamonds: reported" if quoted else ""
    return _draw(title, streams, 1.4 + 0.22 * max(map(len, streams.values())), row, shows)


def _possible(ends: tuple[float, float], metric: str) -> tuple[float, float]:
    """End an axis where a number ends, in percent: an interval may go far beyond it."""
    return max(ends[0], -102 if metric == "bti" else -2), min(ends[1], 102)


def draw_matrices(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the mean matrices of accuracies of some learners."""

    def row(part: SubFigure, every: Sequence[Runs]) -> None:
        axes = part.subplots(1, len(every), squeeze=False)[0]
        for ax, runs in zip(axes, every, strict=True):
            ax.set_title(runs.name.replace(", ", ",\n", 1))
            if not (done := finished(runs.records)):
                _empty(ax, runs.records)
            else:
                values = 100 * np.mean([r["curves"]["accuracy"] for r in done], axis=0)
                ax.imshow(values, vmin=0, vmax=100, cmap="crest_r", interpolation="nearest")
                ends = [0, len(values) - 1]
                ax.set(xlabel="tested on task", xticks=ends, yticks=ends)
        axes[0].set_ylabel("after learning task")
        if images := [image for ax in axes for image in ax.images]:
            part.colorbar(images[-1], ax=list(axes), label="accuracy (%)", shrink=0.8)

    learners = (*COMPARED[:3], plan.SPARSE_FORM)
    streams = _by_stream(records, profile, plan.LA_MAML, learners=learners)
    return _draw(title, streams, 3.0, row, "mean over these seeds")


def _empty(ax: Axes, group: Sequence[Record]) -> None:
    plotkit.nothing(ax, why_absent(group))
    ax.set(xticks=[], yticks=[])


def draw_course(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw what is known along a stream: of its first task, and of all tasks seen."""
    named = {
        "on the first task": lambda r: [100 * row[0] for row in r["curves"]["accuracy"]],
        "mean over the tasks seen": seen,
    }
    row = partial(_courses, named=named, label="accuracy (%)", metric="ra")
    streams = _by_stream(records, profile, plan.LA_MAML, learners=COMPARED)
    return _draw(title, streams, 3.4, row)


def draw_cosines(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw how far gradients on new and on earlier tasks agree, along a stream."""
    named = {label: partial(cosines, kind=kind) for kind, label in COSINES.items()}
    row = partial(_courses, named=named, label="cosine × 100", metric="bti")
    streams = _by_stream(records, profile, plan.SPARSITY, learners=plan.WITH_RATES)
    return _draw(title, streams, 3.4, row)


def _courses(
    part: SubFigure, every: Sequence[Runs], named: Mapping[str, Course], label: str, metric: str
) -> None:
    """Draw a panel for each course; a learner is named at the right of the last that has it."""
    axes, ends = part.subplots(1, len(named)), {}
    axes[0].set_ylabel(label)
    for ax, (title, values) in zip(axes, named.items(), strict=True):
        ax.set(title=title, xlabel="tasks learned")
        for runs in every:
            c, look = course(runs.records, values), runs.look
            if len(c.x):
                line = plotkit.band(ax, *c, color=look.rgb, lw=1.2)
                line.set(marker=look.marker, ms=4, markevery=max(1, len(c.x) // 10))
                ends[look.name] = (ax, c.x[-1], c.mean[-1], look.rgb)
        if not ax.lines:
            _empty(ax, [r for runs in every for r in runs.records])
            continue
        ax.set_ylim(_possible(ax.get_ylim(), metric))
        if metric == "bti":
            ax.axhline(0, color=GREY, ls=":", lw=1)
        ax.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    for ax in axes:
        labels = [(name, *end) for name, (where, *end) in ends.items() if where is ax]
        plotkit.direct_labels(ax, labels)


def seen(record: Record) -> list[float]:
    """Return the mean accuracy on the tasks learned so far after each task, percent."""
    return [100 * sum(r[:t]) / t for t, r in enumerate(record["curves"]["accuracy"], 1)]


def cosines(record: Record, kind: str) -> list[float | None]:
    """Return the cosines of each task, times 100; nothing where the learner has no such kind."""
    each = record["curves"]["interference"].get(kind, [])
    return [None if c is None else 100 * c for c in each]


def course(group: Iterable[Record], values: Course) -> Curve:
    """Average what is known after each task over seeds."""
    each = np.array([values(r) for r in finished(group)], dtype=float)  # None becomes NaN
    known = [(t, column[np.isfinite(column)]) for t, column in enumerate(each.T, 1)]
    points = [(t, *t_interval(column)[:3]) for t, column in known if len(column)]
    return Curve(*np.array(points, dtype=float).reshape(-1, 4).T)


def draw_sparsity(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the share of frozen weights along a stream: kernels solid, biases dashed."""

    def row(part: SubFigure, every: Sequence[Runs]) -> None:
        axes = part.subplots(1, len(every), sharey=True, squeeze=False)[0]
        axes[0].set_ylabel("frozen weights (%)")
        for ax, runs in zip(axes, every, strict=True):
            ax.set(xlabel="tasks learned", ylim=(-2, 102), title=runs.name.replace(", ", ",\n"))
            ax.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
            if done := finished(runs.records):
                _layers(ax, done)
            else:
                plotkit.nothing(ax, why_absent(runs.records))
        plotkit.legend_over(part, axes)

    streams = _by_stream(records, profile, plan.SPARSITY, learners=plan.WITH_RATES)
    return _draw(title, streams, 3.2, row)


def _layers(ax: Axes, done: Sequence[Record]) -> None:
    names = kernels(done[0])
    colours = sns.color_palette("crest", len(names))
    for colour, (kernel, name) in zip(colours, names.items(), strict=True):
        bias = f"{kernel.removesuffix('weight')}bias"
        for tensor, style, label in ((kernel, "-", name), (bias, "--", None)):
            if tensor in done[0]["tensors"]:
                c = course(done, partial(frozen_share, tensor=tensor))
                plotkit.band(ax, *c, ls=style, color=colour, lw=1.3, label=label)


def frozen_share(record: Record, tensor: str | None = None) -> np.ndarray:
    """Return the share of weights that cannot move after each task, percent."""
    sizes = record["tensors"]
    names = list(sizes) if tensor is None else [tensor]
    counts = np.array([record["curves"]["frozen"][n] for n in names])
    return 100 * counts.sum(axis=0) / sum(sizes[n] for n in names)


def released_share(record: Record) -> float:
    """Return how many weights were released from one task to the next over a stream, percent."""
    released = sum(map(sum, record["curves"]["thawed"].values()))
    return 100 * released / sum(record["tensors"].values())


def kernels(record: Record) -> dict[str, str]:
    """Return the kernels of a network, and what their layers are called."""
    names = list(frame.kernels(record["tensors"]).values())
    titles = [f"layer {i}" for i in range(1, len(names))]
    return dict(zip(names, [*titles, "output"], strict=True))
