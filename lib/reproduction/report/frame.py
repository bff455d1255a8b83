"""All records as one tidy table, and the comparisons that tables, figures and claims make on it.

A row is one number of one run.  Shares are in percent, everything else as in the record.  Runs
that diverged have a row for their status alone: no number of theirs enters a mean unasked.

==============================  ===================================================================
metric                          what it is
==============================  ===================================================================
``test_accuracy``               few-shot: accuracy of the best validated network on test episodes
``val_accuracy``, ``taught``    its validation accuracy; what training added to that of the start
``sparsity``                    share of frozen weights at the end of training
``sparsity/<layer>``            the same of a layer's kernel
``ra``, ``bti``, ``la``         streams: retained accuracy, interference, learning accuracy
``accuracy``                    OSAKA: cumulative accuracy
a probe's name                  what :mod:`reproduction.runs.probes` asked
==============================  ===================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from ..runs.records import Record
from ..runs.statistics import Interval, t_interval

COLUMNS = ("experiment", "profile", "figure", "method", "data", "seed", "status", "metric", "value")

_NUMBERS_OF_THE_RUN = ("update", "best_update", "loss", "test_loss")  # not shares


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return the numbers at the end of some runs, a row for each."""
    rows = [
        (
            r["experiment"],
            r["profile"],
            r["figure"],
            r["parameters"].get("method") or r["parameters"].get("learner", ""),
            r["data"]["name"],
            r["seed"],
            r["status"],
            metric,
            value,
        )
        for r in records
        for metric, value in _numbers(r)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _numbers(record: Record) -> Iterator[tuple[str, float]]:
    yield "minutes", record["provenance"]["wall_seconds"] / 60
    if record["status"] != "finished":
        return
    final, curves = record["final"], record["curves"]
    found = {k: v for k, v in final.items() if isinstance(v, int | float | type(None))}
    found["test_accuracy"] = (final.get("test_accuracy") or {}).get("mean")
    found |= {name: answer["mean"] for name, answer in final.get("probes", {}).items()}
    if "val_accuracy" in curves:
        found["taught"] = curves["val_accuracy"][-1] - curves["val_accuracy"][0]
    for layer, name in kernels(record["tensors"]).items():
        if counts := curves["frozen"].get(name):
            found[f"sparsity/{layer}"] = counts[-1] / record["tensors"][name]
    for metric, value in found.items():
        if value is not None:
            yield metric, value if metric in _NUMBERS_OF_THE_RUN else 100 * value


def kernels(tensors: Iterable[str]) -> dict[str, str]:
    """Return the tensors that layers learn with, by layer: kernels and matrices.

    Biases and normalisation are left out: a bias before a normalisation has no effect, so its
    mask stays where it was drawn.
    """
    owners = (name.removesuffix(".weight") for name in tensors if name.endswith(".weight"))
    return {
        owner.removesuffix(".conv"): f"{owner}.weight"
        for owner in owners
        if not owner.rpartition(".")[2].startswith("norm")
    }


def by_seed(table: pd.DataFrame, experiment: str, metric: str) -> pd.Series:
    """Return a number of the finished runs of an experiment, by seed; empty without any."""
    chosen = table[(table["experiment"] == experiment) & (table["metric"] == metric)]
    chosen = chosen[chosen["status"] == "finished"]
    if len(chosen[["profile"]].drop_duplicates()) > 1:
        raise ValueError(f"{experiment} stands in several profiles; choose one first")
    return chosen.set_index("seed")["value"].sort_index()


def mean(table: pd.DataFrame, experiment: str, metric: str) -> Interval | None:
    """Return a mean over seeds with Student's 95 % interval; None without a finished run."""
    return over_seeds(by_seed(table, experiment, metric))


def paired(table: pd.DataFrame, a: str, b: str, metric: str) -> Interval | None:
    """Return the mean difference a − b of two experiments over the seeds that both have."""
    return over_seeds((by_seed(table, a, metric) - by_seed(table, b, metric)).dropna())


def over_seeds(values: Iterable[float]) -> Interval | None:
    """Return Student's 95 % interval of some numbers, one for each seed; None without any."""
    listed = list(values)
    return t_interval(listed) if listed else None


def by_experiment(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Group records by the name of their experiment, each group ordered by seed."""
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: r["seed"]):
        groups.setdefault(record["experiment"], []).append(record)
    return groups


def finished(records: Iterable[Record]) -> list[Record]:
    """Return the records that did not diverge."""
    return [r for r in records if r["status"] == "finished"]
