"""What the study costs: operations, measured rates, hours; from the experiments themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..plan import study
from ..report.markdown import Markdown, code, plain, table
from ..runs.experiment import CPU_FLOPS, Experiment
from ..runs.records import Record
from .forms import LIBRARY
from .results import Result


class Accelerator(NamedTuple):
    """A class of GPU."""

    name: str
    teraflops: float
    """Peak in float32 outside the tensor cores, 10^12 operations a second."""
    source: str
    """Where its maker says so."""


ACCELERATORS = (
    Accelerator("NVIDIA T4", 8.1, "https://www.nvidia.com/en-us/data-center/tesla-t4/"),
    Accelerator("NVIDIA A100 (SXM)", 19.5, "https://www.nvidia.com/en-us/data-center/a100/"),
    Accelerator("NVIDIA H100 (SXM)", 67.0, "https://www.nvidia.com/en-us/data-center/h100/"),
)
"""One GPU of each of three generations."""


UTILISATION = 0.1
"""Share of a GPU's peak that is assumed to be reached; a guess, not a measurement."""


class Share(NamedTuple):
    """A part of a profile: experiments with one figure, data set and network."""

    figure: str
    what: str
    experiments: int
    runs: int
    training: int
    """Training episodes of all runs."""
    evaluation: int
    """Episodes of their validations and tests."""
    flops: float
    """Floating-point operations of all runs."""


def shares(profile: str) -> list[Share]:
    """Return the parts of a profile, from the definitions of its experiments."""
    groups: dict[tuple[str, str], list[Experiment]] = {}
    for e in study.few_shot(profile):
        what = f"{e.data}, {e.network}, {e.image_size} px, {e.width} channels"
        groups.setdefault((e.figure, what), []).append(e)
    found = []
    for (figure, what), group in groups.items():
        seeds = [len(study.seeds(e)) for e in group]
        episodes = [e.episodes() for e in group]
        found.append(
            Share(
                figure,
                what,
                len(group),
                sum(seeds),
                sum(n * e.training for n, e in zip(seeds, episodes, strict=True)),
                sum(n * e.evaluation for n, e in zip(seeds, episodes, strict=True)),
                sum(n * e.flops() for n, e in zip(seeds, group, strict=True)),
            )
        )
    return found


def total_flops(profile: str) -> float:
    """Return the operations of all runs of a profile."""
    return sum(share.flops for share in shares(profile))


def work(profile: str) -> str:
    """Return the work of a profile as a table: runs, episodes, operations."""
    parts = shares(profile)
    everything = Share(
        "", "", *(sum(column) for column in zip(*(s[2:] for s in parts), strict=True))
    )
    rows = [
        (
            Markdown(f"{code(s.figure)}: {plain(s.what)}") if s.figure else "all",
            *(f"{n:,}" for n in (s.experiments, s.runs, s.training, s.evaluation)),
            petaflops(s.flops),
        )
        for s in (*parts, *([everything] if len(parts) > 1 else []))
    ]
    header = (
        "figure and problem",
        "experiments",
        "runs",
        "training episodes",
        "evaluation episodes",
        "operations (10¹⁵)",
    )
    return table(header, rows)


def benchmark_rates(result: Result) -> dict[str, float]:
    """Return the GFLOP/s that this library reached in each few-shot case of a benchmark."""
    rates = {}
    for case in result["cases"]:
        for row in case["contenders"]:
            if row["contender"] == LIBRARY and row["status"] == "measured" and "ceiling" in case:
                rates[case["title"]] = row["rate"]["median"] * case["gflop_per_unit"]
    return rates


def record_rates(records: Sequence[Record], experiments: Iterable[Experiment]) -> list[float]:
    """Return the GFLOP/s of finished runs: operations of the experiment over wall time."""
    flops = {e.name: e.flops() for e in experiments}
    return [
        flops[r["experiment"]] / r["provenance"]["wall_seconds"] / 1e9
        for r in records
        if r["status"] == "finished"
    ]


def waiting(records: Iterable[Record]) -> str:
    """Say what share of their time runs waited for episodes."""
    times = [r["provenance"] for r in _once(records)]
    shares = [
        t["input_seconds"] / t["wall_seconds"]
        for t in times
        if t.get("input_seconds") is not None and t["wall_seconds"] > 0
    ]
    if not shares:
        return "No run has recorded how long it waited for episodes."
    return (
        f"The network waited for episodes {float(np.median(shares)):.2%} of the time "
        f"(median of {len(shares)} runs; at most {max(shares):.2%})."
    )


