"""The tests of claims 5 to 8, 11 and 12, on records that are made up to pass or fail them."""

import numpy as np
import pytest

from reproduction.claims import few_shot as claims
from reproduction.claims import finding as finding_
from synthetic import made_up_record

SEEDS = range(5)


def wobble(seed, scale=0.004):
    return scale * (seed - 2) / 2


def table1(accuracies, prefix="convnet4", probes=None, seeds=SEEDS, noise=0.001):
    """Records of Table 1 by method: accuracies at 1 and 5 shots, and answers at 5 shots."""
    found = []
    for method, (one, five) in accuracies.items():
        for shots, accuracy in ((1, one), (5, five)):
            for seed in seeds:
                name = f"{prefix}-{shots}shot-{method}"
                # every run differs in its own way, so that paired differences have a spread
                own = noise * np.random.default_rng([seed, shots, len(method)]).normal()
                record = made_up_record(name, seed, accuracy=accuracy + own)
                record["parameters"] = {"inner_steps": 5}
                answers = (probes or {}).get(method, {}) if shots == 5 else {}
                record["final"]["probes"] = {
                    n: {"mean": v + own, "low": v, "high": v, "n": 100} for n, v in answers.items()
                }
                found.append(record)
    return found


PAPER = {
    "sparse-maml": (0.5, 0.67),
    "boil": (0.49, 0.66),
    "maml": (0.48, 0.63),
    "anil": (0.46, 0.6),
}


@pytest.mark.parametrize(
    ("changes", "options", "verdict"),
    [
        ({}, {}, "supported"),
        ({"boil": (0.51, 0.66)}, {}, "partly supported"),  # out of order, but above MAML
        ({"maml": (0.505, 0.63), "anil": (0.4, 0.4)}, {}, "not supported"),  # below it at 1 shot
        ({}, {"noise": 0.2}, "not supported"),
        ({}, {"seeds": [1]}, "not testable"),
    ],
)
def test_order_on_convnet4(changes, options, verdict):
    finding = claims.convnet4_order(table1(PAPER | changes, **options))
    assert finding.verdict.startswith(verdict), finding.evidence
    if verdict != "not testable":
        assert len(finding.evidence) == 10


def test_runs_that_were_trained_longer_have_a_test_of_their_own():
    """It asks about 5 shots only, and short runs do not count."""
    short, longer = table1(PAPER | {"sparse-maml": (0.1, 0.1)}), table1(PAPER, "longer")
    of_five = [r for r in longer if "5shot" in r["experiment"]]
    finding = claims.convnet4_order(short + of_five, claims.LONGER)
    assert (finding.verdict, len(finding.evidence)) == ("supported", 5)
    assert finding.claim.endswith("trained longer")
    assert claims.convnet4_order(short + of_five).verdict == "not supported"
    turned = table1(PAPER | {"boil": (0.5, 0.5)}, "longer")
    assert claims.convnet4_order(turned, claims.LONGER).verdict == "partly supported"


def test_runs_that_decide_nothing_do_not_decide_by_diverging():
    """With one shot a run diverged: claim 6 stays, and does without the line that it is for."""
    records = supported("6")
    one = [
        made_up_record(f"convnet4-1shot-{m}", s, diverged=s == 0)
        for m in ("sparse-maml", "maml")
        for s in SEEDS
    ]
    for r in one:
        r["final"]["probes"] = {"on:cub": {"mean": 0.4 + wobble(r["seed"])}}
    finding = claims.cross_domain(records + one)
    assert finding.verdict == "supported"
    assert list(finding.evidence["seeds"]) == [5, 5, 4]
    assert len(claims.cross_domain(records + one[:2]).evidence) == 2


@pytest.mark.parametrize(
    ("sparse", "verdict"),
    [
        ((0.51, 0.59), "supported"),
        ((0.51, 0.63), "not supported"),  # 3 points apart, and surely so
        ((0.51, 0.62), "partly supported"),  # at the bound
        ((0.6, 0.7), "not supported"),
    ],
)
def test_masks_on_resnet12(sparse, verdict):
    finding = claims.resnet12_masks(table1(RESNET | {"sparse-maml": sparse}, "resnet12"))
    assert finding.verdict == verdict, finding.evidence


