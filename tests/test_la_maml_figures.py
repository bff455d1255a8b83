"""Tables and drawings of La-MAML and its relatives, on records that are made up."""

import numpy as np
import pytest

from reproduction.plan import streams as plan
from reproduction.plan import study
from reproduction.report import la_maml as shown
from reproduction.report.load_records import results_folder
from reproduction.runs.statistics import t_interval
from synthetic import cells
from synthetic_streams import TENSORS, stream_record

STUDY = {e.name: e for e in plan.la_maml()}
WOBBLE = (-0.01, 0.0, 0.01)
QUOTED = shown.reported(results_folder() / "paper")


def runs(name, ra, bti=-0.1):
    """Three seeds; RA and BTI wobble alike, so that LA is always the same."""
    return [stream_record(STUDY[name], s, ra=ra + w, bti=bti + w) for s, w in enumerate(WOBBLE)]


def interval(*values):
    return str(t_interval(values))


def lines(text, stream="Rotations"):
    """Return the rows of a stream's table by learner and settings, and what it names as not run."""
    _, _, rest = text.partition(f"**{stream}**\n\n")
    body, _, below = rest.partition("\n\n**")[0].partition("\n\nNot run yet: ")
    rows = cells(body)[2:] if body.startswith("|") else []
    return {(r[0], r[1]): r[2:] for r in rows}, below.rstrip(".").split("; ")


def texts(ax):
    return [t.get_text() for t in ax.texts]


def xs(line):
    return np.asarray(line.get_xdata(), dtype=float).tolist()


def ys(line):
    return np.asarray(line.get_ydata(), dtype=float).tolist()


def note(part):
    return " ".join(part.get_supxlabel().split())


def test_reported_numbers():
    assert len(QUOTED) == 7 * 3
    assert QUOTED["la-maml", "many-permutations"]["ra"] == (48.46, 0.45)
    assert str(QUOTED["c-maml", "rotations"]["bti"]) == "-7.88 ± 0.05"


def test_results_by_hand():
    records = [
        *runs("rotations-la-maml", ra=0.76),
        *runs("rotations-la-maml-tuned", ra=0.8, bti=-0.05),
        stream_record(STUDY["rotations-gem"], 0, diverged=True),
        stream_record(STUDY["rotations-mer"], 0, ra=0.7, bti=-0.2),
        stream_record(STUDY["rotations-mer"], 1, diverged=True),
    ]
    text = shown.results_table(records, "study", QUOTED)
    rows, missing = lines(text)
    ours = [interval(75, 76, 77), interval(-11, -10, -9), "86.0 [86.0, 86.0]", "3"]
    away = "-2.2"  # (76 - 77.42) / 0.65
    assert rows["La-MAML", "published"] == [*ours, "77.42 ± 0.65", "-8.64 ± 0.40", away]
    tuned = [interval(79, 80, 81), interval(-6, -5, -4), "85.0 [85.0, 85.0]", "3", *["–"] * 3]
    assert rows["La-MAML", "tuned"] == tuned
    diverged = [*["–"] * 3, "0 (1 diverged)", "67.38 ± 1.75", "-18.02 ± 1.99", "–"]
    assert rows["GEM", "published"] == diverged
    assert rows["MER", "published"][:4] == ["70.0", "-20.0", "90.0", "1 (1 diverged)"]
    assert rows["MER", "published"][-1] == "-9.5"  # (70 - 77.42) / 0.78
    assert rows["Sync", "published"][3] == "not run yet"
    assert "replay, tuned" in missing
    assert missing[-1] == "every gate open, never learned, tuned"
    assert {r[3] for r in lines(text, "Permutations")[0].values()} == {"not run yet"}
    assert "reported" not in shown.results_table(records, "study")


@pytest.mark.parametrize("profile", ["quick", "study", "paper", "smoke"])
def test_every_experiment_has_a_line(profile):
    chosen = shown.planned(profile)
    aside = sum(len(plan.changed(c)) for c in plan.CHANGES) if profile == "study" else 0
    assert len(chosen) == len(study.FIGURES[profile][plan.LA_MAML]) - aside
    text = shown.results_table([stream_record(e, 0) for e in chosen], profile)
    order, streams = list(shown.LOOKS), {e.stream for e in chosen}
    for stream in streams:
        learners = sorted((e.learner for e in chosen if e.stream == stream), key=order.index)
        named = [shown.LOOKS[learner].name for learner in learners]
        assert [learner for learner, _ in lines(text, plan.TITLES[stream])[0]] == named
    nothing = shown.results_table([], profile).split("\n\n")
    assert nothing[1::2] == ["Not run yet."] * len(streams)


