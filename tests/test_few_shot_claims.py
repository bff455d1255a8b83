"""The tests of claims 5 to 8, 11 and 12, on records that are made up to pass or fail them."""

import numpy as np
import pytest

from synthetic import made_up_record
from wheretolearn import few_shot_claims as claims
from wheretolearn import tables

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
        assert len(finding.evidence) == 8


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
    [(0.5, 0.4, "supported"), (0.42, 0.4, "partly"), (0.4, 0.4, "not s"), (None, 0.4, "not t")],
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
    assert "nan" not in tables.verdicts([finding])
    assert claims.by_problem(records[:5]).verdict.startswith("not testable")


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