RESNET = dict.fromkeys(("maml", "anil", "boil", "sparse-maml"), (0.5, 0.6))


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"sparse-relu-maml": (0.55, 0.65)}, "supported"),
        ({"sparse-relu-maml": (0.55, 0.65), "anil": (0.55, 0.65)}, "partly supported"),
        ({"sparse-relu-maml": (0.55, 0.65), "anil": (0.58, 0.65)}, "not supported"),
        ({"sparse-relu-maml": (0.45, 0.55)}, "not supported"),
        ({}, "not testable"),
    ],
)
def test_best_on_resnet12(changes, verdict):
    finding = claims.resnet12_best(table1(RESNET | changes, "resnet12"))
    assert finding.verdict.startswith(verdict), finding.evidence


@pytest.mark.parametrize(
    ("sparse", "maml", "verdict"),
    [(0.5, 0.4, "supported"), (0.42, 0.4, "partly"), (0.4, 0.4, "not s"), (None, 0.4, "no data")],
)
def test_cross_domain(sparse, maml, verdict):
    probes = {"maml": {"on:cub": maml}} | ({"sparse-maml": {"on:cub": sparse}} if sparse else {})
    accuracies = {"sparse-maml": (0.5, 0.65), "maml": (0.5, 0.61)}
    finding = claims.cross_domain(table1(accuracies, probes=probes))
    assert finding.verdict.startswith(verdict), finding.evidence


@pytest.mark.parametrize(
    ("total", "layers", "verdict"),
    [
        (0.3, [0.6, 0.4, 0.3, 0.2, 0.1], "supported"),
        (0.3, [0.3, 0.3, 0.3, 0.3, 0.3], "partly supported"),
        (0.03, [0.6, 0.4, 0.3, 0.2, 0.1], "not supported"),
    ],
)
def test_relu_sparsity(total, layers, verdict):
    records = [
        made_up_record(
            "convnet4-5shot-sparse-relu-maml",
            seed,
            sparsity=[0.0, total + wobble(seed)],
            layers=[v + wobble(seed, 0.02) * (-1) ** i for i, v in enumerate(layers)],
        )
        for seed in SEEDS
    ]
    finding = claims.relu_sparsity(records)
    assert finding.verdict.startswith(verdict), finding.evidence
    assert claims.relu_sparsity(records[:1]).verdict.startswith("not testable")


@pytest.mark.parametrize(("apart", "verdict"), [(0.1, "supported"), (0.0, "not supported")])
def test_by_problem(apart, verdict):
    rng = np.random.default_rng(1)
    records = [
        made_up_record(
            f"problem{k}", seed, layers=list(0.5 + apart * (k - 1) + 0.03 * rng.standard_normal(5))
        )
        for k in range(3)
        for seed in SEEDS
    ]
    finding = claims.by_problem(records)
    assert finding.verdict.startswith(verdict), finding.evidence
    assert "nan" not in finding_.verdicts([finding])
    assert claims.by_problem(records[:5]).verdict.startswith("not testable")


@pytest.mark.parametrize(
    ("profiles", "ratio", "verdict"),
    [
        ([[0.1, 0.7, 0.3]] * 6, 0.0, "not supported"),  # all alike, whatever the problem
        ([[0.1, 0.7, 0.3], [0.3, 0.7, 0.1]] * 3, 0.0, "not supported"),  # the same two in each
        ([[0.1, 0.7, 0.3]] * 4 + [[0.3, 0.7, 0.1]] * 2, np.inf, None),
    ],
)
def test_profiles_without_any_spread(profiles, ratio, verdict):
    points, labels = 100 * np.array(profiles), np.repeat([0, 0, 1], 2)
    assert claims.pseudo_f(points, labels) == ratio
    assert claims.pseudo_f(points + 1e-13 * np.arange(18).reshape(6, 3), labels) == ratio
    if verdict:
        records = [
            made_up_record(f"problem{k}", seed, layers=[*profiles[2 * k + seed], 0.1, 0.1])
            for k in range(3)
            for seed in range(2)
        ]
        assert claims.by_problem(records).verdict == verdict


def test_pseudo_f_is_anova_in_one_dimension():
    from scipy import stats

    rng = np.random.default_rng(0)
    groups = [rng.normal(m, 1, 7) for m in (0, 0.5, 2)]
    points, labels = np.concatenate(groups)[:, None], np.repeat([0, 1, 2], 7)
    want = stats.f_oneway(*groups).statistic
    assert claims.pseudo_f(points, labels) == pytest.approx(want)


