"""Where the inner loop learns, layer by layer: shares of zero rates, and the learned rates."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..runs.experiment import Experiment
from ..runs.records import Record
from ..runs.statistics import Interval, t_interval
from . import frame
from .curves import Curve, curve
from .frame import by_experiment, finished
from .markdown import code, interval, plain, table
from .naming import NETWORKS, NOT_RUN, setting, shots, stamp
from .noise import adam_walk, noise_curve
from .plotkit import (
    GREY,
    METHODS,
    SMALL,
    band,
    legend_above,
    nothing,
    panels,
    point,
    settings_line,
)

LEVELS = np.linspace(0, 100, 21)
"""Percentages at which records hold the quantiles of learned rates."""


def kernels(tensors: Iterable[str]) -> list[str]:
    """Return the names of the kernels among a network's tensors: convolutions and last layer."""
    return list(frame.kernels(tensors).values())


def blocks(tensors: Iterable[str]) -> dict[str, list[str]]:
    """Return the kernels of each block, ``layer1`` to ``layer4``, and of the output layer."""
    found: dict[str, list[str]] = {}
    for name in kernels(tensors):
        found.setdefault(name.partition(".")[0], []).append(name)
    return found


def zero_share(record: Record, names: Sequence[str]) -> np.ndarray:
    """Return the share of weights that the inner loop cannot move, over training."""
    frozen = np.sum([record["curves"]["frozen"][n] for n in names], axis=0)
    return 100 * frozen / sum(record["tensors"][n] for n in names)


class NoiseRates(NamedTuple):
    """What Adam makes of learned rates whose gradients are pure noise."""

    zero: Curve
    """Share of rates that are not above zero at each update, percent, without an interval."""
    quantiles: np.ndarray
    """The learned numbers at the end, at :data:`LEVELS`; a ReLU puts the negative ones to zero."""


@functools.cache
def noise_rates(
    start: float, updates: int, rule_rate: float = 7.5e-3, weights: int = 20_000
) -> NoiseRates:
    """Simulate learned rates under the null hypothesis: every number makes a random walk."""
    generator = np.random.default_rng(0)
    rates = np.full(weights, start)
    zero, end = adam_walk(rates, updates, rule_rate, lambda m: m <= 0, generator)
    return NoiseRates(zero, np.percentile(end, LEVELS))


def _noise(e: Experiment) -> Curve:
    """Return the share of frozen weights, in percent, that noise makes of a run's rule."""
    if e.rule.gate == "mask":
        return noise_curve(round(100 * e.init_sparsity), e.updates, e.rule_rate)
    return noise_rates(e.inner_rate, e.updates, e.rule_rate).zero


