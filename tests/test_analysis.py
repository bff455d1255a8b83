"""Curves over training, groups of records, and what pure noise makes of masks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reproduction.report import curves as curves_
from reproduction.report import frame as frame_
from reproduction.report import noise as noise_
from synthetic import made_up_record

SEEDS = range(5)


def test_gains_need_partners():
    maml = [made_up_record("p-maml", s, accuracy=a) for s, a in ((0, 0.5), (1, 0.7), (7, 0.1))]
    mine = [made_up_record("p-x", s, accuracy=a) for s, a in ((1, 0.75), (0, 0.51), (9, 0.9))]
    table = frame_.frame([*mine, *maml])
    gain = frame_.paired(table, "p-x", "p-maml", "test_accuracy")
    assert gain is not None
    assert (gain.n, gain.mean) == (2, pytest.approx(3.0))
    alone = frame_.frame([*mine[2:], *maml])
    assert frame_.paired(alone, "p-x", "p-maml", "test_accuracy") is None


def test_curve_needs_no_more_than_finished_runs():
    records = [made_up_record("p", s, sparsity=[0.0, 0.1 * s, 0.2 * s]) for s in (1, 2, 3)]
    curve = curves_.curve(records, lambda r: r["curves"]["sparsity"])
    assert curve.x.tolist() == [0, 1, 2]
    np.testing.assert_allclose(curve.mean, [0, 0.2, 0.4])
    assert curve.low[0] == curve.high[0] == 0
    assert 0.1 - 1e-9 <= curve.low[1] < 0.2 < curve.high[1] <= 0.3 + 1e-9
    single = curves_.curve(records[:1], lambda r: r["curves"]["sparsity"])
    np.testing.assert_allclose(single.mean, [0, 0.1, 0.2])
    assert np.isnan(single.low).all()


@given(st.permutations(range(6)))
def test_grouping_does_not_depend_on_the_order(order):
    records = [made_up_record(f"p{i % 2}", i // 2, diverged=i == 5) for i in range(6)]
    groups = frame_.by_experiment([records[i] for i in order])
    assert {n: [r["seed"] for r in g] for n, g in groups.items()} == {
        "p0": [0, 1, 2],
        "p1": [0, 1, 2],
    }
    assert len(frame_.finished(records)) == 5
    assert sorted(frame_.numbers(groups["p1"], "test_accuracy")) == [0, 1]


def test_the_walk_is_that_of_adam():
    start = np.linspace(-0.05, 0.05, 7)
    curve, end = noise_.adam_walk(start, 40, 0.01, lambda m: m < 0, np.random.default_rng(3))
    gradients = np.random.default_rng(3)
    m = torch.tensor(start, dtype=torch.float32, requires_grad=True)
    optimizer = torch.optim.Adam([m], lr=0.01)
    shares = [100 * float((m < 0).double().mean())]
    for _ in range(40):
        m.grad = torch.from_numpy(gradients.standard_normal(7, np.float32))
        optimizer.step()
        shares.append(100 * float((m < 0).double().mean()))
    np.testing.assert_allclose(end, m.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(curve.mean, shares)
    assert len(set(shares)) > 2


def test_where_runs_end_beside_noise():
    """From 25 and 50 % the means lie on one side of noise, and their intervals on both."""
    records = []
    for level, end in ((100, 0.6), (0, 0.2), (25, 0.265), (50, 0.49)):
        for seed in SEEDS:
            record = made_up_record(f"p-sparse{level}", seed)
            record["final"]["sparsity"] = end + 0.01 * (seed - 2)
            record["parameters"] = {
                "method": "sparse-maml",
                "init_sparsity": level / 100,
                "updates": 600,
                "rule_rate": 7.5e-3,
            }
            records.append(record)
    maml = made_up_record("p-maml", 0)
    maml["parameters"] = {"method": "maml"}
    lost = made_up_record("p-sparse0", 9, diverged=True)
    found = noise_.beside_noise([*records, maml, lost])
    sides = {level: b.side for level, b in found.items()}
    unclear = "not told apart"
    assert sides == {0: "above it", 25: unclear, 50: unclear, 100: "below it"}
    assert list(found) == [0, 25, 50, 100]
    assert found[25].final.mean > found[25].noise
    assert found[50].final.mean < found[50].noise
    assert found[0].final.n == len(SEEDS)
    assert found[0].noise == noise_.noise_curve(0, 600).mean[-1]
    assert noise_.against_noise(records).splitlines()[2].endswith("| above it |")
