"""The README's picture and numbers and the ledger of claims, made from the study's records.

Run ``python -m reproduction.claims.readme`` after new records have come.

What stands between the markers in README.md is generated, as is ``results/claims.json``; a test
fails if one of them, or the picture, no longer fits the records.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..plan import study
from ..plan.few_shot import TRAINED_LONG
from ..report import figure1 as figures
from ..report import markdown as tables
from ..report.load_records import results_folder, study_records
from ..report.trained_long import Outcome, outcomes
from ..runs.records import Record, load
from . import ledger
from .words import ICONS

PICTURE = "book/_static/fig1.png"
"""The picture, relative to the root of the project."""

_BLOCK = re.compile(r"(<!-- generated: results -->\n).*?(\n<!-- end -->)", re.DOTALL)


ROWS = ("1", "2", "8", "9", "10a")
"""Claims in the README, beside the gain in accuracy after long training."""


PAGES = {"README.md": "notebooks", "book/index.md": "../notebooks"}
"""Pages with rows of results, and where they find the notebooks."""


def results(found: Sequence[ledger.Entry], primary: Outcome, notebooks: str = "notebooks") -> str:
    """Return the rows of results as Markdown."""
    rows = []
    for e in found:
        if e.claim.number in ROWS:
            word = f"{ICONS[e.answers.word]} {e.answers.word}"
            says = f"[{tables.inline(e.claim.says)}]({notebooks}/{e.claim.page}.ipynb)"
            rows.append((tables.Markdown(says), e.claim.problem, word, e.answers.beats_noise))
    word = primary.word.partition(":")[0]
    says = f"[More accurate than MAML, trained long at one rate]({notebooks}/trained_long.ipynb)"
    sign = ICONS.get(word, ICONS["undecided"])
    rows.append((tables.Markdown(says), "miniImageNet", f"{sign} {primary.word}", "–"))
    return tables.table(("claim", "tested on", "verdict", "beats noise?"), rows)


def digest(records: Sequence[Record], published: Path) -> str:
    """Return the SHA-256 of what the picture shows: some records, and the paper's Figure 1."""
    parts = [r["content_sha256"] for r in records]
    for path in sorted(published.glob("fig1_*.csv")):
        parts += [path.name, path.read_text(encoding="utf-8")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _of(records: Sequence[Record], data: str) -> list[Record]:
    return [r for r in records if r["data"]["name"] == data]


def fill(text: str, rows: str) -> str:
    """Return a page with its generated part made anew."""
    if not _BLOCK.search(text):
        raise ValueError("a page has lost its markers for generated results")
    return _BLOCK.sub(lambda m: m[1] + rows + m[2], text)


def draw(path: Path, records: list[Record]) -> None:
    """Draw the picture and note in it which records and published numbers it shows."""
    omniglot = _of(records, "omniglot")
    published = results_folder() / "paper"
    figure = figures.draw_fig1(
        figures.fig1_paper(published),
        *figures.fig1("This reproduction: Omniglot, 20-way 1-shot", omniglot),
    )
    figure.savefig(
        path,
        dpi=110,
        facecolor="white",
        transparent=False,
        metadata={"shows": digest(omniglot, published), "Software": None},
    )


def shown(path: Path) -> str | None:
    """Return the digest of what a picture shows."""
    with Image.open(path) as picture:
        return picture.info.get("shows")


def main() -> None:
    """Write the picture, the ledger and the generated part of the README."""
    root = results_folder().parent
    found = ledger.entries(results_folder())
    ledger.write(results_folder() / "claims.json", found)
    records = load(results_folder(), study.few_shot("study", study.FIG1))
    draw(root / PICTURE, records)
    (primary,) = (
        o for o in outcomes(study_records(TRAINED_LONG)) if o.contrast.number == "primary"
    )
    for name, notebooks in PAGES.items():
        text = (root / name).read_text(encoding="utf-8")
        rows = results(found, primary, notebooks)
        (root / name).write_text(fill(text, rows), encoding="utf-8")


if __name__ == "__main__":
    main()
