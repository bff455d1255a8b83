"""The search of inner rates."""

from reproduction.plan import study
from reproduction.plan.few_shot import best_rates
from reproduction.report.load_records import results_folder
from reproduction.runs.records import load
from synthetic import made_up_record


def tried(name, rate, accuracy, status="finished"):
    record = made_up_record(f"{name}-rate{rate}", 100)
    record["curves"]["val_accuracy"] = [0.95, accuracy - 0.1, accuracy]  # the first is untrained
    return record | {"status": status}


def test_the_best_rate_is_that_of_the_best_validation():
    found = best_rates(
        [
            tried("one", 0.05, 0.4),
            tried("one", 0.5, 0.6),
            tried("one", 0.1, 0.5),
            tried("two-rate", 0.2, 0.3),
            tried("two-rate", 0.1, 0.3),  # as good: the smaller is taken
            tried("two-rate", 1.0, 0.9, status="diverged"),
        ]
    )
    assert found == {"one": 0.5, "two-rate": 0.1}


def test_the_rates_of_table_1_are_those_of_the_search():
    """A rate stands in the study once every rate of its run was tried."""
    planned = study.few_shot("search")
    found = load(results_folder(), planned)
    assert found, "the search's records are committed, and missing here"
    tried = {r["experiment"] for r in found}
    open_ones = {e.name.rpartition("-rate")[0] for e in planned if e.name not in tried}
    best = {name: rate for name, rate in best_rates(found).items() if name not in open_ones}
    assert best == study.RATES
    table = {e.name: e.inner_rate for e in study.few_shot("study", study.TABLE1)}
    assert {n: table[n] for n in study.RATES} == study.RATES


def test_a_run_has_the_rate_of_the_search_before_it_is_made():
    made = {r["experiment"] for r in load(results_folder(), study.few_shot("study"))}
    planned = study.few_shot("search")
    waiting = {e.name.rpartition("-rate")[0] for e in planned if e.figure != study.TRAINED_LONG}
    waiting -= set(study.RATES)
    assert not made & waiting