@pytest.mark.parametrize(
    ("sparse", "maml", "verdict"),
    [
        (0.0, 0.1, "supported"),
        (0.05, 0.1, "partly supported"),  # it loses five points itself
        (0.1, 0.1, "not supported"),
        (0.1, 0.0, "not supported"),
    ],
)
def test_longer_loops(sparse, maml, verdict):
    probes = {
        m: {"steps/5": 0.6, "steps/50": 0.6 - lost}
        for m, lost in (("sparse-maml", sparse), ("maml", maml))
    }
    records = table1(dict.fromkeys(probes, (0.5, 0.6)), probes=probes)
    for r in records:  # the two answers of a run wobble apart
        if "steps/50" in r["final"]["probes"]:
            r["final"]["probes"]["steps/50"]["mean"] += (
                wobble(r["seed"], 0.003) * len(r["experiment"]) / 20
            )
    finding = claims.longer_loops(records)
    assert finding.verdict.startswith(verdict), finding.evidence


@pytest.mark.parametrize(("gain", "verdict"), [(0.03, "supported"), (0.0, "not supported")])
def test_two_questions_of_claim_12(gain, verdict):
    own, shuffled = (
        [
            made_up_record(
                f"convnet4-5shot-sparse-maml-{how}-masks", s, accuracy=0.6 + more + wobble(s) * sign
            )
            for s in SEEDS
        ]
        for how, more, sign in (("own", gain, 1), ("shuffled", 0.0, -1))
    )
    assert claims.pattern_and_density(own + shuffled).verdict == verdict
    assert claims.pattern_and_density(own).verdict.startswith("not testable")
    probes = {
        "sparse-maml": {"movement/layer4": 0.8 + gain},
        "maml": {"movement/layer4": 0.8},
    }
    records = table1(dict.fromkeys(probes, (0.5, 0.6)), probes=probes)
    assert claims.features_move_less(records).verdict == verdict


# --- runs that diverged, and answers that are absent


def with_answers(name, accuracy, lost, moved, cub):
    """Runs whose answers differ from seed to seed, each by method in its own way."""
    for seed in SEEDS:
        own = 0.002 * np.random.default_rng([seed, len(name)]).normal()
        record = made_up_record(name, seed, accuracy=accuracy + own)
        record["parameters"] = {"inner_steps": 5}
        answers = {
            "steps/5": accuracy,
            "steps/50": accuracy - lost + own,
            "movement/layer4": moved + own,
            "on:cub": cub + own,
        }
        record["final"]["probes"] = {
            n: {"mean": v, "low": v, "high": v, "n": 100} for n, v in answers.items()
        }
        yield record


def supported(number):
    """Records with which a claim is supported."""
    rng = np.random.default_rng(1)
    of_table1 = {
        "5a": (PAPER, "convnet4"),
        "5b": (RESNET | {"sparse-relu-maml": (0.55, 0.65)}, "resnet12"),
        "5c": ({m: RESNET[m] for m in ("anil", "sparse-maml")}, "resnet12"),
    }
    if number in of_table1:
        return table1(*of_table1[number])
    if number == "7":
        return [
            made_up_record(
                "convnet4-5shot-sparse-relu-maml",
                seed,
                sparsity=[0.0, 0.3 + wobble(seed)],
                layers=[0.6 + wobble(seed), 0.4, 0.3, 0.2, 0.1],
            )
            for seed in SEEDS
        ]
    if number == "8":
        return [
            made_up_record(
                f"problem{k}", seed, layers=list(0.5 + 0.1 * (k - 1) + 0.03 * rng.normal(size=5))
            )
            for k in range(3)
            for seed in SEEDS
        ]
    name = "convnet4-5shot-sparse-maml"
    if number == "12a":
        return [
            made_up_record(f"{name}-{how}-masks", seed, accuracy=accuracy + wobble(seed) * sign)
            for how, accuracy, sign in (("own", 0.63, 1), ("shuffled", 0.6, -1))
            for seed in SEEDS
        ]
    return [
        *with_answers(name, 0.62, 0.0, 0.9, 0.5),
        *with_answers("convnet4-5shot-maml", 0.6, 0.1, 0.8, 0.4),
    ]


CLAIMS = {
    "5a": (claims.convnet4_order, "convnet4-1shot-sparse-maml", "convnet4-5shot-boil"),
    "5b": (claims.resnet12_best, "resnet12-5shot-sparse-relu-maml", "resnet12-1shot-sparse-maml"),
    "5c": (claims.resnet12_masks, "resnet12-5shot-sparse-maml", "resnet12-1shot-anil"),
    "6": (claims.cross_domain, "convnet4-5shot-sparse-maml", "convnet4-5shot-maml"),
    "7": (claims.relu_sparsity, "convnet4-5shot-sparse-relu-maml", None),
    "8": (claims.by_problem, "problem1", None),
    "11": (claims.longer_loops, "convnet4-5shot-sparse-maml", "convnet4-5shot-maml"),
    "12a": (
        claims.pattern_and_density,
        "convnet4-5shot-sparse-maml-own-masks",
        "convnet4-5shot-sparse-maml-shuffled-masks",
    ),
    "12b": (claims.features_move_less, "convnet4-5shot-sparse-maml", "convnet4-5shot-maml"),
}
"""The test of each claim, an experiment of the method that it speaks for, and another one."""
WITH_ABOVE = ("5a", "5b", "6", "11", "12a", "12b")
WITH_OTHERS = [number for number, (_, _, other) in CLAIMS.items() if other]


