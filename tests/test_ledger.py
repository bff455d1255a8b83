"""The ledger says what the records say, and how much of the evidence there is."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reproduction.claims import ledger, stated
from reproduction.claims.finding import NOTHING, TOO_FEW, Finding, evidence_line
from reproduction.plan import study
from reproduction.runs.osaka import OsakaExperiment
from reproduction.runs.records import RecordError
from reproduction.runs.statistics import Interval, t_interval
from reproduction.runs.streams import ContinualExperiment
from synthetic import made_up_osaka_record, made_up_record
from synthetic_streams import stream_record

ROOT = Path(__file__).parents[1]
RUNS = study.few_shot("study", study.FIG1)[:2]  # ten runs


def claim(finding, headline="gain", runs=RUNS):
    return ledger.Claim("3", "so", "page", "data", lambda records: finding, runs, headline)


def finding(verdict="supported", values=(1.0, 2.0)):
    interval = t_interval(list(values))
    return Finding("3. so", verdict, pd.DataFrame([evidence_line("gain", interval, "above 0")]))


PLANNED = [(run.name, seed) for run in RUNS for seed in study.seeds(run)]


def records(count):
    return [made_up_record(*run) for run in PLANNED[:count]]


def test_every_claim_of_the_paper_has_a_line():
    found = ledger.claims()
    numbers = [ledger.whole_number(c) for c in found]
    assert set(numbers) == set(range(1, 13))
    assert numbers == sorted(numbers)
    for c in found:
        assert (c.test is None) == (not c.runs) == (not c.page) == (c.stated is None)
        assert not c.page or (ROOT / "notebooks" / f"{c.page}.ipynb").is_file()
        assert all(e in study.experiments("study") for e in c.runs)


@pytest.mark.parametrize(
    ("count", "outcome", "verdict"),
    [
        (10, finding(), "supported"),
        (4, finding("not supported"), "not supported, so far (4 of 10 runs)"),
        (10, Finding("3. so", TOO_FEW, pd.DataFrame()), TOO_FEW),
        (1, Finding("3. so", TOO_FEW, pd.DataFrame()), "not run yet (1 of 10 runs)"),
        (
            2,
            Finding("3. so", f"{TOO_FEW} (1 of 2 runs diverged)", pd.DataFrame()),
            "not run yet (2 of 10 runs) (1 of 2 runs diverged)",
        ),
        (10, Finding("3. so", "no data (none)", pd.DataFrame()), "no data (none)"),
        (
            5,
            Finding("3. so", "no data (none)", pd.DataFrame()),
            "no data (none), so far (5 of 10 runs)",
        ),
    ],
)
def test_a_verdict_says_how_much_was_run(count, outcome, verdict):
    assert ledger._entry(claim(outcome), records(count), Path()).verdict == verdict


def test_runs_that_were_not_planned_do_not_count():
    """Ten records, two of them of other seeds, one of another run: three planned ones lack."""
    extra = [made_up_record(RUNS[0].name, seed) for seed in (5, 100)] + [made_up_record("any", 0)]
    seen: list[tuple[str, int]] = []

    def test(tested):
        seen.extend((r["experiment"], r["seed"]) for r in tested)
        return finding()

    counted = claim(finding())._replace(test=test)
    entry = ledger._entry(counted, records(7) + extra, Path())
    assert entry.verdict == "supported, so far (7 of 10 runs)"
    assert entry.done == 7
    assert seen == PLANNED[:7]
    assert ledger._entry(counted, records(10) + extra, Path()).verdict == "supported"


def test_runs_of_a_claim_must_have_seen_the_same_data():
    made = records(10)
    made[3]["data"]["fingerprint"] = "another"
    with pytest.raises(RecordError, match="were made on different "):
        ledger._entry(claim(finding()), made, Path())


STATED = stated.Stated((("gain", "above 0"), ("loss", "below 0")), "both hold", "never", "is named")


def test_evidence_must_be_as_stated():
    as_stated = claim(finding())._replace(stated=STATED)
    ledger._entry(as_stated, records(10), Path())  # a line without runs may lack
    wrong = finding()
    wrong.evidence["needed"] = "above 1"
    with pytest.raises(ValueError, match=r"claim 3: .* not as stated: \[\('gain', 'above 1'\)\]"):
        ledger._entry(as_stated._replace(test=lambda r: wrong), records(10), Path())
    lines = [
        evidence_line(n, t_interval([1.0, 2.0]), needed)
        for n, needed in reversed(STATED.statistics)
    ]
    turned = Finding("3. so", "supported", pd.DataFrame(lines))
    with pytest.raises(ValueError, match="the order"):
        ledger._entry(as_stated._replace(test=lambda r: turned), records(10), Path())


def test_a_headline_must_be_among_the_evidence():
    with pytest.raises(ValueError, match="no statistic 'loss'"):
        ledger._entry(claim(finding(), headline="loss"), records(10), Path())


def test_the_evidence_is_what_was_stated():
    """Made-up records of every run that a claim needs: each test finds all that was stated."""
    for c in ledger.claims():
        if c.test is not None and c.stated is not None:
            entry = ledger._entry(c, list(everything(c.runs)), ROOT / "results/paper")
            assert entry.headline is not None, c.number
            assert entry.done == 5 * len(c.runs)
            found = entry.finding.evidence[["statistic", "needed"]]
            assert [tuple(line) for line in found.to_numpy()] == list(c.stated.statistics)
            assert c.headline in dict(c.stated.statistics)


def test_claims_on_several_problems_have_one_test():
    tests: dict[str, set] = {}
    for c in ledger.claims():
        tests.setdefault(c.number, set()).add(c.stated)
    assert {len(found) for found in tests.values()} == {1}


def test_an_answer_that_no_run_has_is_no_want_of_runs():
    (c,) = [c for c in ledger.claims() if c.number == "6"]
    made = list(everything(c.runs))
    for r in made:
        del r["final"]["probes"]["on:cub"]
    entry = ledger._entry(c, made, ROOT / "results/paper")
    assert entry.verdict == "no data (seeds tested on CUB: 0 of 5)"
    entry = ledger._entry(c, [r for r in made if r["seed"] < 3], ROOT / "results/paper")
    assert entry.verdict == "no data (seeds tested on CUB: 0 of 3), so far (12 of 20 runs)"


def everything(runs):
    for run in runs:
        for seed in study.seeds(run):
            wobble = 0.01 * seed
            if isinstance(run, ContinualExperiment):
                yield stream_record(run, seed, ra=0.6 + wobble)
                continue
            if isinstance(run, OsakaExperiment):
                yield made_up_osaka_record(run, seed, accuracy=0.5 + wobble)
                continue
            record = made_up_record(
                run.name,
                seed,
                accuracy=0.5 + wobble,
                sparsity=[run.init_sparsity, 0.4, 0.4 + wobble, 0.4 + wobble, 0.4 + wobble],
                layers=[0.9 - wobble, 0.8, 0.6, 0.5, 0.3 + wobble],
            )
            record["parameters"] = run.parameters()
            record["final"] |= {"val_accuracy": 0.5, "sparsity": 0.4 + wobble}
            names = ("steps/5", "steps/50", "movement/layer4", "on:cub")
            record["final"]["probes"] = {
                n: {"mean": 0.5 + wobble * i, "low": 0, "high": 1, "n": 9}
                for i, n in enumerate(names)
            }
            yield record


def test_the_papers_numbers_by_hand():
    folder = ROOT / "results/paper"
    found = {(c.number, c.problem): c.paper(folder) for c in ledger.claims() if c.paper}
    # like for like at K = 5, by Figure 2; Table 1's 67.03 - 63.15 is over another paper's MAML
    assert found["5a", "miniImageNet"] == pytest.approx(62.96 - 62.25)
    assert found["5a, longer", "miniImageNet"] == pytest.approx(62.96 - 62.25)
    assert found["5b", "miniImageNet"] == pytest.approx(73.01 - 69.36)
    assert not {number for number, _ in found if number.startswith("6")}
    right = pd.read_csv(folder / "fig1_right_accuracy_by_init.csv")
    gains = [a - b for a, b in zip(right.iloc[:, 1], right["maml_accuracy"], strict=True)]
    assert found["3", "Omniglot"] == pytest.approx(sum(gains) / 5)
    left = pd.read_csv(folder / "fig1_left_sparsity_by_epoch.csv")
    ends = {i: rows.sort_values("epoch")["sparsity"] for i, rows in left.groupby("init_sparsity")}
    first, last = ([v.iloc[i] for v in ends.values()] for i in (0, -1))
    assert found["1", "Omniglot"] == pytest.approx(
        (max(last) - min(last)) / (max(first) - min(first))
    )


def test_plain_data():
    line = evidence_line("gain", Interval(1 / 3, math.nan, math.nan, 1), "above 0")
    only = Finding("3. so", "supported", pd.DataFrame([line]))
    (data,) = ledger.as_data([ledger._entry(claim(only), records(10), Path())])
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["evidence"] == [
        {
            "statistic": "gain",
            "mean": 0.333333,
            "low": None,
            "high": None,
            "seeds": 1,
            "needed": "above 0",
            "holds": True,
        }
    ]
    assert data["test"] is None
    assert data["runs"] == [10, 10]
    assert data["records"] == [f"results/study/{run.name}/" for run in RUNS]


def test_a_test_is_shown_before_it_is_run():
    planned = claim(Finding("3. so", TOO_FEW, pd.DataFrame()))._replace(stated=STATED)
    entry = ledger._entry(planned, [], Path())
    (data,) = ledger.as_data([entry])
    assert data["evidence"] == []
    assert data["test"] == {
        "statistics": [
            {"statistic": "gain", "needed": "above 0"},
            {"statistic": "loss", "needed": "below 0"},
        ],
        "supported": "both hold",
        "partly supported": "never",
        "diverged": "is named",
    }
    elsewhere = entry._replace(claim=planned._replace(problem="elsewhere"))
    shown = ledger.stated_tests([entry, elsewhere, entry._replace(claim=claim(finding()))])
    assert shown.count("| gain | above 0 |\n| loss | below 0 |") == 1
    assert "**3. so (data, elsewhere" in shown
    assert "*Supported* if both hold. *Partly supported*: never. A run that diverged: is" in shown


def test_tables_with_and_without_results():
    found = [
        ledger._entry(claim(finding())._replace(paper=lambda folder: 1.0), records(10), Path()),
        ledger._entry(claim(Finding("3. so", TOO_FEW, pd.DataFrame())), [], Path()),
        ledger._entry(claim(finding())._replace(test=None, runs=()), [], Path()),
    ]
    rows = ledger.overview(found, "there/{}.ipynb").splitlines()[2:]
    assert "[3. so](there/page.ipynb)" in rows[0]
    half = 12.706205 * math.sqrt(0.5) / math.sqrt(2)
    assert f"gain: 1.50 [{1.5 - half:.2f}, {1.5 + half:.2f}] points, 2 seeds" in rows[0]
    assert "not run yet (0 of 10 runs)" in rows[1]
    assert "no test stated yet" in rows[2]
    assert "| gain | 1.50" in ledger.evidence(found)
    assert ledger.evidence(found[1:]) == "No test could be applied yet."
    assert len(ledger.settings(found).splitlines()) == 4  # heading, rule, two claims with runs
    seen = ledger.chance(1.0, math.sqrt(0.5), 2)
    assert f"| ±{half:.2f} points | 2 | 1.00 | {100 * seen:.0f} % | 7 |" in ledger.power(found)
    assert ledger.power(found[1:]) == "There is no interval yet."
    alone = [found[0]._replace(paper=None)]
    assert f"| ±{half:.2f} points | 2 | – | – | – |" in ledger.power(alone)


def test_what_could_have_been_seen_is_said():
    entry = ledger._entry(
        claim(finding("not supported"))._replace(paper=lambda folder: 3.0), records(10), Path()
    )
    seen = 100 * ledger.chance(3.0, math.sqrt(0.5), 2)
    text = ledger.in_doubt([entry])
    line = f"\n- claim 3 on data: {seen:.0f} % (gain: 3.00 points, interval ±6.35, 2 seeds)\n"
    assert line in text
    so_far = ledger._entry(entry.claim, records(4), Path())
    assert "- claim 3 on data" in ledger.in_doubt([so_far])
    assert "claim 3 on data: over 99 %" in ledger.in_doubt([entry._replace(paper=90.0)])
    for other in (entry._replace(verdict="supported"), entry._replace(paper=None)):
        assert "probability" not in ledger.in_doubt([other])
    unknown = ledger.in_doubt([entry._replace(paper=None)])
    assert unknown.endswith("is ruled out:\n\n- claim 3: gain: 1.50 [-4.85, 7.85] points, 2 seeds")


def test_the_chance_to_see_an_effect():
    """As often as among simulated studies; and without an effect, as often as by accident."""
    assert ledger.chance(0.0, 1.0, 5) == pytest.approx(0.025)
    values = np.random.default_rng(0).normal(0.92, 0.7, (20_000, 5))
    half = 2.776445 * values.std(1, ddof=1) / math.sqrt(5)
    share = float((values.mean(1) > half).mean())
    assert ledger.chance(0.92, 0.7, 5) == pytest.approx(share, abs=0.01)
    assert ledger.chance(64.0, 3.0, 5) == pytest.approx(1)
    assert (ledger.chance(1.0, 0.0, 5), ledger.chance(-1.0, 0.0, 5)) == (1, 0)


def test_seeds_for_a_chance():
    """Cohen's tables: an effect of one standard deviation, paired, needs ten pairs for 80 %."""
    assert ledger._seeds_for(1.0, 1.0) == "10"
    assert ledger._seeds_for(0.5, 1.0) == "34"
    assert ledger._seeds_for(1e-9, 1.0) == "1000 or more"


