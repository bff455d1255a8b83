"""Inside the inner loop: longer loops, masks exchanged, moving features, interference.

Tables and drawings of what :mod:`reproduction.runs.probes` asked of trained networks, and of
weights trained anew under masks that were learned before.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.report.curves import LAYERS
from reproduction.report.frame import BySeed, by_experiment, finished, minus, numbers, over_seeds
from reproduction.report.markdown import cell
from reproduction.report.naming import (
    counted,
    intervals,
    problem_name,
    setting,
)
from reproduction.report.plotkit import METHODS, Look, legend_above, panels, settings_line

from ..plan import study
from ..plan.few_shot import FEATURES, LONGER, LONGER_RUNS, PROBED, TABLE1
from ..runs.experiment import Experiment
from ..runs.probes import STEPS
from ..runs.records import Record
from ..runs.statistics import Interval, t_interval
from .markdown import table
from .mask_overlap import kept as agreement_with_start

EXCHANGED = {
    "own": "the learned mask",
    "shuffled": "shuffled in each tensor",
    "random": "scattered over all tensors",
    "all": "none: all weights move",
    "head": "the learned one, last layer only",
    "body": "the learned one, all but the last layer",
}
"""Masks under which trained weights are judged, by the end of the probe's name."""

BORROWED = {
    "own": "the learned mask, kept",
    "shuffled": "shuffled in each tensor",
    "random": "scattered over all tensors",
}
"""Masks under which weights are trained anew, by ``Experiment.masks_as``."""

COSINES = ("interference/gradient", "interference/step")


def answers(group: Sequence[Record], probe: str) -> dict[int, float]:
    """Return the answers of a probe, times 100, by seed."""
    found = {r["seed"]: r["final"].get("probes", {}).get(probe) for r in group}
    return {s: 100 * a["mean"] for s, a in found.items() if a and a["mean"] is not None}


def _methods(planned: Iterable[Experiment], probe: str) -> dict[str, Experiment]:
    """Return the experiments of which a probe is asked, by method, in the order of ``PROBED``."""
    asked = {e.method: e for e in planned if probe in e.probes}
    return {m: asked[m] for m in dict.fromkeys((*PROBED, *asked)) if m in asked}


# Longer loops


def longer_columns(profile: str) -> list[dict[str, Experiment]]:
    """Return the experiments of the page on longer loops: by method, for each number of shots."""
    planned = study.few_shot(profile, LONGER)
    shots = sorted({e.shots for e in planned}, reverse=True)
    return [_methods((e for e in planned if e.shots == n), "steps") for n in shots]


def longer_table(records: Sequence[Record], profile: str) -> str:
    """Return what each method loses from K to 10 K inner steps."""
    groups = by_experiment(records)
    rows = []
    for column in longer_columns(profile):
        lost = {m: _lost(groups.get(e.name, []), e.inner_steps) for m, e in column.items()}
        for method, e in column.items():
            group = groups.get(e.name, [])
            last = STEPS[-1] * e.inner_steps
            rows.append(
                (
                    str(e.shots),
                    METHODS[method].name,
                    f"{e.inner_rate:g}",
                    *(cell(answers(group, f"steps/{k}")) for k in (0, e.inner_steps, last)),
                    cell(lost[method]),
                    "–" if method == "maml" else cell(minus(lost.get("maml", {}), lost[method])),
                    counted(group),
                )
            )
    header = (
        "shots",
        "method",
        "inner rate",
        "0 steps (%)",
        "K steps (%)",
        "10 K steps (%)",
        "lost from K to 10 K",
        "MAML's loss − its loss",
        "seeds",
    )
    return table(header, rows)


def _lost(group: Sequence[Record], k: int) -> BySeed:
    return minus(answers(group, f"steps/{k}"), answers(group, f"steps/{STEPS[-1] * k}"))


