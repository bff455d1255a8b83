"""OSAKA's stream: tables and figures of accuracy, switches of context, and learned rates.

Shares are shown in percent.  Runs that diverged are left out of means, and named; only in
differences they count with the accuracy of chance, as in claim 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

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
from ..runs.statistics import t_interval
from .curves import Curve
from .frame import BySeed, by_experiment, finished, minus, over_seeds
from .markdown import Markdown, bounds, cell, code, with_missing
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


class Setting(NamedTuple):
    """What the runs of a table or a row of panels have in common; alpha is p on the pages."""

    alpha: float
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


class Runs(NamedTuple):
    """The runs of a learner in a setting, and those of them that did not diverge."""

    learner: str
    experiment: OsakaExperiment
    records: Sequence[Record]
    done: Sequence[Record]


Column = Mapping[str, Runs]
"""The learners of one setting."""

LOOKS = Looks({name: Look(name, m.colour, line=m.line) for name, m in LEARNERS.items()})
"""How learners are drawn, in order."""

FREEZING = tuple(
    name
    for name, method in LEARNERS.items()
    if method.make is ProlongedCMAML and method.gate in ("relu", "mask")
)
"""Learners whose sparsity is shown by tensor."""

RATES = ("c-maml", "c-maml-pap", "sparse-c-maml")
"""Learners whose rates over time are drawn; those of gates follow from the sparsity."""

SPARSE, COMPARED = "sparse-c-maml", ("c-maml", "c-maml-um", "c-maml-pap")
"""What others are compared with: learners of the claims, and one that learns all the time."""

TENSORS = {f"layer{i}.conv.weight": f"layer{i}" for i in (1, 2, 3, 4)} | {
    "output.weight": "output",
    "output.bias": "output bias",
}
"""Tensors that are drawn; the biases of convolutions have no effect."""


def settings(profile: str, records: Iterable[Record] = ()) -> dict[Setting, Column]:
    """Return the runs of a profile by setting and learner."""
    groups, columns = by_experiment(records), dict[Setting, dict[str, Runs]]()
    for e in study.experiments(profile, OSAKA):
        if isinstance(e, OsakaExperiment):
            column = columns.setdefault(Setting(e.alpha, e.ways), {})
            group = groups.get(e.name, [])
            column[e.learner] = Runs(e.learner, e, group, finished(group))
    return dict(sorted(columns.items(), key=lambda item: (item[0].ways, -item[0].alpha)))


def accuracies(group: Iterable[Record], part: slice | None = None) -> BySeed:
    """Return accuracies in (a part of) the stream by seed, percent; of diverged runs chance."""

    def accuracy(r: Record) -> float:
        p = r["parameters"]
        if r["status"] == "diverged":
            return 100 / p["ways"]
        if part is None:
            return 100 * r["final"]["accuracy"]
        return 100 * float(unpack(r["correct"])[part].mean()) / (p["ways"] * p["shots"])

    return {r["seed"]: accuracy(r) for r in group}


# Tables

Cells = Callable[[Runs, Column], Mapping[str, str]]
"""Returns cells of a learner by their headings; none where it has no row."""


def _tables(
    records: Sequence[Record],
    profile: str,
    *kinds: Cells,
    first: str = "learner",
    learners: Iterable[str] = LEARNERS,
    note: str = "",
) -> str:
    """Return for each setting a table of each kind; the first one names what was not run."""
    parts = []
    for setting, column in settings(profile, records).items():
        e = next(iter(column.values())).experiment
        stream = f"{e.ways}-way {e.shots}-shot, {e.steps:,} steps of {e.stream}"
        title = f"**p = {e.alpha:.2f}, {stream}, profile {profile}.** {note.format(setting)}"
        parts.append(title.rstrip())
        chosen = [runs for m, runs in column.items() if m in learners]
        for kind in kinds:
            rows = [
                {first: code(runs.learner), **cells}
                for runs in chosen
                if runs.records and (cells := kind(runs, column))
            ]
            missing = [code(r.learner) for r in chosen if not r.records and kind is kinds[0]]
            header = list(rows[0]) if rows else []
            parts.append(with_missing(header, [list(row.values()) for row in rows], missing))
    return "\n\n".join(filter(None, parts))


def accuracy_tables(records: Sequence[Record], profile: str) -> str:
    """Return accuracy, detections, sparsity and work of every learner."""

    def accuracy(runs: Runs, _: Column) -> Mapping[str, str]:
        sources = runs.records[0]["contexts"]["names"]
        cells = {f"{name} (%)": _percent(runs, "by_source", name) for name in sources}
        return {"accuracy (%)": _percent(runs, "accuracy"), **cells, "seeds": counted(runs.records)}

    def work(runs: Runs, _: Column) -> Mapping[str, str]:
        shifts = "margin" in runs.experiment.chosen  # looks for them
        names = {"precision (%)": "precision", "recall (%)": "recall", "F1 (%)": "f1"}
        cells = {title: _percent(runs, name) if shifts else "–" for title, name in names.items()}
        images = [r["final"]["gradients"] / 1000 for r in runs.done]
        return cells | {
            "sparsity at the end (%)": _percent(runs, "sparsity"),
            "gradient images (thousands)": _mean(images, 1),
        }

    note = "Chance is {0.chance:.1f} %; expect at most {0.ceiling:.1f} %."
    return _tables(records, profile, accuracy, work, note=note)


def difference_tables(records: Sequence[Record], profile: str) -> str:
    """Return how much more accurate each learner is than a few others."""

    def gains(runs: Runs, column: Column) -> Mapping[str, str]:
        others = [column[m] for m in COMPARED if m in column]
        cells = {Markdown(f"it − {code(o.learner)}"): _gain(runs, o) for o in others}
        return cells | {"seeds": counted(runs.records)}

    return _tables(records, profile, gains, note="Percentage points.")


def early_late_tables(records: Sequence[Record], profile: str) -> str:
    """Return how far sparse-C-MAML is ahead in the first fifth of the stream, and in the rest."""

    def gains(runs: Runs, column: Column) -> Mapping[str, str]:
        steps, sparse = runs.experiment.steps, column[SPARSE]
        if runs is sparse or not sparse.records:
            return {}
        cut = steps // 5
        return {
            "difference": Markdown(f"{code(SPARSE)} − {code(runs.learner)}"),
            f"steps 1 to {cut:,}": _gain(sparse, runs, slice(cut)),
            f"steps {cut + 1:,} to {steps:,}": _gain(sparse, runs, slice(cut, None)),
        }

    wanted = (SPARSE, *COMPARED)
    note = "Percentage points."
    return _tables(records, profile, gains, first="difference", learners=wanted, note=note)


def frozen_tables(records: Sequence[Record], profile: str) -> str:
    """Return the share of weights of each tensor whose rate is zero as the stream ends."""

    def at_end(runs: Runs, tensor: str) -> str:
        last = {r["seed"]: over_time(r, "frozen", tensor)[1][-1] for r in runs.done}
        if not last or LEARNERS[runs.learner].each != "tensor":
            return cell(last)
        return f"in {sum(share == 100 for share in last.values())} of {len(last)}"

    def shares(runs: Runs, _: Column) -> Mapping[str, str]:
        cells = {name: at_end(runs, tensor) for tensor, name in TENSORS.items()}
        return cells | {"seeds": counted(runs.records)}

    first = "frozen at the end (%)"
    return _tables(records, profile, shares, first=first, learners=FREEZING)


def inside_tables(records: Sequence[Record], profile: str) -> str:
    """Return what happened to each learner on the way, a table or two for each setting."""

    def steps(runs: Runs, _: Column) -> Mapping[str, str]:
        final = [r["final"] for r in runs.done]
        zero = [f["first_frozen"] for f in final if f["first_frozen"] is not None]
        all_the_time = final and LEARNERS[runs.learner].make is Online  # and does not count them
        outer = "every step" if all_the_time else _mean([f["outer_steps"] for f in final])
        some = f"{_mean(zero)} ({len(zero)} of {len(final)})" if zero else "–"
        return {
            "steps of the slow weights": outer,
            "first zero rate of any tensor at step": some,
            "seeds": counted(runs.records),
        }

    def pretraining(runs: Runs, _: Column) -> Mapping[str, str]:
        past = [r["pretraining"] for r in runs.done if r["pretraining"] is not None]
        epochs = [len(p["val_accuracy"]) for p in past]
        if not past:
            return {}
        return {
            "epochs of pretraining": _mean(epochs),
            "best epoch": _mean([p["best_epoch"] for p in past]),
            "best validation (%)": _mean([100 * max(p["val_accuracy"]) for p in past], 1),
            "ended by the last epoch": f"{epochs.count(runs.experiment.epochs)} of {len(past)}",
        }

    return _tables(records, profile, steps, pretraining)


def _gain(a: Runs, b: Runs, part: slice | None = None) -> str:
    gain = over_seeds(minus(accuracies(a.records, part), accuracies(b.records, part)))
    return "–" if gain is None or a is b else bounds(*gain[:3])


def _mean(numbers: Sequence[float], decimals: int = 0) -> str:
    return f"{np.mean(numbers):,.{decimals}f}" if numbers else "–"


def _percent(runs: Runs, name: str, source: str = "") -> str:
    """Return the mean of a share with its interval, or why there is none."""
    each = {r["seed"]: r["final"][name] for r in runs.done}
    shares = {seed: of[source] if source else of for seed, of in each.items()}
    known = {seed: 100 * share for seed, share in shares.items() if share is not None}
    return cell(known) if runs.done else "diverged"


# Figures

Values = Callable[[Record], tuple[np.ndarray, np.ndarray]]
"""Places along a stream, and a number at each."""


def draw_stream(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the accuracy over all steps so far, by learner."""

    def row(part: SubFigure, setting: Setting, column: Column) -> None:
        for ax in _by_learner(part, setting, column, along):
            ax.axhline(setting.ceiling, color=GREY, ls=":", lw=1)
            ax.set(xlabel="steps so far", ylabel="accuracy so far (%)")

    return _draw(title, records, profile, row, 3.4)


