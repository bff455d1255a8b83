"""A claim as data: its statistics, what is needed of each, and the rule of its verdict.

:meth:`Claim.test` applies it to records.  The words that the ledger shows of a test, and that the
chapter "Decided beforehand" repeats, come from the same data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from ..report.frame import by_experiment, by_seed, finished, frame
from ..runs.experiment import Planned
from ..runs.records import Record
from ..runs.statistics import Interval, t_interval
from .finding import TOO_FEW, Finding


class Needed(NamedTuple):
    """What is needed of a statistic: of its interval, or of its mean where it has none."""

    words: str
    holds: Callable[[float, float], bool]
    """From the ends of the interval."""


SHOWN = Needed("–", lambda low, high: True)
"""Of a statistic that stands beside a test and decides nothing."""


def above(bar: float, of: str = "interval ") -> Needed:
    """Ask that it lies above a bar; `of` is empty where the words do not name the interval."""
    return Needed(f"{of}above {bar:g}", lambda low, high: low > bar)


def below(bar: float, of: str = "interval ") -> Needed:
    """Ask that it lies below a bar."""
    return Needed(f"{of}below {bar:g}", lambda low, high: high < bar)


def not_above(bar: float) -> Needed:
    """Ask that it does not lie above a bar."""
    return Needed(f"interval not above {bar:g}", lambda low, high: low <= bar)


def not_below(bar: float, of: str = "interval ") -> Needed:
    """Ask that it does not lie below a bar."""
    return Needed(f"{of}not below {bar:g}", lambda low, high: high >= bar)


def within(bar: float) -> Needed:
    """Ask that it lies between a bar and its negative."""
    return Needed(f"interval within ±{bar:g}", lambda low, high: -bar < low and high < bar)


def without(bar: float) -> Needed:
    """Ask that it does not hold a number."""
    return Needed(f"interval without {bar:g}", lambda low, high: low > bar or high < bar)


class Runs:
    """The runs of a claim, as its statistics see them."""

    def __init__(self, records: Sequence[Record], counts: Mapping[str, float]) -> None:
        self.records = finished(records)
        self._table = frame(records, counts)

    def __call__(self, experiment: str, metric: str) -> pd.Series:
        """Return a number of the frame by seed; of runs that diverged, what they count with."""
        return by_seed(self._table, experiment, metric)

    def curve(self, experiment: str, name: str) -> dict[int, np.ndarray]:
        """Return a curve of the finished runs of an experiment by seed."""
        group = by_experiment(self.records).get(experiment, [])
        return {r["seed"]: np.asarray(r["curves"][name]) for r in group}


class Statistic(NamedTuple):
    """A line of a test's evidence."""

    name: str
    of: Callable[[Runs], pd.Series | Interval]
    """Its values by seed, or the outcome itself where it is none of a mean over seeds."""
    needed: Needed
    part: str = ""
    """Which of the test's lines it belongs to, for the rules of the verdict."""
    required: bool = True
    """Whether nothing is decided without it; otherwise the line alone stays open, and fails."""


def difference(a: str, b: str, metric: str = "test_accuracy") -> Callable[[Runs], pd.Series]:
    """Return a statistic's values: a number of one experiment less that of another."""
    return lambda runs: runs(a, metric) - runs(b, metric)


class Line(NamedTuple):
    """A statistic and its outcome."""

    statistic: Statistic
    interval: Interval
    holds: bool

    @classmethod
    def of(cls, statistic: Statistic, interval: Interval) -> Self:
        """Say whether it is as needed."""
        mean, low, high, _ = interval
        ends = (low, high) if math.isfinite(low) else (mean, mean)
        return cls(statistic, interval, bool(statistic.needed.holds(*ends)))

    def as_row(self) -> dict[str, Any]:
        """Return it as a row of a finding's evidence."""
        mean, low, high, n = self.interval
        ends = {"mean": mean, "low": low, "high": high, "seeds": n}
        needed = self.statistic.needed.words
        return {"statistic": self.statistic.name, **ends, "needed": needed, "holds": self.holds}


Decides = Callable[[Sequence[Line]], bool]
"""From the lines of a test that decide to whether a verdict is earned."""