def test_results_are_drawn():
    records = [
        *runs("rotations-la-maml", ra=0.76),
        stream_record(STUDY["rotations-gem"], 0, diverged=True),
        stream_record(STUDY["rotations-online"], 0),
    ]
    figure = shown.draw_results("The study", records, "study", QUOTED)
    titles = [f"The study: {plan.TITLES[stream]}" for stream in plan.STREAMS]
    assert [p.get_suptitle() for p in figure.subfigs] == titles
    left, _ = figure.subfigs[0].axes
    labels = [t.get_text() for t in left.get_yticklabels()]
    y = labels.index("La-MAML")
    points = [line for line in left.lines if ys(line)[0] == y]
    drawn = {p.get_marker(): xs(p)[0] for p in points}
    assert drawn == pytest.approx({"o": 76, "D": 77.42})
    notes = {labels[round(t.get_position()[1])]: t.get_text() for t in left.texts}
    assert notes["La-MAML, tuned"] == "not run yet"
    assert notes["GEM"] == "diverged"
    assert "La-MAML" not in notes
    (path,) = left.collections[0].get_paths()
    assert np.asarray(path.vertices, dtype=float)[:, 0] == pytest.approx(
        t_interval([75, 76, 77])[1:3]
    )
    below = note(figure.subfigs[0])
    assert below.startswith("profile study · Rotations · 20 tasks × 1,000 samples · memory 200")
    assert "left out: rotations-gem (1 of 1)" in below
    assert "rotations-ewc" in below.partition("not run yet: ")[2]
    assert note(figure.subfigs[1]) == "not run yet"
    assert not shown.draw_results("The study", [], "study").subfigs[0].axes[0].lines


MATRICES = ([[0.9, 0.1], [0.5, 0.8]], [[0.7, 0.1], [0.3, 0.6]])


def course_runs():
    name = "rotations-sparse-la-maml-tuned"
    made = [stream_record(STUDY[name], s, matrix=m) for s, m in enumerate(MATRICES)]
    return [*made, stream_record(STUDY[name], 2, diverged=True)]


def test_matrices_by_hand():
    other = stream_record(STUDY["rotations-la-maml-tuned"], 0, diverged=True)
    figure = shown.draw_matrices("The study", [*course_runs(), other], "study")
    axes = figure.subfigs[0].axes
    assert axes[3].get_title() == "sparse-La-MAML,\nmasked step, tuned"
    assert [texts(ax) for ax in axes[:3]] == [["not run yet"], ["not run yet"], ["diverged"]]
    np.testing.assert_allclose(np.array(axes[3].images[0].get_array()), [[80, 10], [40, 70]])
    assert axes[3].images[0].get_clim() == (0, 100)
    assert "mean over these seeds" in note(figure.subfigs[0])


def test_axes_end_where_accuracies_end():
    """The interval of two seeds that differ by half is far wider than accuracies can be."""
    name = "rotations-la-maml-tuned"
    records = [stream_record(STUDY[name], s, ra=ra) for s, ra in enumerate((0.3, 0.8))]
    assert t_interval([30, 80]).low < -200
    left, _ = shown.draw_results("", records, "study").subfigs[0].axes
    assert left.get_xlim() == (-2, 102)
    first, _ = shown.draw_course("", records, "study").subfigs[0].axes
    assert first.get_ylim() == (-2, 102)


def test_course_by_hand():
    records = course_runs()
    c = shown.course(records, shown.seen)
    assert list(c.x) == [1, 2]
    assert list(c.mean) == pytest.approx([80, 55])
    assert c.low[1] == pytest.approx(t_interval([65, 45]).low)
    figure = shown.draw_course("The study", records, "study")
    left, right = figure.subfigs[0].axes
    assert ys(left.lines[0]) == pytest.approx([80, 40])
    assert ys(right.lines[0]) == pytest.approx([80, 55])
    assert texts(right) == ["sparse-La-MAML, masked step"]
    assert [texts(ax) for ax in figure.subfigs[1].axes] == [["not run yet"]] * 2
    lost = shown.draw_course("The study", records[2:], "study").subfigs[0].axes
    assert texts(lost[0]) == ["diverged"]


