"""Tasks in sequence: tables and drawings of La-MAML and its relatives, from records.

Accuracies and their differences are in percent and percentage points, intervals Student's over
seeds.  A run that diverged is left out of means, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

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
from .curves import Curve
from .frame import by_experiment, finished, minus, numbers, over_seeds
from .markdown import cell, table, with_missing
from .naming import NOT_RUN, counted, intervals, lacking, seeds_named
from .plotkit import (
    GREY,
    SMALL,
    Look,
    Looks,
    band,
    legend_over,
    nothing,
    panels,
    point,
    settings_line,
)

LOOKS = Looks({name: Look(m.title, m.colour, m.marker) for name, m in LEARNERS.items()})
"""How each learner is called and drawn, in the order of the tables."""

COMPARED = ("online", "replay", "la-maml", "sparse-la-maml", "sparse-la-maml-plain")
"""Learners whose course through a stream is drawn."""

METRICS = {"ra": "RA", "bti": "BTI", "la": "LA"}
"""Numbers at the end of a run."""

POSSIBLE = {"ra": (-2, 102), "bti": (-102, 102)}
"""Ends of an axis for a number in percent."""

COSINES = {
    "gradient": "gradients",
    "step": "both under the rule",
    "effect": "the new one under the rule",
}
"""Kinds of cosine along a stream, and what they are called."""

_PUBLISHED = {
    "Online": "online",
    "EWC": "ewc",
    "GEM": "gem",
    "MER": "mer",
    "C-MAML": "c-maml",
    "Sync": "sync",
    "La-MAML": "la-maml",
}
_BENCHMARKS = {"Rotations": "rotations", "Permutations": "permutations", "Many": plan.STREAMS[2]}

Runs = Sequence[tuple[ContinualExperiment, Sequence[Record]]]
"""Experiments, each with its records."""


class Reported(NamedTuple):
    """A number of Gupta et al. (2020), as quoted; percent."""

    mean: float
    std: float
    """Standard deviation over seeds."""

    def __str__(self) -> str:
        """Format as ``mean ± std``."""
        return f"{self.mean:.2f} ± {self.std:.2f}"


Quoted = Mapping[tuple[str, str], Mapping[str, Reported]]
"""By learner and stream, then by metric, ``ra`` or ``bti``."""


def reported(folder: Path | str) -> dict[tuple[str, str], dict[str, Reported]]:
    """Read the numbers that La-MAML's authors reported."""
    rows = pd.read_csv(Path(folder) / "la_maml_reported.csv").to_dict("records")
    return {
        (_PUBLISHED[row["method"]], _BENCHMARKS[row["benchmark"]]): {
            name: Reported(row[name.upper()], row[f"{name.upper()}_std"]) for name in ("ra", "bti")
        }
        for row in rows
    }


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


def _by_stream(records: Iterable[Record], profile: str, figure: str) -> dict[str, Runs]:
    groups = by_experiment(records)
    runs = [(e, groups.get(e.name, [])) for e in planned(profile, figure)]
    return {s: [run for run in runs if run[0].stream == s] for s in {e.stream: 0 for e, _ in runs}}


def _best(runs: Runs, learners: Iterable[str]) -> Runs:
    """Return one experiment for each of some learners: the tuned one, where there is one."""
    last = {e.learner: (e, group) for e, group in sorted(runs, key=lambda run: run[0].tuned)}
    return [last[learner] for learner in learners if learner in last]


def _named(e: ContinualExperiment) -> str:
    return f"{LOOKS[e.learner].name}, tuned" if e.tuned else LOOKS[e.learner].name


def settings_of(e: ContinualExperiment) -> str:
    """Return where the settings of an experiment come from, as a table says it."""
    if e.tuned:
        return "tuned"
    published = e.stream in plan.STREAMS and e.learner in _PUBLISHED.values()
    return "published" if published else "not searched"


def _quote(e: ContinualExperiment, quoted: Quoted) -> Mapping[str, Reported]:
    """Return what was reported of a learner: it stands beside the run with its settings."""
    twice = e.tuned and e.learner in _PUBLISHED.values()
    return {} if twice else quoted.get((e.learner, e.stream), {})


