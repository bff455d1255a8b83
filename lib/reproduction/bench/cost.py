"""What the study costs: runs, operations and hours, from the experiments themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..plan import study
from ..report.markdown import Markdown, code, plain, table
from ..runs.experiment import CPU_FLOPS, Experiment
from ..runs.records import Record
from .forms import LIBRARY
from .result import Result


def work(profile: str) -> str:
    """Return the few-shot work of a profile by figure and problem: runs, episodes, operations."""
    groups: dict[tuple[str, str], list[Experiment]] = {}
    for e in study.few_shot(profile):
        what = f"{e.data}, {e.network}, {e.image_size} px, {e.width} channels"
        groups.setdefault((e.figure, what), []).append(e)
    lines = {
        Markdown(f"{code(figure)}: {plain(what)}"): _sums(group)
        for (figure, what), group in groups.items()
    }
    lines[Markdown("all")] = np.sum(list(lines.values()), axis=0)
    rows = [
        (name, *(f"{n:,.0f}" for n in sums[:4]), _digits(sums[4] / 1e15, 3), hours(sums[4]))
        for name, sums in lines.items()
    ]
    header = ("figure and problem", "experiments", "runs", "training episodes")
    return table(
        (*header, "evaluation episodes", "operations (10¹⁵)", "hours of one core, planned"), rows
    )


def _sums(group: Sequence[Experiment]) -> np.ndarray:
    """Return experiments, runs, episodes of training and of evaluation, and operations."""
    each = [
        np.array([1 / n, 1, e.episodes().training, e.episodes().evaluation, e.flops()]) * n
        for e in group
        for n in [len(study.seeds(e))]
    ]
    return np.sum(each, axis=0)


def hours(flops: float) -> str:
    """Return the hours that one core is planned to take for some operations."""
    return _digits(flops / CPU_FLOPS / 3600, 2)


def measured(result: Result, runs: Mapping[str, Sequence[Record]]) -> str:
    """Return the rates of a benchmark, and those of runs by what to call them, GFLOP/s.

    Validations, tests, drawing of episodes and checkpoints are part of a run's time.
    """
    flops = {e.name: e.flops() for e in study.few_shot("study")}
    rows = [
        (f"benchmark: {case.title}", f"{c.rate.median * case.gflop_per_unit:.0f}", "", "")
        for case in result.cases
        for c in case.contenders
        if c.contender == LIBRARY and c.rate and case.gflop_per_unit
    ]
    for title, records in runs.items():
        done = [r for r in records if r["status"] == "finished" and r["experiment"] in flops]
        if done:
            seconds = [r["provenance"]["wall_seconds"] for r in done]
            rates = [flops[r["experiment"]] / s / 1e9 for r, s in zip(done, seconds, strict=True)]
            low, median, high = np.percentile(rates, [0, 50, 100])
            row = (f"runs: {title}", f"{median:.0f}", f"{low:.0f} to {high:.0f}", waiting(done))
            rows.append(row)
    return table(("on one core", "GFLOP/s", "range over runs", "waited for episodes"), rows)


def waiting(records: Iterable[Record]) -> str:
    """Return the median share of their time that runs waited for episodes, where it is known."""
    times = [r["provenance"] for r in records]
    known = [t for t in times if t.get("input_seconds") is not None and t["wall_seconds"] > 0]
    shares = [t["input_seconds"] / t["wall_seconds"] for t in known]
    return f"{float(np.median(shares)):.2%}" if shares else "–"


def spent(halves: Mapping[str, Iterable[Record]]) -> str:
    """Return how many runs there are, and how long they took; each counts once."""
    rows = []
    for name, records in halves.items():
        once = {(r["experiment"], r["seed"]): r["provenance"]["wall_seconds"] for r in records}
        rows.append((name, f"{len(once):,}", f"{sum(once.values()) / 3600:.1f}"))
    return table(("half", "runs", "hours of one core"), rows)


def of_page(figure: str) -> str:
    """Return what the runs with the paper's settings cost that a page shows, as a table."""
    sums = _sums(study.few_shot("paper", figure))
    return table(
        ("the paper's settings on this page", "experiments", "runs", "hours of one core, planned"),
        [("", f"{sums[0]:.0f}", f"{sums[1]:.0f}", hours(sums[4]))],
    )


def _digits(value: float, digits: int) -> str:
    return f"{float(f'{value:.{digits}g}'):,g}"
