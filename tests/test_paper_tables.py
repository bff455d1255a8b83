"""Tables 1 and 2, on records that are made up."""

import math
from pathlib import Path

import pytest

from reproduction.plan import study
from reproduction.report import tables_1_and_2 as pt
from synthetic import made_up_record

PAPER = Path(__file__).parents[1] / "results" / "paper"
TABLE1, TABLE2 = pt.columns_of_table1(PAPER), pt.columns_of_table2(PAPER)
ONE, FIVE, _, RESNET = TABLE1
_, _, _, _, _, CUB, _, CARS = TABLE2


def made_up(name, seed, accuracy, profile="study", probes=None, diverged=False):
    record = made_up_record(name, seed, accuracy=accuracy, diverged=diverged)
    record["parameters"] = study.find_few_shot(profile, name).parameters()
    record["final"]["probes"] = {
        n: {"mean": v, "low": v, "high": v, "n": 100} for n, v in (probes or {}).items()
    }
    return record


def everything(profile="study", seeds=range(3)):
    """All records of a profile's Table 1, with an answer on CUB and none on the others."""
    return [
        made_up(e.name, s, 0.4 + 0.01 * i + 0.002 * s * (-1) ** i, profile, {"on:cub": 0.3})
        for i, e in enumerate(study.few_shot(profile, "table1_miniimagenet"))
        for s in seeds
    ]


def searched(accuracies, rates=(0.02, 0.05, 0.1, 0.2, 0.5, 1.0), name="convnet4-5shot-maml"):
    found = []
    for rate, accuracy in zip(rates, accuracies, strict=True):
        if accuracy is not None:
            record = made_up_record(f"{name}-rate{rate}", 100, diverged=accuracy == "diverged")
            trained = accuracy if accuracy != "diverged" else 0.99
            record["curves"]["val_accuracy"] = [0.999, trained]
            record["parameters"] = study.find_few_shot("search", record["experiment"]).parameters()
            found.append(record)
    return found


