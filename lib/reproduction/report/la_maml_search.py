"""The search behind La-MAML and its relatives: tables of what was tried and what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isnan, nan
from typing import NamedTuple

import numpy as np

from wheretolearn.continual.methods import settings

from ..plan import streams as plan
from ..runs.records import Record, load
from . import load_records as layers
from .frame import finished
from .la_maml import LOOKS
from .markdown import Markdown, table
from .naming import NOT_RUN

FORMS = {"sparse-la-maml": "masked outer step", "sparse-la-maml-plain": "plain outer step"}
"""The two forms of sparse-La-MAML; one of them is compared with La-MAML."""

CHANCE = 10.0
"""What a search retains in which every run diverged, percent."""


def search_records() -> list[Record]:
    """Return the records of the search, as they came with the project."""
    return load(layers.results_folder(), plan.search())


class Best(NamedTuple):
    """The line of a grid that retained most on a stream; none where all of them diverged."""

    line: int | None
    retained: float


def _columns(records: Iterable[Record], learner: str) -> list[list[float | None]]:
    """Return what lines retained, stream by stream: NaN of one that diverged, None of no run."""
    known = {r["experiment"]: 100 * r["final"]["ra"] if finished([r]) else nan for r in records}
    lines = range(len(plan.grid(learner, plan.STREAMS[0])))
    return [[known.get(f"{s}-{learner}-{line}") for line in lines] for s in plan.STREAMS]


def _best(column: Sequence[float | None]) -> Best | None:
    """Return the best line, once all were tried."""
    if None in column:
        return None
    known = [(i, value) for i, value in enumerate(column) if value is not None and value >= 0]
    return Best(*max(known, key=lambda pair: pair[1], default=(None, CHANCE)))


def search_table(records: Sequence[Record]) -> str:
    """Return the search of settings: retained accuracy on validation streams."""
    rows = []
    for learner in plan.TUNED:
        grid, columns = plan.grid(learner, plan.STREAMS[0]), _columns(records, learner)
        best = [_best(column) for column in columns]
        order = ("init_sparsity", "rule_rate", "inner_rate") if "rule_rate" in grid[0] else ()
        for line in sorted(range(len(grid)), key=lambda i: [grid[i].get(n, 0) for n in order]):
            cells = [_cell(c[line], b, line) for c, b in zip(columns, best, strict=True)]
            rows.append((LOOKS[learner].name, tried(grid[line]), *cells))
    return table(("learner", "settings", *(plan.TITLES[s] for s in plan.STREAMS)), rows)


def _cell(value: float | None, best: Best | None, line: int) -> str:
    if value is None or isnan(value):
        return NOT_RUN if value is None else "diverged"
    return Markdown(f"**{value:.1f}**") if best and best.line == line else f"{value:.1f}"


def chosen_table(records: Sequence[Record]) -> str:
    """Return what the search chose."""
    rows = []
    for learner in plan.TUNED:
        grid, cells = plan.grid(learner, plan.STREAMS[0]), list[str]()
        for best in map(_best, _columns(records, learner)):
            if best is None or best.line is None:
                cells.append("all diverged" if best else NOT_RUN)
            else:
                cells.append(Markdown(f"{tried(grid[best.line])}: **{best.retained:.1f}**"))
        rows.append((LOOKS[learner].name, str(len(grid)), *cells))
    return table(("learner", "lines", *(plan.TITLES[s] for s in plan.STREAMS)), rows)


def _forms(records: Sequence[Record]) -> dict[str, list[float | None]]:
    """Return what each form retains at its best: on each stream, and on average."""
    forms = {}
    for form in FORMS:
        best = [_best(column) for column in _columns(records, form)]
        retained = [b.retained for b in best if b]
        mean = float(np.mean(retained)) if len(retained) == len(best) else None
        forms[form] = [*(b and b.retained for b in best), mean]
    return forms


def chosen_form(records: Sequence[Record]) -> str | None:
    """Return the form that retains more over the three streams; None while runs are missing."""
    means = {form: mean for form, (*_, mean) in _forms(records).items() if mean is not None}
    return max(means, key=means.__getitem__) if len(means) == len(FORMS) else None


def forms_table(records: Sequence[Record]) -> str:
    """Return what the two forms of sparse-La-MAML retain in the search, each at its best."""
    rows, chosen = [], chosen_form(records)
    for form, (*each, mean) in _forms(records).items():
        cells = [NOT_RUN if value is None else f"{value:.1f}" for value in each]
        last = "–" if mean is None else f"{mean:.2f}"
        rows.append((LOOKS[form].name, *cells, Markdown(f"**{last}**") if form == chosen else last))
    return table(("form", *(plan.TITLES[s] for s in plan.STREAMS), "mean"), rows)


def tried(changes: Mapping[str, float]) -> str:
    """Return a line of the grid in words."""
    if "rate" in changes:
        glances = "1 glance" if changes["glances"] == 1 else "as many glances as La-MAML"
        return f"rate {changes['rate']:g}, {glances}"
    base = settings("la-maml" if "rule_rate" in changes else "c-maml", plan.STREAMS[0])
    text = f"α × {changes['inner_rate'] / base['inner_rate']:g}"
    if "rule_rate" not in changes:
        return f"{text}, η × {changes['outer_rate'] / base['outer_rate']:g}"
    text += f", γ = {changes['rule_rate']:g}"
    if "init_sparsity" in changes:
        text += f", {100 * changes['init_sparsity']:g} % frozen at first"
    return f"{text}, η the same as α" if "outer_rate" in changes else text
