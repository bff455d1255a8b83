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
SEEDS = range(3)
WOBBLE = (-0.01, 0.0, 0.01)
QUOTED = shown.reported(results_folder() / "paper")


def runs(name, ra=0.6, bti=-0.1, **options):
    """Three seeds; RA and BTI wobble alike, so that LA is always the same."""
    return [
        stream_record(STUDY[name], s, ra=ra + w, bti=bti + w, **options)
        for s, w in zip(SEEDS, WOBBLE, strict=True)
    ]


def interval(*values):
    return str(t_interval(values))


def tables(text):
    """Return the rows of each table by the heading above it, without its own header."""
    found, heading = {}, ""
    for part in text.split("\n\n"):
        if part.startswith("**"):
            heading = part.strip("*")
        elif part.startswith("|"):
            found[heading] = cells(part)[2:]
    return found


def missing(text):
    """Return what each stream names as not run below its table."""
    return [
        part.removeprefix("Not run yet: ").rstrip(".").split("; ")
        for part in text.split("\n\n")
        if part.startswith("Not run yet: ")
    ]


def texts(ax):
    return [t.get_text() for t in ax.texts]


def legend(part):
    return [t.get_text() for t in part.legends[0].get_texts()]


def xs(line):
    return np.asarray(line.get_xdata(), dtype=float).tolist()


def ys(line):
    return np.asarray(line.get_ydata(), dtype=float).tolist()


def test_reported_numbers():
    assert len(QUOTED) == 21
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
    found = tables(text)
    assert list(found) == ["Rotations", "Permutations", "Many Permutations"]
    rows = {(r[0], r[1]): r[2:] for r in found["Rotations"]}
    assert rows["La-MAML", "published"] == [
        interval(75, 76, 77),
        interval(-11, -10, -9),
        "86.0 [86.0, 86.0]",
        "3",
        "77.42 ± 0.65",
        "-8.64 ± 0.40",
        "-2.2",  # (76 - 77.42) / 0.65
    ]
    assert rows["La-MAML", "tuned"] == [
        interval(79, 80, 81),
        interval(-6, -5, -4),
        "85.0 [85.0, 85.0]",
        "3",
        *["–"] * 3,
    ]
    diverged = [*["–"] * 3, "0 (1 diverged)", "67.38 ± 1.75", "-18.02 ± 1.99", "–"]
    assert rows["GEM", "published"] == diverged
    assert rows["MER", "published"][:4] == ["70.0", "-20.0", "90.0", "1 (1 diverged)"]
    assert rows["MER", "published"][4].startswith("77.42")
    assert rows["MER", "published"][-1] == "-9.5"  # (70 - 77.42) / 0.78
    assert "replay, tuned" in missing(text)[0]
    assert rows["Sync", "published"][3] == "not run yet"
    assert all(r[5] == "not run yet" for r in found["Permutations"])
    assert missing(text)[0][-4:] == [
        "sparse-La-MAML, masked step, tuned",
        "sparse-La-MAML, plain step, tuned",
        "random mask, never learned, tuned",
        "every gate open, never learned, tuned",
    ]
    assert "reported" not in shown.results_table(records, "study")


@pytest.mark.parametrize("profile", ["quick", "study", "paper", "smoke"])
def test_every_experiment_has_a_line(profile):
    chosen = shown.planned(profile)
    aside = sum(len(plan.changed(c)) for c in plan.CHANGES) if profile == "study" else 0
    assert len(chosen) == len(study.FIGURES[profile][plan.LA_MAML]) - aside
    records = [stream_record(e, 0) for e in chosen]
    found = tables(shown.results_table(records, profile))
    assert sum(len(rows) for rows in found.values()) == len(chosen)
    nothing = shown.results_table([], profile).split("\n\n")
    assert nothing[1::2] == ["Not run yet."] * len({e.stream for e in chosen})
    assert [e.learner for e in chosen if e.stream == chosen[0].stream] == sorted(
        (e.learner for e in chosen if e.stream == chosen[0].stream), key=list(shown.LOOKS).index
    )


