"""The tests of claims about continual learning, on records made up to pass or fail them."""

import pandas as pd
import pytest

from reproduction.claims import ledger
from reproduction.claims import streams as continual_claims
from reproduction.claims.finding import TOO_FEW
from reproduction.claims.streams import FORMS, HIGHEST, form, retained_in_search, retains_more
from reproduction.plan import streams as plan
from reproduction.plan import study
from reproduction.report.load_records import results_folder
from reproduction.runs.records import checksum, load, validate
from reproduction.runs.statistics import t_interval
from synthetic_streams import stream_record

STUDY = {e.name: e for e in plan.la_maml()}
SEARCH = {e.name: e for e in plan.search()}
MASKED, PLAIN = FORMS
WOBBLE = (-0.01, 0.0, 0.01)


def tuned(stream, learner, seed, **numbers):
    return stream_record(STUDY[f"{stream}-{learner}-tuned"], seed, **numbers)


def make_records(less, more, learner=MASKED, diverged=(), seeds=3):
    """Sparse-La-MAML with given gains in BTI and RA on the three streams, in points."""
    found = []
    for stream, bti, ra in zip(plan.STREAMS, less, more, strict=True):
        for seed, w in list(enumerate(WOBBLE))[:seeds]:
            found.append(tuned(stream, "la-maml", seed, ra=0.6 + 3 * w, bti=-0.2 + 2 * w))
            found.append(
                tuned(
                    stream,
                    learner,
                    seed,
                    ra=0.6 + 3 * w + ra / 100 + w,
                    bti=-0.2 + 2 * w + bti / 100 + w,
                    diverged=(stream, seed) in diverged,
                )
            )
    return found


# the interval of -1, 0, 1 point is 2.48 points to either side
@pytest.mark.parametrize(
    ("less", "more", "verdict"),
    [
        ((5, 5, 5), (5, 0, -2), "supported"),
        ((5, 5, 5), (0, 0, 0), "partly supported"),  # retains no more
        ((5, 5, 2), (5, 5, 5), "partly supported"),  # not less on the third stream
        ((0, 0, 5), (0, 0, 0), "partly supported"),
        ((5, 5, 5), (5, 5, -3), "not supported"),  # retains less on one
        ((5, 0, 0), (5, 5, -3), "not supported"),
        ((2, 2, 2), (5, 5, 5), "not supported"),  # interferes as much
        ((-5, -5, -5), (5, 5, 5), "not supported"),
    ],
)
def test_verdict(less, more, verdict):
    finding = retains_more(make_records(less, more), MASKED)
    assert finding.verdict == verdict, finding.evidence
    assert finding.claim.startswith("9. sparse-La-MAML (masked outer step)")
    assert len(finding.evidence) == 10


def test_the_lines_decide(monkeypatch):
    """No verdict has a bar of its own beside those that its evidence shows."""
    records = make_records((5, 5, 5), (5, 5, 5))
    monkeypatch.setattr(continual_claims, "ABOVE", "interval above 9")
    assert retains_more(records, MASKED).verdict == "not supported"


def test_evidence_by_hand():
    lines = retains_more(make_records((5, 5, 2), (5, 0, -3)), MASKED).evidence
    lines = lines.set_index("statistic")
    first = lines.loc["BTI on Rotations: sparse-La-MAML − La-MAML"]
    found = (first["mean"], first["low"], first["high"])
    assert found == pytest.approx(t_interval([4, 5, 6])[:3])
    assert found == pytest.approx((5, 5 - 2.484138, 5 + 2.484138))
    assert list(lines["seeds"]) == [3] * 10
    assert list(lines["mean"]) == pytest.approx([5, 5, 2, 5, 0, -3, 5, 0, -5, -5])  # LA = RA − BTI
    assert list(lines["holds"]) == [True, True, False, True, True, False, *[True] * 4]
    none = retains_more(make_records((5, 5, 5), (0, 2, 1)), MASKED).evidence.set_index("statistic")
    assert none.loc[HIGHEST, "mean"] == pytest.approx(2)  # of 2 ± 2.48
    assert not none.loc[HIGHEST, "holds"]


def test_runs_are_paired_by_seed():
    """What both learners share cancels: the spread of 3 w does not widen the interval."""
    records = make_records((5, 5, 5), (5, 5, 5))[::-1]
    extra = [tuned("rotations", "la-maml", 4, ra=0.99, bti=0.9)]  # no such seed of the other
    lines = retains_more(extra + records, MASKED).evidence
    wide = lines["high"].to_numpy() - lines["low"].to_numpy()
    assert wide == pytest.approx([*[2 * 2.484138] * 7, 0, 0, 0], abs=1e-6)


def test_a_run_that_diverged_counts_as_chance():
    records = make_records((5, 5, 5), (5, 5, 5), diverged={("permutations", 2)})
    finding = retains_more(records, MASKED)
    assert finding.verdict.endswith(
        "(1 of 18 runs diverged; they count with chance, and a BTI of 0)"
    )
    lines = finding.evidence.set_index("statistic")
    assert lines.loc["BTI on Permutations: sparse-La-MAML − La-MAML", "mean"] == pytest.approx(
        (4 + 5 + 18) / 3  # La-MAML's third has a BTI of -18
    )
    assert lines.loc["RA on Permutations: sparse-La-MAML − La-MAML", "mean"] == pytest.approx(
        (4 + 5 + 10 - 63) / 3
    )
    assert retains_more(make_records((5, 5, 5), (5, 5, 5)), MASKED).verdict == "supported"