def rows(markdown):
    """The lines of Markdown tables, as lists of cells."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in markdown.splitlines()
        if line.startswith("|")
    ]


def lines_of(markdown, heading):
    """The lines of one table, by their first cell."""
    part = markdown.split(f"**{heading}**")[1].split("\n\n**")[0]
    return {line[0]: line for line in rows(part)}


def texts(figure):
    return [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")) if t.get_text()]


def test_the_papers_numbers_keep_what_is_known_of_them():
    assert [c.runs for c in TABLE1] == [
        "convnet4-1shot",
        "convnet4-5shot",
        "resnet12-1shot",
        "resnet12-5shot",
    ]
    assert ONE.reported["maml"] == pt.Reported(48.07, 1.75, "mean V; std M", "")
    doubtful = FIVE.reported["sparse-maml-plus"]
    assert (doubtful.accuracy, doubtful.confidence) == (None, "U")
    assert "copy error" in doubtful.note
    assert FIVE.reported["sparse-relu-maml"].note.endswith("66.80")
    assert RESNET.reported["boil"].std is None
    assert "boil" not in TABLE1[2].reported
    assert (CUB.probe, CUB.runs) == ("on:cub", "convnet4-5shot")
    assert CUB.reported["sparse-maml"] == pt.Reported(60.58, 1.10, "V", "")


def test_the_papers_table():
    text = pt.reported(TABLE1)
    found = {line[0]: line for line in rows(text.split("| ResNet-12")[0])}
    assert found["ConvNet-4"] == ["ConvNet-4", "1 shot", "5 shots"]
    assert found["MAML"][1] == "48.07 ± 1.75 (mean V; std M)"
    assert found["sparse-MAML+"][2] == "unknown (U)"
    assert (
        "sparse-ReLU-MAML, ConvNet-4, 1 shot: paper; the authors' README later says 50.15" in text
    )
    resnet = {line[0]: line for line in rows(text.split("| ResNet-12")[1])}
    assert resnet["BOIL"] == ["BOIL", "–", "70.50 (V)"]


def test_accuracies_are_those_of_the_column():
    records = [
        made_up("convnet4-5shot-maml", 0, 0.6, probes={"on:cub": 0.4}),
        made_up("convnet4-5shot-maml", 1, 0.5),
        made_up("convnet4-5shot-maml", 2, 0.5, diverged=True),
        made_up("convnet4-1shot-maml", 0, 0.3),
    ]
    assert pt.accuracies(records, FIVE, "maml") == {0: 60.0, 1: 50.0}
    assert pt.accuracies(records, CUB, "maml") == {0: 40.0}


def test_the_study_beside_the_paper():
    records = [made_up("convnet4-5shot-maml", s, a) for s, a in enumerate((0.4, 0.44))]
    records += [made_up("convnet4-5shot-boil", s, 0.5, diverged=True) for s in (0, 1)]
    records += [
        made_up("convnet4-5shot-anil", 0, 0.5),
        made_up("convnet4-5shot-anil", 1, 0, diverged=True),
    ]
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
    line = {cells[0]: cells for cells in rows(pt.from_omniglot([]))}
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
    line = {cells[0]: cells for cells in rows(text)}
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
    text = pt.search_tables(searched((0.2, 0.3, 0.5, 0.4, 0.3, "diverged")))
    part = text.split("| ConvNet-4, 5 shots ")[1].split("| ConvNet-4, 1 shot ")[0]
    lines = {line[0]: line for line in rows(part)}
    assert lines["MAML"] == ["MAML", "20.0", "30.0", "**50.0**", "40.0", "30.0", "diverged"]
    assert set(lines["ANIL"][1:]) == {"not run yet"}
    assert "end of the grid" not in text
    assert "**" not in pt.search_tables(searched((0.2, 0.3, 0.5, 0.4, 0.3, None)))
    edge = pt.search_tables(searched((0.2, 0.2, 0.3, 0.4, 0.4, 0.5)))
    assert "more may lie beyond: MAML." in edge


def test_power_is_half_the_paired_interval():
    gains = (0.01, 0.03, 0.02)
    records = [
        made_up(f"convnet4-5shot-{m}", s, 0.5 + 0.1 * s + (gains[s] if m != "maml" else 0))
        for m in ("maml", "sparse-maml")
        for s in range(3)
    ]
    found = {line[0]: line for line in rows(pt.power(TABLE1, records))}
    half = 4.303 * 1.0 / math.sqrt(3)
    assert found["ConvNet-4, 5 shots"] == [
        "ConvNet-4, 5 shots",
        "3",
        f"{half:.1f}",
    ]
    assert found["ConvNet-4, 1 shot"][1:3] == ["0", "two seeds are needed"]


def test_gains_say_why_there_is_none():
    records = [made_up("convnet4-5shot-sparse-maml", 0, 0.5)]
    notes = {g.method: g.note for g in pt.gains(FIVE, records, "study")}
    assert notes["sparse-maml"] == "not run yet"  # MAML is not
    records.append(made_up("convnet4-5shot-maml", 1, 0.5))
    notes = {g.method: g.note for g in pt.gains(FIVE, records, "study")}
    assert notes["sparse-maml"] == "no pair"
    records.append(made_up("convnet4-5shot-maml", 0, 0.5))
    notes = {g.method: g.note for g in pt.gains(FIVE, records, "study")}
    assert notes["sparse-maml"] == "1 seed"
    records.append(made_up("convnet4-5shot-boil", 0, 0.5, diverged=True))
    notes = {g.method: g.note for g in pt.gains(FIVE, records, "study")}
    assert notes["boil"] == "diverged"
    assert notes["anil"] == "not run yet"


def drawn(ax):
    """Positions of the points in a panel, by marker."""
    found: dict[str, list[float]] = {}
    for line in ax.get_lines():
        if len(line.get_xdata()) == 1:
            found.setdefault(line.get_marker(), []).append(float(line.get_xdata()[0]))
    return found


def test_gains_are_drawn_beside_the_papers():
    figure = pt.draw_gains(TABLE1, everything())
    assert len(figure.axes) == 4
    points = drawn(figure.axes[1])
    assert len(points["o"]) == 10  # all methods but MAML
    assert len(points["D"]) == 4  # one of the paper's five is unknown
    assert max(points["D"]) == pytest.approx(67.03 - 63.15)
    assert len(figure.axes[1].collections) == 10  # intervals
    assert sum("profile study" in t for t in texts(figure)) == 2  # under each row
    colours = {line.get_color() for line in figure.axes[3].get_lines() if line.get_marker() == "o"}
    assert len(colours) == 4
