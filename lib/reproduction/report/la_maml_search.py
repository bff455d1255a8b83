"""The search behind La-MAML and its relatives: tables of what was tried and what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from reproduction.report.frame import finished
from wheretolearn.continual.methods import settings

from ..plan import streams as plan
from ..runs.records import Record, load
from . import load_records as layers
from .la_maml import LOOKS, NOT_RUN
from .markdown import Markdown, table

FORMS = {"sparse-la-maml": "masked outer step", "sparse-la-maml-plain": "plain outer step"}
"""The two forms of sparse-La-MAML; one of them is compared with La-MAML."""

CHANCE = 10.0
"""What a search retains in which every run diverged, percent."""


def retained_in_search(search: Iterable[Record]) -> dict[str, dict[str, float]]:
    """Return what each form retains with its best settings, where all of them were tried."""
    runs = {r["experiment"]: r for r in search}
    found: dict[str, dict[str, float]] = {learner: {} for learner in FORMS}
    for learner, by_stream in found.items():
        for stream in plan.STREAMS:
            lines = range(len(plan.grid(learner, stream)))
            tried = [runs.get(f"{stream}-{learner}-{line}") for line in lines]
            known = [r for r in tried if r is not None]
            if len(known) == len(tried):
                retained = [100 * r["final"]["ra"] for r in finished(known)]
                by_stream[stream] = max(retained, default=CHANCE)
    return found


def chosen_form(search: Iterable[Record]) -> str | None:
    """Return the form that retains more over the three streams; None while runs are missing."""
    found = retained_in_search(search)
    if any(len(by_stream) < len(plan.STREAMS) for by_stream in found.values()):
        return None
    return max(found, key=lambda learner: float(np.mean(list(found[learner].values()))))


def search_records() -> list[Record]:
    """Return the records of the search, as they came with the project."""
    return load(layers.results_folder(), plan.search())


def search_table(records: Sequence[Record]) -> str:
    """Return the search of settings: retained accuracy on validation streams."""
    found = {r["experiment"]: r for r in records}
    best = _best_of_complete(records)
    rows = []
    for learner in plan.TUNED:
        lines = plan.grid(learner, plan.STREAMS[0])
        for line in sorted(range(len(lines)), key=lambda i: _place(lines[i])):
            names = [f"{stream}-{learner}" for stream in plan.STREAMS]
            cells = [_searched(found.get(f"{n}-{line}"), best.get(n) == line) for n in names]
            rows.append((LOOKS[learner].name, tried(lines[line]), *cells))
    return table(("learner", "settings", *(plan.TITLES[s] for s in plan.STREAMS)), rows)


def chosen_table(records: Sequence[Record]) -> str:
    """Return what the search chose."""
    found = {r["experiment"]: r for r in records}
    best = _best_of_complete(records)
    rows = []
    for learner in plan.TUNED:
        lines = plan.grid(learner, plan.STREAMS[0])
        cells: list[str] = []
        for name in (f"{stream}-{learner}" for stream in plan.STREAMS):
            if name in best:
                retained = _searched(found[f"{name}-{best[name]}"], True)
                cells.append(Markdown(f"{tried(lines[best[name]])}: {retained}"))
            else:
                lost = all(f"{name}-{line}" in found for line in range(len(lines)))
                cells.append("all diverged" if lost else NOT_RUN)
        rows.append((LOOKS[learner].name, str(len(lines)), *cells))
    return table(("learner", "lines", *(plan.TITLES[s] for s in plan.STREAMS)), rows)


def _best_of_complete(records: Sequence[Record]) -> dict[str, int]:
    """Return the best lines of those learners and streams of which all were tried."""
    tried = {r["experiment"] for r in records}
    missing = {e.name for e in plan.search()} - tried
    open_ones = {name.rpartition("-")[0] for name in missing}
    return {name: n for name, n in plan.best_lines(records).items() if name not in open_ones}


def _place(changes: Mapping[str, float]) -> tuple[float, ...]:
    """Return where a line of the grid stands among those of its learner."""
    if "rule_rate" not in changes:
        return ()
    return tuple(changes.get(n, 0.0) for n in ("init_sparsity", "rule_rate", "inner_rate"))


def tried(changes: Mapping[str, float]) -> str:
    """Return a line of the grid in words."""
    if "rate" in changes:
        glances = "1 glance" if changes["glances"] == 1 else "as many glances as La-MAML"
        return f"rate {changes['rate']:g}, {glances}"
    if "rule_rate" not in changes:
        own = settings("c-maml", plan.STREAMS[0])
        of_inner, of_outer = (changes[n] / own[n] for n in ("inner_rate", "outer_rate"))
        return f"α × {of_inner:g}, η × {of_outer:g}"
    factor = changes["inner_rate"] / settings("la-maml", plan.STREAMS[0])["inner_rate"]
    text = f"α × {factor:g}, γ = {changes['rule_rate']:g}"
    if "init_sparsity" in changes:
        text += f", {100 * changes['init_sparsity']:g} % frozen at first"
    if "outer_rate" in changes:
        text += ", η the same as α"
    return text


def _searched(record: Record | None, best: bool) -> str:
    if record is None:
        return NOT_RUN
    if not finished([record]):
        return "diverged"
    retained = f"{100 * record['final']['ra']:.1f}"
    return Markdown(f"**{retained}**") if best else retained


def forms_table(records: Sequence[Record]) -> str:
    """Return what the two forms of sparse-La-MAML retain in the search, each at its best."""
    found = retained_in_search(records)
    whole = {f: by for f, by in found.items() if len(by) == len(plan.STREAMS)}
    means = {f: float(np.mean(list(by.values()))) for f, by in whole.items()}
    chosen = max(means, key=means.__getitem__) if len(means) == len(FORMS) else None
    rows = []
    for f, by_stream in found.items():
        cells = [f"{by_stream[s]:.1f}" if s in by_stream else NOT_RUN for s in plan.STREAMS]
        mean = f"{means[f]:.2f}" if f in means else "–"
        rows.append((LOOKS[f].name, *cells, Markdown(f"**{mean}**") if f == chosen else mean))
    return table(("form", *(plan.TITLES[s] for s in plan.STREAMS), "mean"), rows)
