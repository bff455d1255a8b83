"""Tables of the book, as Markdown, from records.

A record may come from anyone, so nothing that it calls by a name is taken for markup: text is
shown letter by letter (:func:`inline`, :func:`plain`) unless it is :class:`Markdown` on purpose.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from ..runs.records import Record
from ..runs.statistics import Interval, bootstrap_interval
from .frame import BySeed, by_experiment, finished, numbers, over_seeds

_LIVE = re.compile(
    r"[\x00-\x1f\x7f&<`|$\\*~]"  # HTML, code, tables, formulas, line breaks, emphasis
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis too, unless inside a word
    r"|(?<=\])[(\[:]|/(?=/)|\.(?=[^\W\d])|@(?=\S)"  # what makes a link of a bracket, and addresses
    r"|\{(?=\{)"  # a substitution
)
_BEGINS = re.compile(  # the same, and what begins a block
    rf"\A(?:[ #>=%:(]|[-+](?!\d)|\d+[.)](?=\s|\Z))|{_LIVE.pattern}"
)
_NO_CODE = re.compile(r"[\x00-\x1f\x7f`|\\]")  # what ends code, or its line


class Markdown(str):
    """Text that is meant as markup."""


def _escaped(text: str, live: re.Pattern[str]) -> Markdown:
    if isinstance(text, Markdown):
        return text
    return Markdown(live.sub(lambda m: "".join(f"&#{ord(c)};" for c in m[0]), text))


def inline(text: str) -> Markdown:
    """Return Markdown that shows a text letter by letter in a line; Markdown stays as it is."""
    return _escaped(text, _LIVE)


def plain(text: str) -> Markdown:
    """Return what :func:`inline` does, for a text that may stand where a paragraph begins."""
    return _escaped(text, _BEGINS)


def code(name: str) -> Markdown:
    """Return a name as code; one that could end the code is shown as :func:`plain` text."""
    return plain(name) if _NO_CODE.search(name) else Markdown(f"`{name}`")


def number(x: float) -> str:
    """Return two decimals, or for what they would turn to zero two digits."""
    return f"{x:.2g}" if 1e-9 < abs(x) < 0.005 else f"{abs(x) if abs(x) < 0.005 else x:.2f}"


def bounds(mean: float, low: float, high: float) -> str:
    """Return a mean and its interval as :func:`number` does; where there is none, the mean."""
    return number(mean) + (f" [{number(low)}, {number(high)}]" if math.isfinite(low) else "")


def runs(records: Sequence[Record]) -> str:
    """Return one line for each experiment: accuracy, sparsity, seeds, time."""
    rows = []
    for name, group in by_experiment(records).items():
        done = finished(group)
        accuracy, sparsity = (numbers(done, m) for m in ("test_accuracy", "sparsity"))
        minutes = sum(r["provenance"]["wall_seconds"] for r in group) / len(group) / 60
        rows.append(
            (
                code(name),
                _resampled(accuracy) if done else "diverged",
                ", ".join(f"{r['final']['best_update']}" for r in done) or "–",
                _resampled(sparsity),
                str(len(done)),
                str(len(group) - len(done)),
                f"{minutes:.1f}",
            )
        )
    header = (
        "experiment",
        "test accuracy (%)",
        "tested after update",
        "final sparsity (%)",
        "seeds finished",
        "diverged",
        "minutes a run",
    )
    return table(header, rows)


def _resampled(values: BySeed) -> str:
    return interval(bootstrap_interval(list(values.values()))) if values else "–"


def taught(records: Sequence[Record]) -> str:
    """Return what meta-training added to the validation accuracy of the untrained network."""
    rows = []
    for name, group in by_experiment(finished(records)).items():
        first, last = ([100 * r["curves"]["val_accuracy"][i] for r in group] for i in (0, -1))
        means = (f"{sum(x) / len(x):.1f}" for x in (first, last))
        updates = f"{group[0]['parameters']['updates']:,}"
        rows.append((code(name), updates, *means, cell(numbers(group, "taught")), str(len(group))))
    header = ("experiment", "updates", "untrained (%)", "at the end (%)", "added (points)", "seeds")
    return table(header, rows)


def interval(value: Interval | None) -> str:
    """Format an interval; without one, the mean alone; a dash without a number."""
    if value is None:
        return "–"
    return str(value) if value.n > 1 else f"{value.mean:.1f}"


def cell(values: BySeed) -> str:
    """Return Student's interval over seeds as a table shows it."""
    return interval(over_seeds(values))


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; cells are shown letter by letter, but for :class:`Markdown`."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(inline, line)) + " |" for line in lines)


def with_missing(
    header: Sequence[str], rows: Sequence[Sequence[str]], missing: Sequence[str]
) -> str:
    """Return a table, and below it what has no line there because it was not run yet."""
    parts = [table(header, rows)] if rows else []
    if missing:
        parts.append("Not run yet" + (f": {'; '.join(map(plain, missing))}." if rows else "."))
    return "\n\n".join(parts)


def folded(summary: str, text: str) -> str:
    """Return Markdown that shows a summary, and the rest when it is clicked."""
    return f"<details>\n<summary>{plain(summary)}</summary>\n\n{text}\n\n</details>"
