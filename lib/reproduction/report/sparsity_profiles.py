"""Where the inner loop learns, layer by layer: shares of zero rates, and the learned rates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..runs.experiment import Experiment
from ..runs.records import Record
from ..runs.statistics import Interval, t_interval
from . import frame, plotkit
from .curves import Curve, curve, draw_curves, frozen_share
from .frame import by_experiment, finished, over_seeds
from .markdown import code, interval, plain, table
from .naming import NETWORKS, NOT_RUN, setting, shots, stamp, why_absent
from .noise import adam_walk, noise_curve
from .plotkit import GREY, METHODS, Look

LEVELS = np.linspace(0, 100, 21)
"""Percentages at which records hold the quantiles of learned rates."""


def kernels(tensors: Iterable[str]) -> list[str]:
    """Return the names of the kernels among a network's tensors: convolutions and last layer."""
    return list(frame.kernels(tensors).values())


class NoiseRates(NamedTuple):
    """What Adam makes of learned rates whose gradients are pure noise."""

    zero: Curve  #: Share of rates that are not above zero at each update, percent
    quantiles: np.ndarray  #: The learned numbers at the end, at :data:`LEVELS`


@functools.cache
def noise_rates(
    start: float, updates: int, rule_rate: float = 7.5e-3, weights: int = 20_000
) -> NoiseRates:
    """Simulate learned rates under the null hypothesis: every number makes a random walk."""
    rates, generator = np.full(weights, start), np.random.default_rng(0)
    zero, end = adam_walk(rates, updates, rule_rate, lambda m: m <= 0, generator)
    return NoiseRates(zero, np.percentile(end, LEVELS))


class _Runs(NamedTuple):
    """An experiment and its records, and how both are called and drawn."""

    experiment: Experiment
    records: Sequence[Record]
    look: Look
    network: str
    title: str

    @property
    def seeds(self) -> str:
        n, lost = len(self.records), len(self.records) - len(finished(self.records))
        seeds = f"{n} seed{'s' if n > 1 else ''}" + (f", {lost} diverged" if lost else "")
        return seeds if n else NOT_RUN

    @property
    def kernels(self) -> list[str]:
        return kernels(_tensors(self.experiment))

    @property
    def noise(self) -> Curve:
        """The share of frozen weights, in percent, that noise makes of its rule."""
        e = self.experiment
        if e.rule.gate == "mask":
            return noise_curve(round(100 * e.init_sparsity), e.updates, e.rule_rate)
        return noise_rates(e.inner_rate, e.updates, e.rule_rate).zero

    @property
    def noise_quantiles(self) -> np.ndarray:
        """What noise makes of rates in as many updates as the best validations had."""
        e = self.experiment
        updates = [r["final"]["best_update"] for r in finished(self.records)] or [e.updates]
        walks = [noise_rates(e.inner_rate, n, e.rule_rate).quantiles for n in updates]
        return np.maximum(np.mean(walks, axis=0), 0 if e.rule.can_freeze else -np.inf)

    def rates(self) -> dict[str, np.ndarray]:
        """Return quantiles of learned rates at the best validations, by layer: [seeds, 21]."""
        each = [r["final"].get("rate_quantiles", {}) for r in finished(self.records)]
        layers = frame.kernels(_tensors(self.experiment)).items()
        known = {layer: np.array([q[n] for q in each if n in q]) for layer, n in layers}
        return {layer: q for layer, q in known.items() if len(q)}

    def end(self, kernels: Sequence[str]) -> Interval | None:
        """Return the final share of frozen weights of some kernels together."""
        return over_seeds(frozen_share(r, kernels)[-1] for r in finished(self.records))


@functools.cache
def _tensors(e: Experiment) -> list[str]:
    with torch.device("meta"):
        return [n for n, _ in e.build_network().named_parameters()]


def _runs(
    experiments: Iterable[Experiment], records: Iterable[Record], *, masks: bool
) -> list[_Runs]:
    """Return the runs whose rates can be zero one by one, or else those that learn rates.

    Those of a method stand together, those with zero rates and 1 shot first.
    """
    groups, networks = by_experiment(records), NETWORKS
    titles = {e: f"{networks[e.network]}, {shots(e.shots)}" for e in experiments}
    return [
        _Runs(e, groups.get(e.name, []), METHODS[e.method], networks[e.network], titles[e])
        for e in sorted(
            titles, key=lambda e: (not e.rule.can_freeze, METHODS.place(e.method), e.shots)
        )
        if (e.rule.can_freeze if masks else e.rule.learned and e.rule.gate != "mask")
    ]


