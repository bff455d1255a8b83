"""The README's picture and numbers and the ledger of claims, made from the study's records.

Run ``python -m wheretolearn.readme`` after new records have come.

What stands between the markers in README.md is generated, as is ``results/claims.json``; a test
fails if one of them, or the picture, no longer fits the records.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from . import figures, ledger, study
from .layers import results_folder
from .records import Record, load

PICTURE = "book/_static/fig1.png"
"""The picture, relative to the root of the project."""

_BLOCK = re.compile(r"(<!-- generated: results -->\n).*?(\n<!-- end -->)", re.DOTALL)


def results(found: Sequence[ledger.Entry]) -> str:
    """Return the summary of the verdicts as Markdown.

    Parameters
    ----------
    found : sequence of wheretolearn.ledger.Entry
        The ledger.

    Returns
    -------
    str
    """
    return (
        ledger.overview(found, "notebooks/{}.ipynb")
        + "\n\n<sub>Tests fixed beforehand, on Student's 95 % intervals over seeds. The study's "
        "images, networks and trainings are smaller than the paper's; each line's setting "
        "stands in [results/claims.json](results/claims.json). Masks driven by pure noise would "
        "earn *partly supported* on claim 1; noise orders no layers. Claim 3 has no such "
        "control yet.</sub>"
    )


def digest(records: list[Record]) -> str:
    """Return the SHA-256 of the checksums of some records."""
    return hashlib.sha256("".join(r["content_sha256"] for r in records).encode()).hexdigest()


def fill(text: str, found: Sequence[ledger.Entry]) -> str:
    """Return the README with its generated part made anew.

    Raises
    ------
    ValueError
        If the markers are missing.
    """
    if not _BLOCK.search(text):
        raise ValueError("README.md has lost its markers for generated results")
    return _BLOCK.sub(lambda m: m[1] + results(found) + m[2], text)


def draw(path: Path, records: list[Record]) -> None:
    """Draw the picture and note in it which records it shows."""
    omniglot = [r for r in records if r["data"]["name"] == "omniglot"]
    figure = figures.draw_fig1(
        figures.fig1_paper(results_folder() / "paper"),
        figures.fig1("This reproduction: Omniglot, 20-way 1-shot", omniglot),
    )
    figure.savefig(
        path,
        dpi=110,
        facecolor="white",
        transparent=False,
        metadata={"records": digest(omniglot), "Software": None},
    )


def shown(path: Path) -> str | None:
    """Return the digest of the records that a picture shows."""
    with Image.open(path) as picture:
        return picture.info.get("records")


def main() -> None:
    """Write the picture, the ledger and the generated part of the README."""
    root = results_folder().parent
    found = ledger.entries(results_folder())
    ledger.write(results_folder() / "claims.json", found)
    records = load(results_folder(), study.few_shot("study", study.FIG1))
    draw(root / PICTURE, records)
    readme = root / "README.md"
    readme.write_text(fill(readme.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
