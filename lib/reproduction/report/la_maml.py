"""Tasks in sequence: tables and drawings of La-MAML and its relatives, from records.

Accuracies and their differences are in percent and percentage points, intervals Student's over
seeds.  A run that diverged is left out of means, and counted.
"""

from __future__ import annotations

import math
import textwrap
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

from reproduction.report import plotkit
from reproduction.report.curves import Curve
from reproduction.report.frame import by_experiment, finished, minus, over_seeds
from reproduction.report.markdown import cell
from reproduction.report.naming import counted, intervals, seeds_named
from reproduction.report.plotkit import Look, Looks, legend_above
from wheretolearn.continual.streams.pixels import RECIPES

from ..plan import streams as plan
from ..plan import study
from ..runs.records import Record
from ..runs.statistics import t_interval
from ..runs.streams import ContinualExperiment
from .markdown import table, with_missing

LOOKS = Looks(
    {
        "online": Look("online SGD", 7, "."),
        "ewc": Look("EWC", 5, "X"),
        "gem": Look("GEM", 5, "P"),
        "mer": Look("MER", 6, "h"),
        "replay": Look("replay", 3, "D"),
        "c-maml": Look("C-MAML (La-MAML's)", 8, "<"),
        "sync": Look("Sync", 9, ">"),
        "la-maml": Look("La-MAML", 2, "^"),
        "la-maml-straight": Look("La-MAML, straight-through", 1, "s"),
        "sparse-la-maml": Look("sparse-La-MAML, masked step", 0, "o"),
        "sparse-la-maml-plain": Look("sparse-La-MAML, plain step", 4, "d"),
        "la-maml-random": Look("random mask, never learned", 7, "x"),
    }
)
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

NOT_RUN = "not run yet"
_PUBLISHED = ("online", "ewc", "gem", "mer", "c-maml", "sync", "la-maml")  # not on every stream
_GREY = "0.5"
_METHODS = {
    "Online": "online",
    "EWC": "ewc",
    "GEM": "gem",
    "MER": "mer",
    "C-MAML": "c-maml",
    "Sync": "sync",
    "La-MAML": "la-maml",
}
_BENCHMARKS = {"Rotations": "rotations", "Permutations": "permutations", "Many": plan.STREAMS[2]}


# The numbers of La-MAML's authors


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
    numbers = pd.read_csv(Path(folder) / "la_maml_reported.csv")
    return {
        (_METHODS[row["method"]], _BENCHMARKS[row["benchmark"]]): {
            name: Reported(row[name.upper()], row[f"{name.upper()}_std"]) for name in ("ra", "bti")
        }
        for row in numbers.to_dict("records")
    }


# What is planned


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


def _shown_above(experiment: ContinualExperiment) -> bool:
    """Return whether the learner has a run with published settings, beside which a quote stands."""
    return experiment.tuned and experiment.learner in _PUBLISHED


def settings_of(experiment: ContinualExperiment) -> str:
    """Return where the settings of an experiment come from, as a table says it."""
    if experiment.tuned:
        return "tuned"
    of_mnist = experiment.stream in plan.STREAMS
    return "published" if of_mnist and experiment.learner in _PUBLISHED else "not searched"


def _by_stream(experiments: Iterable[ContinualExperiment]) -> dict[str, list[ContinualExperiment]]:
    found: dict[str, list[ContinualExperiment]] = {}
    for e in experiments:
        found.setdefault(e.stream, []).append(e)
    return found


def _best(
    experiments: Iterable[ContinualExperiment], learners: Iterable[str]
) -> dict[str, ContinualExperiment]:
    """Return one experiment for each of some learners: the tuned one, where there is one."""
    found = {e.learner: e for e in sorted(experiments, key=lambda e: e.tuned)}
    return {learner: found[learner] for learner in learners if learner in found}


# What came out


def finals(group: Iterable[Record], name: str) -> dict[int, float]:
    """Return a number at the end of the runs of an experiment, times 100, by seed."""
    return {
        r["seed"]: 100 * r["final"][name] for r in finished(group) if r["final"][name] is not None
    }


