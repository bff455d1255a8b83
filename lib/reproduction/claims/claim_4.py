"""Claim 4, Figure 2: no worse anywhere, alive at large inner rates, and the trends of sparsity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from ..plan import few_shot, study
from ..report.figure2 import LARGE_RATES, PANELS, Setting, common_setting
from ..runs.experiment import Experiment
from .claim import (
    Claim,
    Needed,
    Runs,
    Statistic,
    Verdict,
    above,
    any_of,
    as_chance,
    below,
    every,
    not_below,
)


def robustness(planned: Sequence[Experiment]) -> Claim:
    """Claim 4, with a line for each setting of Figure 2."""
    names = {(e.method, Setting(e.inner_steps, e.inner_rate, e.width)): e.name for e in planned}
    settings = sorted({setting for _, setting in names})
    base = common_setting(settings)

    def number(runs: Runs, method: str, setting: Setting, metric: str) -> pd.Series:
        return runs(names[method, setting], metric)

    def gain(setting: Setting) -> Callable[[Runs], pd.Series]:
        return lambda runs: (
            number(runs, "sparse-maml", setting, "test_accuracy")
            - number(runs, "maml", setting, "test_accuracy")
        ).dropna()

    def mean_gain(runs: Runs) -> pd.Series:
        each = [gain(s)(runs) for s in settings]
        return pd.DataFrame([g for g in each if len(g)]).mean()

    def loss(runs: Runs, method: str, rate: float) -> pd.Series:
        """Return what a method loses at a rate against its own best, by validation accuracy."""
        along = [s for s in settings if s._replace(inner_rate=base.inner_rate) == base]
        validated = {s: number(runs, method, s, "val_accuracy") for s in along}
        best = max(
            (s for s in along if len(validated[s])), key=lambda s: validated[s].mean(), default=base
        )
        return number(runs, method, best, "test_accuracy") - number(
            runs, method, base._replace(inner_rate=rate), "test_accuracy"
        )

    def survival(rate: float) -> Callable[[Runs], pd.Series]:
        return lambda runs: loss(runs, "maml", rate) - loss(runs, "sparse-maml", rate)

    def slope(changed: str) -> Callable[[Runs], pd.Series]:
        along = [s for s in settings if s._replace(**{changed: getattr(base, changed)}) == base]

        def values(runs: Runs) -> pd.Series:
            shares = {
                np.log(getattr(s, changed)): number(runs, "sparse-maml", s, "sparsity")
                for s in along
                if len(number(runs, "sparse-maml", s, "test_accuracy"))
            }
            table = pd.DataFrame(shares, index=mean_gain(runs).index)
            return table.apply(_slope, axis=1) if len(shares) > 1 else pd.Series(dtype=float)

        return values

    trends: tuple[tuple[str, Needed], ...] = (
        ("inner_rate", above(0, "")),
        ("inner_steps", above(0, "")),
        ("width", below(0, "")),
    )
    return Claim(
        "4",
        "No worse than MAML at any inner steps, rate and width; survives large rates; "
        "sparsity grows with steps and rate and shrinks with width",
        "No worse than MAML at any steps, rate and width; survives large inner rates",
        few_shot.FIG2,
        "miniImageNet",
        planned,
        (
            Statistic("mean gain over all settings", mean_gain, above(0, ""), "gains"),
            *(
                Statistic(
                    f"gain at K = {s.inner_steps}, rate {s.inner_rate:g}, {s.width} channels",
                    gain(s),
                    not_below(0, ""),
                    "gains",
                    required=False,
                )
                for s in settings
            ),
            *(
                Statistic(
                    f"loss of MAML − loss of sparse-MAML at rate {rate:g}",
                    survival(rate),
                    above(0, ""),
                    "losses",
                )
                for rate in LARGE_RATES
            ),
            *(
                Statistic(
                    f"slope of sparsity on log {PANELS[changed]}",
                    slope(changed),
                    needed,
                    required=False,
                )
                for changed, needed in trends
            ),
        ),
        Verdict(
            "all hold",
            every(),
            "all gains hold, or both lines on losses",
            any_of(every("gains"), every("losses")),
        ),
        as_chance(
            planned, "test_accuracy", "val_accuracy", beside="; in a slope its setting is left out"
        ),
        "mean gain over all settings",  # the paper's figure cuts MAML off where it collapses
        together=True,
        baseline=names["maml", base],
    )


def _slope(shares: pd.Series) -> float:
    known = shares.dropna()
    if len(known) < 2:
        return 0.0  # all but one diverged: no trend is shown
    return float(np.polyfit(known.index.to_numpy(float), known.to_numpy(float), 1)[0])


CLAIMS = [robustness(study.few_shot("study", few_shot.FIG2))]
