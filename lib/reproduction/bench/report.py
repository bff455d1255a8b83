"""Tables of a benchmark, as Markdown that reads well in a terminal, too, and its figure."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plan import study
from ..report.frame import numbers, over_seeds
from ..report.markdown import code, interval, plain, table
from ..report.plotkit import GREY, SMALL, WIDTH, set_theme
from ..runs.records import load
from .forms import USUAL
from .result import Measured, Result, Spread, targets


def speeds(case: Measured) -> str:
    """Return who did how much in one case: medians and quartiles over rounds."""
    share = ["share of a product's rate"] if case.gflop_per_unit is not None else []
    header = ["form", f"{case.unit}s a second", "times the usual form", *share]
    header += ["peak memory (MB)", "difference of the gradient"]
    rows = []
    for c in case.contenders:
        if c.rate is None or c.speedup is None or c.difference is None:
            rows.append([c.title, f"{c.status}: {c.reason}", *[""] * (len(header) - 2)])
            continue
        cells = [_spread(c.rate), _spread(c.speedup, 2)]
        cells += [_percent(c.share_of_product)] if c.share_of_product else []
        cells.append("–" if c.peak_mb is None else f"{c.peak_mb:.0f}")
        rows.append([c.title, *cells, f"{c.difference:.0e}" + " (its precision)" * (not c.exact)])
    return table(header, rows)


def heading(case: Measured) -> str:
    """Return the title of a case and the number of its rounds."""
    rounds = [c.rate.rounds for c in case.contenders if c.rate]
    return plain(f"{case.title} ({rounds[0]} rounds)")


def memory(result: Result) -> str:
    """Return peak memory by the number of inner steps."""
    rows = []
    for m in result.memory:
        peaks = zip(m.steps, m.peak_mb, strict=True)
        cells = [f"K = {k}: {'–' if p is None else f'{p:.0f}'}" for k, p in peaks]
        growth = "–" if m.growth is None else f"{100 * (m.growth - 1):+.1f} %"
        rows.append([m.title, m.contender, ", ".join(cells), growth])
    return table(["network", "form", "peak memory (MB)", "growth"], rows)


def processes(result: Result) -> str:
    """Return what a second process on a second core adds."""
    rows = [[p.title, _spread(p.gain, 2)] for p in result.two_processes]
    return table(["case", "two processes over one"], rows)


def verdicts(result: Result) -> str:
    """Return the targets, and whether they were met."""
    words = {True: "met", False: "not met", None: "not measured"}
    rows = []
    for t in targets(result):
        needed = f"{'at most' if t.most else 'at least'} {t.needed:g}"
        value = "–" if t.value is None else f"{t.value:.2f}"
        rows.append([t.what, needed, value, words[t.met]])
    return table(["target", "needed", "measured", ""], rows)


def machine(result: Result) -> str:
    """Return where and when a result was measured, one line."""
    at = result.machine
    trial = "A short trial, not a measurement. " if result.quick else ""
    versions = ", ".join(f"{name} {v}" for name, v in result.versions.items() if v)
    return plain(
        f"{trial}{at.processor}, {at.cores} cores, {at.memory_gb:.0f} GB, {at.vectors}; "
        f"{versions}; one thread, {result.finished[:10]}, commit {result.commit or 'unknown'}, "
        f"load before {result.load_before:.1f}"
    )


def full(result: Result) -> str:
    """Return everything, with headings."""
    parts = [machine(result)]
    for case in result.cases:
        parts += [f"### {heading(case)}", speeds(case)]
    parts += ["### Memory", memory(result)] if result.memory else []
    parts += ["### Two processes", processes(result)] if result.two_processes else []
    return "\n\n".join([*parts, "### Targets", verdicts(result)])


def _spread(value: Spread, digits: int | None = None) -> str:
    """Format a median with its quartiles: ``8.5 [8.4, 8.7]``."""
    if digits is None:
        digits = max(0, 2 - len(str(int(value.median)))) + (value.median < 1)
    return f"{value.median:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _percent(value: Spread) -> str:
    return f"{100 * value.median:.0f} [{100 * value.low:.0f}, {100 * value.high:.0f}] %"


def draw(result: Result) -> Figure:
    """Draw how fast each contender is, over the usual form; lines are quartiles over rounds."""
    set_theme()
    rows = [result.cases[i : i + 2] for i in range(0, len(result.cases), 2)]
    heights = [max(len(c.contenders) for c in row) for row in rows]
    size = (WIDTH, 0.6 * len(rows) + 0.24 * sum(heights))
    grid: dict[str, Any] = {"squeeze": False, "height_ratios": heights, "layout": "constrained"}
    figure, axes = plt.subplots(len(rows), 2, figsize=size, **grid)
    for ax, case in zip_longest(axes.flat, result.cases):
        _panel(ax, case) if case else ax.set_visible(False)
    trial = " · a short trial" if result.quick else ""
    where = f"{result.machine.processor}, one thread, {result.finished[:10]}{trial}"
    figure.supxlabel(where, fontsize=SMALL)
    plt.close(figure)  # the notebook shows what is returned
    return figure


def _panel(ax: Axes, case: Measured) -> None:
    done = [(c, c.rate, c.speedup) for c in case.contenders if c.rate and c.speedup]
    for place, (c, rate, speedup) in enumerate(done):
        ours = c.contender.startswith("library")
        colour = sns.color_palette()[0] if ours else "0.35" if c.contender == USUAL else "0.65"
        ax.barh(place, speedup.median, color=colour, height=0.7)
        ax.hlines(place, speedup.low, speedup.high, color="black", lw=1.2)
        end = max(speedup.high, speedup.median)
        ax.text(end, place, f" {rate.median:.3g}/s", va="center", fontsize=SMALL)
    ax.set_yticks(range(len(done)), [c.title for c, _, _ in done], fontsize=SMALL)
    ax.invert_yaxis()
    ax.axvline(1, color=GREY, lw=0.8, ls=":")
    ax.margins(x=0.2)
    ax.set_title(case.title, fontsize=SMALL)
    ax.set_xlabel("times the usual form", fontsize=SMALL)


def in_bf16(results: Path | str) -> str:
    """Compare the accuracies of the study's runs in bf16 with their twins in float32, by seed.

    A loss is significant where the interval over all pairs lies below zero: stated beforehand.
    """
    rows: list[list[str]] = []
    differences: list[float] = []
    for experiment in study.few_shot("study", study.SPEED):
        twin = study.find_few_shot("study", experiment.name.removesuffix("-bf16"))
        lower, whole = (numbers(load(results, [e]), "test_accuracy") for e in (experiment, twin))
        pairs = [(whole[s], lower[s], lower[s] - whole[s]) for s in sorted({*lower} & {*whole})]
        differences += [apart for _, _, apart in pairs]
        means = [over_seeds(column) for column in zip(*pairs, strict=True)] or [None] * 3
        rows.append([code(twin.name), str(len(pairs)), *(interval(m) if m else "–" for m in means)])
    overall = over_seeds(differences)
    if overall is not None and len(differences) > 1:
        rows.append(["all pairs", str(len(differences)), "–", "–", interval(overall)])
        word = "significant" if overall.high < 0 else "not significant"
        rows.append(["loss of accuracy over all pairs", "", "", "", word])
    return table(("experiment", "seeds", "float32 (%)", "bf16 (%)", "difference (points)"), rows)
