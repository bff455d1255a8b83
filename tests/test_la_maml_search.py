"""Tables of the search behind La-MAML and its relatives, on records that are made up."""

from reproduction.plan import streams as plan
from reproduction.report import la_maml_search as search
from reproduction.report.load_records import results_folder
from reproduction.runs.records import load
from synthetic import cells
from synthetic_streams import stream_record

SEARCH = {e.name: e for e in plan.search()}
MASKED, PLAIN = search.FORMS


def searched(name, ra, diverged=False):
    return stream_record(SEARCH[name], 100, ra=ra, diverged=diverged)


def test_search_by_hand():
    records = [searched(f"rotations-replay-{i}", 0.5 + 0.02 * (i == 4)) for i in range(6)]
    records[5] = searched("rotations-replay-5", 0.9, diverged=True)
    records.append(searched("permutations-replay-0", 0.4))
    rows = cells(search.search_table(records))[2:]
    assert len(rows) == 3 * 6 + 24 + 2 * 12
    assert rows[4][:3] == ["replay", "rate 0.1, as many glances as La-MAML", "**52.0**"]
    assert [r[2] for r in rows[:6]] == ["50.0", *["50.0"] * 3, "**52.0**", "diverged"]
    assert rows[0][3] == "40.0"  # the best so far, while others are missing
    assert rows[1][3:] == ["not run yet"] * 2
    said = {learner: [r[1] for r in rows if r[0] == learner] for learner, *_ in rows}
    assert said["C-MAML (La-MAML's)"][3:5] == ["α × 3, η × 0.5", "α × 3, η × 1"]
    assert said["La-MAML"][2:4] == ["α × 2, γ = 0.003", "α × 0.25, γ = 0.01"]
    last = "α × 2, γ = 3, 50 % frozen at first, η the same as α"
    assert said["sparse-La-MAML, plain step"][-1] == last
    rows = cells(search.chosen_table(records))[2:]
    best = "rate 0.1, as many glances as La-MAML: **52.0**"
    assert rows[0] == ["replay", "6", best, "not run yet", "not run yet"]
    assert rows[2][:2] == ["La-MAML", "24"]


def test_a_learner_of_which_every_line_diverged():
    records = [searched(f"rotations-replay-{line}", 0.5, diverged=True) for line in range(6)]
    assert cells(search.chosen_table(records))[2][2:] == ["all diverged", *["not run yet"] * 2]
    assert cells(search.chosen_table(records[1:]))[2][2] == "not run yet"


def of_forms(masked, plain, diverged=()):
    """Records of the search: the third line of each form is the best, as on three streams given."""
    records = []
    for name, e in SEARCH.items():
        run, _, line = name.rpartition("-")
        if e.learner in search.FORMS:
            best = (masked, plain)[e.learner == PLAIN][plan.STREAMS.index(e.stream)]
            ra = best if line == "2" else max(0.0, best - 0.05 * (1 + int(line)))
            records.append(searched(name, ra, diverged=(run, int(line)) in diverged))
    return records


def test_the_form_is_that_which_retained_more_in_the_search():
    low, high = (0.7, 0.6, 0.4), (0.5, 0.7, 0.6)  # on average 0.567 and 0.6
    assert search.chosen_form(of_forms(low, high)) == PLAIN
    assert search.chosen_form(of_forms(high, low)) == MASKED
    assert search.chosen_form(of_forms(low, low)) == MASKED
    assert search.chosen_form(of_forms(low, high)[1:]) is None
    assert search.chosen_form([]) is None
    lost = of_forms(low, high, {("rotations-sparse-la-maml", 2)})
    masked, plain = (row[1:] for row in cells(search.forms_table(lost))[2:])
    assert masked == ["65.0", "60.0", "40.0", "55.00"]  # on Rotations the first line's
    assert plain == ["50.0", "70.0", "60.0", "**60.00**"]
    every = {("rotations-sparse-la-maml-plain", line) for line in range(12)}
    records = of_forms((0.6, 0.5, 0.5), (0.7, 0.6, 0.6), every)
    assert cells(search.forms_table(records))[3][1] == "10.0"  # chance
    assert search.chosen_form(records) == MASKED


def test_the_study_has_what_the_search_chose():
    """Once all settings of a learner were tried on a stream, the study has the best of them."""
    records = load(results_folder(), SEARCH.values())
    tried = {r["experiment"] for r in records}
    missing = {name.rpartition("-")[0] for name in SEARCH if name not in tried}
    best = {n: line for n, line in plan.best_lines(records).items() if n not in missing}
    assert best == plan.CHOSEN
    assert search.chosen_form(records) == plan.SPARSE_FORM
    made = {r["experiment"] for r in load(results_folder(), plan.la_maml())}
    assert not made & {f"{name}-tuned" for name in missing}
