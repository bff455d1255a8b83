"""Tables 1 and 2, on records that are made up."""

import math
from pathlib import Path

import numpy as np
import pytest

from reproduction.plan import study
from reproduction.report import tables_1_and_2 as pt
from synthetic import cells, planned_record, texts

PAPER = Path(__file__).parents[1] / "results" / "paper"
TABLE1, TABLE2 = pt.columns_of_table1(PAPER), pt.columns_of_table2(PAPER)
FIVE, CUB, CARS = TABLE1[1], TABLE2[5], TABLE2[7]


def made_up(name, seed, accuracy, profile="study", probes=None, diverged=False):
    e = study.find_few_shot(profile, name)
    record = planned_record(e, seed, accuracy=accuracy, diverged=diverged)
    record["final"]["probes"] = {n: {"mean": v} for n, v in (probes or {}).items()}
    return record


RATES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def searched(*accuracies, name="convnet4-5shot-maml"):
    found = []
    for rate, accuracy in zip(RATES, accuracies, strict=True):
        if accuracy is not None:
            e, lost = study.find_few_shot("search", f"{name}-rate{rate}"), accuracy == "diverged"
            record = planned_record(e, 100, diverged=lost)
            record["curves"]["val_accuracy"] = [0.999, 0.99 if lost else accuracy]
            found.append(record)
    return found


def lines_of(markdown, heading=None):
    """The lines of a table, or of that under a heading, by their first cell."""
    part = markdown if heading is None else markdown.split(f"**{heading}**")[1].split("\n\n**")[0]
    return {line[0]: line for line in cells(part)}


def test_the_papers_numbers_keep_what_is_known_of_them():
    names = ["convnet4-1shot", "convnet4-5shot", "resnet12-1shot", "resnet12-5shot"]
    assert [c.runs for c in TABLE1] == names
    assert FIVE.reported["sparse-maml-plus"].accuracy is None
    assert (CUB.probe, CUB.runs) == ("on:cub", "convnet4-5shot")
    assert CUB.reported["sparse-maml"] == pt.Reported(60.58, 1.10, "V", "")
    text = pt.reported(TABLE1)
    convnet, resnet = map(lines_of, text.split("| ResNet-12 "))
    assert convnet["ConvNet-4"] == ["ConvNet-4", "1 shot", "5 shots"]
    assert convnet["MAML"][1] == "48.07 ± 1.75 (mean V; std M)"
    assert convnet["sparse-MAML+"][2] == "unknown (U)"
    assert "sparse-ReLU-MAML, ConvNet-4, 1 shot: paper; the authors' README later says" in text
    assert text.count("probably a copy error.") == 1
    assert resnet["BOIL"] == ["BOIL", "–", "70.50 (V)"]


def test_the_study_beside_the_paper():
    records = [made_up("convnet4-5shot-maml", s, a) for s, a in enumerate((0.4, 0.44))]
    records += [made_up("convnet4-5shot-boil", s, 0.5, diverged=True) for s in (0, 1)]
    records += [made_up("convnet4-5shot-anil", s, 0.5, diverged=s == 1) for s in (0, 1)]
    ours = [made_up("convnet4-5shot-maml", 0, 0.63, "paper")]
    text = pt.side_by_side(TABLE1, records, ours)
    found = lines_of(text, "ConvNet-4, 5 shots")
    half = 12.706 * 2  # Student's t with one degree of freedom, times 4 / 2
    want = f"42.0 [{42 - half:.1f}, {42 + half:.1f}]"
    assert found["MAML"][:4] == ["MAML", "63.15 ± 0.91 (mean V; std M)", want, "2"]
    assert found["MAML"][5] == "63.0 (seeds: 1)"
    assert found["BOIL"][2:4] == ["diverged", "0 (2 diverged)"]
    assert found["ANIL"][2:4] == ["50.0", "1 (1 diverged)"]
    assert found["sparse-MAML"][2:4] == ["not run yet", "–"]
    assert found["sparse-MAML+"][1] == "unknown (U)"
    assert found["Meta-SGD"][1] == "–"
    assert found["exponential variant"][1:4] == ["–", "not run yet", "–"]
    assert "exponential variant" not in lines_of(text, "ConvNet-4, 1 shot")
    assert "sparse-MAML+" not in lines_of(text, "ResNet-12, 5 shots")
    assert text.count("the study: profile study") == 1
    assert text.count("paper's settings: profile paper") == 1


def test_data_that_are_not_at_hand():
    records = [
        made_up(f"convnet4-5shot-{m}", s, 0.6, probes={"on:cub": a + 0.01 * s * (m == "maml")})
        for m, a in (("maml", 0.4), ("sparse-maml", 0.45))
        for s in (0, 1)
    ]
    text = pt.side_by_side(TABLE2, records)
    assert lines_of(text, "5 shots, CUB (2010 here)")["sparse-MAML"][2].startswith("45.0")
    assert lines_of(text, "5 shots, Stanford Cars")["sparse-MAML"][2] == "no data here"
    assert lines_of(text, "1 shot, Stanford Cars")["sparse-MAML"][2] == "not run yet"
    away, cars = (
        next(g for g in pt.gains(c, records, "study") if g.method == "sparse-maml")
        for c in (CUB, CARS)
    )
    assert away.study is not None
    assert away.study.mean == pytest.approx(4.5)  # 5 and 4 points
    assert away.study.high - away.study.mean == pytest.approx(12.706 * 0.5, rel=1e-3)
    assert away.paper == pytest.approx(60.58 - 53.09)
    assert (cars.study, cars.note) == (None, "no data here")


