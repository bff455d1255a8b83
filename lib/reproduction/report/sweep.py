"""What a sweep found: a line for each setting, in a table and in a plot."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from ..plan.change import parts
from ..runs.records import Record
from .frame import by_experiment, frame, mean
from .markdown import interval
from .markdown import table as lines_of
from .plotkit import METHODS, forest, panels, settings_line

TITLES = {
    "test_accuracy": "test accuracy (%)",
    "ra": "retained accuracy (%)",
    "bti": "interference (points)",
    "accuracy": "online accuracy (%)",
    "sparsity": "frozen weights (%)",
}


def _settings(records: Sequence[Record]) -> dict[str, str]:
    """Return what tells settings apart, by the name of the experiment."""
    return {name: ", ".join(parts(name)[1]) or "unchanged" for name in by_experiment(records)}


def _metrics(records: Sequence[Record]) -> dict[str, str]:
    """Return the titles of the numbers that the records have."""
    known = set(frame(records)["metric"])
    return {metric: title for metric, title in TITLES.items() if metric in known}


def table(experiment: str, records: Sequence[Record]) -> str:
    """Return means over seeds with Student's 95 % intervals, a line for each setting."""
    numbers, metrics = frame(records), _metrics(records)
    rows = []
    for name, setting in _settings(records).items():
        found = [mean(numbers, name, metric) for metric in metrics]
        done = numbers[(numbers["experiment"] == name) & (numbers["status"] == "finished")]
        seeds = str(done["seed"].nunique())
        rows.append((setting, *(interval(m) if m else "–" for m in found), seeds))
    return lines_of((experiment, *metrics.values(), "seeds"), rows)


def draw(experiment: str, records: Sequence[Record]) -> Figure:
    """Draw the same: a row for each setting, a panel for each number."""
    numbers, metrics, settings = frame(records), _metrics(records), _settings(records)
    figure, (part,) = panels([experiment], height=0.8 + 0.25 * len(settings))
    method = records[0]["parameters"].get("method") or records[0]["parameters"]["learner"]
    axes = part.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for ax, (metric, title) in zip(axes, metrics.items(), strict=True):
        look = METHODS[method]
        rows = {s: (mean(numbers, name, metric), look) for name, s in settings.items()}
        forest(ax, rows, title, zero=False)
    where = f"profile {records[0]['profile']}"
    settings_line(part, f"{where}; mean, Student's 95 % interval over seeds")
    return figure
