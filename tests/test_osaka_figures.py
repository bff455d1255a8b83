"""Tables and figures of OSAKA, from records that are made up: none, some and all of them."""

import math

import matplotlib.text
import numpy as np
import pytest

from reproduction.plan import study
from reproduction.report import osaka
from reproduction.runs.osaka import OsakaExperiment
from synthetic import OSAKA_SIZES, cells, made_up_osaka_record


def made_up(learner, seed=0, correct=None, alpha=0.98, **numbers):
    planned = study.find("study", f"osaka{100 * alpha:.0f}-5way-{learner}")
    assert isinstance(planned, OsakaExperiment)
    return made_up_osaka_record(planned, seed, correct, **numbers)


def with_rates(learner, seed, share=0.5, **numbers):
    """Return a record in which a share of each tensor is frozen, and rates go from 0.1 to less."""
    frozen = {n: [0, round(share * size)] for n, size in OSAKA_SIZES.items()}
    rates = {n: [0.1, 0.1 * share] for n in OSAKA_SIZES}
    curves = {"step": [1, 2], "loss": [1.0, 1.0], "frozen": frozen, "rates": rates}
    return made_up(learner, seed, around=[0.5] * 26, curves=curves, **numbers)


def rows(markdown):
    """Return the cells of each table but the first of a line, by that one; headings by `""`."""
    tables = [cells(part) for part in markdown.split("\n\n") if part.startswith("|")]
    return [{"": t[0]} | {line[0].strip("`"): line[1:] for line in t[2:]} for t in tables]


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def drawn(figure):
    """Return the lines with a name, by the title of their panel."""
    panels: dict = {}
    for ax in (ax for part in figure.subfigs for ax in part.axes):
        named = {x.get_label(): x for x in ax.lines if not x.get_label().startswith("_")}
        panels.setdefault(ax.get_title(), []).append(named)
    return panels


def test_accuracy_table_by_hand():
    """50 and 70 %: mean 60, half of the interval 12.706 × 14.142 / √2 = 127.06."""
    numbers = {"precision": 0.25, "recall": None, "f1": None, "sparsity": 0.125}
    records = [
        made_up("c-maml", 0, accuracy=0.5, by_source={"one": 0.5, "two": None}, **numbers),
        made_up(
            "c-maml", 1, accuracy=0.7, by_source={"one": 0.7, "two": 0.3}, gradients=4000, **numbers
        ),
        made_up("c-maml", 2, diverged={"step": 4}),
        made_up("anil", 0, diverged={"update": 4}),
        made_up("maml", 0, accuracy=0.9, by_source={"one": 0.9, "two": 0.9}, gradients=2_500_000),
    ]
    text = osaka.accuracy_tables(records, "study")
    first, more = rows(text)
    assert first[""] == ["learner", "accuracy (%)", "one (%)", "two (%)", "seeds"]
    sixty = "60.0 [-67.1, 187.1]"
    assert first["c-maml"] == [sixty, sixty, "30.0", "2 (1 diverged)"]
    assert first["anil"] == ["diverged"] * 3 + ["0 (1 diverged)"]
    assert more[""][1:4] == ["precision (%)", "recall (%)", "F1 (%)"]
    assert more["c-maml"] == ["25.0 [25.0, 25.0]", "–", "–", "12.5 [12.5, 12.5]", "2.5"]
    assert more["maml"] == ["–"] * 4 + ["2,500.0"]
    assert first.keys() == more.keys() == {"", "c-maml", "anil", "maml"}
    assert "Not run yet: `online-sgd`; `online-adam`; `fine-tuning`; `sparse-maml`;" in text
    assert text.count("Not run yet.") == 3
    assert "**p = 0.98, 5-way 5-shot, 10,000 steps of omniglot-mnist-fashion" in text
    assert "Chance is 20.0 %; expect at most 98.4 %." in text


