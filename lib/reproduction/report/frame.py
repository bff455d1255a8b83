"""All records as one tidy table, and the comparisons that tables, figures and claims make on it.

A row is one number of one run.  Shares are in percent, everything else as in the record.  Runs
that diverged have their minutes alone, and what they are said to count with.

==============================  ===================================================================
metric                          what it is
==============================  ===================================================================
``test_accuracy``               few-shot: accuracy of the best validated network on test episodes
``val_accuracy``, ``taught``    its validation accuracy; what training added to that of the start
``sparsity``                    share of frozen weights at the end of training
``sparsity/<layer>``            the same of a layer's kernel
``moving``                      share of weights that the tested network may move
``ra``, ``bti``, ``la``         streams: retained accuracy, interference, learning accuracy
``accuracy``                    OSAKA: cumulative accuracy
a probe's name                  what :mod:`reproduction.runs.probes` asked
``minutes``                     how long the run took
==============================  ===================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from ..runs.records import Record
from ..runs.statistics import Interval, t_interval

COLUMNS = ("experiment", "profile", "figure", "method", "data", "seed", "status", "metric", "value")

BySeed = Mapping[int, float]
"""Numbers of the runs of one experiment."""

_NUMBERS_OF_THE_RUN = ("update", "best_update", "loss", "test_loss")  # not shares


def frame(records: Iterable[Record], diverged: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Return the numbers at the end of some runs; `diverged` is what those that did count with."""
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
        for metric, value in _numbers(r, diverged or {})
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _numbers(record: Record, diverged: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    yield "minutes", record["provenance"]["wall_seconds"] / 60
    if record["status"] != "finished":
        yield from diverged.items()
        return
    final, curves = record["final"], record["curves"]
    numbers = {k: v for k, v in final.items() if isinstance(v, int | float | type(None))}
    numbers["test_accuracy"] = (final.get("test_accuracy") or {}).get("mean")
    numbers |= {name: answer["mean"] for name, answer in final.get("probes", {}).items()}
    if final.get("best_sparsity") is not None:
        numbers["moving"] = 1 - final["best_sparsity"]
    if "val_accuracy" in curves:
        numbers["taught"] = curves["val_accuracy"][-1] - curves["val_accuracy"][0]
    for layer, name in kernels(record["tensors"]).items():
        if counts := curves["frozen"].get(name):
            numbers[f"sparsity/{layer}"] = counts[-1] / record["tensors"][name]
    for metric, value in numbers.items():
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
    """Return a number of the runs of an experiment that have it, by seed; empty without any."""
    chosen = table[(table["experiment"] == experiment) & (table["metric"] == metric)]
    if chosen["profile"].nunique() > 1:
        raise ValueError(f"{experiment} stands in several profiles; choose one first")
    return chosen.set_index("seed")["value"].sort_index()


def mean(table: pd.DataFrame, experiment: str, metric: str) -> Interval | None:
    """Return a mean over seeds with Student's 95 % interval; None without a finished run."""
    return over_seeds(by_seed(table, experiment, metric))


def paired(table: pd.DataFrame, a: str, b: str, metric: str) -> Interval | None:
    """Return the mean difference a − b of two experiments over the seeds that both have."""
    return over_seeds((by_seed(table, a, metric) - by_seed(table, b, metric)).dropna())


def over_seeds(values: Iterable[float] | BySeed) -> Interval | None:
    """Return Student's 95 % interval of some numbers, one for each seed; None without any."""
    listed = list(values.values() if isinstance(values, Mapping) else values)
    return t_interval(listed) if listed else None


def numbers(group: Iterable[Record], metric: str) -> BySeed:
    """Return a number of the runs of one experiment that have it, by seed."""
    return {r["seed"]: value for r in group for m, value in _numbers(r, {}) if m == metric}


def minus(a: BySeed, b: BySeed) -> BySeed:
    """Return the differences of two things that were measured with the same seeds."""
    return {s: a[s] - b[s] for s in sorted(a.keys() & b.keys())}


def by_experiment(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Group records by the name of their experiment, each group ordered by seed."""
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: r["seed"]):
        groups.setdefault(record["experiment"], []).append(record)
    return groups


def finished(records: Iterable[Record]) -> list[Record]:
    """Return the records that did not diverge."""
    return [r for r in records if r["status"] == "finished"]
