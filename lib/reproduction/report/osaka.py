"""OSAKA's stream: tables and figures of accuracy, switches of context, and learned rates.

Shares are shown in percent.  Runs that diverged are left out of means, and named; only in
differences they count with the accuracy of chance, as in claim 10.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from reproduction.report import plotkit
from reproduction.report.curves import Curve
from reproduction.report.frame import by_experiment, finished, minus, over_seeds
from reproduction.report.markdown import cell
from reproduction.report.naming import counted, intervals, seeds_named
from reproduction.report.plotkit import Look, Looks
from wheretolearn.continual.osaka.c_maml import ProlongedCMAML
from wheretolearn.continual.osaka.fast_slow import Adapter, Online
from wheretolearn.continual.osaka.methods import LEARNERS
from wheretolearn.continual.osaka.metrics import AFTER, BEFORE, cumulative, unpack

from ..plan import study
from ..plan.streams import OSAKA
from ..runs.osaka import OsakaExperiment
from ..runs.records import Record
from ..runs.statistics import t_interval
from .markdown import Markdown, bounds, code, interval, table, with_missing

Groups = Mapping[str, Sequence[Record]]


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


LOOKS = Looks(
    {
        "online-sgd": Look("online-sgd", 7, line=":"),
        "online-adam": Look("online-adam", 1, line=":"),
        "fine-tuning": Look("fine-tuning", 5, line=":"),
        "maml": Look("maml", 2, line="--"),
        "anil": Look("anil", 4, line="--"),
        "sparse-maml": Look("sparse-maml", 0),
        "c-maml": Look("c-maml", 2, line="--"),
        "c-maml-pre": Look("c-maml-pre", 5, line="--"),
        "c-maml-um": Look("c-maml-um", 7, line="--"),
        "c-maml-pap": Look("c-maml-pap", 3, line="--"),
        "sparse-c-maml": Look("sparse-c-maml", 0),
        "sparse-c-maml-gates": Look("sparse-c-maml-gates", 1),
        "sparse-c-maml-weights": Look("sparse-c-maml-weights", 4),
    }
)
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

TENSORS = {
    "layer1.conv.weight": "layer1",
    "layer2.conv.weight": "layer2",
    "layer3.conv.weight": "layer3",
    "layer4.conv.weight": "layer4",
    "output.weight": "output",
    "output.bias": "output bias",
}
"""Tensors that are drawn; the biases of convolutions have no effect."""

_POINTS = 100  # of the curve along the stream


def accuracies(group: Iterable[Record]) -> dict[int, float]:
    """Return accuracies over the whole stream by seed, percent; of diverged runs chance."""
    return {
        r["seed"]: 100 * r["final"]["accuracy"] if finished([r]) else 100 / r["parameters"]["ways"]
        for r in group
    }


def settings(profile: str) -> dict[Setting, dict[str, OsakaExperiment]]:
    """Return the experiments of a profile by setting and learner."""
    found: dict[Setting, dict[str, OsakaExperiment]] = {}
    for e in study.experiments(profile, OSAKA):
        if isinstance(e, OsakaExperiment):
            found.setdefault(Setting(e.alpha, e.ways), {})[e.learner] = e
    return dict(sorted(found.items(), key=lambda item: (item[0].ways, -item[0].alpha)))


# Tables


def accuracy_tables(records: Sequence[Record], profile: str) -> str:
    """Return accuracy, detections, sparsity and work of every learner."""
    groups = by_experiment(records)
    parts = []
    for setting, column in settings(profile).items():
        run, missing = _run(groups, column)
        shown = [r for group in run.values() for r in group]
        sources = shown[0]["contexts"]["names"] if shown else []
        rows, more = [], []
        for learner, group in run.items():
            found = [_cell(group, "accuracy"), *(_cell(group, "by_source", n) for n in sources)]
            rows.append([code(learner), *found, counted(group)])
            found = [_cell(group, name) for name in ("precision", "recall", "f1", "sparsity")]
            if "margin" not in column[learner].chosen:  # it looks for no shift
                found[:3] = ["–"] * 3
            more.append([code(learner), *found, _work(group)])
        header = ("learner", "accuracy (%)", *(f"{name} (%)" for name in sources), "seeds")
        header_of_more = (
            "learner",
            "precision (%)",
            "recall (%)",
            "F1 (%)",
            "sparsity at the end (%)",
            "gradient images (thousands)",
        )
        limits = f"Chance is {setting.chance:.1f} %; expect at most {setting.ceiling:.1f} %."
        parts += [f"**{_stream(column)}.** {limits}", with_missing(header, rows, missing)]
        parts += [table(header_of_more, more)] if more else []
    return "\n\n".join(parts)


def difference_tables(records: Sequence[Record], profile: str) -> str:
    """Return how much more accurate each learner is than a few others, a table for each setting."""
    groups = by_experiment(records)
    parts = []
    for column in settings(profile).values():
        others = [m for m in COMPARED if m in column]
        run, missing = _run(groups, column)
        found = {learner: accuracies(group) for learner, group in run.items()}
        rows = []
        for learner, group in run.items():
            cells = []
            for other in others:
                gain = over_seeds(minus(found[learner], found.get(other, {})))
                cells.append("–" if gain is None or other == learner else bounds(*gain[:3]))
            rows.append([code(learner), *cells, counted(group)])
        header = ("learner", *(Markdown(f"it − {code(other)}") for other in others), "seeds")
        parts.append(f"**{_stream(column)}.** Percentage points.")
        parts.append(with_missing(header, rows, missing))
    return "\n\n".join(parts)


def early_late_tables(records: Sequence[Record], profile: str) -> str:
    """Return how far sparse-C-MAML is ahead in the first fifth of the stream, and in the rest."""
    groups = by_experiment(records)
    parts = []
    for column in settings(profile).values():
        wanted = {m: column[m] for m in (SPARSE, *COMPARED) if m in column}
        run, missing = _run(groups, wanted)
        steps = next(iter(wanted.values())).steps
        cut = steps // 5
        rows = []
        for other in (m for m in run if m != SPARSE and SPARSE in run):
            gains = (
                minus(*(accuracies_in(run[m], part) for m in (SPARSE, other)))
                for part in (slice(cut), slice(cut, None))
            )
            cells = ("–" if (g := over_seeds(v)) is None else bounds(*g[:3]) for v in gains)
            rows.append([Markdown(f"{code(SPARSE)} − {code(other)}"), *cells])
        header = ("difference", f"steps 1 to {cut:,}", f"steps {cut + 1:,} to {steps:,}")
        parts += [f"**{_stream(column)}.** Percentage points.", with_missing(header, rows, missing)]
    return "\n\n".join(parts)


def accuracies_in(group: Sequence[Record], part: slice) -> dict[int, float]:
    """Return accuracies in a part of the stream, percent; a run that diverged is at chance."""
    found = {}
    for r in group:
        ways, shots = (r["parameters"][n] for n in ("ways", "shots"))
        correct = unpack(r["correct"])[part] if finished([r]) else np.array([shots])
        found[r["seed"]] = 100 * float(correct.mean()) / (ways * shots)
    return found


def frozen_tables(records: Sequence[Record], profile: str) -> str:
    """Return the share of weights of each tensor whose rate is zero as the stream ends."""
    groups = by_experiment(records)
    parts = []
    for column in settings(profile).values():
        run, missing = _run(groups, {m: e for m, e in column.items() if m in FREEZING})
        rows = []
        for learner, group in run.items():
            show = _in_runs if LEARNERS[learner].each == "tensor" else _share
            shown = (show(finished(group), tensor) for tensor in TENSORS)
            rows.append([code(learner), *shown, counted(group)])
        header = ("frozen at the end (%)", *TENSORS.values(), "seeds")
        parts += [f"**{_stream(column)}.**", with_missing(header, rows, missing)]
    return "\n\n".join(parts)


def _in_runs(done: Sequence[Record], tensor: str) -> str:
    """Return in how many runs a tensor is frozen as a whole at the end."""
    frozen = sum(r["curves"]["frozen"][tensor][-1] == r["tensors"][tensor] for r in done)
    return f"in {frozen} of {len(done)}" if done else "–"


def _share(done: Sequence[Record], tensor: str) -> str:
    """Return the mean share of a tensor that is frozen at the end."""
    return cell({r["seed"]: over_time(r, "frozen", tensor)[1][-1] for r in done})


def inside_tables(records: Sequence[Record], profile: str) -> str:
    """Return what happened to each learner on the way, a table or two for each setting."""
    groups = by_experiment(records)
    parts = []
    for column in settings(profile).values():
        run, missing = _run(groups, column)
        rows, before = [], []
        for learner, group in run.items():
            done = finished(group)
            first = [n for r in done if (n := r["final"]["first_frozen"]) is not None]
            zero = f"{_mean_of(first)} ({len(first)} of {len(done)})" if first else "–"
            outer = _mean_of([r["final"]["outer_steps"] for r in done])
            if done and LEARNERS[learner].make is Online:
                outer = "every step"  # its only weights, not counted
            rows.append([code(learner), outer, zero, counted(group)])
            found = [r["pretraining"] for r in done if r["pretraining"] is not None]
            if found:
                before.append([code(learner), *_before(column[learner], found)])
        header = (
            "learner",
            "steps of the slow weights",
            "first zero rate of any tensor at step",
            "seeds",
        )
        parts += [f"**{_stream(column)}.**", with_missing(header, rows, missing)]
        of = (
            "pretraining of",
            "epochs",
            "best epoch",
            "best validation (%)",
            "ended by the last epoch",
        )
        parts += [table(of, before)] if before else []
    return "\n\n".join(parts)


def _before(e: OsakaExperiment, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what happened in pretraining."""
    epochs = [len(p["val_accuracy"]) for p in found]
    best = [100 * max(p["val_accuracy"]) for p in found]
    ended = sum(n == e.epochs for n in epochs)
    return [
        _mean_of(epochs),
        _mean_of([p["best_epoch"] for p in found]),
        f"{sum(best) / len(best):.1f}",
        f"{ended} of {len(found)}",
    ]


