"""The tests of claims 10a and 10b, on records that are made up to pass or fail them."""

import pytest

from reproduction.claims import ledger
from reproduction.claims import osaka as osaka_claims
from reproduction.claims.finding import TOO_FEW
from reproduction.claims.osaka import accuracies, against_selected, sparse_rates_alone
from reproduction.plan import study
from reproduction.runs import records
from synthetic import made_up_osaka_record

SEEDS = range(5)
TESTS = {"c-maml": against_selected, "c-maml-pap": sparse_rates_alone}


def planned(alpha, learner):
    return study.find("study", f"osaka{100 * alpha:.0f}-5way-{learner}")


def make_records(other, gains, seeds=SEEDS, diverged=()):
    """Accuracy 0.5 for the other learner, 0.5 and a gain for the sparse one; both wobble alike.

    A gain has its interval above 0 from about 0.5 points on.
    """
    found = []
    for alpha, gain in gains.items():
        for seed in seeds:
            shared, own = 0.05 * seed, 0.004 * (seed % 2)
            both = {other: 0.5 + shared, "sparse-c-maml": 0.5 + shared + gain + own}
            for learner, accuracy in both.items():
                e = planned(alpha, learner)
                where = {"step": 7} if (alpha, learner, seed) in diverged else None
                correct = [10, 15] if learner == other else [15, 10]
                found.append(
                    made_up_osaka_record(e, seed, correct, accuracy=accuracy, diverged=where)
                )
    return found


@pytest.mark.parametrize("other", TESTS)
@pytest.mark.parametrize(
    ("at98", "at90", "verdict"),
    [
        (0.02, 0.02, "supported"),
        (0.02, 0.0, "partly supported"),
        (0.0, 0.02, "partly supported"),
        (0.02, -0.02, "not supported"),  # below zero at one
        (-0.02, 0.02, "not supported"),
        (0.0, 0.0, "not supported"),
        (-0.02, -0.02, "not supported"),
    ],
)
def test_verdict(other, at98, at90, verdict):
    finding = TESTS[other](make_records(other, {0.98: at98, 0.90: at90}))
    assert finding.verdict == verdict, finding.evidence
    assert list(finding.evidence["statistic"]) == ["gain at p = 0.98", "gain at p = 0.90"]
    assert list(finding.evidence["seeds"]) == [5, 5]


def test_gains_are_paired_by_seed_in_points():
    """Gains 2.0 and 2.4 points, whatever 5 points from seed to seed: mean 2.2, half 2.5412."""
    lines = against_selected(make_records("c-maml", {0.98: 0.02, 0.90: 0.02}, seeds=(3, 4)))
    first = lines.evidence.iloc[0]
    assert first["mean"] == pytest.approx(2.2)
    assert first["high"] - first["mean"] == pytest.approx(12.706205 * 0.2, rel=1e-6)


def test_the_two_claims_have_baselines_of_their_own():
    found = make_records("c-maml", {0.98: 0.02, 0.90: 0.02})
    assert sparse_rates_alone(found).verdict == TOO_FEW
    found += [
        r
        for r in make_records("c-maml-pap", {0.98: -0.02, 0.90: -0.02})
        if not r["experiment"].endswith("-sparse-c-maml")
    ]
    assert against_selected(found).verdict == "supported"
    assert sparse_rates_alone(found).verdict == "supported"  # 0.5 for both baselines


@pytest.mark.parametrize(
    ("gains", "seeds"),
    [({}, SEEDS), ({0.98: 0.02, 0.90: 0.02}, (3,)), ({0.98: 0.02}, SEEDS), ({0.90: 0.02}, SEEDS)],
)
def test_too_few_runs(gains, seeds):
    finding = against_selected(make_records("c-maml", gains, seeds))
    assert finding.verdict == TOO_FEW
    assert len(finding.evidence) == 0


def test_a_run_that_diverged_counts_as_chance():
    e = planned(0.90, "c-maml")
    group = [
        made_up_osaka_record(e, 0, accuracy=0.61),
        made_up_osaka_record(e, 1, diverged={"step": 3}),
        made_up_osaka_record(e.replace(ways=10), 2, diverged={"update": 3}),
    ]
    assert accuracies(group) == {0: 61.0, 1: 20.0, 2: 10.0}


def test_diverged_runs_are_named():
    """One of ten dense runs is at 20 % instead of 65: a gain of 47 points, and one of four."""
    gains = {0.98: 0.02, 0.90: 0.02}
    found = make_records("c-maml", gains, diverged={(0.98, "c-maml", 3)})
    finding = against_selected(found)
    assert finding.verdict == "partly supported (1 of 20 runs diverged and count as chance)"
    gain = finding.evidence.iloc[0]
    assert gain["mean"] == pytest.approx((2.0 + 2.4 + 2.0 + (67.4 - 20) + 2.0) / 5)
    found = make_records("c-maml", gains, diverged={(0.98, "sparse-c-maml", s) for s in SEEDS})
    finding = against_selected(found)
    assert finding.verdict == "not supported (5 of 20 runs diverged and count as chance)"
    assert finding.evidence.iloc[0]["mean"] == pytest.approx(20 - 60)


def test_learners_that_never_learned_are_named():
    """The verdict stands, and says that half of what it compares with never took a step."""
    found = make_records("c-maml", {0.98: 0.02, 0.90: 0.02}, diverged={(0.90, "c-maml", 0)})
    for r in found:
        if r["experiment"] == "osaka98-5way-c-maml" and r["seed"] < 4:
            r["final"]["outer_steps"] = 0
    assert against_selected(found).verdict == (
        "partly supported (1 of 20 runs diverged and count as chance; "
        "at p = 0.98 4 of 5 runs of c-maml never took a step of the slow weights)"
    )


def test_pairs_that_are_one_computation_are_named():
    found = make_records("c-maml-pap", {0.98: 0.0, 0.90: 0.0})
    (same,) = {r["correct"] for r in found if r["experiment"].endswith("-c-maml-pap")}
    for r in found:
        if r["experiment"] == "osaka98-5way-sparse-c-maml" and r["seed"] < 4:
            r["correct"] = same
    assert sparse_rates_alone(found).verdict == (
        "not supported (at p = 0.98 4 of 5 pairs have equal scores at every step)"
    )


def test_seeds_that_only_one_learner_has_do_not_count():
    found = make_records("c-maml", {0.98: 0.02, 0.90: 0.02})
    alone = made_up_osaka_record(planned(0.98, "sparse-c-maml"), 9, diverged={"step": 1})
    assert against_selected([*found, alone]).verdict == "supported"


def test_lines_of_the_ledger():
    claims = {c.number: c for c in ledger.claims()}
    for number, other in (("10a", "c-maml"), ("10b", "c-maml-pap")):
        claim = claims[number]
        assert {e.name for e in claim.runs} == {
            f"osaka{p}-5way-{learner}" for p in (98, 90) for learner in (other, "sparse-c-maml")
        }
        assert len(claim.runs) == 4
        assert claim.test is TESTS[other]
        assert ledger.setting(claim.runs) == (
            "omniglot-mnist-fashion, 10000 steps, p = 0.9, 0.98, 5-way 5-shot, "
            "ConvNet-4 with 16 channels"
        )
    assert osaka_claims.runs("c-maml")[0].profile == "study"


def test_made_up_records_are_valid():
    for where in (None, {"step": 3}):
        record = made_up_osaka_record(planned(0.98, "c-maml").replace(steps=2), 0, diverged=where)
        record["content_sha256"] = records.checksum(record)
        records.validate(record)
