"""Claim 10: sparse-C-MAML gains online accuracy in OSAKA, and by its sparse rates alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..plan import streams as plan
from ..plan import study
from ..report.frame import by_experiment, finished
from ..runs.osaka import OsakaExperiment
from ..runs.records import Record
from .claim import (
    SHOWN,
    Claim,
    Statistic,
    Verdict,
    above,
    all_of,
    as_chance,
    difference,
    none_below,
    some,
)
from .claim import every as every_line

SPARSE = "sparse-c-maml"
"""The learner that the claims are about."""


FAIR = {
    ("c-maml-zero", 0.98): "gain at p = 0.98 over C-MAML that learns from every loss",
    ("c-maml-pap", 0.90): "gain at p = 0.90 over C-MAML + PAP with the same settings",
}
"""Fair rivals of 10a, learner and p; they decide nothing."""


def _compared(number: str, says: str, title: str, other: str) -> Claim:
    """Return a claim that sparse-C-MAML is more accurate than another learner, 5-way."""
    every = [
        e
        for e in study.experiments("study", plan.OSAKA)
        if isinstance(e, OsakaExperiment) and e.ways == 5
    ]
    names = {(e.learner, e.alpha): e.name for e in every}
    fair = FAIR if other == "c-maml" else {}
    beside = {names[rival] for rival in fair} - {names[other, a] for a in plan.ALPHAS}
    runs = [e for e in every if e.learner in (SPARSE, other) or e.name in beside]

    def notes(counted: Sequence[Record]) -> list[str]:
        """Name runs that are one computation, and such as never learned."""
        groups, same, idle = by_experiment(finished(counted)), [], []
        for alpha in plan.ALPHAS:
            pair = {m: groups.get(names[m, alpha], []) for m in (SPARSE, other)}
            mine, its = ({r["seed"]: r["correct"] for r in group} for group in pair.values())
            both = mine.keys() & its.keys()
            if equal := sum(mine[s] == its[s] for s in both):
                same.append(f"at p = {alpha:.2f} {equal} of {len(both)} pairs")
            for learner, group in pair.items():
                if still := sum(r["final"]["outer_steps"] == 0 for r in group):
                    idle.append(f"at p = {alpha:.2f} {still} of {len(group)} runs of {learner}")
        equal_scores = f"{', '.join(same)} have equal scores at every step"
        never_learned = f"{', '.join(idle)} never took a step of the slow weights"
        return [equal_scores] * bool(same) + [never_learned] * bool(idle)

    return Claim(
        number,
        says,
        title,
        plan.OSAKA,
        "Omniglot, MNIST, FashionMNIST",
        runs,
        [
            Statistic(
                f"gain at p = {alpha:.2f}",
                difference(names[SPARSE, alpha], names[other, alpha], "accuracy"),
                above(0),
            )
            for alpha in plan.ALPHAS
        ]
        + [
            Statistic(said, difference(names[SPARSE, rival[1]], names[rival], "accuracy"), SHOWN)
            for rival, said in fair.items()
        ],
        Verdict(
            "both hold",
            every_line(),
            "one holds and the other has no interval below 0",
            all_of(some(), none_below()),
        ),
        as_chance(runs, "accuracy"),
        "gain at p = 0.90",
        beside=beside,
        notes=notes,
    )


CLAIMS = [
    _compared(
        "10a",
        "Continual learning: sparse-C-MAML gains online accuracy in OSAKA, against C-MAML as "
        "selected",
        "sparse-C-MAML > C-MAML as selected",
        "c-maml",
    ),
    _compared(
        "10b",
        "Continual learning: the gain in OSAKA is one of the sparse rates alone",
        "Sparse rates alone: sparse-C-MAML > C-MAML + PAP",
        "c-maml-pap",
    ),
]