def _run(
    groups: Groups, column: Mapping[str, OsakaExperiment]
) -> tuple[dict[str, Sequence[Record]], list[str]]:
    """Return the records of each learner that has some, and the names of the others."""
    run = {m: groups[e.name] for m, e in column.items() if groups.get(e.name)}
    return run, [code(m) for m in column if m not in run]


def _mean_of(numbers: Sequence[float]) -> str:
    return f"{sum(numbers) / len(numbers):,.0f}" if numbers else "–"


def _stream(column: Mapping[str, OsakaExperiment]) -> str:
    e = next(iter(column.values()))
    return (
        f"p = {e.alpha:.2f}, {e.ways}-way {e.shots}-shot, {e.steps:,} steps of {e.stream}, "
        f"profile {e.profile}"
    )


def _cell(group: Sequence[Record], *path: str) -> str:
    """Return the mean of a share with its interval, or why there is none."""
    done = finished(group)
    if not done:
        return "diverged"
    found = {r["seed"]: _at(r["final"], path) for r in done}
    value = over_seeds({s: 100 * v for s, v in found.items() if v is not None})
    return "–" if value is None else interval(value)


def _at(value: Any, path: Sequence[str]) -> float | None:
    for name in path:
        value = value[name]
    return value


def _work(group: Sequence[Record]) -> str:
    counts = [r["final"]["gradients"] for r in finished(group)]
    return f"{sum(counts) / len(counts) / 1000:,.1f}" if counts else "–"