@pytest.mark.parametrize("number", WITH_ABOVE)
def test_the_lines_decide(number, monkeypatch):
    """No verdict has a bar of its own beside those that its evidence shows."""
    test, *_ = CLAIMS[number]
    assert test(supported(number)).verdict == "supported"
    monkeypatch.setattr(claims, "ABOVE", "interval above 99")
    assert test(supported(number)).verdict == "not supported"


def diverge(records, name, seeds):
    """Return records of which some diverged: they have neither accuracies nor answers."""
    return [
        made_up_record(name, r["seed"], diverged=True)
        if r["experiment"] == name and r["seed"] in seeds
        else r
        for r in records
    ]


@pytest.mark.parametrize("number", CLAIMS)
def test_runs_that_matter_not_are_not_looked_at(number):
    test, *_ = CLAIMS[number]
    records = supported(number)
    assert test(iter(records)).verdict == "supported"
    if number != "8":  # which is about all the runs that it is given
        elsewhere = [made_up_record("another", s, diverged=True) for s in SEEDS]
        assert test(records + elsewhere).verdict == "supported"


@pytest.mark.parametrize("number", WITH_OTHERS)
def test_diverged_runs_of_other_methods_are_left_out_and_named(number):
    test, _, other = CLAIMS[number]
    records = supported(number)
    count = len(records)
    found = test(diverge(records, other, {1}))
    note = f"(1 of {count} runs diverged and are left out: {other} seed 1)"
    assert found.verdict == f"supported {note}"
    left = [r for r in records if (r["experiment"], r["seed"]) != (other, 1)]
    assert found.evidence.equals(test(left).evidence)
    found = test(diverge(records, other, set(SEEDS)))
    note = f"(5 of {count} runs diverged and are left out: every run of {other})"
    assert found.verdict == f"not testable {note}"
    found = test(diverge(records, other, {0, 1, 2, 3}))
    assert found.verdict.startswith("not testable (an interval")
    assert found.verdict.endswith(f"left out: {other} seeds 0, 1, 2, 3)")


@pytest.mark.parametrize("number", CLAIMS)
@pytest.mark.parametrize(
    ("seeds", "named"),
    [({3}, "{} seed 3"), ({0, 3}, "{} seeds 0, 3"), ({*SEEDS}, "every run of {}")],
)
def test_a_claim_is_not_supported_if_its_own_method_diverged(number, seeds, named):
    test, own, _ = CLAIMS[number]
    records = supported(number)
    found = test(diverge(records, own, seeds))
    note = f"{len(seeds)} of {len(records)} runs diverged and are left out: {named.format(own)}"
    assert found.verdict == f"not supported ({note})"


def test_any_run_of_the_method_counts_as_its_own():
    for name in ("convnet4-1shot-sparse-maml", "convnet4-5shot-sparse-maml"):
        found = claims.convnet4_order(diverge(supported("5a"), name, {0}))
        assert found.verdict.startswith("not supported")
    for name in ("resnet12-1shot-sparse-relu-maml", "resnet12-5shot-sparse-relu-maml"):
        found = claims.resnet12_best(diverge(supported("5b"), name, {0}))
        assert found.verdict.startswith("not supported")
    for name in ("problem0", "problem1", "problem2"):
        found = claims.by_problem(diverge(supported("8"), name, {0}))
        assert found.verdict.startswith("not supported")


@pytest.mark.parametrize(
    ("number", "answer", "says"),
    [
        ("6", "on:cub", "tested on CUB"),
        ("11", "steps/50", "tested with more steps"),
        ("12b", "movement/layer4", "with features compared"),
    ],
)
def test_absent_answers_are_no_want_of_seeds(number, answer, says):
    test, own, _ = CLAIMS[number]
    records = supported(number)
    for r in records:
        if r["experiment"] == own and r["seed"] > 0:
            del r["final"]["probes"][answer]
    assert test(records).verdict == f"no data (seeds {says}: 1 of 5)"
    few = [r for r in records if r["seed"] < 1]
    assert test(few).verdict.startswith("not testable")
