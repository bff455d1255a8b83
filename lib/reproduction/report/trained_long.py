"""Claims about accuracy, decided by networks that have learned.

The chapter "Decided beforehand" states the gate, the four words and the family of contrasts; they
were committed before the first of these runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from ..plan import study
from ..runs.records import Record
from ..runs.statistics import Interval, t_interval
from .frame import by_experiment, by_seed, finished, frame
from .markdown import bounds, number, table
from .plotkit import METHODS, direct_labels, panels

LEARNED = 10.0
"""Percentage points of validation accuracy that meta-training must have added to the baseline."""

STILL_LEARNING = 1.0
"""Percentage points that it may add at most over its last third."""

LEVEL = 0.05
"""Of Holm's correction over the family."""

CHANCE = 20.0
"""Accuracy that a diverged run counts with, percent (5 ways)."""

TOO_FEW = "not decided: too few seeds yet"
SHUT = "undecided: not trained long enough"


class Gate(NamedTuple):
    """Whether a network has learned, and has almost stopped; validation accuracy in points."""

    gained: float
    """Last validation less that of the untrained network, mean over seeds."""
    late: float
    """Last validation less the last one made in the first two thirds, mean over seeds."""

    @property
    def open(self) -> bool:
        """Whether runs of this length decide anything."""
        return self.gained >= LEARNED and self.late < STILL_LEARNING


def gate(runs: Iterable[Record]) -> Gate | None:
    """Return the gate of an experiment from its finished runs, None if there is none."""
    gains = []
    for r in finished(runs):
        updates, accuracy = r["curves"]["update"], np.array(r["curves"]["val_accuracy"])
        before = max(i for i, u in enumerate(updates) if 3 * u <= 2 * r["parameters"]["updates"])
        gains.append(100 * (accuracy[-1] - accuracy[[0, before]]))
    return Gate(*(float(np.mean(g)) for g in zip(*gains, strict=True))) if gains else None


def word(gain: Interval, paper: float | None = None) -> str:
    """Return the verdict on an expected gain whose gate is open."""
    misses = paper is not None and gain.high < paper
    if gain.low > 0:
        return "partly" if misses else "supported"
    return "contradicted" if gain.high < 0 or misses else "undecided"