# Tables


def _tables(
    records: Iterable[Record], profile: str, figure: str, one: Callable[[str, Runs], str]
) -> str:
    """Return a table for each stream, under its name."""
    streams = _by_stream(records, profile, figure)
    parts = [(f"**{plan.TITLES[stream]}**", one(stream, runs)) for stream, runs in streams.items()]
    return "\n\n".join(text for part in parts for text in part)


def _line(e: ContinualExperiment, group: Sequence[Record], *cells: str) -> list[str]:
    return [LOOKS[e.learner].name, settings_of(e), *cells, counted(group)]


def results_table(records: Sequence[Record], profile: str, quoted: Quoted | None = None) -> str:
    """Return retained accuracy, interference and learning accuracy, a table for each stream."""

    def one(stream: str, runs: Runs) -> str:
        header = ["learner", "settings", *(f"{name} (%)" for name in METRICS.values()), "seeds"]
        quotes = any(s == stream for _, s in quoted or {})
        if quotes:
            header += ["RA, reported", "BTI, reported", "RA − reported (s.d.)"]
        rows, missing = [], []
        for e, group in runs:
            there = _quote(e, quoted or {})
            if not group and not there:
                missing.append(_named(e))
                continue
            row = _line(e, group, *(cell(numbers(group, name)) for name in METRICS))
            if quotes:
                away = distance(group, there["ra"]) if there and not e.tuned else None
                row += [str(there.get("ra", "–")), str(there.get("bti", "–"))]
                row += ["–" if away is None else f"{away:+.1f}"]
            rows.append(row)
        return with_missing(header, rows, missing)

    return _tables(records, profile, plan.LA_MAML, one)


def distance(group: Iterable[Record], there: Reported) -> float | None:
    """Return how many reported standard deviations RA lies above the reported mean."""
    here = over_seeds(numbers(group, "ra"))
    return None if here is None else (here.mean - there.mean) / there.std


def sparsity_table(records: Sequence[Record], profile: str) -> str:
    """Return the share of frozen weights at the end of a stream, a table for each stream."""

    def one(_: str, runs: Runs) -> str:
        done = finished(r for _, group in runs for r in group)
        layers = kernels(done[0]) if done else {}
        rows = []
        for e, group in runs:
            ends = [{r["seed"]: frozen_share(r, k)[-1] for r in finished(group)} for k in layers]
            released = {r["seed"]: released_share(r) for r in finished(group)}
            rows.append(_line(e, group, *map(cell, (*ends, numbers(group, "sparsity"), released))))
        header = ["frozen at the end (%)", "settings", *layers.values(), "all weights"]
        return table([*header, "released on the way", "seeds"], rows)

    return _tables(records, profile, plan.SPARSITY, one)


def cosine_table(records: Sequence[Record], profile: str) -> str:
    """Return the mean cosines between gradients on new and on earlier tasks."""

    def one(_: str, runs: Runs) -> str:
        base, of_base = next(iter(_best(runs, ["la-maml"])), (None, ()))
        rows = []
        for e, group in runs:
            whole, step, effect = (numbers(group, kind) for kind in COSINES)
            less = "–" if e is base else cell(minus(step, numbers(of_base, "step")))
            cells = (*map(cell, (whole, step, effect, minus(step, whole))), less)
            rows.append(_line(e, group, *cells))
        header = ["cosine × 100", "settings", *COSINES.values(), "both under the rule − gradients"]
        reference = _named(base) if base else "La-MAML"
        return table([*header, f"both under the rule, less those of {reference}", "seeds"], rows)

    return _tables(records, profile, plan.SPARSITY, one)


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
"""Columns of :func:`changed_table`, without the change and with it, by the end of an
experiment's name."""


def _less(a: Sequence[Record], b: Sequence[Record]) -> list[str]:
    """Return the differences of two experiments in each metric."""
    return [cell(minus(numbers(a, name), numbers(b, name))) for name in METRICS]


