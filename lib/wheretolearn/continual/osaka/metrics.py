r"""What is measured of a learner in OSAKA's stream, from three lists.

The lists are: how many images of each step were classified correctly *before* their labels
were known; when contexts really switched; and when the learner took them to have switched.

Cumulative accuracy is the mean over all steps so far.  Around a switch at step `s`, the accuracy
at offset `o` is the mean over all switches of that at step :math:`s + o`, as far as that step
belongs to the context that ends (:math:`o < 0`) or begins (:math:`o \ge 0`) there.  A detection is
correct if it names a step at which the context switched: precision is the share of detections
that are, recall the share of switches that were detected.  (The code released with OSAKA calls our
recall precision, and recall the share of other steps without a detection.)
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

BEFORE, AFTER = 5, 20
"""Steps before and after a switch in the curve around switches."""


class Detection(NamedTuple):
    """How well switches were detected, in [0, 1]; None where nothing can be said."""

    precision: float | None
    """Share of detections that are switches; None without detections."""
    recall: float | None
    """Share of switches that were detected; None without switches."""
    f1: float | None
    """Harmonic mean of the two; None where one of them is None."""


def cumulative(correct: np.ndarray, images: int) -> np.ndarray:
    """Return the accuracy over all steps so far, [steps].

    Parameters
    ----------
    correct : ndarray of int, shape [steps]
        Correct images of each step.
    images : int
        Images of a step.
    """
    return np.cumsum(correct) / (images * np.arange(1, len(correct) + 1))


def by_source(
    correct: np.ndarray, images: int, starts: Sequence[int], sources: Sequence[int], count: int
) -> list[float | None]:
    """Return the accuracy on each of `count` data sets; None for one that did not occur.

    Parameters
    ----------
    correct, images
        As for :func:`cumulative`.
    starts, sources : sequence of int
        First step, and number of the data set, of each context.
    """
    lengths = np.diff([*starts, len(correct)])
    source = np.repeat(np.asarray(sources), lengths)  # of each step
    parts = [correct[source == number] for number in range(count)]
    return [float(c.mean() / images) if len(c) else None for c in parts]


def around(
    correct: np.ndarray,
    images: int,
    starts: Sequence[int],
    before: int = BEFORE,
    after: int = AFTER,
) -> list[float | None]:
    """Return the accuracy at offsets -before ... after of switches; None where none is that long.

    The first three parameters are those of :func:`by_source`.
    """
    ends = [*starts[1:], len(correct)]
    sums, counts = np.zeros(before + after + 1), np.zeros(before + after + 1, np.int64)
    for last, start, end in zip(starts, starts[1:], ends[1:], strict=False):
        steps = np.arange(max(last, start - before), min(end, start + after + 1))
        sums[steps - start + before] += correct[steps] / images
        counts[steps - start + before] += 1
    return [float(s / n) if n else None for s, n in zip(sums, counts, strict=True)]


def detection(detected: Sequence[int], starts: Sequence[int]) -> Detection:
    """Judge the steps at which switches were seen, given the starts of contexts.

    The first context is no switch.  A detection is right at a start only, not later.
    """
    hits = len(set(starts[1:]) & set(detected))
    precision = hits / len(detected) if detected else None
    recall = hits / (len(starts) - 1) if len(starts) > 1 else None
    if precision is None or recall is None:
        return Detection(precision, recall, None)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return Detection(precision, recall, f1)


def pack(counts: Sequence[int]) -> str:
    """Return numbers from 0 to 255 as text: one byte each, base64."""
    return base64.b64encode(np.asarray(counts, dtype=np.uint8).tobytes()).decode()


def unpack(text: str) -> np.ndarray:
    """Return the numbers behind the text of :func:`pack`, int64."""
    return np.frombuffer(base64.b64decode(text, validate=True), np.uint8).astype(np.int64)