def _of(lines: Sequence[Line], parts: Collection[str]) -> list[Line]:
    return [line for line in lines if not parts or line.statistic.part in parts]


def every(*parts: str) -> Decides:
    """All lines hold, or all of some parts."""
    return lambda lines: all(line.holds for line in _of(lines, parts))


def some(*parts: str) -> Decides:
    """One line holds at least."""
    return lambda lines: any(line.holds for line in _of(lines, parts))


def none_below(*parts: str) -> Decides:
    """No interval lies below zero."""
    return lambda lines: not any(line.interval.high < 0 for line in _of(lines, parts))


def all_of(*rules: Decides) -> Decides:
    """All of some rules."""
    return lambda lines: all(rule(lines) for rule in rules)


def any_of(*rules: Decides) -> Decides:
    """One of some rules."""
    return lambda lines: any(rule(lines) for rule in rules)


def by_its_test(records: Sequence[Record], earned: bool) -> str:
    """Say that noise earns nothing where the test is against noise already."""
    return "yes" if earned else "no"


def never(lines: Sequence[Line]) -> bool:
    """Nothing earns this verdict."""
    return False


class Verdict(NamedTuple):
    """When a claim is supported, and when partly: in words, and as a rule."""

    supported: str
    whole: Decides
    partly: str
    part: Decides

    def __call__(self, lines: Sequence[Line]) -> str:
        """Return the verdict that lines earn."""
        if self.whole(lines):
            return "supported"
        return "partly supported" if self.part(lines) else "not supported"


class Diverged(NamedTuple):
    """What a run that diverged does."""

    said: str = "left out of the means, and named in the verdict"
    counts: Mapping[str, float] = {}
    """What it counts with, by metric; without any it is left out."""
    against: Callable[[str], bool] = lambda name: False
    """Of which experiments it speaks against the claim, whatever else there is."""


def against(method: str, *ends: str) -> Diverged:
    """Leave runs out, but support nothing if one of the method that the claim speaks for is."""
    said = f"{Diverged().said}; the claim is not supported if it is a run of {method}"
    return Diverged(said, {}, lambda name: name.endswith(ends))


