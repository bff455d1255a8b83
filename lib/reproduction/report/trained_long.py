"""Claims about accuracy, decided by networks that have learned.

The chapter "Decided beforehand" states the gate, the four words and the family of contrasts; they
were committed before the first of these runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from scipy import stats

from reproduction.report.frame import by_experiment, finished
from reproduction.report.plotkit import set_theme

from ..plan import study
from ..runs.records import Record
from ..runs.statistics import Interval, t_interval
from .markdown import bounds, number, table

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
    gained, late = [], []
    for r in finished(runs):
        updates, accuracy = r["curves"]["update"], r["curves"]["val_accuracy"]
        before = max(i for i, u in enumerate(updates) if 3 * u <= 2 * r["parameters"]["updates"])
        gained.append(100 * (accuracy[-1] - accuracy[0]))
        late.append(100 * (accuracy[-1] - accuracy[before]))
    return Gate(float(np.mean(gained)), float(np.mean(late))) if gained else None


def word(gain: Interval, paper: float | None = None) -> str:
    """Return the verdict on an expected gain whose gate is open."""
    misses = paper is not None and gain.high < paper
    if gain.low > 0:
        return "partly" if misses else "supported"
    return "contradicted" if gain.high < 0 or misses else "undecided"


def holm(p: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Return which of a family of hypotheses are rejected by Holm's step-down procedure."""
    order = np.argsort(p, kind="stable")
    limits = level / np.arange(len(p), 0, -1)
    passed = np.minimum.accumulate(np.asarray(p, float)[order] <= limits)
    rejected = np.empty(len(p), bool)
    rejected[order] = passed
    return rejected.tolist()


def accuracy(r: Record) -> float:
    """Return the test accuracy in percent, that of chance for a run that diverged."""
    return 100 * r["final"]["test_accuracy"]["mean"] if r["status"] == "finished" else CHANCE


def _answer(r: Record, probe: str) -> float:
    mean = r["final"].get("probes", {}).get(probe, {}).get("mean")
    return math.nan if mean is None else 100 * mean


class Contrast(NamedTuple):
    """One expected difference: `a` less `b`, paired by seed."""

    number: str
    says: str
    a: str
    b: str
    """Names of experiments; the second is the baseline, whose gate counts."""
    value: Callable[[Record], float] = accuracy
    """What is compared, percent; NaN leaves a pair out."""
    paper: float | None = None
    """The paper's difference under equal conditions, points."""


def _at(method: str) -> str:
    """Return the name of a method's 5-shot run at the rate chosen for it."""
    rate = study.LONG_RATES.get(method)
    both = rate == 0.1 and method in ("maml", "sparse-maml")
    return f"k15-5shot-{method}" + ("" if both else f"-rate{rate}")


_SPARSE, _MAML = "k15-5shot-sparse-maml", "k15-5shot-maml"