def spent(halves: Mapping[str, Sequence[Record]]) -> str:
    """Return how many runs there are, and how long they took."""
    rows = []
    for name, records in halves.items():
        own = _once(records)
        hours = sum(r["provenance"]["wall_seconds"] for r in own) / 3600
        rows.append((name, f"{len(own):,}", f"{hours:.1f}"))
    return table(("half", "runs", "hours of one core"), rows)


def _once(records: Iterable[Record]) -> list[Record]:
    """Return each run once, however many pages show it."""
    return list({(r["experiment"], r["seed"]): r for r in records}.values())


def measured(result: Result, runs: Mapping[str, Sequence[float]]) -> str:
    """Return measured rates as a table."""
    rows = [
        (f"benchmark: {title}", f"{rate:.0f}", "")
        for title, rate in benchmark_rates(result).items()
    ]
    for title, reached in runs.items():
        if reached:
            low, median, high = np.percentile(reached, [0, 50, 100])
            rows.append((f"runs: {title}", f"{median:.0f}", f"{low:.0f} to {high:.0f}"))
    return table(("measured on one core", "GFLOP/s", "range over runs"), rows)


def times(profile: str, result: Result, utilisation: float) -> str:
    """Return how long all runs of a profile take, by device, as a table."""
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation must lie in (0, 1], got {utilisation}")
    flops = total_flops(profile)
    runs = sum(share.runs for share in shares(profile))
    processor = result["machine"]["processor"]
    devices: list[tuple[str, float, str]] = [
        (
            Markdown(f"one core, {plain(processor)}, at the rate of *{plain(title)}*"),
            rate * 1e9,
            "measured",
        )
        for title, rate in benchmark_rates(result).items()
    ]
    devices.append(
        ("one core, as the pipeline plans", CPU_FLOPS, Markdown("see `experiments.CPU_FLOPS`"))
    )
    devices += [
        (
            a.name,
            utilisation * a.teraflops * 1e12,
            Markdown(f"{utilisation:.0%} of [{a.teraflops:g} TFLOP/s]({a.source}), assumed"),
        )
        for a in ACCELERATORS
    ]
    rows = [
        (name, f"{rate / 1e9:,.0f}", basis, duration(flops / runs / rate), duration(flops / rate))
        for name, rate, basis in devices
    ]
    return table(("device", "GFLOP/s", "basis", "a run (mean)", "all runs"), rows)


def of_page(figure: str) -> str:
    """Say what the runs with the paper's settings cost that a page shows."""
    chosen = study.few_shot("paper", figure)
    elsewhere = {
        e.name
        for other in study.FEW_SHOT_FIGURES["paper"]
        if other != figure
        for e in study.few_shot("paper", other)
    }
    runs = sum(len(study.seeds(e)) for e in chosen)
    shared = sum(len(study.seeds(e)) for e in chosen if e.name in elsewhere)
    flops = sum(len(study.seeds(e)) * e.flops() for e in chosen)
    gpu = ACCELERATORS[1]
    hours = flops / CPU_FLOPS / 3600, flops / (UTILISATION * gpu.teraflops * 1e12) / 3600
    core_hours, gpu_hours = (f"{float(f'{h:.2g}'):,g}" for h in hours)
    return (
        f"*What the paper's settings cost:* the {len(chosen)} experiments of this page are {runs} "
        f"runs ({shared} of them are shown on other pages, too), about {core_hours} hours on one "
        f"core or {gpu_hours} hours on one {gpu.name} at {UTILISATION:.0%} of its peak, an "
        "assumption; see [What it costs](cost.html)."
    )


def petaflops(flops: float) -> str:
    """Return operations in units of 10^15, three digits."""
    return f"{float(f'{flops / 1e15:.3g}'):,g}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it, two digits."""
    units = (("years", 365.25 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60))
    for name, size in units:
        if seconds >= 1.5 * size:
            return f"{float(f'{seconds / size:.2g}'):,g} {name}"
    return f"{seconds:.0f} seconds"
