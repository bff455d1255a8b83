"""Whether a lower precision costs accuracy: the study's runs in bf16 beside those in float32."""

from __future__ import annotations

from pathlib import Path

from reproduction.report.curves import test_accuracies as accuracies_by_seed

from ..plan import study
from ..report.markdown import code, interval, table
from ..runs.records import load
from ..runs.statistics import Interval, t_interval

SUFFIX = "-bf16"
"""What the name of an experiment in bf16 ends in; the rest is that of its twin."""


def in_bf16(results: Path | str) -> str:
    """Compare the test accuracies of twins, seed by seed."""
    rows, differences = [], []
    alone: dict[str, Interval] = {}
    for experiment in study.few_shot("study", study.SPEED):
        twin = study.find_few_shot("study", experiment.name.removesuffix(SUFFIX))
        lower, full = (accuracies_by_seed(load(results, [e])) for e in (experiment, twin))
        seeds = sorted(lower.keys() & full.keys())
        if not seeds:
            rows.append([code(twin.name), "0", "–", "–", "–"])
            continue
        pairs = [(full[s], lower[s], lower[s] - full[s]) for s in seeds]
        differences += [pair[-1] for pair in pairs]
        found = [t_interval(list(column)) for column in zip(*pairs, strict=True)]
        alone[code(twin.name)] = found[-1]
        rows.append([code(twin.name), str(len(seeds)), *map(interval, found)])
    header = ("experiment", "seeds", "float32 (%)", "bf16 (%)", "difference (points)")
    if len(differences) < 2:
        return table(header, rows)
    whole = t_interval(differences)
    rows.append(["all pairs", str(len(differences)), "–", "–", interval(whole)])
    verdict = "a significant loss" if whole.high < 0 else "no significant loss"
    half = (whole.high - whole.low) / 2
    told = f"Over all pairs: **{verdict}** of accuracy; the interval reaches ±{half:.1f} points."
    losses = [f"{-i.low:.1f} points with {name}" for name, i in alone.items() if i.low < 0]
    if losses:
        told += f" Taken alone, a loss of up to {' and '.join(losses)} is not ruled out."
    return f"{table(header, rows)}\n\n{told}"
