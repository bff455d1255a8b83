"""Online SGD: learn each batch as it comes, and do nothing about forgetting."""

from __future__ import annotations

from typing import Any

from ..types import Batch
from .base import Learner, at_least


class Online(Learner):
    """Take one gradient step on every batch, or a few.

    Parameters
    ----------
    rate : float
        Learning rate.
    glances : int, default 1
        Steps on each batch.
    **base
        See :class:`~wheretolearn.continual.base.Learner`.

    Raises
    ------
    ValueError
        If a number is below what makes sense.
    """

    def __init__(self, *, rate: float, glances: int = 1, **base: Any) -> None:
        super().__init__(**base)
        at_least(0, rate=rate)
        at_least(1, glances=glances)
        self.rate, self.glances = rate, glances

    def observe(self, batch: Batch) -> float:
        """Learn a batch, and return its loss at the last glance."""
        for _ in range(self.glances):
            loss, grads = self.gradient(batch)
            self.descend(grads, self.rate)
        return loss
