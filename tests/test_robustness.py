"""Where runs stand in Figure 2, on records that are made up."""

import pytest

from reproduction.plan import study
from reproduction.report.figure2 import Setting, common_setting, fig2, panel, where_the_gain_is
from reproduction.runs.statistics import t_interval
from synthetic import planned_record

FIG2 = study.few_shot("study", study.FIG2)
SETTINGS = {Setting(e.inner_steps, e.inner_rate, e.width) for e in FIG2}


def made_up(seeds=range(5), diverged=()):
    """MAML loses 12 points at large rates; sparse-MAML gains 2 on it, and loses nothing there."""
    found = []
    for e in FIG2:
        for seed in seeds:
            wobble, sparse = 0.002 * (seed - 2), e.method == "sparse-maml"
            lost = 0.12 * (e.inner_rate >= 0.5 and not sparse)
            accuracy = 0.52 + 1.5 * wobble if sparse else 0.5 - lost + wobble
            found.append(planned_record(e, seed, accuracy=accuracy, diverged=e.name in diverged))
    return found


def test_a_run_that_diverged_counts_as_chance_and_is_counted():
    (lost,) = (e for e in FIG2 if e.method == "maml" and e.inner_rate == 1)
    rates = fig2("", made_up(diverged=[lost.name])).panels["inner_rate"]
    assert rates.maml[1.0].mean == pytest.approx(20)
    assert rates.diverged == {1.0: 5}
    assert rates.sparse.keys() == rates.maml.keys() == rates.sparsity.keys()


def test_panels_change_one_thing():
    base = common_setting(SETTINGS)
    for name in Setting._fields:
        found = panel(SETTINGS, name)
        assert len(found) > 2
        assert {s._replace(**{name: getattr(base, name)}) for s in found} == {base}
        values = [getattr(s, name) for s in found]
        assert values == sorted({getattr(s, name) for s in SETTINGS})


def test_where_the_gain_is():
    """Two points elsewhere, and at the large rates as much as MAML loses there besides."""
    half = t_interval([-0.2, -0.1, 0.0, 0.1, 0.2]).high  # 0.001 more with each seed
    assert where_the_gain_is(made_up()) == (
        f"Over the inner rates 0.5 and 1 the mean gain is 14.00 "
        f"[{14 - half:.2f}, {14 + half:.2f}] points, over the other {len(SETTINGS) - 2} settings "
        f"2.00 [{2 - half:.2f}, {2 + half:.2f}]."
    )
    assert where_the_gain_is([]) == where_the_gain_is(made_up(seeds=[0])) == ""


def test_runs_that_were_not_tested_are_left_out():
    records = made_up()
    for r in records[:5]:
        r["final"] |= {"test_accuracy": None, "test_loss": None}
    (lost,) = {(r["parameters"]["method"], r["parameters"]["inner_rate"]) for r in records[:5]}
    rates = fig2("", records).panels["inner_rate"]
    assert lost == ("maml", min(rates.sparse))
    assert rates.maml.keys() == rates.sparse.keys() - {min(rates.sparse)}
    assert fig2("", records[:5]).panels["width"].maml == {}
