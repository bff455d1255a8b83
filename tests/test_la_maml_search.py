"""Tables of the search behind La-MAML and its relatives, on records that are made up."""

import pytest

from reproduction.plan import streams as plan
from reproduction.report import la_maml_search as search
from reproduction.report.load_records import results_folder
from reproduction.runs.records import load
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


def of_forms(masked, plain, diverged=()):
    """Records of the search: the third line of each form is the best, as on three streams given."""
    found = []
    for name, e in SEARCH.items():
        run, _, line = name.rpartition("-")
        if e.learner in search.FORMS:
            best = (masked, plain)[e.learner.endswith("plain")][plan.STREAMS.index(e.stream)]
            ra = best if line == "2" else max(0.0, best - 0.05 * (1 + int(line)))
            found.append(searched(name, ra, diverged=(run, int(line)) in diverged))
    return found


def test_the_form_is_that_which_retained_more_in_the_search():
    masked, plain = search.FORMS
    low, high = (0.7, 0.6, 0.4), (0.5, 0.7, 0.6)  # on average 0.567 and 0.6
    assert search.chosen_form(of_forms(low, high)) == plain
    assert search.chosen_form(of_forms(high, low)) == masked
    assert search.chosen_form(of_forms(low, low)) == masked
    assert search.chosen_form(of_forms(low, high)[1:]) is None
    assert search.chosen_form([]) is None
    lost = {("rotations-sparse-la-maml", 2)}
    found = search.retained_in_search(of_forms(low, high, lost))
    assert found[masked]["rotations"] == pytest.approx(65)  # the first line's
    assert list(found[plain].values()) == pytest.approx([50, 70, 60])
    every = {("rotations-sparse-la-maml-plain", line) for line in range(12)}
    records = of_forms((0.6, 0.5, 0.5), (0.7, 0.6, 0.6), every)
    assert search.retained_in_search(records)[plain]["rotations"] == 10
    assert search.chosen_form(records) == masked


def test_the_study_has_what_the_search_chose():
    """Once all settings of a learner were tried on a stream, the study has the best of them."""
    found = load(results_folder(), SEARCH.values())
    tried = {r["experiment"] for r in found}
    missing = {name.rpartition("-")[0] for name in SEARCH if name not in tried}
    best = {n: line for n, line in plan.best_lines(found).items() if n not in missing}
    assert best == plan.CHOSEN
    assert search.chosen_form(found) == plan.SPARSE_FORM
    made = {r["experiment"] for r in load(results_folder(), plan.la_maml())}
    assert not made & {f"{name}-tuned" for name in missing}
