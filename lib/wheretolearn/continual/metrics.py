r"""What is measured of a continual learner, from one matrix of accuracies.

:math:`A_{ti}` is the accuracy on task `i` after learning tasks 0 to `t`, of `T` tasks
(Riemer et al., 2019; Gupta et al., 2020):

.. math:: \mathrm{RA} = \frac1T \sum_i A_{T-1,i}, \qquad
          \mathrm{LA} = \frac1T \sum_i A_{ii}, \qquad
          \mathrm{BTI} = \mathrm{RA} - \mathrm{LA}.

Retained accuracy says what is known at the end, learning accuracy what was known of each
task right after it, and backward transfer and interference, mostly negative, what became of
it since.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Metrics(NamedTuple):
    """Retained accuracy, backward transfer and interference, learning accuracy: in [-1, 1]."""

    ra: float
    bti: float
    la: float


def summarise(matrix: np.ndarray) -> Metrics:
    """Return the three numbers of a matrix of accuracies.

    Parameters
    ----------
    matrix : ndarray, shape [tasks, tasks]
        Accuracy in [0, 1] after learning the row's task, on the column's task.
    """
    matrix = np.asarray(matrix, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise ValueError(f"a square matrix of accuracies expected, got shape {matrix.shape}")
    retained, learned = matrix[-1], matrix.diagonal()
    if not (np.isfinite(retained).all() and np.isfinite(learned).all()):
        raise ValueError("the stream was not learned to its end: accuracies are missing")
    ra, la = float(retained.mean()), float(learned.mean())
    return Metrics(ra, ra - la, la)
