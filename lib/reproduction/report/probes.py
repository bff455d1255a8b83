"""Inside the inner loop: longer loops, masks exchanged, moving features, interference.

Tables and drawings of what :mod:`reproduction.runs.probes` asked of trained networks, and of
weights trained anew under masks that were learned before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plan import study
from ..plan.few_shot import FEATURES, LONGER, LONGER_RUNS, PROBED, TABLE1
from ..runs.experiment import Experiment
from ..runs.probes import STEPS
from ..runs.records import Record
from .curves import LAYERS, Curve
from .frame import BySeed, by_experiment, finished, minus, numbers, over_seeds
from .markdown import cell, table
from .mask_overlap import kept as agreement_with_start
from .naming import NOT_RUN, counted, intervals, lacking, problem_name, setting
from .plotkit import (
    GREY,
    METHODS,
    band,
    legend_above,
    line,
    nothing,
    panels,
    point,
    settings_line,
)

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
                    *(cell(numbers(group, f"steps/{k}")) for k in (0, e.inner_steps, last)),
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
    return minus(numbers(group, f"steps/{k}"), numbers(group, f"steps/{STEPS[-1] * k}"))


def draw_longer(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw test accuracy over the number of inner steps when tested."""
    groups = by_experiment(records)
    columns = longer_columns(profile)
    figure, (part,) = panels([title], height=3.6)
    axes = part.subplots(1, len(columns), squeeze=False)[0]
    for ax, column in zip(axes, columns, strict=True):
        first = next(iter(column.values()))
        stops = [f"steps/{factor * first.inner_steps}" for factor in STEPS]
        _lines(ax, groups, column, stops)
        if ax.lines:
            ax.axhline(100 / first.ways, color=GREY, ls=":", lw=1)
            ax.axvline(STEPS.index(1), color=GREY, ls=":", lw=1)
        ax.set_xticks(range(len(stops)), [stop.rpartition("/")[2] for stop in stops])
        ax.set_title(f"{first.ways}-way {first.shots}-shot", pad=18)
        ax.set(
            xlabel=f"inner steps when tested (trained with K = {first.inner_steps})",
            ylabel="test accuracy (%)",
        )
        _legend(ax)
    settings_line(part, _stamp(groups, [e for column in columns for e in column.values()]))
    return figure


def _lines(
    ax: Axes,
    groups: Mapping[str, Sequence[Record]],
    column: Mapping[str, Experiment],
    metrics: Sequence[str],
) -> None:
    """Draw some numbers of each method side by side, joined."""
    for i, (method, e) in enumerate(column.items()):
        places = {
            x + 0.07 * (i - 2): over_seeds(numbers(groups.get(e.name, []), metric))
            for x, metric in enumerate(metrics)
        }
        look = METHODS[method]
        line(ax, places, f"{look.marker}-", color=look.rgb, label=look.name)


def _legend(ax: Axes) -> None:
    if ax.get_legend_handles_labels()[0]:
        legend_above(ax, ax)
    else:
        nothing(ax, NOT_RUN)
        ax.set_yticks([])


# Longer training


def draw_longer_training(title: str, records: Sequence[Record]) -> Figure:
    """Draw validation accuracy over training, and gains over MAML after short and long ones."""
    groups = by_experiment(records)
    longer = [e for e in study.few_shot("study", TABLE1) if e.name.startswith(f"{LONGER_RUNS}-")]
    figure, (part,) = panels([title], height=3.4)
    left, right = part.subplots(1, 2, width_ratios=[1.4, 1])
    for e in longer:
        look, group = METHODS[e.method], finished(groups.get(e.name, []))
        if group:
            curves = zip(*(r["curves"]["val_accuracy"] for r in group), strict=True)
            points = [over_seeds([100 * v for v in values]) for values in curves]
            c = Curve(group[0]["curves"]["update"], *np.array(points).T[:3])
            band(left, *c, color=look.rgb, marker=look.marker, label=look.name)
    left.set(xlabel="updates", ylabel="validation accuracy (%)")
    for place, prefix in enumerate(("convnet4", LONGER_RUNS)):
        of = {e.method: groups.get(e.name.replace(LONGER_RUNS, prefix), []) for e in longer}
        maml = numbers(of.get("maml", []), "test_accuracy")
        for i, method in enumerate(m for m in of if m != "maml"):
            if gain := over_seeds(minus(numbers(of[method], "test_accuracy"), maml)):
                point(right, place + 0.12 * (i - 1), gain, METHODS[method])
    _legend(left)
    if right.lines:
        right.axhline(0, color=GREY, ls=":", lw=1)
        right.set_xticks(range(2), ["short training", "longer training"])
        right.set(ylabel="gain over MAML (points)", xlim=(-0.5, 1.5))
    else:
        _legend(right)
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
    own = numbers(group, "masks/own")
    rows = []
    for how, name in EXCHANGED.items():
        values = numbers(group, f"masks/{how}")
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
    exchanged = {name: (judged, f"masks/{how}") for how, name in EXCHANGED.items()}
    borrowed = {name: (groups.get(e.name, []), "test_accuracy") for name, e in found.rows.items()}
    _dots(left, exchanged, EXCHANGED["own"])
    _dots(right, borrowed, BORROWED["own"])
    left.set_title("trained weights, other masks")
    right.set_title("weights trained anew")
    settings_line(part, _stamp(groups, found.rows.values()))
    return figure


