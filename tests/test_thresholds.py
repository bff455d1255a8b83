"""Each threshold of a claim stands in one place, and the chapter and the ledger say the same."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from conftest import ROOT
from reproduction.claims import few_shot as few_shot_claims
from reproduction.claims import figure1 as analysis
from reproduction.claims import figure1 as figure1_
from reproduction.claims import ledger, readme, stated
from reproduction.claims import streams as continual_claims
from reproduction.claims.finding import NOTHING, evidence_line
from reproduction.plan import few_shot, study
from reproduction.runs.statistics import Interval

CHAPTER = (ROOT / "book/preregistration.md").read_text(encoding="utf-8")
IN_WORDS = {0: "zero", 0.75: "three quarters", 1: "one"}
CHANCE = {  # what a run that diverged counts with, by the claims of which it is an experiment
    c.number: 100 / c.runs[0].parameters()["ways"]
    for c in ledger.claims()
    if c.number in ("4", "10a", "10b")
}


class Stated(NamedTuple):
    """A threshold, the claim that it belongs to, and how the chapter says it."""

    value: float
    number: str
    words: str


THRESHOLDS = [
    Stated(figure1_.EMERGES, "1", "from 0 % has its interval above {} %"),
    Stated(analysis.THAWS, "1", "from 100 % has its interval below {} %"),
    Stated(analysis.SETTLES, "1", "ends below {} of the spread at the start"),
    Stated(few_shot_claims.LITTLE, "5c", "interval within ±{} points"),
    Stated(few_shot_claims.ZERO_RATES, "7", "rates at zero has its interval above {} %"),
    Stated(few_shot_claims.P, "8", "has p < {};"),
    Stated(few_shot_claims.P_IN_PART, "8", "partly supported* if p < {}."),
    Stated(few_shot_claims.LOST, "11", "does not lie wholly above {} point"),
    Stated(few_shot_claims.LOST, "11, longer", "does not lie wholly above {} point"),
    Stated(continual_claims.CHANCE["ra"], "9", "the accuracy of chance, {} %,"),
    Stated(continual_claims.CHANCE["bti"], "9", "and a BTI of {};"),
    *(Stated(c, n, "the accuracy of chance, {} %") for n, c in CHANCE.items()),
]


def paragraph(number: str) -> str:
    """Return what the chapter says of a claim, from its heading to the next line break."""
    whole = re.match(r"\d+", number)
    assert whole is not None
    heading = "**The rest of claim 5**" if number == "5c" else f"**Claim {whole[0]}. "
    return " ".join(CHAPTER.split(heading)[1].split("\n\n")[0].split())


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_chapter_and_ledger_say_the_threshold(threshold):
    value, number, words = threshold
    assert words.format(IN_WORDS.get(value, f"{value:g}")) in paragraph(number)
    (claim,) = {c.stated for c in ledger.claims() if c.number == number}
    assert claim is not None
    said = " ".join([*(n for _, n in claim.statistics), *claim[1:]])
    assert re.search(rf"(?<![\d.]){value:g}(?![\d.])", said)


def test_chance_is_that_of_the_runs():
    ten_ways = [e.replace(ways=10) for e in study.few_shot("study", few_shot.FIG2)]
    assert "of chance, 10 %" in stated.robustness(ten_ways).diverged


def test_no_other_threshold_is_needed():
    known = {(t.number, float(t.value)) for t in THRESHOLDS}
    for claim in ledger.claims():
        for _, needed in claim.stated.statistics if claim.stated else ():
            for bar in map(float, re.findall(r"[\d.]+", needed)):
                assert bar == 0 or (claim.number, bar) in known, (claim.number, needed)


@pytest.mark.parametrize(
    ("needed", "low", "high", "holds"),
    [
        ("interval above 5", 5.1, 9, True),
        ("interval above 5", 4.9, 9, False),
        ("interval below 95", 90, 94.9, True),
        ("interval below 95", 90, 95.1, False),
        ("interval not above 1", 0.9, 9, True),
        ("interval not above 1", 1.1, 9, False),
        ("not below 0", -3, 0.1, True),
        ("not below 0", -3, -0.1, False),
        ("interval without 0", -3, -1, True),
        ("interval without 0", -3, 1, False),
        ("interval within ±2", -1.9, 1.9, True),
        ("interval within ±2", -2.1, 1.9, False),
        ("below 0.01", math.nan, math.nan, True),  # a mean of 0.005 without an interval
        ("below 0.001", math.nan, math.nan, False),
        ("above 0", math.nan, math.nan, True),
        (NOTHING, -3, 3, True),
    ],
)
def test_the_words_decide(needed, low, high, holds):
    mean = (low + high) / 2 if math.isfinite(low) else 0.005
    assert evidence_line("so", Interval(mean, low, high, 2), needed)["holds"] is holds


def test_words_that_decide_nothing_are_refused():
    with pytest.raises(ValueError, match="by 'large enough 3'"):
        evidence_line("so", Interval(1, 0, 2, 2), "large enough 3")
    nothing = Interval(math.nan, math.nan, math.nan, 0)
    assert not evidence_line("so", nothing, "above 0")["holds"]


def test_the_readme_calls_nothing_fixed_beforehand_that_was_added_later(monkeypatch):
    monkeypatch.setattr(ledger, "load", lambda results, runs: [])
    found = ledger.entries(ROOT / "results")
    first, later = CHAPTER.split("## Added after the runs")
    late = {e.claim.number for e in found if e.claim.late}
    for e in found:
        number = e.claim.number
        if number not in late:
            assert f"**Claim {ledger.whole_number(e.claim)}. " in first
            assert "longer" not in number
    assert "**The rest of claim 5**" in later
    assert "claims 5a (its part with 5 shots), 6, 11 and 12b are applied to these runs" in later
    assert late == {"5c", *(f"{n}, longer" for n in ("5a", "6", "11", "12b"))}
    for text in (readme.results(found, []), Path(ROOT / "README.md").read_text(encoding="utf-8")):
        (said,) = re.findall(r"Tests were fixed beforehand.*?\.(?= )", text)
        assert all(re.search(rf"\b{number}\b", said) for number in late)
    assert (
        ledger.beforehand([e for e in found if not e.claim.late]) == "Tests were fixed beforehand."
    )
