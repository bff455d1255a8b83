"""Figure 1 from records: one row for each setting, and nothing is dropped in silence."""

import numpy as np
import pytest

from conftest import ROOT
from reproduction.plan import study
from reproduction.report import figure1 as figures
from reproduction.report import naming
from reproduction.report.frame import by_experiment, numbers
from reproduction.runs.records import load
from synthetic import planned_record, texts

FIG1 = study.few_shot("study", study.FIG1)


def run(name):
    return next(e for e in FIG1 if e.name == f"fig1-{name}")


def changed(e, **changes):
    name = "+".join([e.name, *(f"{k}={v}" for k, v in changes.items())])
    return e.replace(name=name, **changes)


def test_each_problem_has_a_row_of_its_own():
    records = [planned_record(e, accuracy=0.7 if e.data == "omniglot" else 0.4) for e in FIG1]
    rows = figures.fig1("Own", records)
    assert [row.title for row in rows] == [
        "Own: omniglot 20-way 1-shot",
        "Own: miniimagenet 5-way 5-shot",
    ]
    for row, accuracy, data in zip(rows, (70, 40), ("omniglot", "miniimagenet"), strict=True):
        assert row.maml is not None
        assert row.maml.mean == pytest.approx(accuracy)
        assert {v.mean for v in row.right_accuracy.values()} == {row.maml.mean}
        assert f"· {data} " in row.stamp
    assert {"Own: omniglot 20-way 1-shot", rows[1].stamp} <= set(texts(figures.draw_fig1(*rows)))
    (alone,) = figures.fig1("Own", records[:3])
    assert alone.title == "Own"
    (nothing,) = figures.fig1("Own", [])
    assert nothing.stamp == "not run yet"


def test_the_study_has_two_rows_and_older_records_belong_to_them():
    records = load(ROOT / "results", FIG1)
    rows = figures.fig1("The study", records)
    assert [set(row.left) for row in rows] == [set(figures.LEFT)] * 2
    for row, data in zip(rows, ("omniglot", "miniimagenet"), strict=True):
        maml = by_experiment(records)[f"fig1-{data}-maml"]
        mean = np.mean(list(numbers(maml, "test_accuracy").values()))
        assert row.maml is not None
        assert row.maml.mean == pytest.approx(mean)


def test_a_mixed_setting_is_refused():
    omniglot, photographs = run("omniglot-maml"), run("miniimagenet-maml")
    with pytest.raises(ValueError, match="data is 'miniimagenet' and 'omniglot'"):
        naming.setting([planned_record(omniglot), planned_record(photographs)])
    with pytest.raises(ValueError, match="updates is 7 and 600"):
        naming.stamp([planned_record(omniglot), planned_record(changed(omniglot, updates=7))])


def test_a_changed_run_has_a_row_too():
    half = run("omniglot-sparse50")
    runs = [half, changed(half, inner_rate=0.2)]
    first, second = figures.fig1(
        "Own", [planned_record(e, accuracy=0.5 + i / 10) for i, e in enumerate(runs)]
    )
    assert second.title == "Own: omniglot 20-way 1-shot, inner_rate=0.2"
    assert first.right_accuracy[50].mean == pytest.approx(50)
    assert second.right_accuracy[50].mean == pytest.approx(60)


def test_any_initial_sparsity_is_drawn_and_other_methods_are_named():
    half = run("omniglot-sparse50")
    third, other = changed(half, init_sparsity=0.33), changed(half, method="anil", init_sparsity=0)
    (row,) = figures.fig1("Own", [planned_record(e) for e in (half, third, other)])
    assert set(row.left) == set(row.right_accuracy) == {33, 50}
    assert row.not_drawn == [other.name]
    assert any(f"not drawn: {other.name}" in t for t in texts(figures.draw_fig1(row)))


def test_two_experiments_for_one_place_are_refused():
    maml, half = run("omniglot-maml"), run("omniglot-sparse50")
    for e, change in (
        (half, {"probes": ()}),
        (half, {"init_sparsity": 0.501}),
        (maml, {"probes": ()}),
    ):
        with pytest.raises(ValueError, match="have one place"):
            figures.fig1("Own", [planned_record(e), planned_record(changed(e, **change), 1)])
    with pytest.raises(ValueError, match="have one place"):
        figures.fig1("Own", [planned_record(half), planned_record(half)])


def test_runs_that_were_not_tested_show_the_rest():
    runs = [planned_record(e) for e in FIG1 if e.data == "omniglot"]
    for r in runs[:2]:  # MAML, and sparse-MAML from one level
        r["final"] |= {"test_accuracy": None, "test_loss": None}
    (row,) = figures.fig1("Own", runs)
    assert row.maml is None
    assert set(row.left) == set(figures.LEFT)
    assert len(row.right_sparsity) == len(row.right_accuracy) + 1
    named = ", ".join(f"test accuracy of {r['experiment']}" for r in runs[:2])
    assert any(f"not drawn: {named}" in t for t in texts(figures.draw_fig1(row)))