def results_table(records: Sequence[Record], profile: str, quoted: Quoted | None = None) -> str:
    """Return retained accuracy, interference and learning accuracy, a table for each stream."""
    groups, quoted = by_experiment(records), quoted or {}
    parts = []
    for stream, experiments in _by_stream(planned(profile)).items():
        known = any(s == stream for _, s in quoted)
        rows, missing = [], []
        for e in experiments:
            group = groups.get(e.name, [])
            if not group and (_shown_above(e) or (e.learner, stream) not in quoted):
                missing.append(_named(e))
                continue
            cells = [cell(finals(group, name)) for name in METRICS]
            row = [LOOKS[e.learner].name, settings_of(e), *cells, counted(group)]
            rows.append(row + (_beside(e, group, quoted) if known else []))
        header = ["learner", "settings", *(f"{name} (%)" for name in METRICS.values()), "seeds"]
        if known:
            header += ["RA, reported", "BTI, reported", "RA − reported (s.d.)"]
        parts += [f"**{plan.TITLES[stream]}**", with_missing(header, rows, missing)]
    return "\n\n".join(parts)


def _beside(e: ContinualExperiment, group: Sequence[Record], quoted: Quoted) -> list[str]:
    """Return what was reported of a learner with published settings, and how far RA is away."""
    found = None if _shown_above(e) else quoted.get((e.learner, e.stream))
    if found is None:
        return ["–"] * 3
    away = distance(group, found["ra"]) if settings_of(e) == "published" else None
    return [str(found["ra"]), str(found["bti"]), "–" if away is None else f"{away:+.1f}"]


def distance(group: Iterable[Record], there: Reported) -> float | None:
    """Return how many reported standard deviations RA lies above the reported mean."""
    here = over_seeds(finals(group, "ra"))
    return None if here is None else (here.mean - there.mean) / there.std


def draw_results(
    title: str, records: Sequence[Record], profile: str, quoted: Quoted | None = None
) -> Figure:
    """Draw retained accuracy and interference: a row for each stream, a point for each learner."""
    groups, quoted = by_experiment(records), quoted or {}
    streams = _by_stream(planned(profile))
    tallest = max(len(experiments) for experiments in streams.values())
    figure, parts = plotkit.panels(_titles(title, streams), height=1.4 + 0.22 * tallest)
    for part, (stream, experiments) in zip(parts, streams.items(), strict=True):
        axes = part.subplots(1, 2, sharey=True)
        for ax, name in zip(axes, ("ra", "bti"), strict=True):
            for y, e in enumerate(experiments):
                there = {} if _shown_above(e) else quoted.get((e.learner, stream), {})
                _point(ax, y, e, groups.get(e.name, []), name, there.get(name))
            ax.set_xlabel(f"{METRICS[name]} (%)")
            ax.margins(x=0.09)
            low, high = ax.get_xlim()  # of two seeds an interval may go beyond what there is
            ax.set_xlim(max(low, POSSIBLE[name][0]), min(high, POSSIBLE[name][1]))
            if not ax.lines:
                ax.set_xticks([])
        axes[0].set_yticks(range(len(experiments)), [_named(e) for e in experiments])
        axes[0].set_ylim(len(experiments) - 0.4, -0.6)
        for y, e in enumerate(experiments):
            place, note = axes[1].get_yaxis_transform(), _note(groups.get(e.name, []))
            axes[1].text(1.02, y, note, transform=place, fontsize=6.5, color=_GREY, va="center")
        _key(axes[0], any(s == stream for _, s in quoted))
        plotkit.settings_line(part, stamp(groups, experiments))
    return figure


def _titles(title: str, streams: Iterable[str]) -> list[str]:
    return [f"{title}: {plan.TITLES[stream]}" for stream in streams]


def _named(e: ContinualExperiment) -> str:
    return f"{LOOKS[e.learner].name}, tuned" if e.tuned else LOOKS[e.learner].name