def _dots(ax: Axes, rows: Mapping[str, tuple[Sequence[Record], str]], reference: str) -> None:
    """Draw a dot with its interval for each row, and a line through that of reference."""
    for y, (name, (group, metric)) in enumerate(rows.items()):
        value = over_seeds(numbers(group, metric))
        if value is None:
            why = "not asked" if finished(group) else "diverged" if group else NOT_RUN
            nothing(ax, why, y)
            continue
        point(ax, y, value, METHODS["sparse-maml"], across=True)
        if name == reference:
            ax.axvline(value.mean, color=GREY, ls=":", lw=1)
    ax.set_yticks(range(len(rows)), list(rows))
    ax.set(xlabel="test accuracy (%)", ylim=(len(rows) - 0.5, -0.5))
    if not ax.lines:
        ax.set_xticks([])


# Moving features, and interference


def movement_table(records: Sequence[Record], profile: str) -> str:
    """Return how similar features are before and after adaptation, by layer."""
    groups = by_experiment(records)
    last = f"movement/{LAYERS[-2]}"
    column = _looked_at(profile)
    maml = numbers(groups.get(column["maml"].name, []), last) if "maml" in column else {}
    rows = []
    for method, e in column.items():
        group = groups.get(e.name, [])
        rows.append(
            (
                METHODS[method].name,
                f"{e.inner_rate:g}",
                *(cell(numbers(group, f"movement/{layer}")) for layer in LAYERS),
                "–" if method == "maml" else cell(minus(numbers(group, last), maml)),
                counted(group),
            )
        )
    header = ("CKA × 100", "inner rate", *LAYERS, f"{LAYERS[-2]}: it − MAML", "seeds")
    return table(header, rows)


def interference_table(records: Sequence[Record], profile: str) -> str:
    """Return the cosines between two tasks' gradients, and between their steps."""
    groups = by_experiment(records)
    column = _looked_at(profile)
    maml = numbers(groups.get(column["maml"].name, []), COSINES[1]) if "maml" in column else {}
    rows = []
    for method, e in column.items():
        group = groups.get(e.name, [])
        whole, step = (numbers(group, probe) for probe in COSINES)
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
    _lines(left, groups, column, [f"movement/{layer}" for layer in LAYERS])
    _lines(right, groups, column, COSINES)
    left.set_xticks(range(len(LAYERS)), LAYERS)
    left.set_ylabel("CKA before and after × 100")
    left.set_title("features that stay", pad=18)
    if right.lines:
        right.axhline(0, color=GREY, ls=":", lw=1)
    else:
        _legend(right)
    right.set_xticks(range(len(COSINES)), ["gradients", "steps under the rule"])
    right.set(ylabel="cosine of two tasks × 100", xlim=(-0.5, 1.5))
    right.set_title("what two tasks have in common")
    _legend(left)
    settings_line(part, _stamp(groups, column.values()))
    return figure


def _stamp(groups: Mapping[str, Sequence[Record]], planned: Iterable[Experiment]) -> str:
    """Say what the runs shown were made with, which are missing and which diverged."""
    runs = {e: groups.get(e.name, []) for e in planned}
    by_problem: dict[str, list[Record]] = {}
    for e, group in runs.items():
        by_problem.setdefault(problem_name(e), []).extend(group)
    lines = [setting(records) for records in by_problem.values() if records]
    if not lines:
        return NOT_RUN
    lines[-1] += f" · {intervals([r for group in runs.values() for r in group])}"
    return "\n".join([*lines, *lacking({e.name: group for e, group in runs.items()})])
