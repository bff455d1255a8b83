"""Tables and drawings of what the inner loops were asked, on records that are made up."""

import json

import numpy as np
import pytest

from reproduction.plan import study
from reproduction.report import mask_overlap as by_problem
from reproduction.report import probes as inside_the_loop
from reproduction.report.curves import LAYERS
from reproduction.report.frame import numbers
from reproduction.report.load_records import results_folder
from reproduction.runs.records import load
from reproduction.runs.statistics import t_interval
from synthetic import cells, made_up_record

SEEDS = range(3)
WOBBLE = (-0.01, 0.0, 0.01)
LONGER = {e.name: e for e in study.few_shot("study", "longer_inner_loops")}
FEATURES = {e.name: e for e in study.few_shot("study", "features_or_reuse")}
SPARSE, MAML = "convnet4-5shot-sparse-maml", "convnet4-5shot-maml"


def run_of(name, seed, probes=None, *, accuracy=0.5, sparsity=0.4, diverged=False):
    """A record of the study with answers, shares in [0, 1]."""
    record = made_up_record(name, seed, accuracy=accuracy, sparsity=[sparsity], diverged=diverged)
    record["parameters"] = json.loads(json.dumps((LONGER | FEATURES)[name].parameters()))
    if not diverged:
        record["final"]["probes"] = {
            n: {"mean": v, "low": v, "high": v, "n": 100} for n, v in (probes or {}).items()
        }
    return record


def longer(name, here, there, wobble=WOBBLE):
    """Runs that have `here` after K and `there` after 10 K steps; only the latter wobbles."""
    return [
        run_of(name, s, {"steps/0": 0.2, "steps/5": here, "steps/10": here, "steps/50": there + w})
        for s, w in zip(SEEDS, wobble, strict=True)
    ]


def rate(name):
    return f"{(LONGER | FEATURES)[name].inner_rate:g}"


def interval(values):
    return str(t_interval(values))


def test_answers_are_those_that_exist():
    runs = [
        run_of(SPARSE, 0, {"steps/5": 0.5}),
        run_of(SPARSE, 1, {"steps/5": None}),
        run_of(SPARSE, 2, {"steps/50": 0.4}),
        run_of(SPARSE, 3, diverged=True),
        run_of(SPARSE, 4),
    ]
    del runs[4]["final"]["probes"]  # older than the question
    assert numbers(runs, "steps/5") == {0: 50}
    assert numbers([], "steps/5") == {}


def test_longer_table_by_hand():
    runs = [
        *longer(SPARSE, 0.6, 0.59),
        *longer(MAML, 0.55, 0.5, (0.01, 0.0, -0.01)),
        run_of("convnet4-1shot-sparse-maml", 0, diverged=True),
        run_of("convnet4-5shot-anil", 0, {"steps/5": 0.4}),
        run_of("convnet4-5shot-anil", 1, diverged=True),
    ]
    table = cells(inside_the_loop.longer_table(runs, "study"))
    rows = {(r[0], r[1]): r[2:] for r in table[2:]}
    assert [r[0] for r in table[2:]] == ["5"] * 3 + ["1"] * 3
    assert rows["5", "sparse-MAML"] == [
        rate(SPARSE),
        "20.0 [20.0, 20.0]",
        "60.0 [60.0, 60.0]",
        interval([58, 59, 60]),
        interval([2, 1, 0]),  # lost
        interval([2, 4, 6]),  # MAML loses 4, 5 and 6
        "3",
    ]
    assert rows["5", "MAML"][-3:] == [interval([4, 5, 6]), "–", "3"]
    assert rows["1", "sparse-MAML"][1:] == [*["–"] * 5, "0 (1 diverged)"]
    assert rows["5", "ANIL"][1:] == ["–", "40.0", *["–"] * 3, "1 (1 diverged)"]
    assert rows["1", "MAML"][1:] == [*["–"] * 5, "not run yet"]


def masks_runs():
    judged = {"own": 0.6, "shuffled": 0.5, "random": 0.45, "all": 0.55, "head": 0.4, "body": 0.3}
    runs = []
    for s, w in zip(SEEDS, WOBBLE, strict=True):
        probes = {f"masks/{how}": v + (w if how == "own" else 0) for how, v in judged.items()}
        runs.append(run_of(SPARSE, s, probes, accuracy=0.61))
        runs.append(run_of(f"{SPARSE}-own-masks", s, accuracy=0.6 + w))
        runs.append(run_of(f"{SPARSE}-shuffled-masks", s, accuracy=0.58))
        runs.append(run_of(MAML, s, accuracy=0.5, sparsity=0.0))
    runs.append(run_of(f"{SPARSE}-random-masks", 0, diverged=True))
    return runs


def test_exchanged_table_by_hand():
    table = cells(inside_the_loop.exchanged_table(masks_runs(), "study"))
    rows = {r[0]: r[1:] for r in table[2:]}
    assert list(rows) == list(inside_the_loop.EXCHANGED.values())
    assert rows["the learned mask"] == [interval([59, 60, 61]), "–", "3"]
    assert rows["shuffled in each tensor"][1] == interval([9, 10, 11])
    assert rows["the learned one, last layer only"][1] == interval([19, 20, 21])
    empty = cells(inside_the_loop.exchanged_table([], "study"))[2:]
    assert all(r[1:] == ["–", "–", "not run yet"] for r in empty)