def test_results_are_drawn():
    records = [
        *runs("rotations-la-maml", ra=0.76),
        stream_record(STUDY["rotations-gem"], 0, diverged=True),
        stream_record(STUDY["rotations-online"], 0),
    ]
    figure = shown.draw_results("The study", records, "study", QUOTED)
    assert [p.get_suptitle() for p in figure.subfigs] == [
        "The study: Rotations",
        "The study: Permutations",
        "The study: Many Permutations",
    ]
    left, right = figure.subfigs[0].axes
    labels = [t.get_text() for t in left.get_yticklabels()]
    y = labels.index("La-MAML")
    at = {
        (round(xs(line)[0], 9), line.get_marker())
        for line in left.lines
        if xs(line) and ys(line)[0] == y
    }
    assert at == {(76.0, "o"), (77.42, "D")}
    notes = texts(right)
    assert notes[y] == "3"
    assert notes[labels.index("La-MAML, tuned")] == "not run yet"
    assert notes[labels.index("GEM")] == "0 (1 diverged)"
    (bar,) = left.collections
    (path,) = bar.get_paths()
    assert np.asarray(path.vertices, dtype=float)[:, 0] == pytest.approx(
        t_interval([75, 76, 77])[1:3]
    )
    note = " ".join(figure.subfigs[0].get_supxlabel().split())
    assert note.startswith("profile study · Rotations · 20 tasks × 1,000 samples · memory 200")
    assert "left out: rotations-gem (1 of 1)" in note
    assert "rotations-ewc" in note.partition("not run yet: ")[2]
    assert figure.subfigs[1].get_supxlabel() == "not run yet"
    empty = shown.draw_results("The study", [], "study").subfigs[0].axes
    assert not empty[0].lines
    assert set(texts(empty[1])) == {"not run yet"}


MATRICES = ([[0.9, 0.1], [0.5, 0.8]], [[0.7, 0.1], [0.3, 0.6]])


def course_runs():
    name = "rotations-sparse-la-maml-tuned"
    made = [stream_record(STUDY[name], s, matrix=m) for s, m in enumerate(MATRICES)]
    return [*made, stream_record(STUDY[name], 2, diverged=True)]


def test_matrices_by_hand():
    records = course_runs()
    np.testing.assert_allclose(np.array(shown.matrix(records)), [[80, 10], [40, 70]])
    assert shown.matrix(records[2:]) is None
    other = stream_record(STUDY["rotations-la-maml-tuned"], 0, diverged=True)
    figure = shown.draw_matrices("The study", [*records, other], "study")
    axes = figure.subfigs[0].axes
    assert [ax.get_title() for ax in axes[:4]] == [
        "online SGD",
        "replay,\ntuned",
        "La-MAML,\ntuned",
        "sparse-La-MAML,\nmasked step, tuned",
    ]
    assert [texts(ax) for ax in axes[:3]] == [["not run yet"], ["not run yet"], ["diverged"]]
    np.testing.assert_allclose(np.array(axes[3].images[0].get_array()), [[80, 10], [40, 70]])
    assert axes[3].images[0].get_clim() == (0, 100)
    assert "mean over these seeds" in " ".join(figure.subfigs[0].get_supxlabel().split())


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
    assert shown.first_task(records[0]) == pytest.approx([90, 50])
    assert shown.seen(records[0]) == pytest.approx([90, 65])
    c = shown.course(records, shown.seen)
    assert list(c.x) == [1, 2]
    assert list(c.mean) == pytest.approx([80, 55])
    assert c.low[1] == pytest.approx(t_interval([65, 45]).low)
    assert len(shown.course(records[2:], shown.seen).x) == 0
    figure = shown.draw_course("The study", records, "study")
    left, right = figure.subfigs[0].axes
    assert ys(left.lines[0]) == pytest.approx([80, 40])
    assert ys(right.lines[0]) == pytest.approx([80, 55])
    assert legend(figure.subfigs[0]) == ["sparse-La-MAML, masked step"]
    assert [texts(ax) for ax in figure.subfigs[1].axes] == [["not run yet"]] * 2
    lost = shown.draw_course("The study", records[2:], "study").subfigs[0].axes
    assert texts(lost[0]) == ["diverged"]


def frozen(first, last):
    """Layer 1 has 400 weights, its bias 10, all together 580."""
    counts = {name: [0, 0] for name in TENSORS}
    return counts | {"layers.0.weight": [0, first], "layers.2.weight": [0, last]}


def sparse_runs():
    name = "rotations-la-maml"
    return [
        stream_record(STUDY[name], s, frozen=frozen(first, 10))
        for s, first in enumerate((100, 200, 300))
    ]


