"""Where runs stand in Figure 2, on records that are made up."""

import math

import pytest

from reproduction.report.figure2 import Setting, common_setting, panel, runs, where_the_gain_is
from reproduction.runs.statistics import t_interval
from synthetic import made_up_record

BASE = Setting(5, 0.1, 32)
SETTINGS = [
    BASE,
    *(BASE._replace(inner_rate=r) for r in (0.01, 0.5, 1.0)),
    *(BASE._replace(inner_steps=k) for k in (1, 15)),
    *(BASE._replace(width=w) for w in (16, 64)),
]


def trend(s):
    """Sparsity as the paper has it."""
    grows = math.log(s.inner_rate / 0.1) + math.log(s.inner_steps / 5)
    return 0.5 + 0.04 * grows - 0.04 * math.log(s.width / 32)


def collapse(s):
    return 0.12 if s.inner_rate >= 0.5 else 0.0


def make_records(gain=lambda s: 0.02, lost=collapse, kept=lambda s: 0.0, sparsity=trend, **options):
    """Accuracies: 0.5 for MAML less what large rates cost; sparse-MAML gains, and loses less."""
    found = []
    for s in SETTINGS:
        for seed in options.get("seeds", range(5)):
            wobble = 0.002 * (seed - 2)
            maml = 0.5 - lost(s) + wobble
            sparse = 0.5 + gain(s) - kept(s) + 1.5 * wobble
            for method, accuracy in (("maml", maml), ("sparse-maml", sparse)):
                record = made_up_record(
                    f"{method}-{s}",
                    seed,
                    accuracy=accuracy,
                    sparsity=[0.5, sparsity(s) + wobble if method == "sparse-maml" else 0.0],
                    diverged=(method, s) in options.get("diverged", ()),
                )
                record["parameters"] = s._asdict() | {"method": method, "ways": 5}
                record["final"]["val_accuracy"] = accuracy
                found.append(record)
    return found


def test_a_run_that_diverged_counts_as_chance():
    diverged = {("maml", BASE._replace(inner_rate=1.0))}
    records = make_records(diverged=diverged, lost=lambda s: 0.0)
    found = runs(records).query("method == 'maml' and inner_rate == 1")
    assert list(found["accuracy"]) == [20.0] * 5
    assert found["sparsity"].isna().all()


def test_panels_change_one_thing():
    assert common_setting(SETTINGS) == BASE
    assert [s.inner_rate for s in panel(SETTINGS, "inner_rate")] == [0.01, 0.1, 0.5, 1.0]
    assert [s.inner_steps for s in panel(SETTINGS, "inner_steps")] == [1, 5, 15]
    assert [s.width for s in panel(reversed(SETTINGS), "width")] == [16, 32, 64]


def test_where_the_gain_is():
    """Two points elsewhere, and at the large rates as much as MAML loses there besides."""
    found = make_records(gain=lambda s: 0.02)
    half = t_interval([-0.2, -0.1, 0.0, 0.1, 0.2]).high  # 0.001 more with each seed
    assert where_the_gain_is(found) == (
        f"Over the inner rates 0.5 and 1 the mean gain is 14.00 "
        f"[{14 - half:.2f}, {14 + half:.2f}] points, over the other 6 settings 2.00 "
        f"[{2 - half:.2f}, {2 + half:.2f}]."
    )
    assert where_the_gain_is([]) == where_the_gain_is(make_records(seeds=[0])) == ""


def test_runs_that_were_not_tested_are_left_out():
    records = make_records()
    records[0]["final"] |= {"test_accuracy": None, "test_loss": None}
    known = runs(records).query("method == 'maml' and inner_rate == 0.1 and inner_steps == 5")
    assert list(known.query("width == 32")["seed"]) == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="same method, inner steps"):
        runs([*records, records[-1]])