def holm(p: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Return which of a family of hypotheses are rejected by Holm's step-down procedure."""
    order = np.argsort(p, kind="stable")
    passed = np.minimum.accumulate(np.asarray(p)[order] <= level / np.arange(len(p), 0, -1))
    return passed[np.argsort(order)].tolist()


class Contrast(NamedTuple):
    """One expected difference: `a` less `b`, paired by seed."""

    number: str
    says: str
    a: str
    b: str
    """Names of experiments; the second is the baseline, whose gate counts."""
    metric: str = "test_accuracy"
    less: str | None = None
    """A metric that is subtracted from the other one first."""
    paper: float | None = None
    """The paper's difference under equal conditions, points."""


def _at(method: str) -> str:
    """Return the name of a method's 5-shot run at the rate chosen for it."""
    rate = study.LONG_RATES.get(method)
    both = rate == 0.1 and method in ("maml", "sparse-maml")
    return f"k15-5shot-{method}" + ("" if both else f"-rate{rate}")


_SPARSE, _MAML = "k15-5shot-sparse-maml", "k15-5shot-maml"
_ONE_SHOT = ("k15-1shot-sparse-maml", "k15-1shot-maml")
_OWN_SPARSE, _OWN_MAML, _OWN_BOIL = map(_at, ("sparse-maml", "maml", "boil"))
_MORE_STEPS = "what MAML loses from K to 10 K steps − what sparse-MAML loses"
_CKA = "similarity of features before and after, sparse-MAML − MAML (CKA × 100)"

FAMILY = (
    Contrast("primary", "sparse-MAML − MAML, both at rate 0.1", _SPARSE, _MAML, paper=1.7),
    Contrast(
        "secondary", "sparse-MAML − MAML, each at its own rate", _OWN_SPARSE, _OWN_MAML, paper=2.8
    ),
    Contrast("5a", "sparse-MAML − BOIL, own rates", _OWN_SPARSE, _OWN_BOIL),
    Contrast("5a", "BOIL − MAML, own rates", _OWN_BOIL, _OWN_MAML),
    Contrast("5a", "MAML − ANIL, both at rate 0.1", _MAML, "k15-5shot-anil"),
    Contrast("5a", "sparse-MAML − MAML, 1 shot, both at rate 0.1", *_ONE_SHOT),
    Contrast("6", "gain on CUB", _SPARSE, _MAML, "on:cub"),
    Contrast("6", "gain on Cars", _SPARSE, _MAML, "on:cars"),
    Contrast("6", "gain on CUB − gain on miniImageNet", _SPARSE, _MAML, "on:cub", "test_accuracy"),
    Contrast("11", _MORE_STEPS, _SPARSE, _MAML, "steps/150", "steps/15"),
    Contrast(
        "12a", "learned masks − the same shuffled and kept", _SPARSE, f"{_SPARSE}-shuffled-masks"
    ),
    Contrast("12b", _CKA, _SPARSE, _MAML, "movement/layer4"),
)
"""The claims about accuracy that long runs decide; Holm's correction is over all of them."""


class Outcome(NamedTuple):
    """What came out of a contrast."""

    contrast: Contrast
    gain: Interval | None
    """None with fewer than two seeds."""
    p: float
    """Of the two-sided paired t-test; 1 where nothing can be said yet."""
    gate: Gate | None
    """Of the baseline."""
    word: str
    holds_after_holm: bool = False


def outcomes(records: Sequence[Record]) -> list[Outcome]:
    """Decide every contrast of :data:`FAMILY`."""
    groups, numbers = by_experiment(records), frame(records, {"test_accuracy": CHANCE})

    def value(experiment: str, c: Contrast) -> pd.Series:
        values = by_seed(numbers, experiment, c.metric)
        return values - by_seed(numbers, experiment, c.less) if c.less else values

    def decide(c: Contrast) -> Outcome:
        gains = (value(c.a, c) - value(c.b, c)).dropna().tolist()
        learned = gate(groups.get(c.b, []))
        if len(gains) < 2 or learned is None:
            return Outcome(c, None, 1.0, learned, TOO_FEW)
        gain = t_interval(gains)
        p = stats.ttest_1samp(gains, 0).pvalue if np.ptp(gains) else not gains[0]
        return Outcome(c, gain, float(p), learned, word(gain, c.paper) if learned.open else SHUT)

    decided = [decide(c) for c in FAMILY]
    survives = holm([o.p for o in decided])
    return [o._replace(holds_after_holm=s) for o, s in zip(decided, survives, strict=True)]


def outcome_table(records: Sequence[Record]) -> str:
    """Return the family as a Markdown table: gain, the paper's, gate, Holm, word."""
    header = ("claim", "difference", "here", "paper", "seeds", "gate of the baseline", "word")
    rows = []
    for c, gain, _, learned, verdict, holds in outcomes(records):
        here = bounds(*gain[:3]) + ("" if holds else "°") if gain else "–"
        paper = f"+{c.paper:g}" if c.paper is not None else "–"
        state = "{} gained, {} late".format(*map(number, learned)) if learned else "–"
        rows.append((c.number, c.says, here, paper, str(gain.n) if gain else "–", state, verdict))
    return table(header, rows)


def gate_table(records: Sequence[Record]) -> str:
    """Return the gate of each experiment as a Markdown table."""
    rows = []
    for name, runs in by_experiment(records).items():
        if learned := gate(runs):
            length, state = runs[0]["parameters"]["updates"], "open" if learned.open else "shut"
            rows.append((name, f"{length}", f"{len(runs)}", *map(number, learned), state))
    return table(("runs", "updates", "seeds", "gained", "late", "gate"), rows)


def draw_learning(records: Sequence[Record]) -> Figure:
    """Draw validation accuracy over training for the runs of the primary contrast."""
    figure, (part,) = panels(["A line for each seed"], 3.4)
    ax, groups, ends = part.subplots(), by_experiment(finished(records)), []
    for name, look in {_MAML: METHODS["maml"], _SPARSE: METHODS["sparse-maml"]}.items():
        curves = [r["curves"] for r in groups.get(name, [])]
        for c in curves:
            accuracy = 100 * np.array(c["val_accuracy"])
            ax.plot(c["update"], accuracy, color=look.rgb, lw=0.8, alpha=0.5)
        if curves:
            end = 100 * np.mean([c["val_accuracy"][-1] for c in curves])
            ends.append((look.name, curves[0]["update"][-1], end, look.rgb))
    ax.set(xlabel="meta-updates", ylabel="validation accuracy (%)")
    direct_labels(ax, ends)
    return figure