def test_trained_on_omniglot_tested_on_other_images():
    line = lines_of(pt.from_omniglot([]))
    assert list(line) == ["tested on", "---", "Omniglot", "FashionMNIST", "MNIST", "glyphs"]
    for name in ("Omniglot", "FashionMNIST", "MNIST", "glyphs"):
        nothing = ["not run yet", "–"]
        assert line[name][1:] == [*nothing, *nothing, "–", "not run yet", "not run yet"]
    records = [
        made_up(f"grey-5shot-{m}", s, a + 0.01 * s, probes={"on:mnist": b + 0.01 * s * k})
        for m, a, b, k in (("maml", 0.9, 0.6, 1), ("sparse-maml", 0.92, 0.55, 3))
        for s in (0, 1)
    ]
    ours = [made_up("grey-5shot-maml", 0, 0.97, "paper", {"on:mnist": 0.7})]
    text = pt.from_omniglot(records, ours)
    line = lines_of(text)
    assert line["Omniglot"][5].startswith("2.0 [2.0")
    assert line["Omniglot"][6:] == ["97.0 (seeds: 1)", "not run yet"]
    assert line["MNIST"][1].startswith("60.5 [")
    assert line["MNIST"][3].startswith("56.5 [")
    half = 12.706 * 1  # gains of -5 and -3
    assert line["MNIST"][5] == f"-4.0 [{-4 - half:.1f}, {-4 + half:.1f}]"
    assert line["MNIST"][2::2][:2] == ["2", "2"]
    assert line["MNIST"][6] == "70.0 (seeds: 1)"
    assert line["glyphs"][1] == "no data here"
    assert "the study: profile study · omniglot 5-way 5-shot · 28 px" in text
    assert "paper's budget: profile paper" in text


def test_the_search_marks_the_best_of_a_whole_row():
    assert "**" not in pt.search_tables([])
    text = pt.search_tables(searched(0.2, 0.3, 0.5, 0.4, 0.3, "diverged"))
    part = text.split("| ConvNet-4, 5 shots ")[1].split("| ConvNet-4, 1 shot ")[0]
    lines = lines_of(part)
    assert lines["MAML"] == ["MAML", "20.0", "30.0", "**50.0**", "40.0", "30.0", "diverged"]
    assert set(lines["ANIL"][1:]) == {"not run yet"}
    assert "end of the grid" not in text
    assert "**" not in pt.search_tables(searched(0.2, 0.3, 0.5, 0.4, 0.3, None))
    edge = pt.search_tables(searched(0.2, 0.2, 0.3, 0.4, 0.4, 0.5))
    assert "more may lie beyond: MAML." in edge


def test_power_is_half_the_paired_interval():
    gains = (0.01, 0.03, 0.02)
    records = [
        made_up(f"convnet4-5shot-{m}", s, 0.5 + 0.1 * s + (gains[s] if m != "maml" else 0))
        for m in ("maml", "sparse-maml")
        for s in range(3)
    ]
    found = lines_of(pt.power(TABLE1, records))
    half = 4.303 * 1.0 / math.sqrt(3)
    assert found["ConvNet-4, 5 shots"][1:] == ["3", f"{half:.1f}"]
    assert found["ConvNet-4, 1 shot"][1:3] == ["0", "two seeds are needed"]


def test_gains_say_why_there_is_none():
    records: list[dict] = []

    def notes(*added):
        records.extend(made_up(f"convnet4-5shot-{m}", s, 0.5, diverged=d) for m, s, d in added)
        return {g.method: g.note for g in pt.gains(FIVE, records, "study")}

    assert notes(("sparse-maml", 0, False))["sparse-maml"] == "not run yet"  # MAML is not
    assert notes(("maml", 1, False))["sparse-maml"] == "no pair"
    assert notes(("maml", 0, False))["sparse-maml"] == "1 seed"
    found = notes(("boil", 0, True))
    assert (found["boil"], found["anil"]) == ("diverged", "not run yet")


def test_gains_are_drawn_beside_the_papers():
    records = [
        made_up(e.name, s, 0.4 + 0.01 * i + 0.002 * s * (-1) ** i)
        for i, e in enumerate(study.few_shot("study", "table1_miniimagenet"))
        for s in range(3)
    ]
    figure = pt.draw_gains(TABLE1, records)
    assert len(figure.axes) == 4
    points: dict[str, list[float]] = {"o": [], "D": [], "None": []}
    for line in figure.axes[1].get_lines():
        points[str(line.get_marker())].append(float(np.asarray(line.get_xydata())[0, 0]))
    assert len(points["o"]) == 10  # all methods but MAML
    assert len(points["D"]) == 4  # one of the paper's five is unknown
    assert max(points["D"]) == pytest.approx(67.03 - 63.15)
    assert len(figure.axes[1].collections) == 10  # intervals
    assert sum("profile study" in t for t in texts(figure)) == 2  # under each row
    colours = {line.get_color() for line in figure.axes[3].get_lines() if line.get_marker() == "o"}
    assert len(colours) == 4