# Figures


def draw_stream(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the accuracy over all steps so far, by learner."""

    def limits(ax: Axes, setting: Setting) -> None:
        for y in (setting.chance, setting.ceiling):
            ax.axhline(y, color="0.5", ls=":", lw=1)
        ax.set(xlabel="steps so far", ylabel="accuracy so far (%)", ylim=(-2, 102))

    return _by_learner(title, records, profile, along, limits)


def draw_switches(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the accuracy before and after contexts switch, by learner."""

    def limits(ax: Axes, setting: Setting) -> None:
        ax.axhline(setting.chance, color="0.5", ls=":", lw=1)
        ax.axvline(0, color="0.5", ls=":", lw=1)
        ax.set(xlabel="steps since the switch", ylabel="accuracy (%)", ylim=(-2, 102))

    return _by_learner(title, records, profile, around_switches, limits)


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


def mean_curve(
    group: Sequence[Record], values: Callable[[Record], tuple[np.ndarray, np.ndarray]]
) -> Curve:
    """Average a curve over the finished runs of an experiment."""
    found = [values(r) for r in finished(group)]
    points = [_mean(column) for column in np.stack([y for _, y in found]).T]
    mean, low, high = np.array(points).T
    return Curve(found[0][0], mean, low, high)


def _mean(numbers: np.ndarray) -> tuple[float, float, float]:
    known = numbers[np.isfinite(numbers)].tolist()
    return t_interval(known)[:3] if known else (math.nan, math.nan, math.nan)


def _by_learner(
    title: str,
    records: Sequence[Record],
    profile: str,
    values: Callable[[Record], tuple[np.ndarray, np.ndarray]],
    finish: Callable[[Axes, Setting], None],
) -> Figure:
    groups = by_experiment(records)
    rows, missing = _rows(groups, profile)
    figure, parts = plotkit.panels([f"{title}: {s}" for s in rows], height=4.0)
    for part, (setting, column) in zip(parts, rows.items(), strict=True):
        axes = part.subplots(1, len(PANELS))
        for ax, (name, learners) in zip(axes, in_panels(column).items(), strict=True):
            chosen = {m: groups.get(column[m].name, []) for m in learners}
            for learner, group in chosen.items():
                if finished(group):
                    look, shown = LOOKS[learner], mean_curve(group, values)
                    _line(ax, shown, look.rgb, look.name, look.line)
                    _band(ax, shown, look.rgb)
            finish(ax, setting)
            _label(ax, name, _lacking(chosen))
        _under(part, groups, column, missing if setting == list(rows)[-1] else [], intervals)
    return figure


def in_panels(learners: Iterable[str]) -> dict[str, list[str]]:
    """Return which of some learners each of the :data:`PANELS` shows, in the order of the looks."""
    found: dict[str, list[str]] = {name: [] for name in PANELS}
    for learner in sorted(learners, key=LOOKS.place):
        found[PANELS[LEARNERS[learner].make not in (Online, Adapter)]].append(learner)
    return found


def draw_rates(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw sparsity over time by tensor, and the mean rate of each."""
    groups = by_experiment(records)
    rows, missing = _rows(groups, profile)
    figure, parts = plotkit.panels([f"{title}: {s}" for s in rows], height=6.2)
    for part, (setting, column) in zip(parts, rows.items(), strict=True):
        panels = [("frozen", m) for m in FREEZING if m in column]
        panels += [("rates", m) for m in RATES if m in column]
        axes = part.subplots(max(2, -(-len(panels) // 3)), 3).ravel()
        for ax, (what, learner) in zip(axes, panels, strict=False):
            _tensors(ax, groups.get(column[learner].name, []), what, learner)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        shown = {m: column[m] for m in dict.fromkeys((*FREEZING, *RATES)) if m in column}
        _under(part, groups, shown, missing if setting == list(rows)[-1] else [], _means)
    return figure


def over_time(record: Record, what: str, tensor: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps, and at each the sparsity of a tensor in percent or its mean rate."""
    curves = record["curves"]
    values = np.array(curves[what][tensor], dtype=float)
    factor = 100 / record["tensors"][tensor] if what == "frozen" else 1.0
    return np.array(curves["step"]), factor * values


def _tensors(ax: Axes, group: Sequence[Record], what: str, learner: str) -> None:
    if finished(group):
        colours = sns.color_palette("crest", len(TENSORS))
        for colour, (tensor, name) in zip(colours, TENSORS.items(), strict=True):
            shown = mean_curve(group, partial(over_time, what=what, tensor=tensor))
            _line(ax, shown, colour, name, "--" if tensor.endswith("bias") else "-")
    if what == "frozen":
        ax.set(ylim=(-2, 102), ylabel="sparsity (%)")
    else:
        ax.axhline(0, color="0.5", ls=":", lw=1)
        ax.set(ylabel="mean rate")
    ax.set(xlabel="steps")
    _label(ax, learner, _lacking({learner: group}))


def _line(ax: Axes, shown: Curve, colour: Any, name: str, line: str) -> None:
    marker = "." if len(shown.x) < 30 else None
    ax.plot(shown.x, shown.mean, line, color=colour, lw=1.4, marker=marker, ms=3, label=name)


def _band(ax: Axes, shown: Curve, colour: Any) -> None:
    if np.isfinite(shown.low).any():
        ax.fill_between(shown.x, shown.low, shown.high, color=colour, alpha=0.15, lw=0)


def _label(ax: Axes, name: str, lacking: str) -> None:
    """Put a title and a legend over a panel, or say why it is empty."""
    handles, names = ax.get_legend_handles_labels()
    ax.set_title(name, fontsize="medium", pad=6 + 13 * math.ceil(len(names) / 3))
    if names:
        ax.legend(
            handles,
            names,
            loc="lower center",
            bbox_to_anchor=(0.5, 0.98),
            ncols=3,
            handlelength=1.4,
            handletextpad=0.4,
            columnspacing=0.8,
            borderaxespad=0.1,
        )
    else:
        ax.text(0.5, 0.5, lacking, transform=ax.transAxes, ha="center", color="0.35")
        ax.set_xticks([])
        ax.set_yticks([])


def _lacking(groups: Groups) -> str:
    """Say why a panel is empty, if it is."""
    if not groups:
        return "not in this profile"
    return "diverged" if any(groups.values()) else "not run yet"


def _rows(
    groups: Groups, profile: str
) -> tuple[dict[Setting, dict[str, OsakaExperiment]], list[Setting]]:
    """Return the settings with records, or else the first one; and the others."""
    planned = settings(profile)
    known = {s: c for s, c in planned.items() if any(e.name in groups for e in c.values())}
    rows = known or dict([next(iter(planned.items()))])
    return rows, [s for s in planned if s not in rows]


def _means(shown: Sequence[Record]) -> str:
    return "means over seeds"


def _under(
    part: SubFigure,
    groups: Groups,
    column: Mapping[str, OsakaExperiment],
    missing: Sequence[Setting],
    lines_are: Callable[[Sequence[Record]], str],
) -> None:
    """Write under a row what its runs were made with, which are missing and which diverged."""
    note = "\n".join(_note(groups, column, missing, lines_are))
    plotkit.settings_line(part, note)


def _note(
    groups: Groups,
    column: Mapping[str, OsakaExperiment],
    missing: Sequence[Setting],
    lines_are: Callable[[Sequence[Record]], str],
) -> list[str]:
    shown = [r for e in column.values() for r in groups.get(e.name, [])]
    if not shown:
        return ["not run yet"]
    lacking = [m for m, e in column.items() if e.name not in groups]
    diverged = [
        f"{m} seed {r['seed']} ({what} {where})"
        for m, e in column.items()
        for r in groups.get(e.name, [])
        if r["status"] == "diverged"
        for what, where in r["diverged_at"].items()
    ]
    lines = _wrapped(f"{_setting(shown)} · {lines_are(shown)}")
    for what, names in (("not run yet", lacking), ("× diverged, left out", diverged)):
        if names:
            lines += _wrapped(f"{what}: {', '.join(names)}")
    if missing:
        lines.append("not run yet at all: " + "; ".join(map(str, missing)))
    return lines


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, 170, break_on_hyphens=False)  # the width of a row


def _setting(shown: Sequence[Record]) -> str:
    p = shown[0]["parameters"]
    return (
        f"profile {p['profile']} · {p['stream']} · p (alpha) = {p['alpha']:.2f} · "
        f"{p['ways']}-way {p['shots']}-shot · {p['steps']:,} steps · {p['width']} channels · "
        f"{seeds_named(shown, lambda r: r['parameters']['learner'])}"
    )