def _note(group: Sequence[Record]) -> str:
    done = len(finished(group))
    lost = f"{len(group) - done} diverged" if done < len(group) else ""
    seeds = ("1 seed" if done == 1 else f"{done} seeds") if done else ""
    return ", ".join(filter(None, (seeds, lost))) or NOT_RUN


def _point(
    ax: Axes,
    y: int,
    e: ContinualExperiment,
    group: Sequence[Record],
    name: str,
    there: Reported | None,
) -> None:
    """Draw a learner's mean with its interval, and what was reported of it."""
    look = LOOKS[e.learner]
    colour = look.rgb
    if there is not None:
        ax.plot(there.mean, y, "D", color=_GREY, mfc="none", ms=6)
    if (found := over_seeds(finals(group, name))) is not None:
        ax.plot(found.mean, y, "o", color=colour, ms=5)
        if math.isfinite(found.low):
            ax.hlines(y, found.low, found.high, color=colour, lw=2, alpha=0.6)


def _key(ax: Axes, quoted: bool) -> None:
    if quoted:
        ax.plot([], [], "D", color=_GREY, mfc="none", ms=6, label="reported")
        ax.plot([], [], "o-", color=_GREY, ms=5, label="runs here")
        legend_above(ax, ax)


# Matrices, and the course through a stream


def matrix(group: Iterable[Record]) -> np.ndarray | None:
    """Return the mean matrix of accuracies of an experiment."""
    found = [r["curves"]["accuracy"] for r in finished(group)]
    return 100 * np.mean(found, axis=0) if found else None


