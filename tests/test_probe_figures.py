"""Tables and drawings of what the inner loops were asked, on records that are made up."""

import numpy as np
import pytest

from reproduction.plan import study
from reproduction.report import probes
from reproduction.report.curves import LAYERS
from reproduction.report.load_records import study_records
from reproduction.runs.statistics import t_interval
from synthetic import cells, made_up_record

WOBBLE = {0: -0.01, 1: 0.0, 2: 0.01}
PLANNED = {
    e.name: e
    for page in ("longer_inner_loops", "features_or_reuse", "table1_miniimagenet")
    for e in study.few_shot("study", page)
}
SPARSE, MAML, ANIL = (f"convnet4-5shot-{m}" for m in ("sparse-maml", "maml", "anil"))


def run_of(name, seed, answers=None, *, accuracy=0.5, sparsity=0.4, diverged=False):
    """A record of the study with answers, shares in [0, 1]."""
    record = made_up_record(name, seed, accuracy=accuracy, sparsity=[sparsity], diverged=diverged)
    record["parameters"] = PLANNED[name].parameters()
    if not diverged:
        record["final"]["probes"] = {
            n: {"mean": v, "low": v, "high": v, "n": 100} for n, v in (answers or {}).items()
        }
    return record


def longer(name, here, there, sign=1):
    """Runs that have `here` after K and `there` after 10 K steps; only the latter wobbles."""
    steps = {"steps/0": 0.2, "steps/5": here, "steps/10": here}
    return [run_of(name, s, steps | {"steps/50": there + sign * w}) for s, w in WOBBLE.items()]


def lines(table):
    """The cells of each line of a table, by the first one."""
    return {name: rest for name, *rest in cells(table)[2:]}


def rate(name):
    return f"{PLANNED[name].inner_rate:g}"


def interval(*values):
    return str(t_interval(values))


def same(value):
    return f"{value:.1f} [{value:.1f}, {value:.1f}]"


def test_longer_table_by_hand():
    runs = [
        *longer(SPARSE, 0.6, 0.59),
        *longer(MAML, 0.55, 0.5, sign=-1),
        run_of("convnet4-1shot-sparse-maml", 0, diverged=True),
        run_of(ANIL, 0, {"steps/5": 0.4}),
        run_of(ANIL, 1, {"steps/5": None}),
        run_of(ANIL, 2, diverged=True),
    ]
    table = cells(probes.longer_table(runs, "study"))[2:]
    rows = {(shots, method): rest for shots, method, *rest in table}
    assert [shots for shots, _ in rows] == ["5"] * 3 + ["1"] * 3
    lost, less = interval(2, 1, 0), interval(2, 4, 6)  # MAML loses 4, 5 and 6
    after = interval(58, 59, 60)
    assert rows["5", "sparse-MAML"] == [rate(SPARSE), same(20), same(60), after, lost, less, "3"]
    assert rows["5", "MAML"][-3:] == [interval(4, 5, 6), "–", "3"]
    assert rows["1", "sparse-MAML"][1:] == [*["–"] * 5, "0 (1 diverged)"]
    assert rows["5", "ANIL"][1:] == ["–", "40.0", *["–"] * 3, "2 (1 diverged)"]
    assert rows["1", "MAML"][1:] == [*["–"] * 5, "not run yet"]


def masks_runs():
    judged = {"own": 0.6, "shuffled": 0.5, "random": 0.45, "all": 0.55, "head": 0.4, "body": 0.3}
    runs = [run_of(f"{SPARSE}-random-masks", 0, diverged=True)]
    for s, w in WOBBLE.items():
        answers = {f"masks/{how}": v + (w if how == "own" else 0) for how, v in judged.items()}
        runs.append(run_of(SPARSE, s, answers, accuracy=0.61))
        runs.append(run_of(f"{SPARSE}-own-masks", s, accuracy=0.6 + w))
        runs.append(run_of(f"{SPARSE}-shuffled-masks", s, accuracy=0.58))
        runs.append(run_of(MAML, s, accuracy=0.5, sparsity=0.0))
    return runs


def test_tables_of_masks_by_hand():
    rows = lines(probes.exchanged_table(masks_runs(), "study"))
    assert list(rows) == list(probes.EXCHANGED.values())
    assert rows["the learned mask"] == [interval(59, 60, 61), "–", "3"]
    assert rows["shuffled in each tensor"][1] == interval(9, 10, 11)
    assert rows["the learned one, last layer only"][1] == interval(19, 20, 21)
    empty = lines(probes.exchanged_table([], "study")).values()
    assert all(row == ["–", "–", "not run yet"] for row in empty)
    rows = lines(probes.borrowed_table(masks_runs(), "study"))
    assert rows["learned along with the weights"][3] == interval(-2, -1, 0)
    kept = [rate(f"{SPARSE}-own-masks"), same(60), interval(59, 60, 61), "–", "3"]
    assert rows["the learned mask, kept"] == kept
    assert rows["shuffled in each tensor"][3] == interval(1, 2, 3)
    assert rows["scattered over all tensors"][1:] == ["–", "–", "–", "0 (1 diverged)"]
    assert rows["learned on CUB (2010), 5-way 5-shot"][-1] == "not run yet"
    assert rows["none: all weights move (MAML)"][1] == same(100)