def test_borrowed_table_by_hand():
    table = cells(inside_the_loop.borrowed_table(masks_runs(), "study"))
    rows = {r[0]: r[1:] for r in table[2:]}
    assert list(rows) == [
        "learned along with the weights",
        "the learned mask, kept",
        "shuffled in each tensor",
        "scattered over all tensors",
        "learned on CUB (2010), 5-way 5-shot",
        "none: all weights move (MAML)",
    ]
    assert rows["learned along with the weights"][3] == interval([-2, -1, 0])
    kept = rows["the learned mask, kept"]
    assert kept == [
        rate(f"{SPARSE}-own-masks"),
        "60.0 [60.0, 60.0]",
        interval([59, 60, 61]),
        "–",
        "3",
    ]
    assert rows["shuffled in each tensor"][3] == interval([1, 2, 3])
    assert rows["scattered over all tensors"][1:] == ["–", "–", "–", "0 (1 diverged)"]
    assert rows["none: all weights move (MAML)"][1] == "100.0 [100.0, 100.0]"
    assert all(r[-1] == "not run yet" for r in cells(_borrowed([]))[2:])


def test_donors_say_how_far_masks_went_from_their_start():
    """On the study's own records: a mask that was hardly learned agrees with its start."""
    learned = inside_the_loop.trainings("study").learned
    records = load(results_folder(), [learned])
    table = cells(inside_the_loop.donors([*records, run_of(SPARSE, 9, diverged=True)], "study"))
    updates = {int(r[0]): int(r[1]) for r in table[2:]}
    assert updates == {r["seed"]: r["final"]["best_update"] for r in records}
    agreement = [float(r[3]) for r in sorted(table[2:], key=lambda r: int(r[1]))]
    assert 0 < agreement[-1] < agreement[0] < 1
    masks = by_problem.read_masks(records)[0]
    moves, start = (
        np.concatenate([part[n].ravel() for n in masks.moves])
        for part in (masks.moves, masks.start)
    )
    by_hand = cohen_kappa(moves, start >= 0)
    assert float(table[2][3]) == pytest.approx(by_hand, abs=0.02)


def cohen_kappa(a, b):
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    return ((a == b).mean() - chance) / (1 - chance)


def _borrowed(runs):
    return inside_the_loop.borrowed_table(runs, "study")


def inner_runs():
    """MAML and sparse-MAML with three seeds; BOIL diverged; ANIL was not asked."""
    runs = []
    for s, w in zip(SEEDS, WOBBLE, strict=True):
        for name, stays, less, cosine in (
            (MAML, 0.7, 0.05, 0.3),
            (SPARSE, 0.8 + w, 0.06, 0.2),
        ):
            probes = {f"movement/{layer}": stays - less * i for i, layer in enumerate(LAYERS)}
            probes |= {"interference/gradient": 0.3, "interference/step": cosine}
            runs.append(run_of(name, s, probes))
    runs.append(run_of("convnet4-5shot-boil", 0, diverged=True))
    runs.append(run_of("convnet4-5shot-anil", 0))
    return runs


def test_movement_table_by_hand():
    table = cells(inside_the_loop.movement_table(inner_runs(), "study"))
    assert table[0][2:] == [*LAYERS, "layer4: it − MAML", "seeds"]
    rows = {r[0]: r[1:] for r in table[2:]}
    assert rows["sparse-MAML"][1] == interval([79, 80, 81])
    assert rows["sparse-MAML"][-2] == interval([6, 7, 8])
    assert rows["MAML"][-3:] == ["50.0 [50.0, 50.0]", "–", "3"]
    assert rows["BOIL"][1:] == [*["–"] * 6, "0 (1 diverged)"]
    assert rows["ANIL"][1:] == [*["–"] * 6, "1"]
    assert rows["sparse-ReLU-MAML"][1:] == [*["–"] * 6, "not run yet"]


def test_interference_table_by_hand():
    table = cells(inside_the_loop.interference_table(inner_runs(), "study"))
    rows = {r[0]: r[1:] for r in table[2:]}
    at = {v: f"{v:.1f} [{v:.1f}, {v:.1f}]" for v in (30, 20, -10, 0)}
    assert rows["sparse-MAML"] == [at[30], at[20], at[-10], at[-10], "3"]
    assert rows["MAML"] == [at[30], at[30], at[0], "–", "3"]
    assert rows["BOIL"][-2:] == ["–", "0 (1 diverged)"]


def texts(ax):
    return [t.get_text() for t in ax.texts]


def legend(ax):
    return [t.get_text() for t in ax.get_legend().get_texts()] if ax.get_legend() else []


def test_longer_loops_are_drawn():
    runs = longer(SPARSE, 0.6, 0.59) + longer(MAML, 0.55, 0.5)
    runs.append(run_of("convnet4-1shot-anil", 0, diverged=True))
    figure = inside_the_loop.draw_longer("The study", runs, "study")
    part = figure.subfigs[0]
    left, right = part.axes
    assert legend(left) == ["MAML", "sparse-MAML"]
    (drawn,) = (line for line in left.lines if line.get_label() == "sparse-MAML")
    assert drawn.get_ydata() == pytest.approx([20, 60, 60, 59])  # 20 steps were not asked
    assert len(left.collections) == 8
    assert [t.get_text() for t in left.get_xticklabels()] == ["0", "5", "10", "20", "50"]
    assert texts(right) == ["not run yet"]
    note = part.get_supxlabel()
    assert note.startswith("profile study · miniimagenet 5-way 5-shot · 32 px")
    assert "not run yet: convnet4-5shot-anil" in note
    assert "left out: convnet4-1shot-anil (1 of 1)" in note
    empty = inside_the_loop.draw_longer("The study", [], "study").subfigs[0]
    assert [texts(ax) for ax in empty.axes] == [["not run yet"]] * 2
    assert empty.get_supxlabel() == "not run yet"
