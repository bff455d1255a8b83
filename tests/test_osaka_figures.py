"""Tables and figures of OSAKA, from records that are made up: none, some and all of them."""

import math

import matplotlib.text
import numpy as np
import pytest

from reproduction.plan import study
from reproduction.plan.streams import OSAKA_LEARNERS
from reproduction.report import osaka as osaka_figures
from synthetic import OSAKA_SIZES, made_up_osaka_record

DRAW = (osaka_figures.draw_stream, osaka_figures.draw_switches, osaka_figures.draw_rates)
TABLES = (
    osaka_figures.accuracy_tables,
    osaka_figures.difference_tables,
    osaka_figures.early_late_tables,
    osaka_figures.frozen_tables,
    osaka_figures.inside_tables,
)


def planned(learner, alpha=0.98):
    return study.find("study", f"osaka{100 * alpha:.0f}-5way-{learner}")


def made_up(learner, seed=0, correct=None, alpha=0.98, **numbers):
    return made_up_osaka_record(planned(learner, alpha), seed, correct, **numbers)


def rows(markdown):
    """Return the cells of each table in Markdown, by learner."""
    tables = []
    for part in markdown.split("\n\n"):
        lines = [line.strip("| ").split(" | ") for line in part.splitlines() if line[0] == "|"]
        if lines:
            tables.append({line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[2:]})
    return tables


