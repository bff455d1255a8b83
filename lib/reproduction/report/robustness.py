"""Figure 2: accuracy and sparsity over inner rate, inner steps and width, and claim 4.

The test is the one that the chapter "Decided beforehand" states.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from reproduction.report.frame import finished

from ..runs.records import Record
from ..runs.statistics import t_interval

PANELS = {"inner_steps": "inner steps", "inner_rate": "inner rate", "width": "channels"}
"""Parameters that Figure 2 changes, and what they are called."""

LARGE_RATES = (0.5, 1.0)
"""Inner rates at which survival is tested."""


class Setting(NamedTuple):
    """Where a run stands in Figure 2."""

    inner_steps: int
    inner_rate: float
    width: int


class Runs(NamedTuple):
    """One method at one setting, by seed."""

    accuracy: dict[int, float]
    """Test accuracy, percent; chance where the run diverged."""
    validation: dict[int, float]
    """Best validation accuracy, percent; chance where the run diverged."""
    sparsity: dict[int, float]
    """Final sparsity, percent, of finished runs."""
    diverged: int


def at(record: Record) -> Setting:
    """Return where a run stands."""
    p = record["parameters"]
    return Setting(p["inner_steps"], p["inner_rate"], p["width"])


def by_setting(records: Iterable[Record]) -> dict[str, dict[Setting, Runs]]:
    """Arrange the records of Figure 2."""
    found: dict[str, dict[Setting, Runs]] = {}
    for r in sorted(records, key=lambda r: r["seed"]):
        p, final, setting = r["parameters"], r["final"], at(r)
        if finished([r]) and not final["test_accuracy"]:
            continue
        runs = found.setdefault(p["method"], {}).setdefault(setting, Runs({}, {}, {}, 0))
        if r["seed"] in runs.accuracy:
            raise ValueError(
                f"{r['experiment']} seed {r['seed']} has the same method, inner steps, rate and "
                "width as another run"
            )
        if finished([r]):
            runs.accuracy[r["seed"]] = 100 * final["test_accuracy"]["mean"]
            runs.validation[r["seed"]] = 100 * final["val_accuracy"]
            runs.sparsity[r["seed"]] = 100 * final["sparsity"]
        else:
            runs.accuracy[r["seed"]] = runs.validation[r["seed"]] = 100 / p["ways"]
            found[p["method"]][setting] = runs._replace(diverged=runs.diverged + 1)
    return found


def common_setting(settings: Iterable[Setting]) -> Setting:
    """Return the setting from which each panel changes one thing: the most frequent values."""
    values = zip(*settings, strict=True)
    return Setting(*(max(set(column), key=column.count) for column in values))


def panel(settings: Iterable[Setting], name: str) -> list[Setting]:
    """Return the settings of a panel, in order of what it changes."""
    settings = list(settings)
    base = common_setting(settings)
    same = [s for s in settings if s._replace(**{name: getattr(base, name)}) == base]
    return sorted(same, key=lambda s: getattr(s, name))


def where_the_gain_is(records: Iterable[Record]) -> str:
    """Say how much of the mean gain the large inner rates make."""
    maml, sparse, settings, seeds = _paired(records)
    large = [s for s in settings if s.inner_rate in LARGE_RATES]
    others = [s for s in settings if s not in large]
    if not large or not others or len(seeds) < 2:
        return ""
    at, elsewhere = (
        t_interval(
            [
                float(np.mean([sparse[s].accuracy[k] - maml[s].accuracy[k] for s in part]))
                for k in seeds
            ]
        )
        for part in (large, others)
    )
    rates = " and ".join(f"{r:g}" for r in sorted(LARGE_RATES))
    return (
        f"Over the inner rates {rates} the mean gain is {at.mean:.2f} "
        f"[{at.low:.2f}, {at.high:.2f}] points, over the other {len(others)} "
        f"settings {elsewhere.mean:.2f} [{elsewhere.low:.2f}, {elsewhere.high:.2f}]."
    )


def _paired(
    records: Iterable[Record],
) -> tuple[dict[Setting, Runs], dict[Setting, Runs], list[Setting], list[int]]:
    """Return MAML's and sparse-MAML's runs, the settings of both, and the seeds of all."""
    found = by_setting(records)
    maml, sparse = found.get("maml", {}), found.get("sparse-maml", {})
    settings = sorted(maml.keys() & sparse.keys())
    each = [set(runs[s].accuracy) for runs in (maml, sparse) for s in settings]
    return maml, sparse, settings, sorted(set.intersection(*each)) if each else []
