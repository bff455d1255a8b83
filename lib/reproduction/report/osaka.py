"""OSAKA's stream: tables and figures of accuracy, switches of context, and learned rates.

Shares are shown in percent.  Runs that diverged are left out of means, and named; only in
differences they count with the accuracy of chance, as in claim 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from wheretolearn.continual.osaka.c_maml import ProlongedCMAML
from wheretolearn.continual.osaka.fast_slow import Adapter, Online
from wheretolearn.continual.osaka.methods import LEARNERS
from wheretolearn.continual.osaka.metrics import AFTER, BEFORE, cumulative, unpack

from ..plan import study
from ..plan.streams import OSAKA
from ..runs.osaka import OsakaExperiment
from ..runs.records import Record
from ..runs.statistics import Interval, t_interval
from .curves import Curve
from .frame import BySeed, by_experiment, finished, minus, over_seeds
from .markdown import Markdown, bounds, cell, code, table, with_missing
from .naming import NOT_RUN, counted, intervals, lacking, seeds_named
from .plotkit import (
    GREY,
    Look,
    Looks,
    band,
    direct_labels,
    legend_over,
    nothing,
    panels,
    settings_line,
)

Column = Mapping[str, tuple[OsakaExperiment, Sequence[Record]]]
"""The learners of one setting: of each its experiment, and the records of that."""


class Setting(NamedTuple):
    """What the runs of a table or a row of panels have in common."""

    alpha: float
    """Probability that the context stays, p on the pages."""
    ways: int

    def __str__(self) -> str:
        """Format as on the pages."""
        return f"p = {self.alpha:.2f}, {self.ways}-way"

    @property
    def chance(self) -> float:
        """Accuracy of guessing, percent."""
        return 100 / self.ways

    @property
    def ceiling(self) -> float:
        """The most that can be expected, percent: chance at the first step of each context."""
        return 100 * self.alpha + (1 - self.alpha) * self.chance


_COLOURS = {
    "online-sgd": (7, ":"),
    "online-adam": (1, ":"),
    "fine-tuning": (5, ":"),
    "maml": (2, "--"),
    "anil": (4, "--"),
    "sparse-maml": (0, "-"),
    "c-maml": (2, "--"),
    "c-maml-pre": (5, "--"),
    "c-maml-um": (7, "--"),
    "c-maml-pap": (3, "--"),
    "sparse-c-maml": (0, "-"),
    "sparse-c-maml-gates": (1, "-"),
    "sparse-c-maml-weights": (4, "-"),
}
LOOKS = Looks({name: Look(name, colour, line=line) for name, (colour, line) in _COLOURS.items()})
"""How learners are drawn, in order."""

PANELS = ("without meta-learning in the stream", "with meta-learning in the stream")
"""What the panels of learners are called."""

FREEZING = tuple(
    name
    for name, method in LEARNERS.items()
    if method.make is ProlongedCMAML and method.gate in ("relu", "mask")
)
"""Learners whose sparsity is shown by tensor."""

RATES = ("c-maml", "c-maml-pap", "sparse-c-maml")
"""Learners whose rates over time are drawn; those of gates follow from the sparsity."""

SPARSE = "sparse-c-maml"
"""The learner that the others are compared with."""

COMPARED = ("c-maml", "c-maml-um", "c-maml-pap")
"""Learners that the others are compared with: those of the claims, and one that learns all the
time."""

TENSORS = {f"layer{i}.conv.weight": f"layer{i}" for i in (1, 2, 3, 4)} | {
    "output.weight": "output",
    "output.bias": "output bias",
}
"""Tensors that are drawn; the biases of convolutions have no effect."""

_POINTS = 100  # of the curve along the stream


def settings(profile: str, records: Iterable[Record] = ()) -> dict[Setting, Column]:
    """Return the experiments of a profile by setting and learner, each with its records."""
    groups, columns = by_experiment(records), dict[Setting, dict[str, Any]]()
    for e in study.experiments(profile, OSAKA):
        if isinstance(e, OsakaExperiment):
            column = columns.setdefault(Setting(e.alpha, e.ways), {})
            column[e.learner] = (e, groups.get(e.name, []))
    return dict(sorted(columns.items(), key=lambda item: (item[0].ways, -item[0].alpha)))


def accuracies(group: Iterable[Record], part: slice | None = None) -> BySeed:
    """Return accuracies in (a part of) the stream by seed, percent; of diverged runs chance."""
    result = {}
    for r in group:
        p = r["parameters"]
        if r["status"] == "diverged":
            result[r["seed"]] = 100 / p["ways"]
        elif part is None:
            result[r["seed"]] = 100 * r["final"]["accuracy"]
        else:
            images = p["ways"] * p["shots"]
            result[r["seed"]] = 100 * float(unpack(r["correct"])[part].mean()) / images
    return result


# Tables

Row = tuple[str, OsakaExperiment, Sequence[Record]]
"""A learner, its experiment, and the records of that."""


def _tables(
    records: Sequence[Record],
    profile: str,
    one: Callable[[Setting, list[Row], Sequence[str]], Iterable[str]],
    learners: Sequence[str] | None = None,
    note: str = "",
) -> str:
    """Return the tables of each setting: of learners that were run, and the names of others."""
    parts = []
    for setting, column in settings(profile, records).items():
        chosen = {m: run for m, run in column.items() if learners is None or m in learners}
        run = [(m, e, group) for m, (e, group) in chosen.items() if group]
        missing = [code(m) for m, (_, group) in chosen.items() if not group]
        first = next(iter(column.values()))[0]
        stream = f"{first.ways}-way {first.shots}-shot, {first.steps:,} steps of {first.stream}"
        limits = note.format(setting) if note else ""
        parts += [f"**p = {first.alpha:.2f}, {stream}, profile {profile}.** {limits}".rstrip()]
        parts += one(setting, run, missing)
    return "\n\n".join(parts)


def accuracy_tables(records: Sequence[Record], profile: str) -> str:
    """Return accuracy, detections, sparsity and work of every learner."""

    def one(_: Setting, run: list[Row], missing: Sequence[str]) -> Iterable[str]:
        sources = run[0][2][0]["contexts"]["names"] if run else []
        rows, more = [], list[list[str]]()
        for learner, e, group in run:
            each = [_cell(group, "accuracy"), *(_cell(group, "by_source", n) for n in sources)]
            rows.append([code(learner), *each, counted(group)])
            looks = "margin" in e.chosen  # for a shift
            detections = [_cell(group, name) for name in ("precision", "recall", "f1")]
            images = _mean([r["final"]["gradients"] / 1000 for r in finished(group)], 1)
            of_both = detections if looks else ["–"] * 3
            more.append([code(learner), *of_both, _cell(group, "sparsity"), images])
        of_sources = (f"{name} (%)" for name in sources)
        yield with_missing(("learner", "accuracy (%)", *of_sources, "seeds"), rows, missing)
        shares = ("precision", "recall", "F1", "sparsity at the end")
        if more:
            header = ("learner", *(f"{s} (%)" for s in shares), "gradient images (thousands)")
            yield table(header, more)

    limits = "Chance is {0.chance:.1f} %; expect at most {0.ceiling:.1f} %."
    return _tables(records, profile, one, note=limits)


def difference_tables(records: Sequence[Record], profile: str) -> str:
    """Return how much more accurate each learner is than a few others, a table for each setting."""
    columns = settings(profile)

    def one(setting: Setting, run: list[Row], missing: Sequence[str]) -> Iterable[str]:
        each = {learner: accuracies(group) for learner, _, group in run}
        others = [m for m in COMPARED if m in columns[setting]]
        rows = [
            [
                code(m),
                *("–" if m == o else _gain(minus(each[m], each.get(o, {}))) for o in others),
                counted(group),
            ]
            for m, _, group in run
        ]
        header = ("learner", *(Markdown(f"it − {code(other)}") for other in others), "seeds")
        yield with_missing(header, rows, missing)

    return _tables(records, profile, one, note="Percentage points.")


def early_late_tables(records: Sequence[Record], profile: str) -> str:
    """Return how far sparse-C-MAML is ahead in the first fifth of the stream, and in the rest."""
    steps = {s: next(iter(c.values()))[0].steps for s, c in settings(profile).items()}

    def one(setting: Setting, run: list[Row], missing: Sequence[str]) -> Iterable[str]:
        of, cut = {m: group for m, _, group in run}, steps[setting] // 5
        rows = [
            [
                Markdown(f"{code(SPARSE)} − {code(other)}"),
                *(
                    _gain(minus(accuracies(of[SPARSE], part), accuracies(of[other], part)))
                    for part in (slice(cut), slice(cut, None))
                ),
            ]
            for other in COMPARED
            if other in of and SPARSE in of
        ]
        later = f"steps {cut + 1:,} to {steps[setting]:,}"
        yield with_missing(("difference", f"steps 1 to {cut:,}", later), rows, missing)

    wanted = (SPARSE, *COMPARED)
    return _tables(records, profile, one, wanted, "Percentage points.")


def _gain(values: BySeed) -> str:
    gain = over_seeds(values)
    return "–" if gain is None else bounds(*gain[:3])


def frozen_tables(records: Sequence[Record], profile: str) -> str:
    """Return the share of weights of each tensor whose rate is zero as the stream ends."""

    def one(_: Setting, run: list[Row], missing: Sequence[str]) -> Iterable[str]:
        rows = []
        for learner, _e, group in run:
            show = _in_runs if LEARNERS[learner].each == "tensor" else _share
            shown = (show(finished(group), tensor) for tensor in TENSORS)
            rows.append([code(learner), *shown, counted(group)])
        header = ("frozen at the end (%)", *TENSORS.values(), "seeds")
        yield with_missing(header, rows, missing)

    return _tables(records, profile, one, FREEZING)


def _in_runs(done: Sequence[Record], tensor: str) -> str:
    """Return in how many runs a tensor is frozen as a whole at the end."""
    frozen = sum(r["curves"]["frozen"][tensor][-1] == r["tensors"][tensor] for r in done)
    return f"in {frozen} of {len(done)}" if done else "–"


def _share(done: Sequence[Record], tensor: str) -> str:
    """Return the mean share of a tensor that is frozen at the end."""
    return cell({r["seed"]: over_time(r, "frozen", tensor)[1][-1] for r in done})


def inside_tables(records: Sequence[Record], profile: str) -> str:
    """Return what happened to each learner on the way, a table or two for each setting."""

    def one(_: Setting, run: list[Row], missing: Sequence[str]) -> Iterable[str]:
        rows, before = [], list[list[str]]()
        for learner, e, group in run:
            done = finished(group)
            first = [n for r in done if (n := r["final"]["first_frozen"]) is not None]
            zero = f"{_mean(first)} ({len(first)} of {len(done)})" if first else "–"
            outer = _mean([r["final"]["outer_steps"] for r in done])
            if done and LEARNERS[learner].make is Online:
                outer = "every step"  # its only weights, not counted
            rows.append([code(learner), outer, zero, counted(group)])
            if past := [r["pretraining"] for r in done if r["pretraining"] is not None]:
                epochs = [len(p["val_accuracy"]) for p in past]
                best = [_mean([p["best_epoch"] for p in past])]
                best += [_mean([100 * max(p["val_accuracy"]) for p in past], 1)]
                ended = f"{sum(n == e.epochs for n in epochs)} of {len(past)}"
                before.append([code(learner), _mean(epochs), *best, ended])
        steps = ("steps of the slow weights", "first zero rate of any tensor at step")
        yield with_missing(("learner", *steps, "seeds"), rows, missing)
        if before:
            of_best = ("best epoch", "best validation (%)", "ended by the last epoch")
            yield table(("pretraining of", "epochs", *of_best), before)

    return _tables(records, profile, one)


def _mean(numbers: Sequence[float], decimals: int = 0) -> str:
    return f"{sum(numbers) / len(numbers):,.{decimals}f}" if numbers else "–"


def _cell(group: Sequence[Record], *path: str) -> str:
    """Return the mean of a share with its interval, or why there is none."""
    shares = {}
    for r in finished(group):
        value: Any = r["final"]
        for name in path:
            value = value[name]
        if value is not None:
            shares[r["seed"]] = 100 * value
    return cell(shares) if finished(group) else "diverged"


# Figures

Values = Callable[[Record], tuple[np.ndarray, np.ndarray]]
"""Places along a stream, and a number at each."""


def draw_stream(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the accuracy over all steps so far, by learner."""

    def limits(ax: Axes, setting: Setting) -> None:
        for y in (setting.chance, setting.ceiling):
            ax.axhline(y, color=GREY, ls=":", lw=1)
        ax.set(xlabel="steps so far", ylabel="accuracy so far (%)", ylim=(-2, 102))

    return _draw(title, records, profile, partial(_by_learner, values=along, finish=limits), 4.0)


