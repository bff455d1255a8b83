"""The three numbers are what their definitions say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wheretolearn.continual.metrics import summarise


def test_by_hand():
    matrix = np.array([[0.9, 0.1, 0.0], [0.7, 0.8, 0.1], [0.5, 0.6, 1.0]])
    ra, bti, la = summarise(matrix)
    assert ra == pytest.approx(0.7)
    assert la == pytest.approx(0.9)
    assert bti == pytest.approx((-0.4 - 0.2 + 0.0) / 3)


@given(st.integers(1, 6).flatmap(lambda n: arrays(float, (n, n), elements=st.floats(0, 1))))
def test_definitions(matrix):
    found = summarise(matrix)
    tasks = len(matrix)
    changes = [matrix[-1, i] - matrix[i, i] for i in range(tasks)]
    assert found.bti == pytest.approx(sum(changes) / tasks, abs=1e-12)
    assert found.ra == pytest.approx(found.la + found.bti, abs=1e-12)
    assert summarise(np.where(np.tri(tasks, dtype=bool), matrix, np.nan)) == found


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3)), "square"),
        (np.zeros((0, 0)), "square"),
        (np.array([[1, 0], [np.nan, 1]]), "not learned to its end"),
        (np.array([[np.nan, 0], [1, 1]]), "not learned to its end"),
    ],
)
def test_incomplete(matrix, message):
    with pytest.raises(ValueError, match=message):
        summarise(matrix)
