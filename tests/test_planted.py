"""Problems with planted coordinates are what they say, and the search reports the truth."""

import numpy as np
import pytest
import torch

from reproduction.runs import synthetic_support as planted
from reproduction.runs.synthetic_support import Planted, Problem, search, search_all

SMALL = Planted(dimension=12, planted=3, updates=300)


@pytest.mark.parametrize("features", ["linear", "sinusoid"])
def test_tasks_differ_in_the_planted_coordinates_only(features):
    setting = Planted(features=features, dimension=6, planted=2, noise=0.0, shots=40)
    problem = Problem(setting, 3)
    assert problem.planted.sum() == 2
    found = []
    for x, y in zip(*problem.tasks(4).support, strict=True):
        found.append(torch.linalg.lstsq(x.double(), y.double()[:, None]).solution[:, 0])
    spread = torch.stack(found).std(0)
    assert torch.equal(spread > 1e-4, problem.planted)
    assert torch.allclose(
        found[0][~problem.planted], problem.shared.double()[~problem.planted], atol=1e-4
    )


@pytest.mark.parametrize("features", ["linear", "sinusoid"])
def test_the_place_is_found(features):
    for found in search_all([(SMALL.replace(features=features), seed) for seed in (0, 1)]):
        assert found.recall == 1
        assert found.precision > 2 * found.chance
        assert found.loss < found.loss_dense
        assert found.loss_right < found.loss_random
        assert found.loss_right < found.loss_dense


def test_masks_that_are_given_stay():
    """And so do the coordinates that they freeze, in every inner loop."""
    masks = torch.tensor([[True, False, True], [False, False, True]])
    learner = planted._learner("sparse-maml", Planted(dimension=3, planted=1), [0, 1], masks)
    problems = [Problem(Planted(dimension=3, planted=1), seed) for seed in (0, 1)]
    for _ in range(3):
        tasks = planted._one_by_one(planted._tasks(problems, 4))
        learner.step(tasks)
    assert torch.equal(learner.rule_params["weight"], masks.float() - 0.5)
    moved = learner.adapt(tasks[0].support)["weight"] != learner.params["weight"]
    assert torch.equal(moved, masks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "changes"), [("linear", {"inner_steps": 1}), ("sinusoid", {"shots": 40})]
)
def test_what_the_page_says_came_out(features, changes):
    """In the settings in which the place is found least well."""
    setting = planted.BASE.replace(features=features, **changes)
    found = search_all([(setting, seed) for seed in range(5)])
    assert all(f.recall == 1 for f in found)
    loss, right, dense, random = (
        np.mean([getattr(f, name) for f in found])
        for name in ("loss", "loss_right", "loss_dense", "loss_random")
    )
    assert right < loss < dense < random
    assert loss - right < (dense - loss) / 5


def test_one_wrong_entry():
    """Freezing a planted coordinate costs more than moving a shared one; the exercise says so."""
    for seed in (0, 1):
        right = Problem(SMALL, seed).planted
        frozen, moving = right.clone(), right.clone()
        frozen[right.nonzero()[0]] = False
        moving[(~right).nonzero()[0]] = True
        best, worst, between = planted.losses_under(
            SMALL.replace(updates=100), seed, torch.stack([right, frozen, moving])
        )
        assert best < between < worst


def test_random_masks_move_as_many_coordinates_elsewhere():
    right = Problem(SMALL, 0).planted
    masks = [planted._shuffled(right, seed) for seed in range(20)]
    assert {int(m.sum()) for m in masks} == {3}
    assert len({tuple(m.tolist()) for m in masks}) > 10


def test_problems_side_by_side_are_what_they_are_alone():
    short = SMALL.replace(updates=20)
    other = short.replace(features="sinusoid", noise=2.0, planted=5)
    together = search_all([(short, 0), (other, 1), (short, 2)])
    alone = [search(short, 0), search(other, 1), search(short, 2)]
    for a, b in zip(together, alone, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
    assert len({found.loss for found in alone}) == 3
    with pytest.raises(ValueError, match="must have one shape"):
        search_all([(short, 0), (short.replace(shots=7), 0)])


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="planted must lie between 0 and dimension"):
        Planted(dimension=5, planted=5)
    with pytest.raises(ValueError, match="come in pairs"):
        Planted(features="sinusoid", dimension=7, planted=2)