def draw_switches(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the accuracy before and after contexts switch, by learner."""

    def row(part: SubFigure, setting: Setting, column: Column) -> None:
        for ax in _by_learner(part, setting, column, around_switches):
            ax.axvline(0, color=GREY, ls=":", lw=1)
            ax.set(xlabel="steps since the switch", ylabel="accuracy (%)")

    return _draw(title, records, profile, row, 3.4)


def draw_rates(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw sparsity over time by tensor, and the mean rate of each, averaged over seeds."""
    return _draw(title, records, profile, _over_time, 4.6, {*FREEZING, *RATES})


def _draw(
    title: str,
    records: Sequence[Record],
    profile: str,
    row: Callable[[SubFigure, Setting, Column], None],
    height: float,
    learners: Iterable[str] = (),
) -> Figure:
    """Draw a row for each setting that has records, or else for the first one."""
    every = settings(profile, records)
    known = {s: c for s, c in every.items() if any(runs.records for runs in c.values())}
    rows = known or dict([next(iter(every.items()))])
    missing = [str(s) for s in every if s not in rows]
    figure, parts = panels([f"{title}: {s}" for s in rows], height)
    for part, (setting, column) in zip(parts, rows.items(), strict=True):
        row(part, setting, column)
        chosen = sorted(learners or column, key=LOOKS.place)
        notes = _notes({m: column[m].records for m in chosen if m in column}, bool(learners))
        if missing and part is parts[-1]:
            notes.append(f"{NOT_RUN} at all: {'; '.join(missing)}")
        settings_line(part, "\n".join(notes))
    return figure


def _notes(groups: Mapping[str, Sequence[Record]], bare: bool) -> list[str]:
    records = [r for group in groups.values() for r in group]
    if not records:
        return [NOT_RUN]
    p = records[0]["parameters"]
    line = (
        f"profile {p['profile']} · {p['stream']} · p (alpha) = {p['alpha']:.2f} · "
        f"{p['ways']}-way {p['shots']}-shot · {p['steps']:,} steps · {p['width']} channels · "
        f"{seeds_named(records, lambda r: r['parameters']['learner'])} · "
        f"{'means over seeds' if bare else intervals(records)}"
    )
    return [line, *lacking(groups)]


def _by_learner(
    part: SubFigure, setting: Setting, column: Column, values: Values
) -> Sequence[Axes]:
    """Draw a panel of learners that only adapt in the stream, and one of those that learn there.

    Grey lies below colours, and solid lines below dashed ones that may be the same.
    """
    axes = part.subplots(1, 2)
    for learns, ax in enumerate(axes):
        ends, shown = [], [m for m in column if (LEARNERS[m].make in (Online, Adapter)) != learns]
        ax.axhline(setting.chance, color=GREY, ls=":", lw=1)
        ax.set(ylim=(-2, 102), title=f"with{'' if learns else 'out'} meta-learning in the stream")
        for learner in sorted(shown, key=lambda m: (LOOKS[m].colour != 7, LOOKS[m].line != "-")):
            if done := column[learner].done:
                c, look = mean_curve(done, values), LOOKS[learner]
                band(ax, *c, ls=look.line, color=look.rgb, lw=1.4, label=look.name)
                last = np.flatnonzero(np.isfinite(c.mean))[-1:]
                ends += [(look.name, c.x[i], c.mean[i], look.rgb) for i in last]
        direct_labels(ax, ends)
        if not ends:
            _empty(ax, [column[m] for m in shown])
    return axes


def _over_time(part: SubFigure, _: Setting, column: Column) -> None:
    axes = part.subplots(2, 3)
    shown = [("frozen", m) for m in FREEZING] + [("rates", m) for m in RATES]
    colours = sns.color_palette("crest", len(TENSORS))
    for ax, (what, learner) in zip(axes.flat, shown, strict=True):
        if learner not in column:
            ax.set_axis_off()
            continue
        runs = column[learner]
        for colour, (tensor, name) in zip(colours, TENSORS.items(), strict=True):
            if runs.done:
                c = mean_curve(runs.done, partial(over_time, what=what, tensor=tensor))
                style = "--" if tensor.endswith("bias") else "-"
                ax.plot(c.x, c.mean, style, color=colour, lw=1.4, label=name)
        if not runs.done:
            _empty(ax, [runs])
        ax.set(xlabel="steps", title=learner, ylabel="mean rate")
        if what == "frozen":
            ax.set(ylim=(-2, 102), ylabel="sparsity (%)")
        else:
            ax.axhline(0, color=GREY, ls=":", lw=1)
    legend_over(part, axes.flat)


def _empty(ax: Axes, every: Sequence[Runs]) -> None:
    why = "diverged" if any(runs.records for runs in every) else NOT_RUN
    nothing(ax, why if every else "not in this profile")
    ax.set(xticks=[], yticks=[])


def along(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return about a hundred numbers of steps, and the accuracy so far at each, percent."""
    p = record["parameters"]
    so_far = 100 * cumulative(unpack(record["correct"]), p["ways"] * p["shots"])
    every = math.ceil(len(so_far) / 100)
    steps = np.unique([*range(every, len(so_far) + 1, every), len(so_far)])
    return steps, so_far[steps - 1]


def around_switches(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Return steps since a switch, and the accuracy at each, percent; NaN where there is none."""
    accuracy = np.array(record["final"]["around"], dtype=float)  # None becomes NaN
    return np.arange(-BEFORE, AFTER + 1), 100 * accuracy


def over_time(record: Record, what: str, tensor: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps, and at each the sparsity of a tensor in percent or its mean rate."""
    values = np.array(record["curves"][what][tensor], dtype=float)
    factor = 100 / record["tensors"][tensor] if what == "frozen" else 1.0
    return np.array(record["curves"]["step"]), factor * values


def mean_curve(group: Iterable[Record], values: Values) -> Curve:
    """Average a curve over finished runs, each number over those that have it."""
    (x, *_), each = zip(*map(values, finished(group)), strict=True)
    points = np.full((len(x), 3), math.nan)
    for i, column in enumerate(np.array(each).T):
        if len(known := column[np.isfinite(column)]):
            points[i] = t_interval(known)[:3]
    return Curve(x, *points.T)
