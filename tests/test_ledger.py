"""The ledger says what the records say, and how much of the evidence there is."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT
from reproduction.claims import ledger, words
from reproduction.claims.claim import (
    Claim,
    Diverged,
    Needed,
    Statistic,
    Verdict,
    above,
    every,
    never,
)
from reproduction.claims.finding import TOO_FEW
from reproduction.plan import study
from reproduction.runs.records import RecordError
from synthetic import made_up_record

RUNS = study.few_shot("study", study.FIG1)[:2]  # ten runs
PLANNED = [(run.name, seed) for run in RUNS for seed in study.seeds(run)]


def made_claim(*values: float, needed: Needed | None = None, name: str = "gain", **changes):
    """A claim with one statistic, whose values by seed are the same whatever the records."""
    gain = Statistic(name, lambda runs: pd.Series(values, dtype=float), needed or above(0))
    verdict = Verdict("it holds", every(), "never", never)
    found = Claim(
        "3", "so", "so", "page", "data", RUNS, [gain], verdict, Diverged("is named"), name
    )
    return replace(found, **changes)


CLAIM = made_claim(1.0, 1.1)


def records(count):
    found = [made_up_record(*run) for run in PLANNED[:count]]
    for r in found:
        r["parameters"] = {"method": "any"}
    return found


def entry(claim, count=10):
    return ledger.entry(claim, records(count), Path())


def test_every_claim_of_the_paper_has_a_line():
    found = ledger.claims()
    numbers = [ledger.whole_number(c) for c in found]
    assert set(numbers) == set(range(1, 13))
    assert numbers == sorted(numbers)
    tests: dict[str, list] = {}
    for c in found:
        assert (ROOT / "notebooks" / f"{c.page}.ipynb").is_file()
        assert c.runs
        assert all(e in study.experiments("study") for e in c.runs)
        assert c.headline in {s.name for s in c.statistics}
        tests.setdefault(c.number, []).append(c.stated())
    assert all(test == same[0] for same in tests.values() for test in same)


@pytest.mark.parametrize(
    ("count", "claim", "verdict"),
    [
        (10, CLAIM, "supported"),
        (4, made_claim(-1.0, -1.1), "not supported, so far (4 of 10 runs)"),
        (10, made_claim(1.0), TOO_FEW),
        (1, made_claim(), "not run yet (1 of 10 runs)"),
        (10, made_claim(1.0, answer="asked"), "no data (seeds asked: 1 of 5)"),
        (8, made_claim(answer="asked"), "no data (seeds asked: 0 of 3), so far (8 of 10 runs)"),
    ],
)
def test_a_verdict_says_how_much_was_run(count, claim, verdict):
    assert entry(claim, count).verdict == verdict


def test_diverged_runs_are_named_beside_runs_that_lack():
    made = records(2)
    made[0]["status"] = "diverged"
    note = f"(1 of 2 runs diverged and are left out: {RUNS[0].name} seed 0)"
    found = ledger.entry(made_claim(), made, Path())
    assert found.verdict == f"not run yet (2 of 10 runs) {note}"


def test_runs_that_were_not_planned_do_not_count():
    """Ten records, two of them of other seeds, one of another run: three planned ones lack."""
    extra = [made_up_record(RUNS[0].name, seed) for seed in (5, 100)] + [made_up_record("any", 0)]
    seen: list[int] = []

    def gain(runs):
        seen.append(len(runs.records))
        return pd.Series([1.0, 1.1])

    counted = replace(CLAIM, statistics=[Statistic("gain", gain, above(0))])
    found = ledger.entry(counted, records(7) + extra, Path())
    assert (found.verdict, found.done) == ("supported, so far (7 of 10 runs)", 7)
    assert seen == [7]


def test_runs_of_a_claim_must_have_seen_the_same_data():
    made = records(10)
    made[3]["data"]["fingerprint"] = "another"
    with pytest.raises(RecordError, match="were made on different "):
        ledger.entry(CLAIM, made, Path())


def test_a_headline_must_be_among_the_evidence():
    with pytest.raises(ValueError, match="no statistic 'loss'"):
        entry(replace(CLAIM, headline="loss"))


def test_the_papers_numbers_by_hand():
    folder = ROOT / "results/paper"
    found = {(c.number, c.problem): c.paper(folder) for c in ledger.claims() if c.paper}
    # like for like at K = 5, by Figure 2; Table 1's 67.03 - 63.15 is over another paper's MAML
    assert found["5a", "miniImageNet"] == pytest.approx(62.96 - 62.25)
    assert found["5a, longer", "miniImageNet"] == pytest.approx(62.96 - 62.25)
    assert found["5b", "miniImageNet"] == pytest.approx(73.01 - 69.36)
    assert not {number for number, _ in found if number.startswith("6")}
    right = pd.read_csv(folder / "fig1_right_accuracy_by_init.csv")
    gains = [a - b for a, b in zip(right.iloc[:, 1], right["maml_accuracy"], strict=True)]
    assert found["3", "Omniglot"] == pytest.approx(sum(gains) / 5)
    left = pd.read_csv(folder / "fig1_left_sparsity_by_epoch.csv")
    ends = {i: rows.sort_values("epoch")["sparsity"] for i, rows in left.groupby("init_sparsity")}
    first, last = ([v.iloc[i] for v in ends.values()] for i in (0, -1))
    assert found["1", "Omniglot"] == pytest.approx(
        (max(last) - min(last)) / (max(first) - min(first))
    )


def test_a_test_is_shown_before_it_is_run():
    first = entry(made_claim(), 0)
    elsewhere = entry(made_claim(problem="elsewhere"), 0)
    shown = ledger.stated_tests([first, elsewhere])
    assert shown.count("| gain | interval above 0 |") == 1
    assert "**3. so (data, elsewhere" in shown
    assert "*Supported* if it holds. *Partly supported*: never. A run that diverged: is" in shown


def test_a_word_says_what_a_verdict_is_worth():
    """One interval of 6 points to either side: undecided, unless it excludes the paper's effect."""
    wide = made_claim(1.0, 2.0, paper=lambda folder: 3.0)
    assert entry(wide).verdict == "not supported"
    assert entry(wide).answers.word == "undecided"
    seen = 100 * words.chance(3.0, math.sqrt(0.5), 2)
    assert entry(wide).answers.could_be_seen == f"with a chance of {seen:.0f} %"
    far = entry(replace(wide, paper=lambda folder: 90.0)).answers
    assert far == ("contradicted", "–", "with a chance of over 99 %")
    assert entry(made_claim(-1.0, -1.001)).answers.word == "contradicted"
    good = made_claim(1.0, 1.001, noise=lambda records, earned: "no")
    assert entry(good).answers == ("supported", "no", "yes")
    assert entry(made_claim(), 0).answers.could_be_seen == "not run yet"


