"""Inside the inner loop: longer loops, masks exchanged, moving features, interference.

Tables and figures of what :mod:`reproduction.runs.probes` asked of trained networks, and of
weights trained anew under masks that were learned before.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plan import study
from ..plan.few_shot import FEATURES, LONGER, LONGER_RUNS, PROBED, TABLE1
from ..runs.experiment import Experiment
from ..runs.probes import STEPS
from ..runs.records import Record
from ..runs.statistics import t_interval
from . import plotkit
from .curves import LAYERS
from .frame import by_experiment, by_seed, finished, frame, mean, over_seeds, paired
from .markdown import interval, table
from .mask_overlap import with_start
from .naming import counted, problem_name, settings, why_absent
from .plotkit import GREY, METHODS

EXCHANGED = {
    "own": "the learned mask",
    "shuffled": "shuffled in each tensor",
    "random": "scattered over all tensors",
    "all": "none: all weights move",
    "head": "the learned one, last layer only",
    "body": "the learned one, all but the last layer",
}
"""Masks under which trained weights are judged, by the end of the probe's name."""

LEARNED = "learned along with the weights"
"""The training whose masks are exchanged and borrowed."""

BORROWED = {"own": "the learned mask, kept"} | {n: EXCHANGED[n] for n in ("shuffled", "random")}
"""Masks under which weights are trained anew, by ``Experiment.masks_as``."""

COSINES = ("interference/gradient", "interference/step")

Row = tuple[Sequence[str], Experiment, Experiment | None]
"""The first cells of a line, the run that it is about, and the one to compare it with."""


def _table(
    records: Sequence[Record],
    names: Sequence[str],
    rows: Iterable[Row],
    columns: Mapping[str, Sequence[str]],
    sign: int = 1,
) -> str:
    """Return numbers over seeds; a column is a metric less others, the last one is compared."""
    numbers, groups = frame(records), by_experiment(records)

    def value(e: Experiment, column: Sequence[str]) -> pd.Series:
        steps = {"K": e.inner_steps, "ten_K": STEPS[-1] * e.inner_steps}
        metrics = (by_seed(numbers, e.name, metric.format(**steps)) for metric in column)
        return functools.reduce(operator.sub, metrics)

    lines, compared = [], list(columns.values())[-1]
    for named, e, other in rows:
        *cells, last = (value(e, column) for column in columns.values())
        difference = last - value(other, compared) if other not in (None, e) else None
        versus = "–" if difference is None else _cell(sign * difference)
        lines.append((*named, *map(_cell, cells), versus, counted(groups.get(e.name, []))))
    return table((*names, *columns, "seeds"), lines)


def _cell(values: pd.Series) -> str:
    return interval(over_seeds(values.dropna()))


def _methods(planned: Iterable[Experiment], probe: str) -> dict[str, Experiment]:
    """Return the experiments of which a probe is asked, by method, in the order of ``PROBED``."""
    asked = {e.method: e for e in planned if probe in e.probes}
    return {m: asked[m] for m in dict.fromkeys((*PROBED, *asked)) if m in asked}


def _beside_maml(runs: Mapping[str, Experiment]) -> list[Row]:
    maml = runs.get("maml")
    return [((METHODS[m].name, f"{e.inner_rate:g}"), e, maml) for m, e in runs.items()]


def _lines(
    ax: Axes,
    numbers: pd.DataFrame,
    runs: Mapping[str, Experiment],
    places: Mapping[str, str],
) -> list[plotkit.End]:
    """Draw some numbers of each method, by what their places are called."""
    lines = {
        METHODS[m]: [mean(numbers, e.name, metric) for metric in places.values()]
        for m, e in runs.items()
    }
    return plotkit.side_by_side(ax, list(places), lines)


# Longer loops


def _by_shots(profile: str) -> list[dict[str, Experiment]]:
    """Return the runs whose inner loops go on: by method, for each number of shots."""
    planned = study.few_shot(profile, LONGER)
    shots = sorted({e.shots for e in planned}, reverse=True)
    return [_methods((e for e in planned if e.shots == n), "steps") for n in shots]


def longer_table(records: Sequence[Record], profile: str) -> str:
    """Return what each method loses from K to 10 K inner steps."""
    rows: list[Row] = [
        ((f"{e.shots}", *names), e, maml)
        for runs in _by_shots(profile)
        for names, e, maml in _beside_maml(runs)
    ]
    columns = {
        "0 steps (%)": ("steps/0",),
        "K steps (%)": ("steps/{K}",),
        "10 K steps (%)": ("steps/{ten_K}",),
        "lost from K to 10 K": ("steps/{K}", "steps/{ten_K}"),
        "MAML's loss − its loss": ("steps/{K}", "steps/{ten_K}"),
    }
    return _table(records, ("shots", "method", "inner rate"), rows, columns, sign=-1)