def texts(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def drawn(figure):
    """Return the lines with a name, by the title of their panel."""
    found: dict = {}
    for part in figure.subfigs:
        for ax in part.axes:
            named = {x.get_label(): x for x in ax.lines if not x.get_label().startswith("_")}
            found.setdefault(ax.get_title(), []).append(named)
    return found


def test_accuracy_table_by_hand():
    """50 and 70 %: mean 60, half of the interval 12.706 × 14.142 / √2 = 127.06."""
    numbers = {"precision": 0.25, "recall": None, "f1": None, "sparsity": 0.125}
    found = [
        made_up("c-maml", 0, accuracy=0.5, by_source={"one": 0.5, "two": None}, **numbers),
        made_up("c-maml", 1, accuracy=0.7, by_source={"one": 0.7, "two": 0.3}, **numbers)
        | {"provenance": None},
        made_up("c-maml", 2, diverged={"step": 4}),
        made_up("anil", 0, diverged={"update": 4}),
        made_up("maml", 0, accuracy=0.9, by_source={"one": 0.9, "two": 0.9}, gradients=2_500_000),
    ]
    found[1]["final"]["gradients"] = 4000
    text = osaka_figures.accuracy_tables(found, "study")
    first, more = rows(text)
    assert first["`c-maml`"] == {
        "learner": "`c-maml`",
        "accuracy (%)": "60.0 [-67.1, 187.1]",
        "one (%)": "60.0 [-67.1, 187.1]",
        "two (%)": "30.0",
        "seeds": "2 (1 diverged)",
    }
    assert more["`c-maml`"] == {
        "learner": "`c-maml`",
        "precision (%)": "25.0 [25.0, 25.0]",
        "recall (%)": "–",
        "F1 (%)": "–",
        "sparsity at the end (%)": "12.5 [12.5, 12.5]",
        "gradient images (thousands)": "2.5",
    }
    assert first["`anil`"]["accuracy (%)"] == "diverged"
    assert first["`anil`"]["seeds"] == "0 (1 diverged)"
    assert more["`maml`"]["gradient images (thousands)"] == "2,500.0"
    assert first.keys() == more.keys() == {"`c-maml`", "`anil`", "`maml`"}
    others = [f"`{m}`" for m in OSAKA_LEARNERS if m not in ("c-maml", "anil", "maml")]
    assert f"Not run yet: {'; '.join(others)}." in text
    assert text.count("Not run yet.") == 3
    assert "**p = 0.98, 5-way 5-shot, 10,000 steps of omniglot-mnist-fashion" in text
    assert "Chance is 20.0 %; expect at most 98.4 %." in text
    assert "p = 0.90, 5-way 5-shot, 10,000 steps" in text


def test_difference_table_by_hand():
    """Gains of 10 and 12 points: 11, half 12.706.  A run that diverged is at 20 %."""
    found = [
        *(made_up("c-maml", s, accuracy=a) for s, a in enumerate((0.5, 0.6))),
        *(made_up("sparse-c-maml", s, accuracy=a) for s, a in enumerate((0.6, 0.72))),
        made_up("c-maml-pap", 1, diverged={"step": 3}),
        made_up("maml", 7, accuracy=0.9),
    ]
    (first,) = rows(osaka_figures.difference_tables(found, "study"))
    assert list(first["`sparse-c-maml`"].values()) == [
        "`sparse-c-maml`",
        "11.00 [-1.71, 23.71]",
        "–",
        "52.00",
        "2",
    ]
    assert list(first["`c-maml-pap`"].values())[1:] == ["-40.00", "–", "–", "0 (1 diverged)"]
    assert list(first["`c-maml`"].values())[1:4] == ["–", "–", "40.00"]
    assert list(first["`maml`"].values())[1:] == ["–", "–", "–", "1"]  # no seed in common


def test_early_and_late_by_hand():
    """The first 2,000 of 10,000 steps: 10 and 5 of 25 images, 20 points; then 4 points fewer."""

    def steps(early, late):
        return [early] * 2000 + [late] * 8000

    found = [
        made_up("sparse-c-maml", 0, steps(10, 5), alpha=0.90),
        made_up("c-maml", 0, steps(5, 6), alpha=0.90),
        made_up("c-maml-um", 0, steps(0, 25), alpha=0.90),
        made_up("c-maml-pap", 0, diverged={"step": 3}, alpha=0.90),
    ]
    text = osaka_figures.early_late_tables(found, "study")
    (table,) = rows(text)
    columns = ("steps 1 to 2,000", "steps 2,001 to 10,000")
    shown = {name: [row[c] for c in columns] for name, row in table.items()}
    assert shown == {
        "`sparse-c-maml` − `c-maml`": ["20.00", "-4.00"],
        "`sparse-c-maml` − `c-maml-um`": ["40.00", "-80.00"],
        "`sparse-c-maml` − `c-maml-pap`": ["20.00", "0.00"],  # chance is 5 of 25
    }
    assert "steps 1 to 400" not in text  # with ten classes nothing was run
    assert text.count("Not run yet") == 3
    assert osaka_figures.early_late_tables(found[1:], "study").count("Not run yet.") == 4


def test_frozen_table_by_hand():
    found = [with_rates("sparse-c-maml-weights", s, share=0.5 + 0.25 * s) for s in (0, 1)]
    found += [with_rates("sparse-c-maml", s, share=float(s > 0)) for s in (0, 1, 2)]
    found += [made_up("sparse-c-maml-gates", 0, diverged={"step": 3}), with_rates("c-maml", 0)]
    text = osaka_figures.frozen_tables(found, "study")
    (table,) = rows(text)
    assert list(table) == [f"`sparse-c-maml{m}`" for m in ("", "-gates", "-weights")]
    assert list(table["`sparse-c-maml`"].values())[1:] == [*["in 2 of 3"] * 6, "3"]
    sparse = list(table["`sparse-c-maml-weights`"].values())[1:]
    half = 12.706 * 25 / math.sqrt(2) / math.sqrt(2)  # of 50 and 75 %, where sizes are even
    assert sparse[0] == f"62.5 [{62.5 - half:.1f}, {62.5 + half:.1f}]"
    assert sparse[-1] == "2"
    assert set(list(table["`sparse-c-maml-gates`"].values())[1:-1]) == {"–"}
    few = osaka_figures.frozen_tables(found[:2], "study")
    assert "Not run yet: `sparse-c-maml`, `sparse-c-maml-gates`." in few.replace(";", ",")


def test_accuracy_along_the_stream():
    steps, accuracy = osaka_figures.along(made_up("c-maml", correct=[25, 0, 5]))
    assert steps.tolist() == [1, 2, 3]
    np.testing.assert_allclose(accuracy, [100, 50, 40])
    steps, accuracy = osaka_figures.along(made_up("c-maml", correct=[25] * 125 + [0] * 126))
    assert steps.tolist() == [*range(3, 250, 3), 251]  # every third, and the last
    assert accuracy[-1] == pytest.approx(100 * 125 / 251)


def test_mean_curve_by_hand():
    """A number that one run lacks is left to the others; diverged runs have no say."""
    around = [[0.2] * 26, [0.4] * 25 + [None], [0.6] * 24 + [None, None]]
    group = [made_up("c-maml", s, around=a) for s, a in enumerate(around)]
    group.append(made_up("c-maml", 3, diverged={"step": 1}))
    found = osaka_figures.mean_curve(group, osaka_figures.around_switches)
    np.testing.assert_allclose(found.mean[-3:], [40, 30, 20])
    half = 4.302653 * 20 / math.sqrt(3)
    assert found.high[0] - found.mean[0] == pytest.approx(half, rel=1e-6)
    assert np.isnan(found.low[-1])  # one run
    nothing = osaka_figures.mean_curve(
        [made_up("c-maml", around=[None] * 26)], osaka_figures.around_switches
    )
    assert np.isnan(nothing.mean).all()


def with_rates(learner, seed, share=0.5, **numbers):
    """Return a record in which a share of each tensor is frozen, and all rates are 0.1."""
    shared = {"step": [1, 2], "loss": [1.0, 1.0]}
    frozen = {n: [0, round(share * size)] for n, size in OSAKA_SIZES.items()}
    rates = {n: [0.1, 0.1 * share] for n in OSAKA_SIZES}
    curves = shared | {"frozen": frozen, "rates": rates}
    return made_up(learner, seed, around=[0.5] * 26, curves=curves, **numbers)


@pytest.mark.parametrize("draw", DRAW)
@pytest.mark.parametrize("profile", ["quick", "study", "paper", "smoke"])
def test_nothing_was_run(draw, profile):
    figure = draw("The study", [], profile)
    assert len(figure.subfigs) == 1
    assert all(not lines for panels in drawn(figure).values() for lines in panels)
    assert texts(figure).count("not run yet") >= 2  # in a panel and below
    for tables in TABLES:
        assert tables([], profile).count("Not run yet.") == len(osaka_figures.settings(profile))


def test_some_were_run():
    found = [
        with_rates("c-maml", 0),
        with_rates("c-maml", 1),
        with_rates("sparse-c-maml", 0),
        made_up("anil", 0, diverged={"update": 9}),
        made_up("c-maml", 2, diverged={"step": 7}),
    ]
    figure = osaka_figures.draw_stream("The study", found, "study")
    assert len(figure.subfigs) == 1
    left, right = (panels[0] for panels in drawn(figure).values())
    assert left.keys() == set()
    assert right.keys() == {"c-maml", "sparse-c-maml"}
    shown = "\n".join(texts(figure))
    assert "The study: p = 0.98, 5-way" in shown
    assert (
        "profile study · omniglot-mnist-fashion · p (alpha) = 0.98 · 5-way 5-shot · 10,000 steps · "
        "16 channels · seeds 0, 1, 2 (anil: 0; sparse-c-maml: 0) · mean, Student's 95 % interval "
        "over seeds"
    ) in shown.replace("\n", " ")
    assert "× diverged, left out: anil (1 of 1), c-maml (1 of 3)" in shown
    note = shown[shown.index("not run yet: ") :]
    assert "not run yet: online-adam, online-sgd, fine-tuning, maml, sparse-maml," in note
    assert "not run yet at all: p = 0.90, 5-way" in note
    assert "diverged" in texts(figure)  # in the panel without a line
    figure.canvas.draw()


def test_all_were_run():
    found = [
        with_rates(learner, seed, alpha=alpha)
        for learner in OSAKA_LEARNERS
        for seed in (0, 1)
        for alpha in (0.98, 0.90)
        if (learner, alpha) != ("c-maml-zero", 0.90)
    ]
    for draw in DRAW[:2]:
        figure = draw("The study", found, "study")
        assert len(figure.subfigs) == 2
        without, learns = drawn(figure).values()
        assert without[0].keys() == without[1].keys() == {*OSAKA_LEARNERS[:6]}
        assert learns[0].keys() == learns[1].keys() | {"c-maml-zero"} == {*OSAKA_LEARNERS[6:]}
        notes = [t for t in texts(figure) if "not run yet" in t]
        assert len(notes) == 1
        assert "not run yet at all: p = 0.98, 10-way; p = 0.90, 10-way" in notes[0]
    figure = osaka_figures.draw_rates("The study", found, "study")
    shown = drawn(figure)
    names = [*osaka_figures.FREEZING, *osaka_figures.RATES]
    assert sorted(shown) == sorted(set(names))
    assert all(list(x) == [*osaka_figures.TENSORS.values()] for p in shown.values() for x in p)
    sparsity, rate = shown["sparse-c-maml"][:2]
    assert sparsity["layer2"].get_ydata().tolist() == [0, 50]
    assert rate["layer2"].get_ydata().tolist() == [0.1, 0.05]
