"""Claim 4, as the chapter "Decided beforehand" states it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from reproduction.claims.finding import TOO_FEW, Finding, evidence_line
from reproduction.report.robustness import (
    LARGE_RATES,
    PANELS,
    Runs,
    Setting,
    _paired,
    panel,
)
from reproduction.runs.records import Record
from reproduction.runs.statistics import Interval, t_interval


def robustness(records: Iterable[Record]) -> Finding:
    """Test claim 4: no worse anywhere, alive at large rates, and the trends of sparsity."""
    claim = "4. No worse than MAML at any steps, rate and width; survives large inner rates"
    maml, sparse, settings, seeds = _paired(records)
    rates = {s.inner_rate: s for s in (panel(settings, "inner_rate") if settings else [])}
    if len(seeds) < 2 or not set(LARGE_RATES) <= rates.keys():
        return Finding(claim, TOO_FEW, pd.DataFrame())

    def gain(setting: Setting, seed: int) -> float:
        return sparse[setting].accuracy[seed] - maml[setting].accuracy[seed]

    mean_gain = t_interval([float(np.mean([gain(s, k) for s in settings])) for k in seeds])
    gains = {s: t_interval([gain(s, k) for k in seeds]) for s in settings}
    lines = [evidence_line("mean gain over all settings", mean_gain, "above 0")]
    for s, interval in gains.items():
        name = f"gain at K = {s.inner_steps}, rate {s.inner_rate:g}, {s.width} channels"
        lines.append(evidence_line(name, interval, "not below 0"))
    no_worse = all(line["holds"] for line in lines)

    losses = {}
    for method, runs in (("maml", maml), ("sparse", sparse)):
        best = max(
            rates.values(), key=lambda s: float(np.mean([runs[s].validation[k] for k in seeds]))
        )
        for rate in LARGE_RATES:
            losses[method, rate] = [
                runs[best].accuracy[k] - runs[rates[rate]].accuracy[k] for k in seeds
            ]
    survival = []
    for rate in LARGE_RATES:
        more = t_interval(
            [a - b for a, b in zip(losses["maml", rate], losses["sparse", rate], strict=True)]
        )
        name = f"loss of MAML − loss of sparse-MAML at rate {rate:g}"
        survival.append(evidence_line(name, more, "above 0"))
    survives = all(line["holds"] for line in survival)

    trends = []
    for name, sign in (("inner_rate", 1), ("inner_steps", 1), ("width", -1)):
        along = panel(settings, name)
        if len(along) > 1:
            slope = t_interval([_slope(sparse, along, name, k) for k in seeds])
        else:  # no runs yet at other values
            slope = Interval(np.nan, np.nan, np.nan, 0)
        needed = "above 0" if sign > 0 else "below 0"
        trends.append(evidence_line(f"slope of sparsity on log {PANELS[name]}", slope, needed))
    table = pd.DataFrame(lines + survival + trends)
    if no_worse and survives and all(line["holds"] for line in trends):
        verdict = "supported"
    else:
        verdict = "partly supported" if no_worse or survives else "not supported"
    collapsed = sum(r.diverged for runs in (maml, sparse) for r in runs.values())
    note = f" ({collapsed} runs diverged and count as chance)" if collapsed else ""
    return Finding(claim, verdict + note, table)


def _slope(runs: dict[Setting, Runs], settings: list[Setting], name: str, seed: int) -> float:
    points = [
        (np.log(getattr(s, name)), runs[s].sparsity[seed])
        for s in settings
        if seed in runs[s].sparsity
    ]
    if len(points) < 2:
        return 0.0  # all but one diverged: no trend is shown
    x, y = np.array(points).T
    return float(np.polyfit(x, y, 1)[0])
