"""Claims about continual learning: the tests that the chapter "Decided beforehand" states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from reproduction.claims.finding import ABOVE, NOTHING, TOO_FEW, Finding, evidence_line
from reproduction.report.frame import by_experiment, finished

from ..plan import streams as plan
from ..runs.records import Record
from ..runs.statistics import t_interval

# Claim 9: sparse-La-MAML

FORMS = {"sparse-la-maml": "masked outer step", "sparse-la-maml-plain": "plain outer step"}
"""The two forms of sparse-La-MAML; one of them is compared with La-MAML."""

DECIDING = ("ra", "bti")
"""The numbers that the verdict rests on; LA stands beside them."""

CHANCE = {"ra": 10.0, "bti": 0.0, "la": 10.0}
"""What a run that diverged counts with, percent; with one of the sparse learner's the claim is not
supported whatever it counts with."""

HIGHEST = "RA on the stream where its interval begins highest"
"""What is compared with zero where one of three gains in RA has to be above it."""


def retained_in_search(search: Iterable[Record]) -> dict[str, dict[str, float]]:
    """Return what each form of sparse-La-MAML retains with its best settings."""
    runs = {r["experiment"]: r for r in search}
    found: dict[str, dict[str, float]] = {learner: {} for learner in FORMS}
    for learner, by_stream in found.items():
        for stream in plan.STREAMS:
            lines = range(len(plan.grid(learner, stream)))
            tried = [runs.get(f"{stream}-{learner}-{line}") for line in lines]
            known = [r for r in tried if r is not None]
            if len(known) == len(tried):
                retained = [100 * r["final"]["ra"] for r in finished(known)]
                by_stream[stream] = max(retained, default=CHANCE["ra"])
    return found


def form(search: Iterable[Record]) -> str | None:
    """Return which form of sparse-La-MAML is compared with La-MAML."""
    found = retained_in_search(search)
    if any(len(by_stream) < len(plan.STREAMS) for by_stream in found.values()):
        return None
    return max(found, key=lambda learner: float(np.mean(list(found[learner].values()))))


def retains_more(records: Iterable[Record], form: str = plan.SPARSE_FORM) -> Finding:
    """Test claim 9: sparse-La-MAML interferes less than La-MAML, and retains more."""
    if form not in FORMS:
        raise ValueError(f"sparse-La-MAML has no form {form!r}; known are {', '.join(FORMS)}")
    claim = f"9. sparse-La-MAML ({FORMS[form]}) interferes less than La-MAML and retains more"
    groups = by_experiment(records)
    sparse, base = (
        {s: groups.get(f"{s}-{learner}-tuned", []) for s in plan.STREAMS}
        for learner in (form, "la-maml")
    )
    gains = {(name, s): _gains(sparse[s], base[s], name) for name in DECIDING for s in plan.STREAMS}
    if any(len(by_seed) < 2 for by_seed in gains.values()):
        return Finding(claim, TOO_FEW, pd.DataFrame())
    found = {key: t_interval(by_seed) for key, by_seed in gains.items()}
    less, kept = (
        [evidence_line(_statistic(name.upper(), s), found[name, s], needed) for s in plan.STREAMS]
        for name, needed in (("bti", ABOVE), ("ra", "interval not below 0"))
    )
    best = max((found["ra", s] for s in plan.STREAMS), key=lambda i: i.low)
    gained = evidence_line(HIGHEST, best, ABOVE)
    beside = [
        evidence_line(_statistic("LA", s), t_interval(_gains(sparse[s], base[s], "la")), NOTHING)
        for s in plan.STREAMS
    ]
    own = [r for group in sparse.values() for r in group]
    no_price = all(line["holds"] for line in kept) and len(finished(own)) == len(own)
    holds = [line["holds"] for line in less]
    if all(holds) and gained["holds"] and no_price:
        verdict = "supported"
    elif any(holds) and no_price:
        verdict = "partly supported"
    else:
        verdict = "not supported"
    table = pd.DataFrame([*less, *kept, gained, *beside])
    return Finding(claim, verdict + _as_chance([*sparse.values(), *base.values()]), table)


def _statistic(metric: str, stream: str) -> str:
    return f"{metric} on {plan.TITLES[stream]}: sparse-La-MAML − La-MAML"


def _gains(a: Sequence[Record], b: Sequence[Record], name: str) -> list[float]:
    """Return a − b in percentage points, for the seeds that both have."""
    first, second = ({r["seed"]: _counted(r, name) for r in group} for group in (a, b))
    return [first[s] - second[s] for s in sorted(first.keys() & second.keys())]


def _counted(record: Record, name: str) -> float:
    """Return what a run counts with, percent: chance where it diverged."""
    return 100 * record["final"][name] if finished([record]) else CHANCE[name]


def _as_chance(compared: Iterable[Sequence[Record]]) -> str:
    """Return the end of a verdict: how many of the runs compared diverged."""
    runs = [r for group in compared for r in group]
    diverged = len(runs) - len(finished(runs))
    of = f"{diverged} of {len(runs)} runs diverged"
    bti = f"{CHANCE['bti']:g}"
    return f" ({of}; they count with chance, and a BTI of {bti})" if diverged else ""