def test_sparsity_by_hand():
    e = STUDY["rotations-la-maml-tuned"]
    firsts, released = (100, 200, 300), (29, 58, 87)
    counts = {name: [0, 0] for name in TENSORS} | {"layers.2.weight": [0, 10]}
    records = [
        stream_record(e, s, frozen=counts | {"layers.0.weight": [0, n]})  # of 400, and of all 580
        for s, n in enumerate(firsts)
    ]
    for r, n in zip(records, released, strict=True):
        r["curves"]["thawed"]["layers.0.weight"] = [n - 10, 10]
    assert shown.frozen_share(records[0]) == pytest.approx([0, 100 * 110 / 580])
    assert shown.frozen_share(records[0], "layers.0.weight") == pytest.approx([0, 25])
    lost = stream_record(STUDY["rotations-sync"], 0, diverged=True)
    text = shown.sparsity_table([*records, lost], "study")
    header = ["layer 1", "layer 2", "output", "all weights", "released on the way", "seeds"]
    assert cells(text.split("\n\n")[1])[0][2:] == header
    rows, missing = lines(text)
    layers = [interval(25, 50, 75), "0.0 [0.0, 0.0]", "20.0 [20.0, 20.0]"]
    together = interval(*(100 * (n + 10) / 580 for n in firsts))
    assert rows["La-MAML", "tuned"] == [*layers, together, interval(5, 10, 15), "3"]
    assert rows["Sync", "published"] == [*["–"] * 5, "0 (1 diverged)"]
    assert "La-MAML" in missing
    panels = shown.draw_sparsity("", [*records, lost], "study").subfigs[0].axes
    assert [texts(ax) for ax in panels[:3]] == [["diverged"], [], ["not run yet"]]
    curves = {line.get_label(): ys(line) for line in panels[1].lines}
    assert curves["layer 1"] == pytest.approx([0, 50])
    assert curves["output"] == pytest.approx([0, 20])
    dashed = [line for line in panels[1].lines if line.get_linestyle() == "--"]
    assert [ys(line) for line in dashed] == [[0, 0]] * 3  # the biases


def test_cosines_by_hand():
    records = []
    for s in range(3):
        whole = {"gradient": [None, 0.1, 0.3], "step": [None, 0.2 + 0.1 * s, 0.4 + 0.1 * s]}
        other = {"gradient": [None, 0.1, 0.3], "step": [None, 0.4, 0.6]}
        whole["effect"] = [None, 0.05, 0.15]
        records.append(stream_record(STUDY["rotations-la-maml-tuned"], s, cosines=whole))
        records.append(stream_record(STUDY["rotations-sparse-la-maml-tuned"], s, cosines=other))
    text = shown.cosine_table(records, "study")
    assert "both under the rule, less those of La-MAML, tuned" in text
    rows, missing = lines(text)
    means = ["20.0 [20.0, 20.0]", interval(30, 40, 50), "10.0 [10.0, 10.0]"]
    assert rows["La-MAML", "tuned"] == [*means, interval(10, 20, 30), "–", "3"]
    differences = ["–", "30.0 [30.0, 30.0]", interval(20, 10, 0)]
    assert rows["sparse-La-MAML, masked step", "tuned"][2:5] == differences
    assert "La-MAML" in missing
    figure = shown.draw_cosines("The study", records, "study")
    left, middle, right = figure.subfigs[0].axes
    assert xs(left.lines[0]) == [2, 3]  # there is none in the first task
    assert ys(left.lines[0]) == pytest.approx([10, 30])
    assert ys(middle.lines[0]) == pytest.approx([30, 50])
    assert ys(right.lines[0]) == pytest.approx([5, 15])
    assert ys(right.lines[-1]) == [0, 0]  # dotted, at zero
    assert texts(middle) == ["sparse-La-MAML, masked step"]  # each where it is seen last
    assert texts(right) == ["La-MAML"]
    empty = shown.draw_cosines("The study", [], "quick")
    assert [texts(ax) for ax in empty.subfigs[0].axes] == [["not run yet"]] * 3


def test_compared_by_hand():
    records = runs("rotations-sparse-la-maml-tuned", ra=0.7)
    for s, w in enumerate(WOBBLE):
        other = STUDY["rotations-c-maml-tuned"]
        records.append(stream_record(other, s, ra=0.71 + 2 * w, bti=-0.1 + w))
    rows = cells(shown.compared_table(records))[2:]
    tuned = [e for e in shown.planned("study") if e.tuned and e.learner != "sparse-la-maml"]
    named = [[plan.TITLES[e.stream], shown.LOOKS[e.learner].name] for e in tuned]
    assert [r[:2] for r in rows] == named
    found = {tuple(r[:2]): r[2:] for r in rows}
    same, less = "0.0 [0.0, 0.0]", interval(0, -1, -2)
    assert found["Rotations", "C-MAML (La-MAML's)"] == [less, same, less, "3"]
    assert found["Permutations", "replay"] == ["–", "–", "–", "not run yet"]
