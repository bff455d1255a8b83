"""The ledger of claims: what the paper says, what decides it here, and what came out.

It is made from the study's records; ``python -m reproduction.claims.readme`` writes it to
``results/claims.json``, and a test fails if the file no longer fits the records.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..plan import study
from ..report.markdown import Markdown, bounds, inline, table
from ..runs.experiment import Experiment, Planned
from ..runs.osaka import OsakaExperiment
from ..runs.records import Record, check_data, load
from ..runs.streams import ContinualExperiment
from . import (
    claim_4,
    claim_9,
    claim_10,
    claims_1_to_3,
    claims_5_and_6,
    claims_7_and_8,
    claims_11_and_12,
)
from .claim import Claim
from .finding import NOTHING, TOO_FEW, Finding, verdicts
from .words import ICONS, Answers, answers

FILES = (
    claims_1_to_3,
    claim_4,
    claims_5_and_6,
    claims_7_and_8,
    claim_9,
    claim_10,
    claims_11_and_12,
)
"""Where the claims stand."""


class Entry(NamedTuple):
    """A line of the ledger."""

    claim: Claim
    finding: Finding
    verdict: str
    """With how much of the evidence there is, as long as runs are missing."""
    headline: dict[str, Any] | None
    """The line of the evidence that stands for it."""
    paper: float | None
    done: int
    """Planned runs that have a record."""
    answers: Answers
    """The word that is shown first, and what stands beside it."""


def claims() -> list[Claim]:
    """Return every claim, in the order of its number."""
    found = [claim for file in FILES for claim in file.CLAIMS]
    return sorted(found, key=lambda c: (whole_number(c), c.number))


def whole_number(claim: Claim) -> int:
    """Return the number of a claim without what tells its lines apart."""
    return int("".join(itertools.takewhile(str.isdigit, claim.number)))


def entries(results: Path, page: str | None = None) -> list[Entry]:
    """Apply every test, or those of a page, to the records of the planned runs that it needs."""
    return [
        entry(claim, load(results, claim.runs), results / "paper")
        for claim in claims()
        if page in (None, claim.page)
    ]


def findings(records: Iterable[Record], *numbers: str, problem: str | None = None) -> list[Finding]:
    """Apply the tests of some claims, on one problem or on all, to records at hand."""
    given = list(records)
    chosen = [c for c in claims() if problem in (None, c.problem)]
    return [c.test(given) for n in numbers for c in chosen if c.number == n]


def entry(claim: Claim, records: Sequence[Record], published: Path) -> Entry:
    """Apply a test to its planned runs; runs on different data raise a RecordError."""
    planned = _planned(claim)
    of_plan = [r for r in records if (r["experiment"], r["seed"]) in planned]
    check_data(of_plan)
    made = {(r["experiment"], r["seed"]) for r in of_plan}
    finding = claim.test(of_plan)
    how_many = f"({len(made)} of {len(planned)} runs)"
    if made == planned:
        verdict = finding.verdict
    elif finding.verdict.startswith(TOO_FEW):
        verdict = f"not run yet {how_many}{finding.verdict.removeprefix(TOO_FEW)}"
    else:
        verdict = f"{finding.verdict}, so far {how_many}"
    lines = finding.evidence.to_dict("records")
    headline = next((line for line in lines if line["statistic"] == claim.headline), None)
    if lines and headline is None:
        raise ValueError(f"claim {claim.number}: its test has no statistic {claim.headline!r}")
    paper = claim.paper(published) if claim.paper else None
    beside = answers(claim, finding, headline, paper, of_plan)
    return Entry(claim, finding, verdict, headline, paper, len(made), beside)


def as_data(found: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the ledger as plain data, as it stands in ``results/claims.json``."""
    return [
        {
            "claim": e.claim.number,
            "says": e.claim.says,
            "problem": e.claim.problem,
            "setting": setting(e.claim.runs),
            "verdict": e.verdict,
            "word": e.answers.word,
            "beats noise": e.answers.beats_noise,
            "could be seen": e.answers.could_be_seen,
            "headline": e.claim.headline,
            "unit": e.claim.unit,
            "paper": _plain(e.paper),
            "test": e.claim.stated(),
            "evidence": [
                {str(k): _plain(v) for k, v in line.items()}
                | ({"holds": None} if line["needed"] == NOTHING else {})
                for line in e.finding.evidence.to_dict("records")
            ],
            "runs": [e.done, len(_planned(e.claim))],
            "records": [f"results/study/{run.name}/" for run in e.claim.runs],
            "figure": f"notebooks/{e.claim.page}.ipynb",
        }
        for e in found
    ]


