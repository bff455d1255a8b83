"""Claim 9: sparse-La-MAML interferes less than La-MAML, and retains more."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from ..plan import streams as plan
from ..report.la_maml_search import FORMS
from ..runs.statistics import t_interval
from ..runs.streams import ContinualExperiment
from .claim import (
    SHOWN,
    Claim,
    Diverged,
    Needed,
    Runs,
    Statistic,
    Verdict,
    above,
    all_of,
    difference,
    every,
    not_below,
    some,
)

CHANCE = {"ra": 10.0, "bti": 0.0, "la": 10.0}
"""What a run that diverged counts with, percent."""


def retains_more(form: str = plan.SPARSE_FORM) -> Claim:
    """Claim 9 with one of the two forms, by default the one that retained more in the search."""
    if form not in FORMS:
        raise ValueError(f"sparse-La-MAML has no form {form!r}; known are {', '.join(FORMS)}")

    def gain(metric: str, stream: str) -> Callable[[Runs], pd.Series]:
        return difference(f"{stream}-{form}-tuned", f"{stream}-la-maml-tuned", metric)

    def on_average(metric: str, other: str = "la-maml") -> Callable[[Runs], pd.Series]:
        names = [(f"{s}-{form}-tuned", f"{s}-{other}-tuned") for s in plan.STREAMS]
        return lambda runs: sum(difference(a, b, metric)(runs) for a, b in names) / len(names)

    def highest(runs: Runs) -> pd.Series:
        each = [gain("ra", stream)(runs).dropna() for stream in plan.STREAMS]
        if min(map(len, each)) < 2:
            return pd.Series(dtype=float)
        return max(each, key=lambda values: t_interval(list(values)).low)

    def lines(metric: str, needed: Needed, part: str = "") -> list[Statistic]:
        said = f"{metric.upper()} on {{}}: sparse-La-MAML − La-MAML"
        return [
            Statistic(said.format(plan.TITLES[s]), gain(metric, s), needed, part)
            for s in plan.STREAMS
        ]

    return Claim(
        "9",
        "Continual learning: sparse-La-MAML interferes less than La-MAML and retains more",
        f"sparse-La-MAML ({FORMS[form]}) interferes less than La-MAML and retains more",
        plan.LA_MAML,
        "MNIST Rotations, Permutations, Many Permutations",
        _tuned("la-maml", form, "la-maml-open"),
        (
            *lines("bti", above(0), "less"),
            *lines("ra", not_below(0), "no price"),
            Statistic(
                "RA on the stream where its interval begins highest", highest, above(0), "more"
            ),
            *lines("la", SHOWN),
            Statistic("BTI, mean over streams: sparse-La-MAML − La-MAML", on_average("bti"), SHOWN),
            *(
                Statistic(
                    f"{metric.upper()}, mean over streams: sparse-La-MAML − every gate open",
                    on_average(metric, "la-maml-open"),
                    SHOWN,
                )
                for metric in ("bti", "ra")
            ),
        ),
        Verdict(
            "all gains in BTI hold, no gain in RA is below 0, and one is above",
            every(),
            "one gain in BTI holds and no gain in RA is below 0",
            all_of(some("less"), every("no price")),
        ),
        Diverged(
            f"La-MAML's counts with the accuracy of chance, {CHANCE['ra']:g} %, and a BTI of "
            f"{CHANCE['bti']:g}; if one of sparse-La-MAML diverged, the claim is not supported",
            CHANCE,
            lambda name: name.endswith(f"-{form}-tuned"),
        ),
        "BTI, mean over streams: sparse-La-MAML − La-MAML",
        beside={f"{s}-la-maml-open-tuned" for s in plan.STREAMS},
    )


def _tuned(*learners: str) -> list[ContinualExperiment]:
    """Return the runs of some learners with the settings of the search."""
    wanted = {f"{s}-{learner}-tuned" for s in plan.STREAMS for learner in learners}
    return [e for e in plan.la_maml() if e.name in wanted]


CLAIMS = [retains_more()]
