"""The gate, the four words and Holm's correction, on made-up runs."""

import numpy as np
import pytest

from reproduction.plan import study
from reproduction.report import trained_long
from reproduction.report.trained_long import gate, holm, outcomes, word
from reproduction.runs.statistics import Interval
from synthetic import made_up_record

FLAT, RISING = [0.3, 0.5, 0.5, 0.5], [0.3, 0.4, 0.45, 0.5]


def run(name, seed, test, validation, updates=9000, diverged=False):
    record = made_up_record(name, seed, accuracy=test, diverged=diverged)
    steps = np.linspace(0, updates, len(validation)).tolist()
    record["curves"] |= {"update": steps, "val_accuracy": validation}
    return record | {"parameters": {"updates": updates}}


@pytest.mark.parametrize(
    ("curve", "late", "is_open"),
    [
        ([0.3, 0.45, 0.5, 0.505], 0.5, True),
        ([0.3, 0.45, 0.5, 0.52], 2, False),  # still learning
        ([0.42, 0.45, 0.5, 0.505], 0.5, False),  # has not learned enough
        ([0.3, 0.35, 0.4, 0.45, 0.46, 0.47, 0.48, 0.49, 0.495], 2.5, False),  # from the sixth
    ],
)
def test_the_gate_wants_networks_that_have_learned_and_stopped(curve, late, is_open):
    """What is late begins at the last validation in the first two thirds."""
    found = gate([run("a", 0, 0.5, curve, 8000 if len(curve) == 9 else 9000)])
    assert found is not None
    assert found.late == pytest.approx(late)
    assert found.open is is_open


def test_the_gate_is_a_mean_over_finished_seeds():
    runs = [run("a", s, 0.5, [0.3, 0.5, 0.5, 0.5 + 0.02 * s]) for s in (0, 1)]
    gone = run("a", 2, 0.5, [0.3, 0.2], diverged=True)
    assert gate([*runs, gone]) == pytest.approx((21, 1))
    assert gate([gone]) is None


@pytest.mark.parametrize(
    ("low", "high", "paper", "expected"),
    [
        (0.1, 3.0, 1.7, "supported"),
        (0.1, 3.0, None, "supported"),
        (0.1, 1.0, 1.7, "partly"),
        (-0.5, 1.0, 1.7, "contradicted"),  # excludes the paper's effect
        (-2.0, -0.1, None, "contradicted"),
        (-0.5, 2.0, 1.7, "undecided"),
        (-0.5, 2.0, None, "undecided"),
    ],
)
def test_four_words(low, high, paper, expected):
    assert word(Interval((low + high) / 2, low, high, 5), paper) == expected


def test_holm_steps_down_and_stops_at_the_first_that_fails():
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.04, 0.04]) == [False, False]
    assert holm([0.02, 0.04]) == [True, True]


def test_the_primary_difference_is_paired_by_seed_and_needs_an_open_gate():
    level = np.linspace(0.4, 0.6, 8)
    noise = 0.001 * np.array([1, -1, 2, -2, 1, -1, 2, -2])
    sparse = [run("k15-5shot-sparse-maml", s, level[s] + 0.02 + noise[s], FLAT) for s in range(8)]
    for curve, verdict in ((FLAT, "supported"), (RISING, trained_long.SHUT)):
        maml = [run("k15-5shot-maml", s, level[s], curve) for s in range(8)]
        primary = outcomes([*sparse, *maml])[0]
        assert primary.gain is not None
        assert primary.gain.mean == pytest.approx(2.0)
        assert (primary.word, primary.holds_after_holm) == (verdict, True)
    assert outcomes(sparse)[0].word == trained_long.TOO_FEW


def test_a_diverged_run_counts_with_the_accuracy_of_chance_and_has_no_probes():
    maml = [run("k15-5shot-maml", s, 0.5, FLAT) for s in range(3)]
    sparse = [run("k15-5shot-sparse-maml", s, 0.5, FLAT, diverged=s > 1) for s in range(3)]
    for r in (*maml, *sparse[:2]):
        better = 0.1 * (r in sparse)
        probes = {"on:cub": {"mean": 0.6 + better}, "on:cars": {"mean": None}}
        r["final"]["probes"] = probes
    primary, *rest = outcomes([*sparse, *maml])
    assert primary.gain is not None
    assert primary.gain.mean == pytest.approx(-10)  # 20 in place of 50 in one of three
    cub, cars, more = (o for o in rest if o.contrast.number == "6")
    assert cub.gain is not None
    assert more.gain is not None
    assert cub.gain[0] == pytest.approx(10)
    assert (cub.gain.n, more.gain.n, cars.gain) == (2, 2, None)


def test_every_contrast_names_planned_runs():
    planned = {e.name for e in study.few_shot("study", "trained_long")}
    for c in trained_long.FAMILY:
        searched = {n for n in (c.a, c.b) if n.endswith("-rateNone")}  # not yet
        assert {c.a, c.b} - searched <= planned