def write(path: Path, found: Sequence[Entry]) -> None:
    """Write the ledger as JSON."""
    text = json.dumps(as_data(found), indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def overview(found: Sequence[Entry], link: str = "{}.html") -> str:
    """Return the word for each claim, and what it stands on, as a table in Markdown."""
    rows = []
    for e in found:
        name = inline(f"{e.claim.number}. {e.claim.says}")
        linked = Markdown(f"[{name}]({link.format(e.claim.page)})")
        word = f"{ICONS[e.answers.word]} {e.answers.word}"
        rows.append((linked, e.claim.problem, word, *e.answers[1:]))
    return table(("claim", "tested on", "word", "beats noise?", "could it be seen?"), rows)


def estimates(found: Sequence[Entry]) -> str:
    """Return the outcome of each test, and the number that stands for it, as Markdown."""
    rows = []
    for e in found:
        paper = "–" if e.paper is None else f"{e.paper:.2f}"
        rows.append((e.claim.number, e.claim.problem, e.verdict, shown(e), paper))
    header = ("claim", "tested on", "outcome of the test", "estimate [95 % interval]", "paper")
    return table(header, rows)


def settings(found: Sequence[Entry]) -> str:
    """Return what each claim was tested in as a table in Markdown, with its number of runs."""
    rows = []
    for e in found:
        done = f"{e.done} of {len(_planned(e.claim))}"
        rows.append((e.claim.number, e.claim.problem, setting(e.claim.runs), done))
    return table(("claim", "tested on", "setting", "runs"), rows)


def stated_tests(found: Sequence[Entry]) -> str:
    """Return the test of every claim in Markdown: once where it has several lines."""
    parts, seen = [], set()
    for e in found:
        if e.claim.number in seen:
            continue
        seen.add(e.claim.number)
        where = ", ".join(x.claim.problem for x in found if x.claim.number == e.claim.number)
        partly = e.claim.verdict.partly
        parts += [
            f"**{e.claim.number}. {e.claim.says} ({where})**",
            table(("statistic", "needed"), [(s.name, s.needed.words) for s in e.claim.statistics]),
            f"*Supported* if {e.claim.verdict.supported}. *Partly supported*: "
            f"{partly if partly == 'never' else f'if {partly}'}. "
            f"A run that diverged: {e.claim.diverged.said}.",
        ]
    return "\n\n".join(parts)


def evidence(found: Sequence[Entry]) -> str:
    """Return every statistic of every test that could be applied, in Markdown."""
    tested = [
        e.finding._replace(claim=f"{e.finding.claim} ({e.claim.problem})", verdict=e.verdict)
        for e in found
        if len(e.finding.evidence)
    ]
    return verdicts(tested) or "No test could be applied yet."


def _planned(claim: Claim) -> set[tuple[str, int]]:
    """Return the runs that a claim needs: experiment and seed."""
    return {(e.name, seed) for e in claim.runs for seed in study.seeds(e)}


def shown(entry: Entry) -> str:
    """Return the headline with its interval."""
    line = entry.headline
    if line is None:
        return "–"
    if entry.claim.unit == "p":
        text = f"{line['mean']:.4f}"
    else:
        text = f"{bounds(line['mean'], line['low'], line['high'])} {entry.claim.unit}"
    return f"{line['statistic']}: {text}, {line['seeds']} seeds"


def setting(runs: Sequence[Planned]) -> str:
    """Say in one line what some experiments have in common, and what they go through."""
    first = runs[0]

    def words(name: str) -> str:
        return ", ".join(dict.fromkeys(getattr(e, name) for e in runs))

    def values(name: str) -> str:
        return ", ".join(f"{v:g}" for v in sorted({getattr(e, name) for e in runs}))

    if isinstance(first, OsakaExperiment):
        return (
            f"{words('stream')}, {values('steps')} steps, p = {values('alpha')}, {values('ways')}"
            f"-way {values('shots')}-shot, ConvNet-4 with {values('width')} channels"
        )
    if isinstance(first, ContinualExperiment):
        searched = all(e.name.endswith("-tuned") for e in runs)
        return (
            f"{words('stream')}, in a single pass, perceptron with two hidden layers of "
            f"{values('width')} units, {words('learner')}"
            + (", settings chosen on validation streams" if searched else "")
        )
    data = ", ".join(sorted({e.data for e in runs if isinstance(e, Experiment)}))
    return (
        f"{data}, {values('ways')}-way {values('shots')}-shot, {values('image_size')} px, "
        f"{words('network')} with {values('width')} channels, K = {values('inner_steps')}, "
        f"inner rate {values('inner_rate')}, {values('updates')} updates × "
        f"{values('meta_batch')} tasks"
    )


def _plain(value: Any) -> Any:
    """Return a number as it stands in JSON: NaN is null, six digits after the point."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return round(float(value), 6) if math.isfinite(value) else None
    return value
