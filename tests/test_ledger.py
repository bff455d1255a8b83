"""The ledger says what the records say, and how much of the evidence there is."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from synthetic import made_up_osaka_record, made_up_record
from synthetic_streams import stream_record
from wheretolearn import few_shot_claims, ledger, study
from wheretolearn.analysis import TOO_FEW, Finding, evidence_line
from wheretolearn.continual import plan
from wheretolearn.continual.experiment import ContinualExperiment
from wheretolearn.continual.osaka_run import OsakaExperiment
from wheretolearn.statistics import Interval, t_interval

ROOT = Path(__file__).parents[1]
RUNS = study.few_shot("study", study.FIG1)[:2]  # ten runs


def claim(finding, headline="gain", runs=RUNS):
    return ledger.Claim("3", "so", "page", "data", lambda records: finding, runs, headline)


def finding(verdict="supported", values=(1.0, 2.0)):
    interval = t_interval(list(values))
    return Finding("3. so", verdict, pd.DataFrame([evidence_line("gain", interval, "> 0", True)]))


def records(count):
    return [made_up_record("any", seed) for seed in range(count)]


def test_every_claim_of_the_paper_has_a_line():
    found = ledger.claims()
    assert {int(c.number.rstrip("ab")) for c in found} == set(range(1, 13))
    numbers = [int(c.number.rstrip("ab")) for c in found]
    assert numbers == sorted(numbers)
    for c in found:
        assert (c.test is None) == (not c.runs) == (not c.page)
        assert not c.page or (ROOT / "notebooks" / f"{c.page}.ipynb").is_file()
        assert all(e in study.experiments("study") for e in c.runs)


@pytest.mark.parametrize(
    ("count", "outcome", "verdict"),
    [
        (10, finding(), "supported"),
        (4, finding("not supported"), "not supported, so far (4 of 10 runs)"),
        (10, Finding("3. so", TOO_FEW, pd.DataFrame()), TOO_FEW),
        (1, Finding("3. so", TOO_FEW, pd.DataFrame()), "not run yet (1 of 10 runs)"),
    ],
)
def test_a_verdict_says_how_much_was_run(count, outcome, verdict):
    assert ledger._entry(claim(outcome), records(count), Path()).verdict == verdict


def test_a_headline_must_be_among_the_evidence():
    with pytest.raises(ValueError, match="no statistic 'loss'"):
        ledger._entry(claim(finding(), headline="loss"), records(10), Path())


def test_the_headlines_are_statistics_of_the_tests(monkeypatch):
    """Made-up records of every run that a claim needs: each test finds its headline."""
    monkeypatch.setattr(plan, "SPARSE_FORM", "sparse-la-maml")
    for c in ledger.claims():
        if c.test is not None and c.test is not few_shot_claims.by_problem:
            entry = ledger._entry(c, list(everything(c.runs)), ROOT / "results/paper")
            assert entry.headline is not None, c.number
            assert entry.done == 5 * len(c.runs)


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
    assert found["5a", "miniImageNet"] == pytest.approx(67.03 - 63.15)
    assert found["5b", "miniImageNet"] == pytest.approx(73.01 - 69.36)
    assert found["6", "miniImageNet → CUB (2010)"] == pytest.approx(60.58 - 53.09)
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
    line = evidence_line("gain", Interval(1 / 3, math.nan, math.nan, 1), "> 0", True)
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
            "needed": "> 0",
            "holds": True,
        }
    ]
    assert data["runs"] == [10, 10]
    assert data["records"] == [f"results/study/{run.name}/" for run in RUNS]


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
    assert f"±{half:.2f} | 1.00 | 2 |" in ledger.power(found)
    assert ledger.power(found[1:]) == "No interval has a published counterpart yet."


def test_seeds_for_a_narrower_interval():
    """With a spread of 1 and t = 2.776, five seeds give ±1.242; ±0.5 needs eighteen."""
    assert ledger._seeds_for(1.242, 1.2417, 5) == "5"
    assert ledger._seeds_for(0.5, 1.2417, 5) == "18"
    assert ledger._seeds_for(1e-9, 1.2417, 5) == "1000 or more"
