"""Tables of the search behind La-MAML and its relatives, on records that are made up."""

import pytest

from reproduction.plan import streams as plan
from reproduction.report import la_maml_search as search
from synthetic import cells
from synthetic_streams import stream_record

SEARCH = {e.name: e for e in plan.search()}


def searched(name, ra, diverged=False):
    return stream_record(SEARCH[name], 100, ra=ra, diverged=diverged)


def test_search_by_hand():
    records = [searched(f"rotations-replay-{i}", 0.5 + 0.02 * (i == 4)) for i in range(6)]
    records[5] = searched("rotations-replay-5", 0.9, diverged=True)
    records.append(searched("permutations-replay-0", 0.4))
    rows = cells(search.search_table(records))[2:]
    assert len(rows) == 3 * 6 + 24 + 2 * 12
    assert rows[4][:3] == ["replay", "rate 0.1, as many glances as La-MAML", "**52.0**"]
    assert [r[1] for r in rows if r[0] == "C-MAML (La-MAML's)"][3:5] == [
        "α × 3, η × 0.5",
        "α × 3, η × 1",
    ]
    assert [r[2] for r in rows[:6]] == ["50.0", *["50.0"] * 3, "**52.0**", "diverged"]
    assert rows[0][3] == "40.0"  # the best so far, while others are missing
    assert rows[1][3:] == ["not run yet"] * 2
    assert [r[1] for r in rows if r[0] == "La-MAML"][:4] == [
        "α × 0.5, γ = 0.003",
        "α × 1, γ = 0.003",
        "α × 2, γ = 0.003",
        "α × 0.25, γ = 0.01",
    ]
    assert rows[-1][:2] == [
        "sparse-La-MAML, plain step",
        "α × 2, γ = 3, 50 % frozen at first, η the same as α",
    ]
    rows = cells(search.chosen_table(records))[2:]
    assert [r[:2] for r in rows if r[0] in ("replay", "La-MAML")] == [
        ["replay", "6"],
        ["La-MAML", "24"],
    ]
    assert rows[0][2:] == [
        "rate 0.1, as many glances as La-MAML: **52.0**",
        "not run yet",
        "not run yet",
    ]


def test_a_learner_of_which_every_line_diverged():
    records = [searched(f"rotations-replay-{line}", 0.5, diverged=True) for line in range(6)]
    assert cells(search.chosen_table(records))[2][2:] == ["all diverged", *["not run yet"] * 2]
    assert cells(search.chosen_table(records[1:]))[2][2] == "not run yet"


def test_a_line_of_the_grid_is_the_same_on_every_stream():
    """The table says it once for all streams, as multiples of published settings there."""
    alpha = {"rotations": 0.15, "permutations": 0.15, "many-permutations": 0.1}
    of_c_maml = {  # its α and η
        "rotations": (0.1, 0.1),
        "permutations": (0.03, 0.1),
        "many-permutations": (0.03, 0.15),
    }
    glances = {"rotations": 5, "permutations": 5, "many-permutations": 10}
    for learner in plan.TUNED:
        grids = [plan.grid(learner, stream) for stream in alpha]
        for lines in zip(*grids, strict=True):
            relative = []
            for stream, line in zip(alpha, lines, strict=True):
                inner, outer = (alpha[stream],) * 2
                if learner == "c-maml":
                    inner, outer = of_c_maml[stream]
                units = {"inner_rate": inner, "outer_rate": outer}
                if line.get("glances", 1) > 1:
                    units["glances"] = glances[stream]
                relative.append({k: v / units.get(k, 1) for k, v in line.items()})
            assert relative == [pytest.approx(relative[0])] * 3


def test_forms_by_hand():
    records = [
        searched(f"{stream}-{form}-{i}", base + 0.01 * i)
        for form, base in (("sparse-la-maml", 0.5), ("sparse-la-maml-plain", 0.6))
        for stream in plan.STREAMS
        for i in range(12)
    ]
    rows = cells(search.forms_table(records))[2:]
    assert rows == [
        ["sparse-La-MAML, masked step", *["61.0"] * 3, "61.00"],
        ["sparse-La-MAML, plain step", *["71.0"] * 3, "**71.00**"],
    ]
    rows = cells(search.forms_table(records[1:]))[2:]
    assert rows[0] == ["sparse-La-MAML, masked step", "not run yet", "61.0", "61.0", "–"]
    assert rows[1][-1] == "71.00"