def _freezing(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Return the experiments whose rates can be zero one by one."""
    return [e for e in experiments if e.rule.can_freeze]


def _by_method(experiments: Iterable[Experiment]) -> dict[str, list[Experiment]]:
    """Group experiments by the title of their method: those with zero rates, and 1 shot, first."""
    groups: dict[str, list[Experiment]] = {}
    for e in sorted(
        experiments, key=lambda e: (not e.rule.can_freeze, METHODS.place(e.method), e.shots)
    ):
        groups.setdefault(METHODS[e.method].name, []).append(e)
    return groups


def _title(e: Experiment) -> str:
    return f"{NETWORKS[e.network]}, {shots(e.shots)}"


def _group(e: Experiment, records: Iterable[Record]) -> list[Record]:
    return by_experiment(records).get(e.name, [])


def _seeds(group: Sequence[Record]) -> str:
    """Say how many runs there are, and how many of them diverged."""
    if not group:
        return NOT_RUN
    diverged = len(group) - len(finished(group))
    note = f"{len(group)} seed{'s' if len(group) > 1 else ''}"
    return f"{note}, {diverged} diverged" if diverged else note


def draw_training(experiments: Iterable[Experiment], records: Sequence[Record]) -> Figure:
    """Draw the share of frozen weights of each block over training."""
    rows = _by_method(_freezing(experiments))
    figure, parts = panels(list(rows), height=3.1)
    for part, row in zip(parts, rows.values(), strict=True):
        for ax, e in zip(np.atleast_1d(part.subplots(1, len(row))), row, strict=True):
            _training_panel(ax, e, _group(e, records))
        groups = [g for e in row if (g := _group(e, records))]
        settings_line(part, "\n".join(map(stamp, groups)) or NOT_RUN)
    return figure


def _training_panel(ax: Axes, e: Experiment, group: Sequence[Record]) -> None:
    done = finished(group)
    ax.set_title(f"{_title(e)} · {_seeds(group)}", pad=20)
    ax.set(ylim=(-2, 102), xlabel="meta-update", ylabel="rates at zero (%)")
    noise = _noise(e)
    ax.plot(noise.x, noise.mean, color=GREY, ls=":", lw=1.2, label="noise")
    if not done:
        nothing(ax, "diverged" if group else NOT_RUN)
    parts = blocks(done[0]["tensors"]) if done else {}
    colours = sns.color_palette("crest", len(parts))
    for colour, (name, names) in zip(colours, parts.items(), strict=True):
        c = curve(done, functools.partial(zero_share, names=names))
        band(ax, *c, color=colour, marker=".", label=name)
    legend_above(ax, ax)


def draw_end(experiments: Iterable[Experiment], records: Sequence[Record]) -> Figure:
    """Draw the final share of frozen weights over depth, kernel by kernel."""
    rows: dict[str, dict[int, list[Experiment]]] = {}
    for e in sorted(_freezing(experiments), key=lambda e: e.shots):
        rows.setdefault(NETWORKS[e.network], {}).setdefault(e.shots, []).append(e)
    figure, parts = panels(list(rows), height=3.1)
    for part, by_shots in zip(parts, rows.values(), strict=True):
        axes = np.atleast_1d(part.subplots(1, len(by_shots), sharey=True))
        for ax, group in zip(axes, by_shots.values(), strict=True):
            _end_panel(ax, group, records)
        shown = [[r for e in group for r in _group(e, records)] for group in by_shots.values()]
        lines = [f"{setting(s)} · Student's 95 % interval" for s in shown if s]
        settings_line(part, "\n".join(lines) or NOT_RUN)
    return figure


@functools.cache
def _names(e: Experiment) -> tuple[str, ...]:
    """Return the names of a network's tensors."""
    with torch.device("meta"):
        return tuple(n for n, _ in e.build_network().named_parameters())


def _short(kernel: str) -> str:
    """Return a kernel's name for an axis: ``2.3`` for ``layer2.conv3``, ``2.s`` for a shortcut."""
    name = kernel.removesuffix(".weight").removesuffix(".conv").removeprefix("layer")
    return name.replace("conv", "").replace("shortcut", "s").replace("output", "out")


def _end_panel(ax: Axes, experiments: Sequence[Experiment], records: Sequence[Record]) -> None:
    names = kernels(_names(experiments[0]))
    ax.set_title(shots(experiments[0].shots), pad=20)
    for i, e in enumerate(experiments):
        group, look = _group(e, records), METHODS[e.method]._replace(marker="o")
        ends = _ends(group, names)
        why = "" if ends else f" ({'diverged' if group else NOT_RUN})"
        ax.plot([], [], "o", color=look.rgb, label=look.name + why)
        for x, end in enumerate(ends):
            point(ax, x + 0.25 * (i - (len(experiments) - 1) / 2), end, look, ms=4)
        ax.axhline(_noise(e).mean[-1], color=look.rgb, ls=":", lw=1.2)
    size = 6 if len(names) > 10 else SMALL
    ax.set_xticks(range(len(names)), [_short(n) for n in names], fontsize=size)
    ax.set(ylim=(-2, 102), xlim=(-0.6, len(names) - 0.4), ylabel="rates at zero, at the end (%)")
    ax.set_xlabel("block.convolution (s: shortcut)" if "1.s" in map(_short, names) else "layer")
    legend_above(ax, ax)


def _ends(group: Sequence[Record], names: Sequence[str]) -> list[Interval]:
    """Return the final share of frozen weights of each tensor; empty without a finished run."""
    done = finished(group)
    return [t_interval([zero_share(r, [n])[-1] for r in done]) for n in names] if done else []


def end_table(experiments: Iterable[Experiment], records: Sequence[Record]) -> str:
    """Return the final shares of frozen weights, kernel by kernel, beside those of noise."""
    tables: dict[str, list[Experiment]] = {}
    for group in _by_method(_freezing(experiments)).values():
        for e in group:
            tables.setdefault(e.network, []).append(e)
    return "\n\n".join(_table_of(group, records) for group in tables.values())


def _table_of(experiments: Sequence[Experiment], records: Sequence[Record]) -> str:
    groups = {e.name: _group(e, records) for e in experiments}
    if not any(groups.values()):
        return f"{NOT_RUN.capitalize()}: {', '.join(map(code, groups))}."
    names = kernels(_names(experiments[0]))
    columns = {
        e.name: [
            *_cells(groups[e.name], [*([n] for n in names), names]),
            f"{_noise(e).mean[-1]:.1f}",
            _seeds(groups[e.name]),
        ]
        for e in experiments
    }
    network = NETWORKS[experiments[0].network]
    header = [network, *(f"{METHODS[e.method].name}, {shots(e.shots)}" for e in experiments)]
    labels = [*(n.removesuffix(".weight") for n in names), "all of these", "pure noise", "runs"]
    lines = [[label, *cells] for label, *cells in zip(labels, *columns.values(), strict=True)]
    stamps = [plain(setting(group)) for group in groups.values() if group]
    return "\n\n".join([table(header, lines), *dict.fromkeys(stamps)])


def _cells(group: Sequence[Record], parts: Sequence[Sequence[str]]) -> list[str]:
    done = finished(group)
    if not done:
        return ["diverged" if group else NOT_RUN] * len(parts)
    return [interval(t_interval([zero_share(r, part)[-1] for r in done])) for part in parts]


def _learned(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Return the experiments that learn rates, not masks."""
    return [e for e in experiments if e.rule.learned and e.rule.gate != "mask"]


def quantiles(records: Iterable[Record], tensor: str) -> np.ndarray:
    """Return the quantiles of a tensor's learned rates at the best validation."""
    found = [r["final"].get("rate_quantiles", {}).get(tensor) for r in finished(records)]
    return np.array([q for q in found if q is not None]).reshape(-1, len(LEVELS))


def draw_rates(experiments: Iterable[Experiment], records: Sequence[Record]) -> Figure:
    """Draw how the learned rates of each layer are distributed, as quantile functions."""
    rows = _by_method(_learned(experiments))
    figure, parts = panels(list(rows), height=3.1)
    for part, row in zip(parts, rows.values(), strict=True):
        for ax, e in zip(np.atleast_1d(part.subplots(1, len(row))), row, strict=True):
            _rates_panel(ax, e, _group(e, records))
        groups = [g for e in row if (g := _group(e, records))]
        lines = [f"{setting(g)} · bands: from the lowest to the highest seed" for g in groups]
        settings_line(part, "\n".join(lines) or NOT_RUN)
    return figure


def _rates_panel(ax: Axes, e: Experiment, group: Sequence[Record]) -> None:
    ax.set_title(f"{_title(e)} · {_seeds(group)}", pad=20)
    ax.set(xlabel="weights of the layer, by rate (%)", ylabel="learned rate")
    ax.axhline(e.inner_rate, color=GREY, ls="--", lw=0.8, label="start")
    inner = slice(1, -1)  # the lowest and the highest rate depend on how many there are
    x = LEVELS[inner]
    ax.plot(x, _noise_quantiles(e, group)[inner], color=GREY, ls=":", lw=1.2, label="noise")
    names = [n for n in kernels(_names(e)) if len(quantiles(group, n))]
    for own, name in zip(sns.color_palette("crest", len(names)), names, strict=True):
        q = quantiles(group, name)[:, inner]
        band(ax, x, q.mean(0), q.min(0), q.max(0), color=own, label=name.partition(".")[0])
    if not names:
        nothing(ax, "diverged" if group else NOT_RUN)
    legend_above(ax, ax)


def _noise_quantiles(e: Experiment, group: Sequence[Record]) -> np.ndarray:
    """Return what noise makes of rates in as many updates as those of the best validations had."""
    updates = [r["final"]["best_update"] for r in finished(group)] or [e.updates]
    walks = {n: noise_rates(e.inner_rate, n, e.rule_rate).quantiles for n in set(updates)}
    walked = np.mean([walks[n] for n in updates], axis=0)
    return np.maximum(walked, 0) if e.rule.can_freeze else walked


def rates_table(experiments: Iterable[Experiment], records: Sequence[Record]) -> str:
    """Return the learned rates of each layer in numbers, beside those of noise."""
    return "\n\n".join(
        part
        for row in _by_method(_learned(experiments)).values()
        for e in row
        for part in _rates_of(e, _group(e, records))
    )


def _rates_of(e: Experiment, group: Sequence[Record]) -> list[str]:
    heading = f"**{METHODS[e.method].name}, {_title(e)}**, started at {e.inner_rate:g}"
    found: Mapping[str, np.ndarray] = {n: quantiles(group, n) for n in kernels(_names(e))}
    if not any(map(len, found.values())):
        return [f"{heading}: {'diverged' if group else NOT_RUN}."]
    lines = [(name.partition(".")[0], *_rate_cells(q)) for name, q in found.items() if len(q)]
    lines.append(("pure noise", *_rate_cells(_noise_quantiles(e, group)[None])))
    header = ("layer", "median", "5 % to 95 %", "negative (%)")
    return [f"{heading}; {_seeds(group)}:", table(header, lines), plain(setting(group))]


def _rate_cells(q: np.ndarray) -> tuple[str, str, str]:
    """Return median, middle 90 % and share of negative rates; q is [seeds, 21]."""
    median = t_interval(list(q[:, 10]))
    ends = f" [{median.low:.3f}, {median.high:.3f}]" if math.isfinite(median.low) else ""
    low, high = q[:, 1].mean(), q[:, 19].mean()
    negative = np.mean([_below_zero(one) for one in q])
    return f"{median.mean:.3f}{ends}", f"{low:.3f} to {high:.3f}", f"{negative:.0f}"


def _below_zero(q: np.ndarray) -> float:
    """Return the percentage of rates below zero, read off between two quantiles."""
    if q[0] >= 0:
        return 0.0
    if q[-1] < 0:
        return 100.0
    above = int(np.argmax(q >= 0))  # the first quantile that is not negative
    step = (0 - q[above - 1]) / (q[above] - q[above - 1])
    return float(LEVELS[above - 1] + step * (LEVELS[above] - LEVELS[above - 1]))