def draw_switches(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the accuracy before and after contexts switch, by learner."""

    def limits(ax: Axes, setting: Setting) -> None:
        ax.axhline(setting.chance, color=GREY, ls=":", lw=1)
        ax.axvline(0, color=GREY, ls=":", lw=1)
        ax.set(xlabel="steps since the switch", ylabel="accuracy (%)", ylim=(-2, 102))

    row = partial(_by_learner, values=around_switches, finish=limits)
    return _draw(title, records, profile, row, 4.0)


def draw_rates(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw sparsity over time by tensor, and the mean rate of each."""
    wanted = tuple(dict.fromkeys((*FREEZING, *RATES)))
    return _draw(title, records, profile, _over_time, 5.6, wanted, "means over seeds")


def _draw(
    title: str,
    records: Sequence[Record],
    profile: str,
    row: Callable[[SubFigure, Setting, Column], None],
    height: float,
    learners: Sequence[str] = tuple(LOOKS),
    shows: str = "",
) -> Figure:
    """Draw a row for each setting that has records, or else for the first one."""
    every = settings(profile, records)
    known = {s: c for s, c in every.items() if any(group for _, group in c.values())}
    rows = known or dict([next(iter(every.items()))])
    figure, parts = panels([f"{title}: {s}" for s in rows], height)
    for part, (setting, column) in zip(parts, rows.items(), strict=True):
        row(part, setting, column)
        shown = {m: column[m] for m in learners if m in column}
        note = _note({m: group for m, (_, group) in shown.items()}, shows)
        if setting == list(rows)[-1] and (missing := [str(s) for s in every if s not in rows]):
            note += f"\n{NOT_RUN} at all: {'; '.join(missing)}"
        settings_line(part, note)
    return figure


def _by_learner(
    part: SubFigure,
    setting: Setting,
    column: Column,
    values: Values,
    finish: Callable[[Axes, Setting], None],
) -> None:
    axes = part.subplots(1, len(PANELS))
    for ax, (name, learners) in zip(axes, in_panels(column).items(), strict=True):
        ends = []
        for learner in learners:
            if finished(group := column[learner][1]):
                c, look = mean_curve(group, values), LOOKS[learner]
                band(ax, *c, ls=look.line, color=look.rgb, lw=1.4, label=look.name)
                last = np.flatnonzero(np.isfinite(c.mean))[-1:]
                ends += [(look.name, float(c.x[i]), float(c.mean[i]), look.rgb) for i in last]
        finish(ax, setting)
        ax.set_title(name)
        if ends:
            direct_labels(ax, ends)
        else:
            _empty(ax, {m: column[m][1] for m in learners})


def in_panels(learners: Iterable[str]) -> dict[str, list[str]]:
    """Return which of some learners each of the :data:`PANELS` shows, in the order of the looks."""
    result: dict[str, list[str]] = {name: [] for name in PANELS}
    for learner in sorted(learners, key=LOOKS.place):
        result[PANELS[LEARNERS[learner].make not in (Online, Adapter)]].append(learner)
    return result


def _over_time(part: SubFigure, _: Setting, column: Column) -> None:
    shown = [("frozen", m) for m in FREEZING if m in column]
    shown += [("rates", m) for m in RATES if m in column]
    axes = part.subplots(max(2, -(-len(shown) // 3)), 3).ravel()
    for ax, (what, learner) in zip(axes, shown, strict=False):
        group = column[learner][1]
        for colour, (tensor, name) in zip(
            sns.color_palette("crest", len(TENSORS)), TENSORS.items(), strict=True
        ):
            if finished(group):
                style = "--" if tensor.endswith("bias") else "-"
                c = mean_curve(group, partial(over_time, what=what, tensor=tensor))
                ax.plot(c.x, c.mean, style, color=colour, lw=1.4, label=name)
        if what == "frozen":
            ax.set(ylim=(-2, 102), ylabel="sparsity (%)")
        else:
            ax.axhline(0, color=GREY, ls=":", lw=1)
            ax.set_ylabel("mean rate")
        ax.set(xlabel="steps", title=learner)
        if not finished(group):
            _empty(ax, {learner: group})
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    legend_over(part, axes)


def _empty(ax: Axes, groups: Mapping[str, Sequence[Record]]) -> None:
    """Say why a panel is empty."""
    why = "diverged" if any(groups.values()) else NOT_RUN
    nothing(ax, why if groups else "not in this profile")
    ax.set(xticks=[], yticks=[])


def along(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return about a hundred numbers of steps, and the accuracy so far at each, percent."""
    p = record["parameters"]
    so_far = 100 * cumulative(unpack(record["correct"]), p["ways"] * p["shots"])
    every = math.ceil(len(so_far) / _POINTS)
    steps = np.unique([*range(every, len(so_far) + 1, every), len(so_far)])
    return steps, so_far[steps - 1]


def around_switches(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return steps since a switch, and the accuracy at each, percent; NaN where there is none."""
    accuracy = np.array(record["final"]["around"], dtype=float)  # None becomes NaN
    return np.arange(-BEFORE, AFTER + 1), 100 * accuracy


def over_time(record: Record, what: str, tensor: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps, and at each the sparsity of a tensor in percent or its mean rate."""
    curves = record["curves"]
    values = np.array(curves[what][tensor], dtype=float)
    factor = 100 / record["tensors"][tensor] if what == "frozen" else 1.0
    return np.array(curves["step"]), factor * values


def mean_curve(group: Sequence[Record], values: Values) -> Curve:
    """Average a curve over the finished runs of an experiment."""
    each = [values(r) for r in finished(group)]
    nowhere = Interval(math.nan, math.nan, math.nan, 0)
    points = []
    for column in np.stack([y for _, y in each]).T:
        known = column[np.isfinite(column)].tolist()
        points.append((t_interval(known) if known else nowhere)[:3])
    return Curve(each[0][0], *np.array(points).T)


def _note(groups: Mapping[str, Sequence[Record]], shows: str) -> str:
    """Say what the runs of a row were made with, which are missing and which diverged."""
    records = [r for group in groups.values() for r in group]
    if not records:
        return NOT_RUN
    p = records[0]["parameters"]
    setting = (
        f"profile {p['profile']} · {p['stream']} · p (alpha) = {p['alpha']:.2f} · "
        f"{p['ways']}-way {p['shots']}-shot · {p['steps']:,} steps · {p['width']} channels · "
        f"{seeds_named(records, lambda r: r['parameters']['learner'])} · "
        f"{shows or intervals(records)}"
    )
    return "\n".join([setting, *lacking(groups)])
