"""Tables of any few-shot records."""

import pandas as pd

from reproduction.claims import finding as finding_
from reproduction.claims.finding import NOTHING, Finding
from reproduction.report import markdown as tables
from synthetic import made_up_record


def trained(seed, first, last, best):
    record = made_up_record("one", seed, accuracy=0.4)
    record["parameters"] = {"updates": 3000}
    record["curves"]["val_accuracy"] = [first, 0.9, last]
    record["final"]["best_update"] = best
    return record


def test_what_meta_training_adds():
    """By hand: 10 and 14 points; their standard error is 2, Student's factor 12.706."""
    records = [trained(0, 0.2, 0.3, 1), trained(1, 0.3, 0.44, 2)]
    diverged = made_up_record("one", 2, diverged=True)
    header, _, line = tables.taught([*records, diverged]).splitlines()
    assert line == "| `one` | 3,000 | 25.0 | 37.0 | 12.0 [-13.4, 37.4] | 2 |"
    assert header.count("|") == line.count("|")


def test_a_line_that_needs_nothing_neither_holds_nor_fails():
    lines = [
        {"statistic": n, "mean": mean, "low": mean, "high": mean, "seeds": 2, "needed": needed}
        for n, mean, needed in (("gain", 1.0, "interval above 0"), ("beside it", 2e-15, NOTHING))
    ]
    evidence = pd.DataFrame(lines).assign(holds=True)
    text = finding_.verdicts([Finding("so", "supported", evidence)])
    gain, beside = text.splitlines()[-2:]
    assert gain.endswith("| interval above 0 | yes |")
    assert beside == "| beside it | 0.00 [0.00, 0.00] | 2 | – | – |"


def test_runs_say_which_update_was_tested_and_what_was_not():
    untested, lost = made_up_record("two", 0), made_up_record("three", 0, diverged=True)
    untested["final"] |= {"test_accuracy": None, "test_loss": None}
    records = [trained(0, 0.2, 0.3, 200), trained(1, 0.3, 0.44, 600), untested, lost]
    header, _, one, two, three = tables.runs(records).splitlines()
    assert "| tested after update |" in header
    assert "| 200, 600 |" in one
    assert two.startswith("| `two` | – | 7 | 50.0 | 1 | 0 |")
    assert three.startswith("| `three` | diverged | – | – | 0 | 1 |")