def test_difference_table_by_hand():
    """Gains of 10 and 12 points: 11, half 12.706.  A run that diverged is at 20 %."""
    records = [
        *(made_up("c-maml", s, accuracy=a) for s, a in enumerate((0.5, 0.6))),
        *(made_up("sparse-c-maml", s, accuracy=a) for s, a in enumerate((0.6, 0.72))),
        made_up("c-maml-pap", 1, diverged={"step": 3}),
        made_up("maml", 7, accuracy=0.9),
    ]
    (table,) = rows(osaka.difference_tables(records, "study"))
    assert table[""] == ["learner", *(f"it − `{m}`" for m in osaka.COMPARED), "seeds"]
    assert table["sparse-c-maml"] == ["11.00 [-1.71, 23.71]", "–", "52.00", "2"]
    assert table["c-maml-pap"] == ["-40.00", "–", "–", "0 (1 diverged)"]
    assert table["c-maml"][:3] == ["–", "–", "40.00"]
    assert table["maml"] == ["–", "–", "–", "1"]  # no seed in common


def test_early_and_late_by_hand():
    """The first 2,000 of 10,000 steps: 10 and 5 of 25 images, 20 points; then 4 points fewer."""
    steps = {"sparse-c-maml": (10, 5), "c-maml": (5, 6), "c-maml-um": (0, 25)}
    records = [
        made_up(m, 0, [early] * 2000 + [late] * 8000, 0.90) for m, (early, late) in steps.items()
    ] + [made_up("c-maml-pap", 0, alpha=0.90, diverged={"step": 3})]
    text = osaka.early_late_tables(records, "study")
    assert rows(text) == [
        {
            "": ["difference", "steps 1 to 2,000", "steps 2,001 to 10,000"],
            "sparse-c-maml` − `c-maml": ["20.00", "-4.00"],
            "sparse-c-maml` − `c-maml-um": ["40.00", "-80.00"],
            "sparse-c-maml` − `c-maml-pap": ["20.00", "0.00"],  # chance is 5 of 25
        }
    ]
    assert text.count("Not run yet") == 3
    assert osaka.early_late_tables(records[1:], "study").count("Not run yet.") == 4


def test_frozen_table_by_hand():
    records = [with_rates("sparse-c-maml-weights", s, share=0.5 + 0.25 * s) for s in (0, 1)]
    records += [with_rates("sparse-c-maml", s, share=float(s > 0)) for s in (0, 1, 2)]
    records += [made_up("sparse-c-maml-gates", 0, diverged={"step": 3}), with_rates("c-maml", 0)]
    (table,) = rows(osaka.frozen_tables(records, "study"))
    assert list(table) == ["", *(f"sparse-c-maml{m}" for m in ("", "-gates", "-weights"))]
    assert table["sparse-c-maml"] == [*["in 2 of 3"] * 6, "3"]
    half = 12.706 * 25 / math.sqrt(2) / math.sqrt(2)  # of 50 and 75 %, where sizes are even
    assert table["sparse-c-maml-weights"][0] == f"62.5 [{62.5 - half:.1f}, {62.5 + half:.1f}]"
    assert table["sparse-c-maml-gates"] == ["–"] * 6 + ["0 (1 diverged)"]


def test_inside_tables_by_hand():
    past = {"updates": 300, "best_epoch": 2, "train_loss": [1.0], "val_accuracy": [0.3, 0.9, 0.8]}
    longer = past | {"best_epoch": 20, "val_accuracy": [0.3] * 19 + [0.8]}
    first = {0: (1000, 40), 1: (2001, 61), 2: (3000, None)}
    records = [
        *(
            made_up("sparse-c-maml", s, outer_steps=n, first_frozen=f)
            for s, (n, f) in first.items()
        ),
        made_up("maml", 0, outer_steps=0) | {"pretraining": past},
        made_up("maml", 1, outer_steps=0) | {"pretraining": longer},
        made_up("c-maml", 0, diverged={"step": 3}),
    ]
    steps, before = rows(osaka.inside_tables(records, "study"))
    assert steps["sparse-c-maml"] == ["2,000", "50 (2 of 3)", "3"]
    assert steps["maml"] == ["0", "–", "2"]
    assert steps["c-maml"] == ["–", "–", "0 (1 diverged)"]
    assert before.keys() == {"", "maml"}
    assert before["maml"] == ["12", "11", "85.0", "1 of 2"]


