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
from ..report import figure1 as figures
from ..report import markdown as tables
from ..report import noise
from ..report.frame import by_experiment, finished, numbers, over_seeds
from ..report.load_records import results_folder
from ..report.robustness import where_the_gain_is
from ..report.sparsity_profiles import noise_rates
from ..runs.records import Record, load
from . import ledger, power
from .finding import NOTHING

PICTURE = "book/_static/fig1.png"
"""The picture, relative to the root of the project."""

_BLOCK = re.compile(r"(<!-- generated: results -->\n).*?(\n<!-- end -->)", re.DOTALL)


def zeros() -> float:
    """Return the share of sparse-ReLU-MAML's rates that noise would set to zero, percent."""
    e = study.find_few_shot("study", "convnet4-5shot-sparse-relu-maml")
    return float(noise_rates(e.inner_rate, e.updates, e.rule_rate).zero.mean[-1])


def results(
    found: Sequence[ledger.Entry],
    records: Sequence[Record],
    of_figure2: Sequence[Record] = (),
    of_table1: Sequence[Record] = (),
) -> str:
    """Return the summary of the verdicts as Markdown."""
    notes = [
        f"**Claims 1 and 3.** {beside_noise(records)}Masks driven by pure noise would earn *partly "
        "supported* on claim 1; noise orders no layers. Claim 3 has no such control yet.",
        "**Claim 2.** The order was tested from 50 % at inner rate 0.1; in other settings the "
        "output layer is often not the most plastic one, and at the rates 0.5 and 1.0 and with one "
        "shot it freezes most.",
        _note("Claim 4", where_the_gain_is(of_figure2)),
        f"**Claim 7.** Noise alone would set {zeros():.0f} % of these rates to zero, more than "
        "learning does.",
        _note("Claim 9", against(found, "9")),
        _note("Longer loops", nothing_to_prevent(found)),
        _note("Little training", what_training_adds(of_table1)),
    ]
    return (
        ledger.overview(found, "notebooks/{}.ipynb")
        + f"\n\n{ledger.beforehand(found)} They rest on Student's 95 % intervals over seeds; that "
        "of claim 8 is a permutation test. The study's images, networks and trainings are "
        "smaller than the paper's; each line's setting and test stand in "
        "[results/claims.json](results/claims.json).\n\n"
        + tables.folded(
            "What noise, settings and short training have to do with it",
            "\n".join(f"- {note}" for note in notes if note),
        )
        + "\n\n"
        + tables.folded("What the runs could have shown, and could not", power.in_doubt(found))
    )


def _note(about: str, said: str) -> str:
    return f"**{about}.** {said}" if said else ""


def against(found: Sequence[ledger.Entry], number: str) -> str:
    """Say which of the statistics that a verdict rests on lie below zero, interval and all."""
    said = [
        f"{line['statistic']}: {tables.bounds(line['mean'], line['low'], line['high'])}"
        for e in found
        if e.claim.number == number and len(e.finding.evidence)
        for line in e.finding.evidence.to_dict("records")
        if line["high"] < 0 and line["needed"] != NOTHING
    ]
    return f"Below zero, and so against the claim: {'; '.join(said)} points." if said else ""


def nothing_to_prevent(found: Sequence[ledger.Entry]) -> str:
    """Say where claim 11 has nothing to show, for MAML does not lose by longer loops."""
    said = []
    for e in found:
        lines = e.finding.evidence.to_dict("records")
        for line in lines:
            if line["statistic"] == "loss of MAML" and line["high"] < 0:
                said.append(
                    f"Claim {e.claim.number}: with ten times the inner steps MAML does not lose, "
                    f"it gains {-line['mean']:.2f} [{-line['high']:.2f}, {-line['low']:.2f}] "
                    "points, so there is nothing that sparsity could prevent."
                )
    return " ".join(said)


def what_training_adds(records: Sequence[Record]) -> str:
    """Say how much meta-training adds to MAML, which bounds what methods can differ by."""
    groups = by_experiment(finished(records))
    names = ("convnet4-5shot-maml", "convnet4-1shot-maml", "longer-5shot-maml")
    if any(len(groups.get(name, [])) < 2 for name in names):
        return ""
    five, one, longer = (over_seeds(numbers(groups[name], "taught")) for name in names)
    short, long = (groups[name][0]["parameters"]["updates"] for name in (names[0], names[2]))
    return (
        f"{short} updates, in claims 5a, 6, 11, 12a and 12b, teach MAML with ConvNet-4 little: "
        f"they add {tables.interval(five)} points to its validation accuracy with 5 shots and "
        f"{tables.interval(one)} with 1. So four methods were trained once more, for {long:,} "
        f"updates, which add {tables.interval(longer)}; the lines *longer* are about them. "
        "Claim 12a was not tried again."
    )


def beside_noise(records: Sequence[Record]) -> str:
    """Say where sparsity ends beside what pure noise would make, problem by problem."""
    titles = {"omniglot": "Omniglot", "miniimagenet": "miniImageNet"}
    words = {t: noise.in_words(_of(records, name)) for name, t in titles.items()}
    said = "; ".join(f"on {title} {found}" for title, found in words.items() if found)
    return (
        f"Beside the sparsity that noise would make of the same masks, runs end: {said}. Where "
        "they end below it, learning froze fewer weights than noise would have, which is no sign "
        "that it makes a network sparser. "
        if said
        else ""
    )


def digest(records: Sequence[Record], published: Path) -> str:
    """Return the SHA-256 of what the picture shows: some records, and the paper's Figure 1."""
    parts = [r["content_sha256"] for r in records]
    for path in sorted(published.glob("fig1_*.csv")):
        parts += [path.name, path.read_text(encoding="utf-8")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _of(records: Sequence[Record], data: str) -> list[Record]:
    return [r for r in records if r["data"]["name"] == data]


def fill(
    text: str,
    found: Sequence[ledger.Entry],
    records: Sequence[Record],
    of_figure2: Sequence[Record] = (),
    of_table1: Sequence[Record] = (),
) -> str:
    """Return the README with its generated part made anew, as :func:`results` makes it."""
    if not _BLOCK.search(text):
        raise ValueError("README.md has lost its markers for generated results")
    return _BLOCK.sub(lambda m: m[1] + results(found, records, of_figure2, of_table1) + m[2], text)


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
    of_figure2 = load(results_folder(), study.few_shot("study", study.FIG2))
    of_table1 = load(results_folder(), study.few_shot("study", study.TABLE1))
    readme = root / "README.md"
    text = fill(readme.read_text(encoding="utf-8"), found, records, of_figure2, of_table1)
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