def test_too_few_seeds():
    assert retains_more([], MASKED).verdict == TOO_FEW
    assert retains_more(make_records((5, 5, 5), (5, 5, 5), seeds=1), MASKED).verdict == TOO_FEW
    missing = [
        r
        for r in make_records((5, 5, 5), (5, 5, 5))
        if r["data"]["name"] != "permutations" or r["seed"] == 0
    ]
    assert retains_more(missing, MASKED).verdict == TOO_FEW
    assert retains_more(make_records((5, 5, 5), (5, 5, 5)), PLAIN).verdict == TOO_FEW


def test_the_form_that_was_chosen_is_compared():
    records = make_records((5, 5, 5), (5, 5, 5)) + make_records((0, 0, 0), (0, 0, 0), PLAIN)
    assert retains_more(records, MASKED).verdict == "supported"
    other = retains_more(records, PLAIN)
    assert other.verdict == "not supported"
    assert "plain outer step" in other.claim
    assert retains_more(records).claim == retains_more(records, plan.SPARSE_FORM).claim
    assert retains_more([]).verdict == TOO_FEW
    with pytest.raises(ValueError, match="no form 'la-maml'"):
        retains_more(records, "la-maml")


def searched(best, learners=FORMS, diverged=()):
    """Records of the search: the third line is the best, with given retained accuracies."""
    found = []
    for name, e in SEARCH.items():
        run, _, line = name.rpartition("-")
        if e.learner in learners:
            top = best[e.learner][plan.STREAMS.index(e.stream)]
            ra = top if line == "2" else max(0.0, top - 0.05 * (1 + int(line)))
            found.append(stream_record(e, 100, ra=ra, diverged=(run, int(line)) in diverged))
    return found


def test_the_form_is_that_which_retained_more_in_the_search():
    best = {MASKED: (0.7, 0.6, 0.4), PLAIN: (0.5, 0.7, 0.6)}  # on average 0.567 and 0.6
    assert form(searched(best)) == PLAIN
    assert form(searched({MASKED: best[PLAIN], PLAIN: best[MASKED]})) == MASKED
    assert form(searched({MASKED: (0.5, 0.5, 0.5), PLAIN: (0.5, 0.5, 0.5)})) == MASKED
    assert form(searched(best)[1:]) is None
    assert form([]) is None
    found = retained_in_search(searched(best, diverged={("rotations-sparse-la-maml", 2)}))
    assert found[MASKED]["rotations"] == pytest.approx(65)  # the first line's
    assert list(found[PLAIN].values()) == pytest.approx([50, 70, 60])


def test_a_form_that_always_diverged_counts_as_chance():
    every = {("rotations-sparse-la-maml-plain", line) for line in range(12)}
    best = {MASKED: (0.6, 0.5, 0.5), PLAIN: (0.7, 0.6, 0.6)}
    records = searched(best, diverged=every)
    assert retained_in_search(records)[PLAIN]["rotations"] == 10
    assert form(records) == MASKED


def test_the_study_has_what_the_search_chose():
    """Once all settings of a learner were tried on a stream, the study has the best of them."""
    found = load(results_folder(), SEARCH.values())
    tried = {r["experiment"] for r in found}
    waiting = {name.rpartition("-")[0] for name in SEARCH if name not in tried}
    best = {n: line for n, line in plan.best_lines(found).items() if n not in waiting}
    assert best == plan.CHOSEN
    assert form(found) == plan.SPARSE_FORM
    made = {r["experiment"] for r in load(results_folder(), STUDY.values())}
    assert not made & {f"{name}-tuned" for name in waiting}


def test_claim_9_in_the_ledger():
    (claim,) = [c for c in ledger.claims() if c.number == "9"]
    assert {e.name for e in claim.runs} == {
        f"{stream}-{learner}-tuned" for stream in plan.STREAMS for learner in ("la-maml", MASKED)
    }
    assert all(e in study.experiments("study") for e in claim.runs)
    records = make_records((5, 5, 5), (5, 5, 5))
    entry = ledger._entry(claim, records, results_folder() / "paper")
    assert entry.verdict == "supported, so far (18 of 30 runs)"
    assert entry.headline is not None
    assert entry.headline["mean"] == pytest.approx(5)
    text = ledger.setting(claim.runs)
    assert text.startswith("rotations, permutations, many-permutations, in a single pass")
    assert text.endswith("settings chosen on validation streams")
    nothing = ledger._entry(claim, [], results_folder() / "paper")
    assert nothing.verdict == "not run yet (0 of 30 runs)"


def test_made_up_records_are_records():
    for record in (*make_records((5, 5, 5), (5, 5, 5)), *searched({MASKED: (0.5,) * 3}, [MASKED])):
        validate(record | {"content_sha256": checksum(record)})
    assert isinstance(continual_claims.retains_more([]).evidence, pd.DataFrame)
