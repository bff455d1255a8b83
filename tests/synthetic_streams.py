"""Records of runs through streams, made up."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from reproduction.runs.streams import ContinualExperiment
from synthetic import made_up_record
from wheretolearn.continual.interference import COSINES

TENSORS = {
    "layers.0.weight": 400,
    "layers.0.bias": 10,
    "layers.1.weight": 100,
    "layers.1.bias": 10,
    "layers.2.weight": 50,
    "layers.2.bias": 10,
}


def stream_record(
    experiment: ContinualExperiment,
    seed: int,
    *,
    ra: float = 0.6,
    bti: float = -0.1,
    matrix: Sequence[Sequence[float]] | None = None,
    frozen: dict[str, list[int]] | None = None,
    cosines: dict[str, list[float | None]] | None = None,
    diverged: bool = False,
) -> dict[str, Any]:
    """Return a record with given numbers, shares in [0, 1].

    By default there are two tasks with accuracies that fit `ra` and `bti`, and no rates; `frozen`
    counts the weights of tensors that cannot move after each task.  What diverged did so at once.
    """
    la = ra - bti
    matrix = [[la, 0.1], [max(2 * ra - la, 0.0), la]] if matrix is None else matrix
    frozen = frozen or {}
    cosines = {"gradient": [None, 0.2]} if cosines is None else cosines
    means: dict[str, float | None] = {}
    for name, values in cosines.items():
        known = [c for c in values if c is not None]
        means[name] = sum(known) / len(known) if known else None
    share = sum(counts[-1] for counts in frozen.values()) / sum(TENSORS.values())
    final: dict[str, float | None] = {"ra": ra, "bti": bti, "la": la}
    final["sparsity"] = share if frozen else None
    final |= {name: means.get(name) for name in COSINES}
    curves: dict[str, Any] = {
        "before": [0.1] * len(matrix[0]),
        "train_loss": [1.0] * len(matrix),
        "accuracy": matrix,
        "frozen": frozen,
        "thawed": {n: [0] * len(counts) for n, counts in frozen.items()},
        "rates": {n: [0.1] * len(counts) for n, counts in frozen.items()},
        "interference": cosines,
    }
    if diverged:
        final = dict.fromkeys(final)
        curves = {name: [] if isinstance(v, list) else {} for name, v in curves.items()}
    return copy.deepcopy(
        {
            "schema_version": 1,
            "kind": "continual",
            "experiment": experiment.name,
            "profile": experiment.profile,
            "figure": experiment.figure,
            "seed": seed,
            "parameters": experiment.parameters(),
            "data": {"name": experiment.stream, "fingerprint": "made up"},
            "tensors": TENSORS,
            "status": "diverged" if diverged else "finished",
            "diverged_at": {"task": 0, "samples": 10} if diverged else None,
            "curves": curves,
            "final": final,
            "provenance": made_up_record("any", 0)["provenance"],
        }
    )