def slips_table(records: Sequence[Record]) -> str:
    """Return what the slips of the released code do to La-MAML on Rotations."""
    groups, base = by_experiment(records), "rotations-la-maml"
    rows = []
    for slip, title in SLIPS.items():
        group = groups.get(f"{base}-{slip}", [])
        rows.append((title, *_less(group, groups.get(base, [])), counted(group)))
    return table(("with", *(f"{name}: change" for name in METRICS.values()), "seeds"), rows)


def changed_table(records: Sequence[Record], quoted: Quoted, change: str) -> str:
    """Return what a change does to learners of MER's script, beside what was reported."""
    groups = by_experiment(records)
    parts = []
    for name in ("ra", "bti"):
        rows = []
        for e in plan.changed(change):
            pair = [groups.get(n, []) for n in (f"{e.stream}-{e.learner}", e.name)]
            cells = [cell(numbers(group, name)) for group in pair]
            there = str(quoted[e.learner, e.stream][name])
            names = (plan.TITLES[e.stream], LOOKS[e.learner].name)
            rows.append((*names, *cells, there, counted(pair[1])))
        header = ("stream", "learner", *CHANGED[change], "reported", "seeds")
        parts += [f"**{METRICS[name]} (%)**", table(header, rows)]
    return "\n\n".join(parts)


def compared_table(records: Sequence[Record]) -> str:
    """Return how sparse-La-MAML differs from the other learners that were searched for."""
    groups = by_experiment(records)
    rows = []
    for e in planned("study"):
        if e.tuned and e.learner != plan.SPARSE_FORM:
            ours, group = (groups.get(n, []) for n in (_tuned(e.stream), e.name))
            names = (plan.TITLES[e.stream], LOOKS[e.learner].name)
            rows.append((*names, *_less(ours, group), counted(group)))
    header = ("stream", "beside", *(f"{n}: difference" for n in METRICS.values()), "seeds")
    return table(header, rows)


def _tuned(stream: str) -> str:
    return f"{stream}-{plan.SPARSE_FORM}-tuned"


# Figures


def _draw(
    title: str,
    records: Iterable[Record],
    profile: str,
    row: Callable[[SubFigure, Runs], None],
    of: tuple[str, Sequence[str] | None] = (plan.LA_MAML, None),
    height: float = 3.0,
    shows: str = "",
) -> Figure:
    """Draw a row for each stream; `of` is a notebook, and which of its learners are shown."""
    streams = _by_stream(records, profile, of[0])
    figure, parts = panels([f"{title}: {plan.TITLES[s]}" for s in streams], height)
    for part, every in zip(parts, streams.values(), strict=True):
        runs = every if of[1] is None else _best(every, of[1])
        row(part, runs)
        settings_line(part, _stamp(runs, shows))
    return figure


def draw_results(
    title: str, records: Sequence[Record], profile: str, quoted: Quoted | None = None
) -> Figure:
    """Draw retained accuracy and interference, a point for each learner."""

    def row(part: SubFigure, runs: Runs) -> None:
        axes = part.subplots(1, 2, sharey=True)
        for ax, name in zip(axes, ("ra", "bti"), strict=True):
            for y, (e, group) in enumerate(runs):
                if there := _quote(e, quoted or {}).get(name):
                    ax.plot(there.mean, y, "D", color=GREY, mfc="none", ms=6)
                if here := over_seeds(numbers(group, name)):
                    point(ax, y, here, LOOKS[e.learner]._replace(marker="o"), across=True)
            ax.set_xlabel(f"{METRICS[name]} (%)")
            ax.margins(x=0.09)
            _possible(ax.get_xlim, ax.set_xlim, name)
            if not ax.lines:
                ax.set_xticks([])
        axes[0].set_yticks(range(len(runs)), [_named(e) for e, _ in runs])
        axes[0].set_ylim(len(runs) - 0.4, -0.6)
        for y, (_, group) in enumerate(runs):
            place = axes[1].get_yaxis_transform()
            axes[1].text(
                1.02, y, counted(group), transform=place, fontsize=SMALL, color=GREY, va="center"
            )
        axes[1].set_title("seeds", loc="right", fontsize=SMALL, color=GREY)

    tallest = max(map(len, _by_stream([], profile, plan.LA_MAML).values()))
    shows = "dots with Student's 95 % interval: runs here; diamonds: reported" if quoted else ""
    return _draw(title, records, profile, row, height=1.4 + 0.22 * tallest, shows=shows)