def as_chance(runs: Iterable[Any], *metrics: str, beside: str = "") -> Diverged:
    """Count runs with the accuracy of chance."""
    (ways,) = {e.ways for e in runs}
    said = f"counts with the accuracy of chance, {100 / ways:g} %{beside}"
    return Diverged(said, dict.fromkeys(metrics, 100 / ways))


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and the test that decides it."""

    number: str
    """As in the chapter "Decided beforehand"."""
    says: str
    title: str
    """In fewer words, above its evidence."""
    page: str
    """Notebook that shows the evidence."""
    problem: str
    """What it is tested on."""
    runs: Sequence[Planned]
    """The experiments that the test needs."""
    statistics: Sequence[Statistic]
    verdict: Verdict
    diverged: Diverged
    headline: str
    """The statistic that stands for the evidence."""
    unit: str = "points"
    """Of the headline."""
    paper: Callable[[Path], float] | None = None
    """The headline in the paper's published numbers, where it gives it for equal conditions."""
    late: str = ""
    """When the test was stated, if something was known by then that it is about."""
    together: bool = False
    """Whether every line rests on the seeds that all deciding ones have."""
    answer: str = ""
    """What a run must have been asked besides being made, in words."""
    beside: Collection[str] = ()
    """Experiments that only lines need that decide nothing."""
    baseline: str = ""
    """Of a claim about accuracy: the experiment that must have learned for it to be decided."""
    noise: Callable[[Sequence[Record], bool], str] = field(default=lambda records, earned: "–")
    """Whether the outcome beats what noise would make: yes, in part, no, or – where no null of
    noise was run; given the records and whether the claim is supported at all."""
    notes: Callable[[Sequence[Record]], list[str]] = field(default=lambda counted: [])
    """What a verdict says of the runs that it rests on."""

    def stated(self) -> dict[str, Any]:
        """Return the test in words, as it stands in ``results/claims.json``."""
        return {
            "statistics": [
                {"statistic": s.name, "needed": s.needed.words} for s in self.statistics
            ],
            "supported": self.verdict.supported,
            "partly supported": self.verdict.partly,
            "diverged": self.diverged.said,
        }

    def test(self, records: Iterable[Record]) -> Finding:
        """Apply the test to the records of its runs; others are not looked at."""
        names = {e.name for e in self.runs}
        given = [r for r in records if r["experiment"] in names]
        runs = Runs(given, self.diverged.counts)
        values = [s.of(runs) for s in self.statistics]
        if self.together:
            values = _on_common_seeds(self.statistics, values)
        outcomes = [_outcome(v) for v in values]
        lines = [Line.of(*pair) for pair in zip(self.statistics, outcomes, strict=True)]
        deciding = [x for x in lines if x.statistic.needed is not SHOWN]
        needed = [x.interval.n for x in deciding if x.statistic.required]
        matter = [r for r in given if r["experiment"] not in self.beside]
        lost = [r for r in matter if r["status"] == "diverged"]
        if min(needed) < 2:
            word, lines = self._undecided(matter, bool(lost), min(needed)), []
        else:
            word = self.verdict(deciding)
        if any(self.diverged.against(r["experiment"]) for r in lost):
            word = "not supported"
        shown = [x.as_row() for x in lines if x.statistic.needed is not SHOWN or x.interval.n > 1]
        if self.diverged.counts:
            seeds = {s for v in values if isinstance(v, pd.Series) for s in v.dropna().index}
            counted = [r for r in matter if r["seed"] in seeds] if lines else []
            notes = _as_chance(counted) + self.notes(counted)
        else:
            notes = left_out(matter)
        end = f" ({'; '.join(notes)})" if notes else ""
        return Finding(
            f"{self.number.split(',')[0]}. {self.title}", word + end, pd.DataFrame(shown)
        )

    def _undecided(self, runs: Sequence[Record], lost: bool, seeds: int) -> str:
        """Say why nothing is decided: too few seeds, all runs diverged, or no answers."""
        groups = by_experiment(runs)
        made = [{r["seed"] for r in finished(g)} for g in groups.values()]
        paired = set.intersection(*made) if made else set()
        if self.answer and len(paired) > 1 and len(made) == len(self.runs) - len(self.beside):
            return f"no data (seeds {self.answer}: {seeds} of {len(paired)})"
        if lost and any(len(g) > 1 and not finished(g) for g in groups.values()):
            return "not testable"  # what is left out says why
        return TOO_FEW


def _on_common_seeds(
    statistics: Sequence[Statistic], values: Sequence[pd.Series | Interval]
) -> list[pd.Series | Interval]:
    known = [v.dropna() if isinstance(v, pd.Series) else v for v in values]
    each = [
        set(v.index)
        for s, v in zip(statistics, known, strict=True)
        if isinstance(v, pd.Series) and s.needed is not SHOWN and (len(v) or s.required)
    ]
    common = sorted(set.intersection(*each))
    return [v[v.index.isin(common)] if isinstance(v, pd.Series) else v for v in known]


def _outcome(values: pd.Series | Interval) -> Interval:
    if isinstance(values, Interval):
        return values
    known = values.dropna()
    return t_interval(list(known)) if len(known) else Interval(math.nan, math.nan, math.nan, 0)


def left_out(runs: Iterable[Record]) -> list[str]:
    """Say how many of how many runs diverged, and which, if any did."""
    parts, lost, count = [], 0, 0
    for name, group in by_experiment(runs).items():
        seeds = [str(r["seed"]) for r in group if r["status"] == "diverged"]
        lost, count = lost + len(seeds), count + len(group)
        if len(seeds) == len(group) > 1:
            parts.append(f"every run of {name}")
        elif seeds:
            parts.append(f"{name} seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}")
    return [f"{lost} of {count} runs diverged and are left out: {'; '.join(parts)}"] * bool(lost)


def _as_chance(runs: Sequence[Record]) -> list[str]:
    lost = len(runs) - len(finished(runs))
    return [f"{lost} of {len(runs)} runs diverged and count as chance"] * bool(lost)