def test_donors_say_how_far_masks_went_from_their_start():
    """On the study's own records: a mask that was hardly learned agrees with its start."""
    name = probes.trainings("study")[probes.LEARNED].name
    records = [r for r in study_records("features_or_reuse") if r["experiment"] == name]
    rows = lines(probes.donors([*records, run_of(SPARSE, 9, diverged=True)], "study"))
    updates = {int(seed): int(row[0]) for seed, row in rows.items()}
    assert updates == {r["seed"]: r["final"]["best_update"] for r in records}
    agreement = [float(row[2]) for row in sorted(rows.values(), key=lambda row: int(row[0]))]
    assert 0 < agreement[-1] < agreement[0] < 1


def inner_runs():
    """MAML and sparse-MAML with three seeds; BOIL diverged; ANIL is older than the question."""
    runs = [run_of("convnet4-5shot-boil", 0, diverged=True), run_of(ANIL, 0)]
    del runs[1]["final"]["probes"]
    for s, w in WOBBLE.items():
        for name, stays, less, cosine in ((MAML, 0.7, 0.05, 0.3), (SPARSE, 0.8 + w, 0.06, 0.2)):
            answers = {f"movement/{layer}": stays - less * i for i, layer in enumerate(LAYERS)}
            cosines = {"interference/gradient": 0.3, "interference/step": cosine}
            runs.append(run_of(name, s, answers | cosines))
    return runs


def test_tables_of_movement_and_interference_by_hand():
    table = probes.movement_table(inner_runs(), "study")
    assert cells(table)[0][2:] == [*LAYERS, "layer4: it − MAML", "seeds"]
    rows = lines(table)
    assert rows["sparse-MAML"][1] == interval(79, 80, 81)
    assert rows["sparse-MAML"][-2] == interval(6, 7, 8)
    assert rows["MAML"][-3:] == [same(50), "–", "3"]
    assert rows["BOIL"][1:] == [*["–"] * 6, "0 (1 diverged)"]
    assert rows["ANIL"][1:] == [*["–"] * 6, "1"]
    assert rows["sparse-ReLU-MAML"][1:] == [*["–"] * 6, "not run yet"]
    rows = lines(probes.interference_table(inner_runs(), "study"))
    assert rows["sparse-MAML"] == [same(30), same(20), same(-10), same(-10), "3"]
    assert rows["MAML"] == [same(30), same(30), same(0), "–", "3"]


def texts(ax):
    return [t.get_text() for t in ax.texts]


def test_longer_loops_are_drawn():
    runs = longer(SPARSE, 0.6, 0.59) + longer(MAML, 0.55, 0.5)
    runs.append(run_of("convnet4-1shot-anil", 0, diverged=True))
    part = probes.draw_longer("The study", runs, "study").subfigs[0]
    left, right = part.axes
    assert texts(left) == ["MAML", "sparse-MAML"]
    (drawn,) = (line for line in left.lines if line.get_label() == "sparse-MAML")
    assert drawn.get_ydata() == pytest.approx([20, 60, 60, 59])  # 20 steps were not asked
    assert len(left.collections) == 8
    assert [t.get_text() for t in left.get_xticklabels()] == ["0", "5", "10", "20", "50"]
    assert texts(right) == ["no finished run"]
    note = part.get_supxlabel()
    assert "not run yet: convnet4-5shot-anil" in note
    assert "left out: convnet4-1shot-anil (1 of 1)" in note
    empty = probes.draw_longer("The study", [], "study").subfigs[0]
    assert empty.get_supxlabel() == "not run yet"


def test_missing_masks_are_named():
    _, right = probes.draw_masks("", masks_runs(), "study").subfigs[0].axes
    assert texts(right) == ["diverged", "not run yet"]
    left, _ = probes.draw_masks("", [run_of(SPARSE, 0)], "study").subfigs[0].axes
    assert texts(left) == ["not asked"] * 6


def test_gains_after_longer_training_are_drawn():
    accuracies = {
        SPARSE: 0.45,
        MAML: 0.4,
        "longer-5shot-sparse-maml": 0.6,
        "longer-5shot-maml": 0.5,
    }
    runs = [run_of(n, s, accuracy=a) for n, a in accuracies.items() for s in WOBBLE]
    left, right = probes.draw_longer_training("", runs).subfigs[0].axes
    assert texts(left) == ["MAML", "sparse-MAML"]
    assert [
        float(np.asarray(line.get_ydata(), dtype=float)[0]) for line in right.lines
    ] == pytest.approx([5, 10, 0])
