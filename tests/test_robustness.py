"""The test of claim 4, on records that are made up to pass or fail it."""

import math

import numpy as np
import pandas as pd
import pytest

from reproduction.claims import finding as finding_
from reproduction.claims.figure2 import robustness
from reproduction.report.robustness import (
    Setting,
    by_setting,
    common_setting,
    panel,
    where_the_gain_is,
)
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


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({}, "supported"),
        ({"sparsity": lambda s: 0.5}, "partly supported"),  # no trend
        ({"sparsity": lambda s: 1 - trend(s)}, "partly supported"),  # the wrong way
        ({"lost": lambda s: 0.0}, "partly supported"),  # MAML does not collapse
        ({"gain": lambda s: -0.02, "kept": collapse, "lost": collapse}, "not supported"),
        # worse at a single setting, but it survives
        ({"gain": lambda s: -0.02 if s.width == 64 else 0.02}, "partly supported"),
        ({"kept": collapse}, "partly supported"),  # both collapse alike
        ({"seeds": [3]}, "not testable"),
        ({"seeds": []}, "not testable"),
    ],
)
def test_verdict(options, verdict):
    finding = robustness(make_records(**options))
    assert finding.verdict.startswith(verdict), finding.evidence
    if verdict != "not testable":
        assert len(finding.evidence) == 1 + len(SETTINGS) + 2 + 3


def test_a_run_that_diverged_counts_as_chance():
    diverged = {("maml", BASE._replace(inner_rate=1.0))}
    records = make_records(diverged=diverged, lost=lambda s: 0.0)
    runs = by_setting(records)["maml"][BASE._replace(inner_rate=1.0)]
    assert set(runs.accuracy.values()) == {20.0}
    assert runs.sparsity == {}
    assert runs.diverged == 5
    finding = robustness(records)
    assert finding.verdict.endswith("(5 runs diverged and count as chance)")
    lines = finding.evidence.set_index("statistic")
    assert lines.loc["loss of MAML − loss of sparse-MAML at rate 1", "mean"] > 25
    assert not lines.loc["loss of MAML − loss of sparse-MAML at rate 0.5", "holds"]


def test_panels_change_one_thing():
    assert common_setting(SETTINGS) == BASE
    assert [s.inner_rate for s in panel(SETTINGS, "inner_rate")] == [0.01, 0.1, 0.5, 1.0]
    assert [s.inner_steps for s in panel(SETTINGS, "inner_steps")] == [1, 5, 15]
    assert [s.width for s in panel(reversed(SETTINGS), "width")] == [16, 32, 64]


def test_a_trend_without_runs_is_not_measured():
    """What has been run at one width only says nothing about widths: no zero is made up."""
    records = [r for r in make_records() if r["parameters"]["width"] == 32]
    finding = robustness(records)
    lines = finding.evidence.set_index("statistic")
    assert np.isfinite(lines.loc["slope of sparsity on log inner rate", "mean"])
    assert np.isnan(lines.loc["slope of sparsity on log channels", "mean"])
    assert not lines.loc["slope of sparsity on log channels", "holds"]
    row = next(x for x in finding_.verdicts([finding]).splitlines() if "log channels" in x)
    assert "not run yet" in row
    assert row.endswith("| – |")


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
    for r in records:
        if r["seed"] == 4:
            r["final"] |= {"test_accuracy": None, "test_loss": None}
    table = robustness(records).evidence
    pd.testing.assert_frame_equal(table, robustness(make_records(seeds=range(4))).evidence)