FAMILY = (
    Contrast("primary", "sparse-MAML − MAML, both at rate 0.1", _SPARSE, _MAML, paper=1.7),
    Contrast(
        "secondary",
        "sparse-MAML − MAML, each at its own rate",
        _at("sparse-maml"),
        _at("maml"),
        paper=2.8,
    ),
    Contrast("5a", "sparse-MAML − BOIL, own rates", _at("sparse-maml"), _at("boil")),
    Contrast("5a", "BOIL − MAML, own rates", _at("boil"), _at("maml")),
    Contrast("5a", "MAML − ANIL, both at rate 0.1", _MAML, "k15-5shot-anil"),
    Contrast(
        "5a",
        "sparse-MAML − MAML, 1 shot, both at rate 0.1",
        "k15-1shot-sparse-maml",
        "k15-1shot-maml",
    ),
    Contrast("6", "gain on CUB", _SPARSE, _MAML, lambda r: _answer(r, "on:cub")),
    Contrast("6", "gain on Cars", _SPARSE, _MAML, lambda r: _answer(r, "on:cars")),
    Contrast(
        "6",
        "gain on CUB − gain on miniImageNet",
        _SPARSE,
        _MAML,
        lambda r: _answer(r, "on:cub") - accuracy(r),
    ),
    Contrast(
        "11",
        "what MAML loses from K to 10 K steps − what sparse-MAML loses",
        _SPARSE,
        _MAML,
        lambda r: _answer(r, "steps/150") - _answer(r, "steps/15"),
    ),
    Contrast(
        "12a", "learned masks − the same shuffled and kept", _SPARSE, f"{_SPARSE}-shuffled-masks"
    ),
    Contrast(
        "12b",
        "similarity of features before and after, sparse-MAML − MAML (CKA × 100)",
        _SPARSE,
        _MAML,
        lambda r: _answer(r, "movement/layer4"),
    ),
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


def outcomes(records: Iterable[Record]) -> list[Outcome]:
    """Decide every contrast of :data:`FAMILY`."""
    groups = by_experiment(records)
    found = []
    for c in FAMILY:
        a, b = ({r["seed"]: c.value(r) for r in groups.get(name, [])} for name in (c.a, c.b))
        pairs = [a[s] - b[s] for s in sorted(a.keys() & b.keys())]
        d = [x for x in pairs if math.isfinite(x)]
        opened = gate(groups.get(c.b, []))
        if len(d) < 2 or opened is None:
            found.append(Outcome(c, None, 1.0, opened, TOO_FEW))
            continue
        gain = t_interval(d)
        p = float(stats.ttest_1samp(d, 0).pvalue) if np.ptp(d) else float(not d[0])
        verdict = word(gain, c.paper) if opened.open else SHUT
        found.append(Outcome(c, gain, p, opened, verdict))
    survives = holm([o.p for o in found])
    return [o._replace(holds_after_holm=s) for o, s in zip(found, survives, strict=True)]


def outcome_table(records: Iterable[Record]) -> str:
    """Return the family as a Markdown table: gain, the paper's, gate, Holm, word."""
    header = ("claim", "difference", "here", "paper", "seeds", "gate of the baseline", "word")
    rows = []
    for o in outcomes(records):
        g, c = o.gate, o.contrast
        rows.append(
            (
                c.number,
                c.says,
                bounds(*o.gain[:3]) + ("" if o.holds_after_holm else "°") if o.gain else "–",
                f"+{c.paper:g}" if c.paper is not None else "–",
                str(o.gain.n) if o.gain else "–",
                f"{number(g.gained)} gained, {number(g.late)} late" if g else "–",
                o.word,
            )
        )
    return table(header, rows)


def gate_table(records: Iterable[Record]) -> str:
    """Return the gate of each experiment as a Markdown table."""
    rows = []
    for name, runs in by_experiment(records).items():
        g = gate(runs)
        if g is not None:
            length = str(runs[0]["parameters"]["updates"])
            state = "open" if g.open else "shut"
            rows.append((name, length, str(len(runs)), number(g.gained), number(g.late), state))
    return table(("runs", "updates", "seeds", "gained", "late", "gate"), rows)


def draw_learning(records: Sequence[Record]) -> Figure:
    """Draw validation accuracy over training for the runs of the primary contrast."""
    set_theme()
    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    groups = by_experiment(records)
    for colour, (name, label) in zip(
        sns.color_palette("deep"), {_MAML: "MAML", _SPARSE: "sparse-MAML"}.items(), strict=False
    ):
        runs = finished(groups.get(name, []))
        for r in runs:
            accuracies = [100 * v for v in r["curves"]["val_accuracy"]]
            axes.plot(r["curves"]["update"], accuracies, color=colour, lw=0.8, alpha=0.5)
        if runs:
            end = np.mean([100 * r["curves"]["val_accuracy"][-1] for r in runs])
            x = runs[0]["curves"]["update"][-1]
            axes.annotate(label, (x, end), (6, 0), textcoords="offset points", color=colour)
    axes.set(xlabel="meta-updates", ylabel="validation accuracy (%)")
    plt.close(figure)  # the caller shows it, once
    return figure
