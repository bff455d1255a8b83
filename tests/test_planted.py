"""Problems with planted coordinates are what they say, and the search reports the truth."""

import pytest
import torch

from wheretolearn.planted import Planted, Problem, search

SMALL = Planted(dimension=12, planted=3, updates=300)


@pytest.mark.parametrize("features", ["linear", "sinusoid"])
def test_tasks_differ_in_the_planted_coordinates_only(features):
    setting = Planted(features=features, dimension=6, planted=2, noise=0.0, shots=40)
    problem = Problem(setting, 3)
    assert problem.planted.sum() == 2
    found = []
    for _ in range(4):
        x, y = problem.task().support
        found.append(torch.linalg.lstsq(x.double(), y.double()).solution[:, 0])
    spread = torch.stack(found).std(0)
    assert torch.equal(spread > 1e-4, problem.planted)
    assert torch.allclose(
        found[0][~problem.planted], problem.shared.double()[~problem.planted], atol=1e-4
    )


@pytest.mark.parametrize("features", ["linear", "sinusoid"])
def test_features_have_unit_variance(features):
    x, y = Problem(Planted(features=features, shots=20_000), 0).task().support
    assert x.shape == (20_000, 40)
    assert y.shape == (20_000, 1)
    torch.testing.assert_close(x.std(0), torch.ones(40), rtol=0.03, atol=0)


def test_the_place_is_found():
    for seed in (0, 1):
        found = search(SMALL, seed)
        assert found.recall == 1
        assert found.precision > 2 * found.chance
        assert found.loss < found.loss_dense


def test_the_search_is_seeded():
    short = SMALL.replace(updates=5)
    assert search(short, 4) == search(short, 4)
    assert search(short, 4) != search(short, 5)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="planted must lie between 0 and dimension"):
        Planted(dimension=5, planted=5)
    with pytest.raises(ValueError, match="come in pairs"):
        Planted(features="sinusoid", dimension=7, planted=2)