def _draw(
    every: Iterable[_Runs],
    panel: Callable[..., None],
    note: Callable[[Sequence[Record]], str],
    row: Callable[[_Runs], str] = lambda runs: runs.look.name,
    together: Callable[[_Runs], str] = lambda runs: runs.experiment.name,
) -> Figure:
    """Draw rows of panels, each of runs that stand together, and what they were made with."""
    rows: dict[str, dict[str, list[_Runs]]] = {}
    for runs in every:
        rows.setdefault(row(runs), {}).setdefault(together(runs), []).append(runs)
    figure, parts = plotkit.panels(list(rows), height=3.1)
    for part, shown in zip(parts, rows.values(), strict=True):
        axes, notes = np.atleast_1d(part.subplots(1, len(shown))), []
        for ax, of_panel in zip(axes, shown.values(), strict=True):
            panel(ax, *of_panel)
            if group := [r for runs in of_panel for r in runs.records]:
                notes.append(note(group))
        plotkit.settings_line(part, "\n".join(notes) or NOT_RUN)
    return figure


# Shares of zero rates


def draw_training(experiments: Iterable[Experiment], records: Sequence[Record]) -> Figure:
    """Draw the share of frozen weights of each block over training."""
    return _draw(_runs(experiments, records, masks=True), _training_panel, stamp)


def _training_panel(ax: Axes, runs: _Runs) -> None:
    done, noise = finished(runs.records), runs.noise
    blocks: dict[str, list[str]] = {}
    for name in kernels(done[0]["tensors"]) if done else ():
        blocks.setdefault(name.partition(".")[0], []).append(name)
    ax.set_title(f"{runs.title} · {runs.seeds}")
    ax.set(ylim=(-2, 102), xlabel="meta-update", ylabel="rates at zero (%)")
    ax.plot(noise.x, noise.mean, color=GREY, ls=":", lw=1.2, label="noise")
    shares = {
        block: curve(done, functools.partial(frozen_share, kernels=names))
        for block, names in blocks.items()
    }
    draw_curves(ax, shares, "crest", [("noise", noise.x[-1], noise.mean[-1], GREY)])
    if not done:
        plotkit.nothing(ax, why_absent(runs.records))


def draw_end(experiments: Iterable[Experiment], records: Sequence[Record]) -> Figure:
    """Draw the final share of frozen weights over depth, kernel by kernel."""
    every = sorted(_runs(experiments, records, masks=True), key=lambda runs: runs.experiment.shots)
    return _draw(
        every,
        _end_panel,
        lambda group: f"{setting(group)} · Student's 95 % interval",
        row=lambda runs: runs.network,
        together=lambda runs: runs.title,
    )


def _end_panel(ax: Axes, *every: _Runs) -> None:
    names = every[0].kernels
    ax.set_title(shots(every[0].experiment.shots), pad=20)
    for i, runs in enumerate(every):
        look, shift = runs.look._replace(marker="o"), 0.25 * (i - (len(every) - 1) / 2)
        ends = {x: end for x, n in enumerate(names) if (end := runs.end([n]))}
        why = "" if ends else f" ({why_absent(runs.records)})"
        ax.plot([], [], "o", color=look.rgb, label=look.name + why)
        for x, end in ends.items():
            plotkit.point(ax, x + shift, end, look, ms=4)
        ax.axhline(runs.noise.mean[-1], color=look.rgb, ls=":", lw=1.2)
    ticks = [_short(n) for n in names]
    ax.set_xticks(range(len(names)), ticks)
    ax.set(ylim=(-2, 102), xlim=(-0.6, len(names) - 0.4), ylabel="rates at zero, at the end (%)")
    ax.set_xlabel("block.convolution (s: shortcut)" if "1.s" in ticks else "layer")
    plotkit.legend_above(ax, ax)


def _short(kernel: str) -> str:
    """Return a kernel's name for an axis: ``2.3`` for ``layer2.conv3``, ``2.s`` for a shortcut."""
    name = kernel.removesuffix(".weight").removesuffix(".conv").removeprefix("layer")
    return name.replace("conv", "").replace("shortcut", "s").replace("output", "out")


