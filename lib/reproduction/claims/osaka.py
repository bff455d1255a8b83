"""Claims 10a and 10b: the tests that the chapter "Decided beforehand" states for OSAKA."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from reproduction.claims.finding import ABOVE, TOO_FEW, Finding, evidence_line
from reproduction.report.frame import by_experiment, finished

from ..plan import study
from ..plan.streams import ALPHAS, OSAKA
from ..runs.osaka import OsakaExperiment
from ..runs.records import Record
from ..runs.statistics import t_interval

SPARSE = "sparse-c-maml"
"""The learner that the claims are about."""

AS_SELECTED, SAME_BUT_DENSE = "c-maml", "c-maml-pap"
"""What it is compared with: in claim 10a, and in claim 10b."""


def accuracies(group: Iterable[Record]) -> dict[int, float]:
    """Return accuracies over the whole stream in percent, by seed."""
    return {
        r["seed"]: 100 * r["final"]["accuracy"] if finished([r]) else 100 / r["parameters"]["ways"]
        for r in group
    }


def runs(other: str) -> list[OsakaExperiment]:
    """Return the study's 5-way experiments that compare sparse-C-MAML with another."""
    return [
        e
        for e in study.experiments("study", OSAKA)
        if isinstance(e, OsakaExperiment) and e.learner in (SPARSE, other) and e.ways == 5
    ]


def against_selected(records: Iterable[Record]) -> Finding:
    """Test claim 10a: more accurate than C-MAML as its authors selected it."""
    return _gains("10a. sparse-C-MAML > C-MAML as selected", AS_SELECTED, records)


def sparse_rates_alone(records: Iterable[Record]) -> Finding:
    """Test claim 10b: more accurate than the same learner with rates that are never cut off."""
    return _gains("10b. Sparse rates alone: sparse-C-MAML > C-MAML + PAP", SAME_BUT_DENSE, records)


def gain_at(alpha: float) -> str:
    """Return what the gain at a probability is called in the evidence."""
    return f"gain at p = {alpha:.2f}"


def _gains(claim: str, other: str, records: Iterable[Record]) -> Finding:
    groups = by_experiment(records)
    names = {(e.learner, e.alpha): e.name for e in runs(other)}
    lines, diverged, count, idle, same = [], 0, 0, [], []
    for alpha in ALPHAS:
        sparse, dense = (groups.get(names[learner, alpha], []) for learner in (SPARSE, other))
        mine, its = accuracies(sparse), accuracies(dense)
        seeds = sorted(mine.keys() & its.keys())
        if len(seeds) < 2:
            return Finding(claim, TOO_FEW, pd.DataFrame())
        gain = t_interval([mine[s] - its[s] for s in seeds])
        lines.append(evidence_line(gain_at(alpha), gain, ABOVE))
        pairs = [r for r in (*sparse, *dense) if r["seed"] in seeds]
        count += len(pairs)
        diverged += len(pairs) - len(finished(pairs))
        for learner, group in ((SPARSE, sparse), (other, dense)):
            own = [r for r in finished(group) if r["seed"] in seeds]
            if still := sum(r["final"]["outer_steps"] == 0 for r in own):
                idle.append(f"at p = {alpha:.2f} {still} of {len(own)} runs of {learner}")
        answers = [{r["seed"]: r["correct"] for r in finished(group)} for group in (sparse, dense)]
        both = answers[0].keys() & answers[1].keys()
        if equal := sum(answers[0][s] == answers[1][s] for s in both):
            same.append(f"at p = {alpha:.2f} {equal} of {len(both)} pairs")
    table = pd.DataFrame(lines)
    if all(table["holds"]):
        verdict = "supported"
    elif any(table["holds"]) and all(table["high"] >= 0):
        verdict = "partly supported"
    else:
        verdict = "not supported"
    notes = [f"{diverged} of {count} runs diverged and count as chance"] if diverged else []
    if same:
        notes.append(f"{', '.join(same)} have equal scores at every step")
    if idle:
        notes.append(f"{', '.join(idle)} never took a step of the slow weights")
    return Finding(claim, verdict + (f" ({'; '.join(notes)})" if notes else ""), table)


def setting(experiments: Sequence[OsakaExperiment]) -> str:
    """Say in one line what some experiments have in common, and what they go through."""

    def values(name: str) -> str:
        return ", ".join(f"{v:g}" for v in sorted({getattr(e, name) for e in experiments}))

    streams = ", ".join(sorted({e.stream for e in experiments}))
    return (
        f"{streams}, {values('steps')} steps, p = {values('alpha')}, {values('ways')}-way "
        f"{values('shots')}-shot, ConvNet-4 with {values('width')} channels"
    )