def test_sparsity_by_hand():
    records = sparse_runs()
    for r, n in zip(records, (29, 58, 87), strict=True):
        r["curves"]["thawed"]["layers.0.weight"] = [n - 10, 10]
    assert shown.released_share(records[0]) == pytest.approx(5)
    assert shown.frozen_share(records[0]) == pytest.approx([0, 100 * 110 / 580])
    assert shown.frozen_share(records[0], "layers.0.weight") == pytest.approx([0, 25])
    assert list(shown.kernels(records[0]).values()) == ["layer 1", "layer 2", "output"]
    lost = stream_record(STUDY["rotations-sync"], 0, diverged=True)
    found = tables(shown.sparsity_table([*records, lost], "study"))
    rows = {(r[0], r[1]): r[2:] for r in found["Rotations"]}
    assert rows["La-MAML", "published"] == [
        interval(25, 50, 75),
        "0.0 [0.0, 0.0]",
        "20.0 [20.0, 20.0]",
        interval(*(100 * (n + 10) / 580 for n in (100, 200, 300))),
        interval(5, 10, 15),
        "3",
    ]
    assert rows["Sync", "published"] == [*["–"] * 5, "0 (1 diverged)"]
    assert rows["La-MAML", "tuned"][-1] == "not run yet"
    assert {r[0] for r in found["Rotations"]} == {
        shown.LOOKS[learner].name for learner in plan.WITH_RATES
    }


def cosine_runs():
    records = []
    for s in SEEDS:
        whole = {"gradient": [None, 0.1, 0.3], "step": [None, 0.2 + 0.1 * s, 0.4 + 0.1 * s]}
        whole["effect"] = [None, 0.05, 0.15]
        other = {"gradient": [None, 0.1, 0.3], "step": [None, 0.4, 0.6]}
        records.append(stream_record(STUDY["rotations-la-maml-tuned"], s, cosines=whole))
        records.append(stream_record(STUDY["rotations-sparse-la-maml-tuned"], s, cosines=other))
    return records


def test_cosines_by_hand():
    records = cosine_runs()
    text = shown.cosine_table(records, "study")
    assert "both under the rule, less those of La-MAML, tuned" in text
    rows = {(r[0], r[1]): r[2:] for r in tables(text)["Rotations"]}
    assert rows["La-MAML", "tuned"] == [
        "20.0 [20.0, 20.0]",
        interval(30, 40, 50),
        "10.0 [10.0, 10.0]",
        interval(10, 20, 30),
        "–",
        "3",
    ]
    assert rows["sparse-La-MAML, masked step", "tuned"][2:5] == [
        "–",
        "30.0 [30.0, 30.0]",
        interval(20, 10, 0),
    ]
    assert rows["La-MAML", "published"] == [*["–"] * 5, "not run yet"]
    figure = shown.draw_cosines("The study", records, "study")
    left, middle, right = figure.subfigs[0].axes
    assert xs(left.lines[0]) == [2, 3]  # there is none in the first task
    assert ys(left.lines[0]) == pytest.approx([10, 30])
    assert ys(middle.lines[0]) == pytest.approx([30, 50])
    assert ys(right.lines[0]) == pytest.approx([5, 15])
    assert ys(right.lines[-1]) == [0, 0]  # dotted, at zero
    empty = shown.draw_cosines("The study", [], "quick")
    assert [texts(ax) for ax in empty.subfigs[0].axes] == [["not run yet"]] * 3


def test_compared_by_hand():
    own = runs("rotations-sparse-la-maml-tuned", ra=0.7, bti=-0.1)
    other = [
        stream_record(STUDY["rotations-c-maml-tuned"], s, ra=0.71 + 2 * w, bti=-0.1 + w)
        for s, w in zip(SEEDS, WOBBLE, strict=True)
    ]
    rows = cells(shown.compared_table([*own, *other]))[2:]
    assert [r[1] for r in rows if r[0] == "Rotations"] == [
        "replay",
        "C-MAML (La-MAML's)",
        "La-MAML",
        "La-MAML, straight-through",
        "sparse-La-MAML, plain step",
        "random mask, never learned",
        "every gate open, never learned",
    ]
    assert len(rows) == 3 * 7
    found = {tuple(r[:2]): r[2:] for r in rows}
    assert found["Rotations", "C-MAML (La-MAML's)"] == [
        interval(0, -1, -2),
        "0.0 [0.0, 0.0]",
        interval(0, -1, -2),
        "3",
    ]
    assert found["Permutations", "replay"] == ["–", "–", "–", "not run yet"]