def end_table(experiments: Iterable[Experiment], records: Sequence[Record]) -> str:
    """Return the final shares of frozen weights, kernel by kernel, beside those of noise."""
    parts, freezing = [], _runs(experiments, records, masks=True)
    for network in dict.fromkeys(runs.network for runs in freezing):
        every = [runs for runs in freezing if runs.network == network]
        if not any(runs.records for runs in every):
            names = ", ".join(code(runs.experiment.name) for runs in every)
            parts.append(f"{NOT_RUN.capitalize()}: {names}.")
            continue
        kernels = every[0].kernels
        rows = {n.removesuffix(".weight"): [n] for n in kernels} | {"all of these": kernels}
        lines = [
            [name, *(interval(end) if (end := r.end(of)) else why_absent(r.records) for r in every)]
            for name, of in rows.items()
        ]
        lines.append(["pure noise", *(f"{runs.noise.mean[-1]:.1f}" for runs in every)])
        lines.append(["runs", *(runs.seeds for runs in every)])
        titles = (f"{runs.look.name}, {shots(runs.experiment.shots)}" for runs in every)
        parts.append(table([network, *titles], lines))
        parts += dict.fromkeys(plain(setting(runs.records)) for runs in every if runs.records)
    return "\n\n".join(parts)


# Learned rates


def draw_rates(experiments: Iterable[Experiment], records: Sequence[Record]) -> Figure:
    """Draw how the learned rates of each layer are distributed, as quantile functions."""
    bands = "bands: from the lowest to the highest seed"
    every = _runs(experiments, records, masks=False)
    return _draw(every, _rates_panel, lambda group: f"{setting(group)} · {bands}")


def _rates_panel(ax: Axes, runs: _Runs) -> None:
    start, inner = runs.experiment.inner_rate, slice(1, -1)  # without the extreme rates, which
    x, noise = LEVELS[inner], runs.noise_quantiles[inner]  # depend on how many there are
    ax.set_title(f"{runs.title} · {runs.seeds}")
    ax.set(xlabel="weights of the layer, by rate (%)", ylabel="learned rate")
    ax.axhline(start, color=GREY, ls="--", lw=0.8, label="start")
    ax.plot(x, noise, color=GREY, ls=":", lw=1.2, label="noise")
    rates = {
        layer: Curve(x, *(of(q, axis=0)[inner] for of in (np.mean, np.min, np.max)))
        for layer, q in runs.rates().items()
    }
    ends = [("start", x[-1], start, GREY), ("noise", x[-1], noise[-1], GREY)]
    draw_curves(ax, rates, "crest", ends)
    if not rates:
        plotkit.nothing(ax, why_absent(runs.records))


def rates_table(experiments: Iterable[Experiment], records: Sequence[Record]) -> str:
    """Return the learned rates of each layer in numbers, beside those of noise."""
    parts = []
    for runs in _runs(experiments, records, masks=False):
        start, rates = f"started at {runs.experiment.inner_rate:g}", runs.rates()
        heading = f"**{runs.look.name}, {runs.title}**, {start}"
        if not rates:
            parts.append(f"{heading}: {why_absent(runs.records)}.")
            continue
        lines = [(layer, *_rate_cells(q)) for layer, q in rates.items()]
        lines.append(("pure noise", *_rate_cells(runs.noise_quantiles[None])))
        parts.append(f"{heading}; {runs.seeds}:")
        parts.append(table(("layer", "median", "5 % to 95 %", "negative (%)"), lines))
        parts.append(plain(setting(runs.records)))
    return "\n\n".join(parts)


def _rate_cells(q: np.ndarray) -> tuple[str, str, str]:
    """Return median, middle 90 % and share of negative rates; q is [seeds, 21]."""
    median, (low, high) = t_interval(list(q[:, 10])), q[:, [1, 19]].mean(0)
    ends = f" [{median.low:.3f}, {median.high:.3f}]" if median.n > 1 else ""
    negative = np.mean([_below_zero(one) for one in q])
    return f"{median.mean:.3f}{ends}", f"{low:.3f} to {high:.3f}", f"{negative:.0f}"


def _below_zero(q: np.ndarray) -> float:
    """Return the percentage of rates below zero, read off between two quantiles."""
    above = int(np.searchsorted(q, 0))  # the first quantile that is not negative
    if above in (0, len(q)):
        return 100.0 if above else 0.0
    return float(np.interp(0, q[above - 1 : above + 1], LEVELS[above - 1 : above + 1]))