def test_accuracy_along_the_stream():
    steps, accuracy = osaka.along(made_up("c-maml", correct=[25, 0, 5]))
    assert steps.tolist() == [1, 2, 3]
    np.testing.assert_allclose(accuracy, [100, 50, 40])
    steps, accuracy = osaka.along(made_up("c-maml", correct=[25] * 125 + [0] * 126))
    assert steps.tolist() == [*range(3, 250, 3), 251]  # every third, and the last
    assert accuracy[-1] == pytest.approx(100 * 125 / 251)


def test_mean_curve_by_hand():
    """A number that one run lacks is left to the others; diverged runs have no say."""
    around = [[0.2] * 26, [0.4] * 25 + [None], [0.6] * 24 + [None, None]]
    group = [made_up("c-maml", s, around=a) for s, a in enumerate(around)]
    group.append(made_up("c-maml", 3, diverged={"step": 1}))
    curve = osaka.mean_curve(group, osaka.around_switches)
    np.testing.assert_allclose(curve.x, range(-5, 21))
    np.testing.assert_allclose(curve.mean[-3:], [40, 30, 20])
    assert curve.high[0] - curve.mean[0] == pytest.approx(4.302653 * 20 / math.sqrt(3), rel=1e-6)
    assert np.isnan(curve.low[-1])  # one run


DRAW = (osaka.draw_stream, osaka.draw_switches, osaka.draw_rates)


@pytest.mark.parametrize("profile", ["quick", "study", "paper", "smoke"])
def test_nothing_was_run(profile):
    for figure in (draw("The study", [], profile) for draw in DRAW):
        assert len(figure.subfigs) == 1
        assert not any(lines for panels in drawn(figure).values() for lines in panels)
        assert texts(figure).count("not run yet") >= 2  # in a panel and below
    for tables in (osaka.accuracy_tables, osaka.frozen_tables, osaka.inside_tables):
        assert tables([], profile).count("Not run yet.") == len(osaka.settings(profile))


def test_some_were_run():
    records = [with_rates("c-maml", 0), with_rates("c-maml", 1), with_rates("sparse-c-maml", 0)]
    records.append(made_up("anil", 0, diverged={"update": 9}))
    records.append(made_up("c-maml", 2, diverged={"step": 7}))
    figure = osaka.draw_stream("The study", records, "study")
    (left,), (right,) = drawn(figure).values()
    assert (left.keys(), right.keys()) == (set(), {"c-maml", "sparse-c-maml"})
    assert "diverged" in texts(figure)  # in the panel without a line
    note = " ".join(texts(figure)).replace("\n", " ")
    assert "seeds 0, 1, 2 (anil: 0; sparse-c-maml: 0) · mean, Student's 95 % interval" in note
    assert "× diverged, left out: anil (1 of 1), c-maml (1 of 3)" in note
    assert "not run yet: online-adam, online-sgd, fine-tuning, maml, sparse-maml," in note
    assert "not run yet at all: p = 0.90, 5-way; p = 0.98, 10-way; p = 0.90, 10-way" in note


def test_all_were_run():
    column = osaka.settings("study")[osaka.Setting(0.98, 5)]
    records = [with_rates(learner, seed) for learner in column for seed in (0, 1)]
    for draw in DRAW[:2]:
        (without,), (learns,) = drawn(draw("The study", records, "study")).values()
        assert sorted((*without, *learns)) == sorted(column)
        assert not any("c-maml" in learner for learner in without)
        assert all("c-maml" in learner for learner in learns)
    panels = drawn(osaka.draw_rates("The study", records, "study"))
    assert panels.keys() == {*osaka.FREEZING, *osaka.RATES}
    assert all([*x] == [*osaka.TENSORS.values()] for each in panels.values() for x in each)
    sparsity, rate = panels["sparse-c-maml"]
    assert sparsity["layer2"].get_ydata().tolist() == [0, 50]
    assert rate["layer2"].get_ydata().tolist() == [0.1, 0.05]