def test_where_maml_gains_there_is_nothing_to_prevent():
    def entry(loss):
        line = evidence_line("loss of MAML", t_interval(loss), "–")
        found = Finding("3. so", "not supported", pd.DataFrame([line]))
        return ledger._entry(claim(found, "loss of MAML"), records(10), Path())

    said = ledger.nothing_to_prevent([entry([-3.0, -2.0, -2.5])])
    assert said.startswith(
        "Claim 3: with ten times the inner steps MAML does not lose, it gains 2.50 ["
    )
    assert not ledger.nothing_to_prevent([entry([-3.0, 2.0, 2.5])])


def test_what_speaks_against_a_claim():
    lines = [
        evidence_line("less", t_interval([-3.0, -2.0, -2.5]), "interval above 0"),
        evidence_line("beside", t_interval([-3.0, -2.0, -2.5]), NOTHING),
        evidence_line("open", t_interval([-3.0, 2.0, 2.5]), "interval above 0"),
    ]
    finding = Finding("3. so", "not supported", pd.DataFrame(lines))
    found = [ledger._entry(claim(finding, "less"), records(10), Path())]
    said = ledger.against(found, "3")
    assert said == "Below zero, and so against the claim: less: -2.50 [-3.74, -1.26] points."
    assert not ledger.against(found, "4")


def test_only_the_claims_of_a_page(monkeypatch):
    monkeypatch.setattr(ledger, "load", lambda results, runs: [])
    found = ledger.entries(ROOT / "results", "fig1_sparsity_emerges")
    assert [e.claim.number for e in found] == ["1", "1", "2", "2", "3", "3"]
    assert len(ledger.entries(ROOT / "results")) == len(ledger.claims())