def draw_longer(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw test accuracy over the number of inner steps when tested."""
    numbers, columns = frame(records), _by_shots(profile)
    figure, (part,) = plotkit.panels([title], height=3.4)
    axes = part.subplots(1, len(columns), squeeze=False)[0]
    for ax, runs in zip(axes, columns, strict=True):
        first = next(iter(runs.values()))
        steps = [f"{n * first.inner_steps}" for n in STEPS]
        if ends := _lines(ax, numbers, runs, {k: f"steps/{k}" for k in steps}):
            ax.axhline(100 / first.ways, color=GREY, ls=":", lw=1)
            ax.axvline(STEPS.index(1), color=GREY, ls=":", lw=1)
            plotkit.direct_labels(ax, ends)
        ax.set_title(f"{first.ways}-way {first.shots}-shot")
        ax.set_xlabel(f"inner steps when tested (trained with K = {first.inner_steps})")
        ax.set_ylabel("test accuracy (%)")
    shown = [e for runs in columns for e in runs.values()]
    plotkit.settings_line(part, settings(records, shown))
    return figure


# Longer training


def draw_longer_training(title: str, records: Sequence[Record]) -> Figure:
    """Draw validation accuracy over training, and gains over MAML after short and long ones."""
    groups, numbers = by_experiment(records), frame(records)
    planned = study.few_shot("study", TABLE1)
    longer = {e.method: e for e in planned if e.name.startswith(f"{LONGER_RUNS}-")}
    figure, (part,) = plotkit.panels([title], height=3.4)
    left, right = part.subplots(1, 2, width_ratios=[1.4, 1])
    ends = []
    for method, e in longer.items():
        if group := finished(groups.get(e.name, [])):
            look, x = METHODS[method], group[0]["curves"]["update"]
            each = 100 * np.array([r["curves"]["val_accuracy"] for r in group])
            middle, low, high, _ = np.array([t_interval(values) for values in each.T]).T
            plotkit.band(left, x, middle, low, high, color=look.rgb, marker=look.marker)
            ends.append((look.name, x[-1], middle[-1], look.rgb))
    plotkit.direct_labels(left, ends)
    left.set(xlabel="updates", ylabel="validation accuracy (%)")
    for place, prefix in enumerate(("convnet4", LONGER_RUNS)):
        names = {m: e.name.replace(LONGER_RUNS, prefix) for m, e in longer.items()}
        for i, method in enumerate(m for m in names if m != "maml"):
            if gain := paired(numbers, names[method], names["maml"], "test_accuracy"):
                plotkit.point(right, place + 0.12 * (i - 1), gain, METHODS[method])
    right.axhline(0, color=GREY, ls=":", lw=1)
    right.set_xticks(range(2), ["short training", "longer training"])
    right.set(ylabel="gain over MAML (points)", xlim=(-0.5, 1.5))
    plotkit.settings_line(part, settings(records, longer.values()))
    return figure


# Masks exchanged


def trainings(profile: str) -> dict[str, Experiment]:
    """Return the experiments in which a mask is learned, borrowed or absent, by what it is."""
    planned = {e.name: e for e in study.few_shot(profile, FEATURES)}
    runs = {LEARNED: next(e for e in planned.values() if "masks" in e.probes)}
    for e in planned.values():
        if e.masks_from == runs[LEARNED].name:
            runs[BORROWED[e.masks_as]] = e
        elif e.masks_from:
            runs[f"learned on {problem_name(planned[e.masks_from])}"] = e
    maml = next(e for e in planned.values() if e.method == "maml")
    return runs | {"none: all weights move (MAML)": maml}


def exchanged_table(records: Sequence[Record], profile: str) -> str:
    """Return how sparse-MAML's weights do under other masks than their own."""
    numbers, learned = frame(records), trainings(profile)[LEARNED].name
    seeds = counted(by_experiment(records).get(learned, []))
    rows = []
    for how, name in EXCHANGED.items():
        own, this = (by_seed(numbers, learned, f"masks/{mask}") for mask in ("own", how))
        rows.append((name, _cell(this), "–" if how == "own" else _cell(own - this), seeds))
    return table(("mask when tested", "test accuracy (%)", "learned mask − this", "seeds"), rows)


def borrowed_table(records: Sequence[Record], profile: str) -> str:
    """Return how weights do that were trained anew under masks learned before."""
    runs = trainings(profile)
    rows = [((name, f"{e.inner_rate:g}"), e, runs[BORROWED["own"]]) for name, e in runs.items()]
    columns = {
        "moving weights (%)": ("moving",),
        "test accuracy (%)": ("test_accuracy",),
        "kept mask − this": ("test_accuracy",),
    }
    return _table(records, ("mask when trained", "inner rate"), rows, columns, sign=-1)


def donors(records: Sequence[Record], profile: str) -> str:
    """Return where the learned masks come from that are shuffled, scattered and kept."""
    learned = finished(by_experiment(records).get(trainings(profile)[LEARNED].name, []))
    kappa = with_start(learned).query("layer == 'all'").set_index("seed_a")["kappa"]
    rows = [
        (
            f"{r['seed']}",
            f"{r['final']['best_update']}",
            f"{100 * r['final']['best_sparsity']:.1f}",
            f"{kappa[r['seed']]:.2f}" if r["seed"] in kappa else "–",
        )
        for r in learned
    ]
    header = ("seed", "learned for (updates)", "frozen weights (%)", "agreement with its start")
    return table(header, rows)


def draw_masks(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw test accuracies under masks exchanged (left) and borrowed (right)."""
    numbers, groups, runs = frame(records), by_experiment(records), trainings(profile)
    exchanged = {name: (runs[LEARNED], f"masks/{how}") for how, name in EXCHANGED.items()}
    borrowed = {name: (e, "test_accuracy") for name, e in runs.items()}
    figure, (part,) = plotkit.panels([title], height=3.2)
    left, right = part.subplots(1, 2)
    for ax, rows, reference in (
        (left, exchanged, EXCHANGED["own"]),
        (right, borrowed, BORROWED["own"]),
    ):
        values = {name: mean(numbers, e.name, metric) for name, (e, metric) in rows.items()}
        absent = {name: why_absent(groups.get(e.name, [])) for name, (e, _) in rows.items()}
        look = METHODS["sparse-maml"]
        lines = {name: (value or absent[name], look) for name, value in values.items()}
        plotkit.forest(ax, lines, "test accuracy (%)", zero=False)
        if learned := values[reference]:
            ax.axvline(learned.mean, color=GREY, ls=":", lw=1)
    left.set_title("trained weights, other masks")
    right.set_title("weights trained anew")
    plotkit.settings_line(part, settings(records, runs.values()))
    return figure


# Moving features, and interference


def _looked_at(profile: str) -> dict[str, Experiment]:
    """Return the experiments whose inner loops are looked into, by method."""
    return _methods(study.few_shot(profile, FEATURES), "movement")


def movement_table(records: Sequence[Record], profile: str) -> str:
    """Return how similar features are before and after adaptation, by layer."""
    columns = {layer: (f"movement/{layer}",) for layer in LAYERS}
    columns[f"{LAYERS[-2]}: it − MAML"] = columns[LAYERS[-2]]
    rows = _beside_maml(_looked_at(profile))
    return _table(records, ("CKA × 100", "inner rate"), rows, columns)


def interference_table(records: Sequence[Record], profile: str) -> str:
    """Return the cosines between two tasks' gradients, and between their steps."""
    gradient, step = COSINES
    columns = {
        "gradients": (gradient,),
        "steps": (step,),
        "steps − gradients": (step, gradient),
        "its steps − MAML's steps": (step,),
    }
    rows = [(names[:1], e, maml) for names, e, maml in _beside_maml(_looked_at(profile))]
    return _table(records, ("cosine × 100",), rows, columns)


def draw_movement(title: str, records: Sequence[Record], profile: str) -> Figure:
    """Draw the similarity of features over the layers, and the cosines of each method."""
    numbers, runs = frame(records), _looked_at(profile)
    figure, (part,) = plotkit.panels([title], height=3.4)
    left, right = part.subplots(1, 2, width_ratios=[1.25, 1])
    ends = _lines(left, numbers, runs, {layer: f"movement/{layer}" for layer in LAYERS})
    plotkit.direct_labels(left, ends)
    left.set(title="features that stay", ylabel="CKA before and after × 100")
    places = dict(zip(("gradients", "steps under the rule"), COSINES, strict=True))
    if _lines(right, numbers, runs, places):
        right.axhline(0, color=GREY, ls=":", lw=1)
    right.set(title="what two tasks have in common", ylabel="cosine of two tasks × 100")
    plotkit.settings_line(part, settings(records, runs.values()))
    return figure