def _possible(get: Callable, set_: Callable, name: str) -> None:
    """End an axis where a number ends: the interval of two seeds may go beyond it."""
    (low, high), (least, most) = get(), POSSIBLE[name]
    set_(max(low, least), min(high, most))


def draw_matrices(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the matrices of accuracies of some learners."""

    def row(part: SubFigure, runs: Runs) -> None:
        axes = part.subplots(1, len(runs), squeeze=False)[0]
        image = None
        for ax, (e, group) in zip(axes, runs, strict=True):
            ax.set_title(_named(e).replace(", ", ",\n", 1))
            if (values := matrix(group)) is None:
                _empty(ax, group)
                continue
            image = ax.imshow(values, vmin=0, vmax=100, cmap="crest_r", interpolation="nearest")
            ends = [0, len(values) - 1]
            ax.set(xlabel="tested on task", xticks=ends, yticks=ends)
        axes[0].set_ylabel("after learning task")
        if image is not None:
            part.colorbar(image, ax=list(axes), label="accuracy (%)", shrink=0.8)

    of = (plan.LA_MAML, (*COMPARED[:3], plan.SPARSE_FORM))
    return _draw(title, records, profile, row, of, shows="mean over these seeds")


def matrix(group: Iterable[Record]) -> np.ndarray | None:
    """Return the mean matrix of accuracies of an experiment."""
    each = [r["curves"]["accuracy"] for r in finished(group)]
    return 100 * np.mean(each, axis=0) if each else None


Course = Callable[[Record], Sequence[float | None]]
"""What is known after each task."""


def draw_course(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw what is known along a stream: of its first task, and of all tasks seen."""
    named = {"on the first task": first_task, "mean over the tasks seen": seen}
    row = partial(_courses, named=named, label="accuracy (%)", metric="ra")
    return _draw(title, records, profile, row, (plan.LA_MAML, COMPARED), 3.4)


def draw_cosines(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw how far gradients on new and on earlier tasks agree, along a stream."""
    named = {label: partial(cosines, kind=kind) for kind, label in COSINES.items()}
    row = partial(_courses, named=named, label="cosine × 100", metric="bti")
    return _draw(title, records, profile, row, (plan.SPARSITY, plan.WITH_RATES), 3.4)


def _courses(
    part: SubFigure, runs: Runs, named: Mapping[str, Course], label: str, metric: str
) -> None:
    axes = part.subplots(1, len(named))
    for ax, (name, values) in zip(axes, named.items(), strict=True):
        for e, group in runs:
            c, look = course(group, values), LOOKS[e.learner]
            if len(c.x):
                line = band(ax, *c, color=look.rgb, label=look.name, lw=1.2)
                line.set(marker=look.marker, ms=4, markevery=max(1, len(c.x) // 10))
        ax.set(title=name, xlabel="tasks learned", ylabel=label)
        if not ax.lines:
            _empty(ax, [r for _, group in runs for r in group])
            continue
        _possible(ax.get_ylim, ax.set_ylim, metric)
        if metric == "bti":
            ax.axhline(0, color=GREY, ls=":", lw=1)
        ax.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    legend_over(part, axes)


def first_task(record: Record) -> list[float]:
    """Return the accuracy on the first task after each task, percent."""
    return [100 * row[0] for row in record["curves"]["accuracy"]]


def seen(record: Record) -> list[float]:
    """Return the mean accuracy on the tasks learned so far after each task, percent."""
    rows = record["curves"]["accuracy"]
    return [100 * sum(row[: t + 1]) / (t + 1) for t, row in enumerate(rows)]


def cosines(record: Record, kind: str) -> list[float | None]:
    """Return the cosines of each task, times 100; nothing where the learner has no such kind."""
    each = record["curves"]["interference"].get(kind, [])
    return [None if c is None else 100 * c for c in each]


def course(group: Iterable[Record], values: Course) -> Curve:
    """Average what is known after each task over seeds."""
    by_task = zip(*(values(r) for r in finished(group)), strict=True)
    known = [(t, [v for v in column if v is not None]) for t, column in enumerate(by_task, 1)]
    points = [(t, *t_interval(column)[:3]) for t, column in known if column]
    return Curve(*np.array(points, dtype=float).reshape(-1, 4).T)


def draw_sparsity(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the share of frozen weights of each layer along a stream, a panel for each learner."""

    def row(part: SubFigure, runs: Runs) -> None:
        axes = part.subplots(1, len(runs), sharey=True, squeeze=False)[0]
        for ax, (e, group) in zip(axes, runs, strict=True):
            ax.set(xlabel="tasks learned", ylim=(-2, 102), title=_named(e).replace(", ", ",\n"))
            if done := finished(group):
                _layers(ax, done)
                ax.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
            else:
                nothing(ax, "diverged" if group else NOT_RUN)
        axes[0].set_ylabel("frozen weights (%)")
        legend_over(part, axes)

    return _draw(title, records, profile, row, (plan.SPARSITY, plan.WITH_RATES), 3.2)


def _layers(ax: Axes, done: Sequence[Record]) -> None:
    named = kernels(done[0])
    for colour, (kernel, name) in zip(
        sns.color_palette("crest", len(named)), named.items(), strict=True
    ):
        bias = f"{kernel.removesuffix('weight')}bias"
        for tensor, style in ((kernel, "-"), (bias, "--")):
            if tensor in done[0]["tensors"]:
                c = course(done, partial(frozen_share, tensor=tensor))
                label = name if tensor == kernel else None
                band(ax, *c, ls=style, color=colour, lw=1.3, label=label)


def frozen_share(record: Record, tensor: str | None = None) -> list[float]:
    """Return the share of weights that cannot move after each task, percent."""
    counts, sizes = record["curves"]["frozen"], record["tensors"]
    names = list(sizes) if tensor is None else [tensor]
    total = sum(sizes[n] for n in names)
    return [100 * sum(each) / total for each in zip(*(counts[n] for n in names), strict=True)]


def released_share(record: Record) -> float:
    """Return how many weights were released from one task to the next over a stream, percent."""
    released = sum(map(sum, record["curves"]["thawed"].values()))
    return 100 * released / sum(record["tensors"].values())


def kernels(record: Record) -> dict[str, str]:
    """Return the kernels of a network, and what their layers are called."""
    names = [n for n in record["tensors"] if n.endswith("weight")]
    titles = [f"layer {i}" for i in range(1, len(names))]
    return dict(zip(names, [*titles, "output"], strict=True))


def _empty(ax: Axes, group: Sequence[Record]) -> None:
    nothing(ax, "diverged" if group else NOT_RUN)
    ax.set(xticks=[], yticks=[])


def _stamp(runs: Runs, shows: str = "") -> str:
    """Say what the runs of one stream were made with, which are missing and which diverged."""
    records = [r for _, group in runs for r in group]
    if not records:
        return NOT_RUN
    e = runs[0][0]
    parts = [f"profile {e.profile}", plan.TITLES[e.stream]]
    if (recipe := RECIPES.get(e.stream)) is not None:
        parts.append(f"{recipe.tasks} tasks × {recipe.samples:,} samples")
    memories = {x.parameters()["settings"].get("memory") for x, _ in runs} - {None, 0}
    if memories:
        parts.append(f"memory {', '.join(map(str, sorted(memories)))}")
    if e.stream != "split-cifar100":
        parts.append(f"hidden layers of {e.width}")
    parts += [seeds_named(records, lambda r: r["experiment"]), shows or intervals(records)]
    return "\n".join([" · ".join(parts), *lacking({x.name: group for x, group in runs})])