def draw_longer(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw test accuracy over the number of inner steps when tested."""
    groups = by_experiment(records)
    columns = longer_columns(profile)
    figure, (part,) = panels([title], height=3.6)
    axes = part.subplots(1, len(columns), squeeze=False)[0]
    for ax, column in zip(axes, columns, strict=True):
        first = next(iter(column.values()))
        stops = [factor * first.inner_steps for factor in STEPS]
        for i, (method, e) in enumerate(column.items()):
            group = groups.get(e.name, [])
            points = [over_seeds(answers(group, f"steps/{k}")) for k in stops]
            _line(ax, points, METHODS[method], 0.07 * (i - 2))
        if ax.lines:
            ax.axhline(100 / first.ways, color="0.5", ls=":", lw=1)
            ax.axvline(STEPS.index(1), color="0.5", ls=":", lw=1)
        ax.set_xticks(range(len(stops)), [str(k) for k in stops])
        ax.set_title(f"{first.ways}-way {first.shots}-shot", fontsize="medium", pad=18)
        ax.set(
            xlabel=f"inner steps when tested (trained with K = {first.inner_steps})",
            ylabel="test accuracy (%)",
        )
        _legend(ax)
    shown = [e for column in columns for e in column.values()]
    settings_line(part, _stamp(groups, shown))
    return figure


# Longer training


def draw_longer_training(title: str, records: Sequence[Record]) -> Figure:
    """Draw validation accuracy over training, and gains over MAML after short and long ones."""
    groups = by_experiment(records)
    longer = [e for e in study.few_shot("study", TABLE1) if e.name.startswith(f"{LONGER_RUNS}-")]
    figure, (part,) = panels([title], height=3.4)
    left, right = part.subplots(1, 2, width_ratios=[1.4, 1])
    for e in longer:
        look, group = METHODS[e.method], finished(groups.get(e.name, []))
        if not group:
            continue
        colour = look.rgb
        curves = zip(*(r["curves"]["val_accuracy"] for r in group), strict=True)
        points = [t_interval([100 * v for v in values]) for values in curves]
        updates = group[0]["curves"]["update"]
        left.plot(
            updates, [p.mean for p in points], color=colour, marker=look.marker, label=look.name
        )
        left.fill_between(
            updates, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.15
        )
    left.set(xlabel="updates", ylabel="validation accuracy (%)")
    budgets = {"convnet4": "short", LONGER_RUNS: "longer"}
    for place, prefix in enumerate(budgets):
        of = {e.method: groups.get(e.name.replace(LONGER_RUNS, prefix), []) for e in longer}
        maml = numbers(of.get("maml", []), "test_accuracy")
        for i, method in enumerate(m for m in of if m != "maml"):
            gain = over_seeds(minus(numbers(of[method], "test_accuracy"), maml))
            _line(right, [None] * place + [gain], METHODS[method], 0.12 * (i - 1))
    if right.lines:
        right.axhline(0, color="0.5", ls=":", lw=1)
        right.set_xticks(range(len(budgets)), [f"{name} training" for name in budgets.values()])
        right.set(ylabel="gain over MAML (points)", xlim=(-0.5, 1.5))
    else:
        _nothing(right)
    _legend(left)
    settings_line(part, _stamp(groups, longer))
    return figure


# Masks exchanged


class Trainings(NamedTuple):
    """The experiments behind the first instrument of the page on features."""

    learned: Experiment
    """sparse-MAML, whose masks are exchanged and borrowed."""
    kept: Experiment
    """Weights trained anew under the masks that it learned."""
    rows: dict[str, Experiment]
    """All to be compared, by what their masks are."""


def trainings(profile: str) -> Trainings:
    """Return the experiments in which a mask is learned, borrowed or absent."""
    planned = study.few_shot(profile, FEATURES)
    by_name = {e.name: e for e in planned}
    learned = next(e for e in planned if "masks" in e.probes)
    rows = {"learned along with the weights": learned}
    for e in planned:
        if e.masks_from == learned.name:
            rows[BORROWED[e.masks_as]] = e
        elif e.masks_from:
            rows[f"learned on {problem_name(by_name[e.masks_from])}"] = e
    rows["none: all weights move (MAML)"] = next(e for e in planned if e.method == "maml")
    return Trainings(learned, rows[BORROWED["own"]], rows)


def exchanged_table(records: Sequence[Record], profile: str) -> str:
    """Return how sparse-MAML's weights do under other masks than their own."""
    group = by_experiment(records).get(trainings(profile).learned.name, [])
    own = answers(group, "masks/own")
    rows = []
    for how, name in EXCHANGED.items():
        values = answers(group, f"masks/{how}")
        less = "–" if how == "own" else cell(minus(own, values))
        rows.append((name, cell(values), less, counted(group)))
    return table(("mask when tested", "test accuracy (%)", "learned mask − this", "seeds"), rows)


def borrowed_table(records: Sequence[Record], profile: str) -> str:
    """Return how weights do that were trained anew under masks learned before."""
    groups = by_experiment(records)
    found = trainings(profile)
    kept = numbers(groups.get(found.kept.name, []), "test_accuracy")
    rows = []
    for name, e in found.rows.items():
        group = groups.get(e.name, [])
        values = numbers(group, "test_accuracy")
        moving = {r["seed"]: 100 * (1 - r["final"]["best_sparsity"]) for r in finished(group)}
        less = "–" if e is found.kept else cell(minus(kept, values))
        row = (name, f"{e.inner_rate:g}", cell(moving), cell(values), less, counted(group))
        rows.append(row)
    header = (
        "mask when trained",
        "inner rate",
        "moving weights (%)",
        "test accuracy (%)",
        "kept mask − this",
        "seeds",
    )
    return table(header, rows)


def donors(records: Sequence[Record], profile: str) -> str:
    """Return where the learned masks come from that are shuffled, scattered and kept."""
    learned = [r for r in finished(records) if r["experiment"] == trainings(profile).learned.name]
    agreement = agreement_with_start(learned)
    agreement = agreement[agreement["layer"] == "all"].set_index("seed_a")["kappa"]
    rows = [
        (
            str(r["seed"]),
            str(r["final"]["best_update"]),
            f"{100 * r['final']['best_sparsity']:.1f}",
            f"{agreement[r['seed']]:.2f}" if r["seed"] in agreement.index else "–",
        )
        for r in learned
    ]
    header = ("seed", "learned for (updates)", "frozen weights (%)", "agreement with its start")
    return table(header, rows)


def draw_masks(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw test accuracies under masks exchanged (left) and borrowed (right)."""
    groups = by_experiment(records)
    found = trainings(profile)
    judged = groups.get(found.learned.name, [])
    figure, (part,) = panels([title], height=3.2)
    left, right = part.subplots(1, 2)
    _dots(
        left,
        {name: (judged, answers(judged, f"masks/{how}")) for how, name in EXCHANGED.items()},
        EXCHANGED["own"],
    )
    left.set_title("trained weights, other masks", fontsize="medium")
    _dots(
        right,
        {
            name: (groups.get(e.name, []), numbers(groups.get(e.name, []), "test_accuracy"))
            for name, e in found.rows.items()
        },
        BORROWED["own"],
    )
    right.set_title("weights trained anew", fontsize="medium")
    settings_line(part, _stamp(groups, found.rows.values()))
    return figure


def _dots(ax: Axes, rows: Mapping[str, tuple[Sequence[Record], BySeed]], reference: str) -> None:
    """Draw a dot with its interval for each row, and a line through that of reference."""
    colour = METHODS["sparse-maml"].rgb
    for y, (name, (group, values)) in enumerate(rows.items()):
        value = over_seeds(values)
        if value is None:
            ax.text(
                0.5,
                y,
                _lacking(group),
                transform=ax.get_yaxis_transform(),
                ha="center",
                va="center",
                color="0.35",
            )
            continue
        ax.plot([value.mean], [y], "o", color=colour, ms=5)
        if math.isfinite(value.low):
            ax.hlines(y, value.low, value.high, color=colour, lw=2, alpha=0.6)
        if name == reference:
            ax.axvline(value.mean, color="0.5", ls=":", lw=1)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlabel="test accuracy (%)", ylim=(len(rows) - 0.5, -0.5))
    if not any(values for _, values in rows.values()):
        ax.set_xticks([])


# Moving features, and interference


def movement_table(records: Sequence[Record], profile: str) -> str:
    """Return how similar features are before and after adaptation, by layer."""
    groups = by_experiment(records)
    last = f"movement/{LAYERS[-2]}"
    column = _looked_at(profile)
    maml = answers(groups.get(column["maml"].name, []), last) if "maml" in column else {}
    rows = []
    for method, e in column.items():
        group = groups.get(e.name, [])
        rows.append(
            (
                METHODS[method].name,
                f"{e.inner_rate:g}",
                *(cell(answers(group, f"movement/{layer}")) for layer in LAYERS),
                "–" if method == "maml" else cell(minus(answers(group, last), maml)),
                counted(group),
            )
        )
    header = ("CKA × 100", "inner rate", *LAYERS, f"{LAYERS[-2]}: it − MAML", "seeds")
    return table(header, rows)


def interference_table(records: Sequence[Record], profile: str) -> str:
    """Return the cosines between two tasks' gradients, and between their steps."""
    groups = by_experiment(records)
    column = _looked_at(profile)
    maml = answers(groups.get(column["maml"].name, []), COSINES[1]) if "maml" in column else {}
    rows = []
    for method, e in column.items():
        group = groups.get(e.name, [])
        whole, step = (answers(group, probe) for probe in COSINES)
        rows.append(
            (
                METHODS[method].name,
                cell(whole),
                cell(step),
                cell(minus(step, whole)),
                "–" if method == "maml" else cell(minus(step, maml)),
                counted(group),
            )
        )
    header = (
        "cosine × 100",
        "gradients",
        "steps",
        "steps − gradients",
        "its steps − MAML's steps",
        "seeds",
    )
    return table(header, rows)


def _looked_at(profile: str) -> dict[str, Experiment]:
    """Return the experiments whose inner loops are looked into, by method."""
    return _methods(study.few_shot(profile, FEATURES), "movement")


def draw_movement(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the similarity of features over the layers, and the cosines of each method."""
    groups = by_experiment(records)
    column = _looked_at(profile)
    figure, (part,) = panels([title], height=3.5)
    left, right = part.subplots(1, 2, width_ratios=[1.25, 1])
    for i, (method, e) in enumerate(column.items()):
        group = groups.get(e.name, [])
        points = [over_seeds(answers(group, f"movement/{layer}")) for layer in LAYERS]
        _line(left, points, METHODS[method], 0.07 * (i - 2))
        cosines = [over_seeds(answers(group, probe)) for probe in COSINES]
        _line(right, cosines, METHODS[method], 0.07 * (i - 2))
    left.set_xticks(range(len(LAYERS)), LAYERS)
    left.set(ylabel="CKA before and after × 100")
    left.set_title("features that stay", fontsize="medium", pad=18)
    if right.lines:
        right.axhline(0, color="0.5", ls=":", lw=1)
    right.set_xticks(range(len(COSINES)), ["gradients", "steps under the rule"])
    right.set(ylabel="cosine of two tasks × 100", xlim=(-0.5, 1.5))
    right.set_title("what two tasks have in common", fontsize="medium")
    _legend(left)
    if not right.get_legend_handles_labels()[0]:
        _nothing(right)
    settings_line(part, _stamp(groups, column.values()))
    return figure


def _line(ax: Axes, points: Sequence[Interval | None], look: Look, shift: float) -> None:
    """Draw a line with intervals through the points that are known; none, no line."""
    known = [(x + shift, p) for x, p in enumerate(points) if p is not None]
    if not known:
        return
    colour = look.rgb
    x = [place for place, _ in known]
    means = [p.mean for _, p in known]
    ax.plot(x, means, color=colour, marker=look.marker, ms=4.5, lw=1.2, label=look.name)
    for place, p in known:
        if math.isfinite(p.low):
            ax.vlines(place, p.low, p.high, color=colour, lw=2, alpha=0.6)


def _legend(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        legend_above(ax, ax)
    else:
        _nothing(ax)


def _nothing(ax: Axes) -> None:
    ax.text(0.5, 0.5, "not run yet", transform=ax.transAxes, ha="center", color="0.35")
    ax.set_yticks([])


def _lacking(group: Sequence[Record]) -> str:
    """Say why a group of runs has no number."""
    if not group:
        return "not run yet"
    return "not asked" if finished(group) else "diverged"


def _stamp(groups: Mapping[str, Sequence[Record]], planned: Iterable[Experiment]) -> str:
    """Say what the runs shown were made with, which are missing and which diverged."""
    by_problem: dict[str, list[Experiment]] = {}
    for e in planned:
        by_problem.setdefault(problem_name(e), []).append(e)
    lines, missing, diverged, every = [], [], [], []
    for experiments in by_problem.values():
        shown = [r for e in experiments for r in groups.get(e.name, [])]
        every += shown
        if shown:
            lines.append(setting(shown))
        for e in experiments:
            group = groups.get(e.name, [])
            bad = len(group) - len(finished(group))
            if not group:
                missing.append(e.name)
            elif bad:
                diverged.append(f"{e.name} ({bad} of {len(group)})")
    if not lines:
        return "not run yet"
    lines[-1] += f" · {intervals(every)}"
    for what, names in (("not run yet", missing), ("× diverged, left out", diverged)):
        if names:
            lines += textwrap.wrap(f"{what}: {', '.join(names)}", 150, break_on_hyphens=False)
    return "\n".join(lines)