def test_an_accuracy_is_decided_by_networks_that_have_learned():
    good = made_claim(1.0, 1.001)
    name = good.runs[0].name
    for curve, word, why in (
        ([0.2, 0.3, 0.4, 0.405], "supported", "yes"),
        ([0.2, 0.21, 0.22, 0.22], "undecided", "no: training added 2.00 points"),
        ([0.2, 0.3, 0.4, 0.5], "undecided", "no: training still added 10.00 points at the end"),
    ):
        made = records(10)
        for r in made:
            r["curves"] |= {"update": [0, 1, 2, 3], "val_accuracy": curve}
            r["parameters"] = {"updates": 3}
        found = ledger.entry(replace(good, baseline=name), made, Path())
        assert (found.answers.word, found.answers.could_be_seen) == (word, why)


def test_the_chance_to_see_an_effect():
    """As often as among simulated studies; and without an effect, as often as by accident."""
    assert words.chance(0.0, 1.0, 5) == pytest.approx(0.025)
    values = np.random.default_rng(0).normal(0.92, 0.7, (20_000, 5))
    half = 2.776445 * values.std(1, ddof=1) / math.sqrt(5)
    share = float((values.mean(1) > half).mean())
    assert words.chance(0.92, 0.7, 5) == pytest.approx(share, abs=0.01)
    assert (words.chance(1.0, 0.0, 5), words.chance(-1.0, 0.0, 5)) == (1, 0)


def test_only_the_claims_of_a_page(monkeypatch):
    monkeypatch.setattr(ledger, "load", lambda results, runs: [])
    found = ledger.entries(ROOT / "results", "fig1_sparsity_emerges")
    assert [e.claim.number for e in found] == ["1", "1", "2", "2", "3", "3"]


def test_the_readme_calls_nothing_fixed_beforehand_that_was_added_later():
    chapter = (ROOT / "book/preregistration.md").read_text(encoding="utf-8")
    first, later = chapter.split("## Added after the runs")
    late = {c.number for c in ledger.claims() if c.late}
    assert late == {"5c", *(f"{n}, longer" for n in ("5a", "6", "11", "12b"))}
    for c in ledger.claims():
        if c.number not in late:
            assert f"| **{c.number}.** " in first
    assert "**The rest of claim 5**" in later
    assert "claims 5a (its part with 5 shots), 6, 11 and 12b are applied to these runs" in later
