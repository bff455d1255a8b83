"""Metrics of OSAKA's stream, by hand."""

import json

import numpy as np
import pytest

from wheretolearn.continual.osaka.metrics import (
    Detection,
    around,
    by_source,
    cumulative,
    detection,
    pack,
    unpack,
)

CORRECT = np.array([1, 4, 4, 0, 2, 4, 1, 3, 3, 3])
STARTS = [0, 3, 6]  # of contexts of 3, 3 and 4 steps


def test_cumulative_accuracy():
    assert cumulative(CORRECT, 4)[:4].tolist() == [1 / 4, 5 / 8, 9 / 12, 9 / 16]
    assert cumulative(CORRECT, 4)[-1] == CORRECT.sum() / 40


def test_accuracy_on_each_data_set():
    found = by_source(CORRECT, 4, STARTS, [1, 0, 1], 3)
    assert found == [6 / 12, (9 + 10) / 28, None]


def test_accuracy_around_switches():
    """Two switches, at 3 and 6; offset -4 would be in an older context, 3 only in the last."""
    found = around(CORRECT, 4, STARTS, before=4, after=4)
    expected = [
        None,
        (1 + 0) / 8,
        (4 + 2) / 8,
        (4 + 4) / 8,
        (0 + 1) / 8,
        (2 + 3) / 8,
        (4 + 3) / 8,
        3 / 4,
        None,
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("detected", "expected"),
    [
        ([3, 6], (1.0, 1.0, 1.0)),
        ([3, 4, 8], (1 / 3, 1 / 2, 0.4)),
        ([8], (0.0, 0.0, 0.0)),
        ([0], (0.0, 0.0, 0.0)),  # the first context is no switch
        ([6], (1.0, 1 / 2, 2 / 3)),
        ([], (None, 0.0, None)),
    ],
)
def test_detections(detected, expected):
    found = detection(detected, STARTS)
    assert found == pytest.approx(Detection(*expected))


def test_numbers_as_text():
    assert unpack(pack([0, 7, 255])).tolist() == [0, 7, 255]
    assert unpack(pack([])).tolist() == []
    assert len(json.dumps(pack([25] * 10_000))) < 14_000
    with pytest.raises(OverflowError):
        pack([256])