def draw_matrices(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the matrices of accuracies of some learners, a row for each stream."""
    groups = by_experiment(records)
    streams = _by_stream(planned(profile))
    figure, parts = plotkit.panels(_titles(title, streams), height=3.0)
    form = plan.SPARSE_FORM
    for part, experiments in zip(parts, streams.values(), strict=True):
        shown = _best(experiments, (*COMPARED[:3], form))
        axes = part.subplots(1, len(shown), squeeze=False)[0]
        image = None
        for ax, (learner, e) in zip(axes, shown.items(), strict=True):
            ax.set_title(_named(e).replace(", ", ",\n", 1), fontsize="medium")
            values = matrix(groups.get(e.name, []))
            if values is None:
                _nothing(ax, groups.get(e.name, []))
                continue
            image = ax.imshow(values, vmin=0, vmax=100, cmap="crest_r", interpolation="nearest")
            last = len(values) - 1
            ax.set_xticks([0, last], ["0", str(last)])
            ax.set_yticks([0, last], ["0", str(last)])
            ax.set(xlabel="tested on task")
            if learner == next(iter(shown)):
                ax.set_ylabel("after learning task")
        if image is not None:
            part.colorbar(image, ax=list(axes), label="accuracy (%)", shrink=0.8)
        note = stamp(groups, shown.values(), "mean over these seeds")
        plotkit.settings_line(part, note)
    return figure


def first_task(record: Record) -> list[float]:
    """Return the accuracy on the first task after each task, percent."""
    return [100 * row[0] for row in record["curves"]["accuracy"]]


def seen(record: Record) -> list[float]:
    """Return the mean accuracy on the tasks learned so far after each task, percent."""
    rows = record["curves"]["accuracy"]
    return [100 * sum(row[: t + 1]) / (t + 1) for t, row in enumerate(rows)]


def course(group: Iterable[Record], values: Callable[[Record], Sequence[float | None]]) -> Curve:
    """Average what was found after each task over seeds."""
    by_task = zip(*(values(r) for r in finished(group)), strict=True)
    known = [(t, [v for v in column if v is not None]) for t, column in enumerate(by_task, 1)]
    points = [(t, t_interval(column)) for t, column in known if column]
    mean, low, high = (
        np.array([getattr(p, name) for _, p in points]) for name in ("mean", "low", "high")
    )
    return Curve(np.array([t for t, _ in points]), mean, low, high)


def draw_course(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw what is known along a stream: of its first task, and of all tasks seen."""
    names = {"on the first task": first_task, "mean over the tasks seen": seen}
    return _courses(title, records, profile, (plan.LA_MAML, COMPARED), names, "accuracy (%)")


def draw_cosines(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw how far gradients on new and on earlier tasks agree, along a stream."""
    names = {label: partial(cosines, kind=kind) for kind, label in COSINES.items()}
    shown = (plan.SPARSITY, plan.WITH_RATES)
    return _courses(title, records, profile, shown, names, "cosine × 100", zero=True)


def cosines(record: Record, kind: str) -> list[float | None]:
    """Return the cosines of each task, times 100; nothing where the learner has no such kind."""
    found = record["curves"]["interference"].get(kind, [])
    return [None if c is None else 100 * c for c in found]


def _courses(
    title: str,
    records: Sequence[Record],
    profile: str,
    of: tuple[str, Sequence[str]],
    panels: Mapping[str, Callable[[Record], Sequence[float | None]]],
    label: str,
    zero: bool = False,
) -> Figure:
    """Draw curves along each stream: `of` is a notebook and the learners of it that are shown."""
    groups = by_experiment(records)
    streams = _by_stream(planned(profile, of[0]))
    figure, parts = plotkit.panels(_titles(title, streams), height=3.4)
    for part, experiments in zip(parts, streams.values(), strict=True):
        shown = _best(experiments, of[1])
        above, axes = _panels_below_a_legend(part, len(panels))
        for ax, (name, values) in zip(axes, panels.items(), strict=True):
            for learner, e in shown.items():
                _line(ax, course(groups.get(e.name, []), values), learner)
            ax.set_title(name, fontsize="medium")
            ax.set(xlabel="tasks learned", ylabel=label)
            if not ax.lines:
                _nothing(ax, [r for e in shown.values() for r in groups.get(e.name, [])])
                continue
            low, high = ax.get_ylim()
            ax.set_ylim(max(low, POSSIBLE["bti" if zero else "ra"][0]), min(high, 102))
            if zero:
                ax.axhline(0, color=_GREY, ls=":", lw=1)
            ax.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
        _legend(above, axes)
        plotkit.settings_line(part, stamp(groups, shown.values()))
    return figure


def _panels_below_a_legend(
    part: SubFigure, count: int, share_y: bool = False
) -> tuple[Axes, list[Axes]]:
    """Return a strip for a legend, and the panels side by side below it."""
    grid = part.add_gridspec(2, count, height_ratios=(0.06, 1))
    above = part.add_subplot(grid[0, :])
    above.set_axis_off()
    axes: list[Axes] = []
    for i in range(count):
        axes.append(part.add_subplot(grid[1, i], sharey=axes[0] if axes and share_y else None))
        axes[-1].tick_params(labelleft=not (i and share_y))
    return above, axes


def _legend(above: Axes, axes: Iterable[Axes]) -> None:
    """Name in a strip what some panels show, each thing once."""
    found = [ax.get_legend_handles_labels() for ax in axes]
    names = {n: h for handles, labels in found for h, n in zip(handles, labels, strict=True)}
    if names:
        above.legend(names.values(), names.keys(), loc="center", ncols=len(names))


def _line(ax: Axes, c: Curve, learner: str) -> None:
    """Draw a curve with its band, if it has a point."""
    if not len(c.x):
        return
    look = LOOKS[learner]
    colour = look.rgb
    every = max(1, len(c.x) // 10)
    ax.plot(c.x, c.mean, color=colour, marker=look.marker, ms=4, markevery=every, lw=1.2)
    ax.lines[-1].set_label(look.name)
    if np.isfinite(c.low).any():
        ax.fill_between(c.x, c.low, c.high, color=colour, alpha=0.15, lw=0)


def _nothing(ax: Axes, group: Sequence[Record], alone: bool = True) -> None:
    """Say in a panel why it is empty; `alone`, if no other panel has the same vertical axis."""
    text = "diverged" if group else NOT_RUN
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", color="0.35")
    ax.set_xticks([])
    if alone:
        ax.set_yticks([])


# What freezes


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


def draw_sparsity(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the share of frozen weights of each layer along a stream, a panel for each learner."""
    groups = by_experiment(records)
    streams = _by_stream(planned(profile, plan.SPARSITY))
    figure, parts = plotkit.panels(_titles(title, streams), height=3.2)
    for part, experiments in zip(parts, streams.values(), strict=True):
        shown = _best(experiments, plan.WITH_RATES)
        above, axes = _panels_below_a_legend(part, len(shown), share_y=True)
        for ax, e in zip(axes, shown.values(), strict=True):
            group = groups.get(e.name, [])
            if done := finished(group):
                _layers(ax, done)
                ax.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
            else:
                _nothing(ax, group, alone=False)
            ax.set_title(_named(e).replace(", ", ",\n"), fontsize="medium")
            ax.set(xlabel="tasks learned", ylim=(-2, 102))
        axes[0].set_ylabel("frozen weights (%)")
        _legend(above, axes)
        plotkit.settings_line(part, stamp(groups, shown.values()))
    return figure


def _layers(ax: Axes, done: Sequence[Record]) -> None:
    named = kernels(done[0])
    colours = sns.color_palette("crest", len(named))
    for colour, (kernel, name) in zip(colours, named.items(), strict=True):
        bias = f"{kernel.removesuffix('weight')}bias"
        for tensor, style in ((kernel, "-"), (bias, "--")):
            if tensor in done[0]["tensors"]:
                c = course(done, partial(frozen_share, tensor=tensor))
                label = name if tensor == kernel else None
                ax.plot(c.x, c.mean, style, color=colour, lw=1.3, label=label)
                if np.isfinite(c.low).any():
                    ax.fill_between(c.x, c.low, c.high, color=colour, alpha=0.2, lw=0)


def sparsity_table(records: Sequence[Record], profile: str) -> str:
    """Return the share of frozen weights at the end of a stream, a table for each stream."""
    groups = by_experiment(records)
    parts = []
    for stream, experiments in _by_stream(planned(profile, plan.SPARSITY)).items():
        done = finished(r for e in experiments for r in groups.get(e.name, []))
        named = kernels(done[0]) if done else {}
        rows = []
        for e in experiments:
            group = groups.get(e.name, [])
            of_layers = [
                {r["seed"]: frozen_share(r, kernel)[-1] for r in finished(group)}
                for kernel in named
            ]
            released = {r["seed"]: released_share(r) for r in finished(group)}
            ends = (*of_layers, finals(group, "sparsity"), released)
            cells = [cell(shares) for shares in ends]
            rows.append([LOOKS[e.learner].name, settings_of(e), *cells, counted(group)])
        header = ["frozen at the end (%)", "settings", *named.values(), "all weights"]
        header += ["released on the way", "seeds"]
        parts += [f"**{plan.TITLES[stream]}**", table(header, rows)]
    return "\n\n".join(parts)


def cosine_table(records: Sequence[Record], profile: str) -> str:
    """Return the mean cosines between gradients on new and on earlier tasks."""
    groups = by_experiment(records)
    parts = []
    for stream, experiments in _by_stream(planned(profile, plan.SPARSITY)).items():
        base = _best(experiments, ["la-maml"]).get("la-maml")
        of_base = finals(groups.get(base.name, []), "step") if base else {}
        rows = []
        for e in experiments:
            group = groups.get(e.name, [])
            whole, step, effect = (finals(group, kind) for kind in COSINES)
            rows.append(
                (
                    LOOKS[e.learner].name,
                    settings_of(e),
                    cell(whole),
                    cell(step),
                    cell(effect),
                    cell(minus(step, whole)),
                    "–" if e is base else cell(minus(step, of_base)),
                    counted(group),
                )
            )
        reference = _named(base) if base else "La-MAML"
        header = (
            "cosine × 100",
            "settings",
            *COSINES.values(),
            "both under the rule − gradients",
            f"both under the rule, less those of {reference}",
            "seeds",
        )
        parts += [f"**{plan.TITLES[stream]}**", table(header, rows)]
    return "\n\n".join(parts)


# The released slips, and the search


def slips_table(records: Sequence[Record]) -> str:
    """Return what the slips of the released code do to La-MAML on Rotations."""
    groups = by_experiment(records)
    base = groups.get("rotations-la-maml", [])
    rows = []
    for slip, title in SLIPS.items():
        group = groups.get(f"rotations-la-maml-{slip}", [])
        cells = [cell(minus(finals(group, name), finals(base, name))) for name in METRICS]
        rows.append((title, *cells, counted(group)))
    header = ("with", *(f"{name}: change" for name in METRICS.values()), "seeds")
    return table(header, rows)


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


def changed_table(records: Sequence[Record], quoted: Quoted, change: str) -> str:
    """Return what a change does to learners of MER's script, beside what was reported."""
    groups = by_experiment(records)
    parts = []
    for name in ("ra", "bti"):
        rows = []
        for e in plan.changed(change):
            without, own = (groups.get(n, []) for n in (f"{e.stream}-{e.learner}", e.name))
            cells = [cell(finals(group, name)) for group in (without, own)]
            there = str(quoted[e.learner, e.stream][name])
            rows.append((plan.TITLES[e.stream], LOOKS[e.learner].name, *cells, there, counted(own)))
        header = ("stream", "learner", *CHANGED[change], "reported", "seeds")
        parts += [f"**{METRICS[name]} (%)**", table(header, rows)]
    return "\n\n".join(parts)


def compared_table(records: Sequence[Record]) -> str:
    """Return how sparse-La-MAML differs from the other learners that were searched for."""
    groups = by_experiment(records)
    rows = []
    for e in planned("study"):
        if not e.tuned or e.learner == plan.SPARSE_FORM:
            continue
        own = groups.get(f"{e.stream}-{plan.SPARSE_FORM}-tuned", [])
        group = groups.get(e.name, [])
        cells = [cell(minus(finals(own, n), finals(group, n))) for n in METRICS]
        rows.append((plan.TITLES[e.stream], LOOKS[e.learner].name, *cells, counted(group)))
    header = ("stream", "beside", *(f"{n}: difference" for n in METRICS.values()), "seeds")
    return table(header, rows)


# What stands under a figure


def stamp(
    groups: Mapping[str, Sequence[Record]],
    experiments: Iterable[ContinualExperiment],
    shows: str = "",
) -> str:
    """Say what the runs of one stream were made with, which are missing and which diverged."""
    experiments = list(experiments)
    shown = [r for e in experiments for r in groups.get(e.name, [])]
    if not shown:
        return NOT_RUN
    e = experiments[0]
    parts = [f"profile {e.profile}", plan.TITLES[e.stream]]
    if (recipe := RECIPES.get(e.stream)) is not None:
        parts.append(f"{recipe.tasks} tasks × {recipe.samples:,} samples")
    if memory := sorted(
        {m for x in experiments if (m := x.parameters()["settings"].get("memory"))}
    ):
        parts.append(f"memory {', '.join(map(str, memory))}")
    if e.stream != "split-cifar100":
        parts.append(f"hidden layers of {e.width}")
    parts.append(seeds_named(shown, lambda r: r["experiment"]))
    lines = [" · ".join([*parts, shows or intervals(shown)])]
    missing = [x.name for x in experiments if not groups.get(x.name)]
    lost = {
        x.name: (len(g) - len(finished(g)), len(g))
        for x in experiments
        if (g := groups.get(x.name))
    }
    diverged = [f"{name} ({bad} of {n})" for name, (bad, n) in lost.items() if bad]
    for what, names in ((NOT_RUN, missing), ("× diverged, left out", diverged)):
        if names:
            lines += textwrap.wrap(f"{what}: {', '.join(names)}", 150, break_on_hyphens=False)
    return "\n".join(lines)
