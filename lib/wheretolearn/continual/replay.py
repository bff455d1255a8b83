"""Experience replay: learn each batch together with a few samples of the past."""

from __future__ import annotations

from typing import Any

import torch

from ..types import Batch
from .base import CLIP, Learner, at_least
from .memory import Reservoir


class ExperienceReplay(Learner):
    """Online SGD on the batch and samples from a reservoir (Chaudhry et al., 2019).

    Gradients are clipped as in La-MAML, beside which it stands.

    Parameters
    ----------
    rate : float
        Learning rate.
    memory : int
        Samples that the memory holds.
    replay : int, default 10
        Samples that are replayed with each batch.
    glances : int, default 1
        Steps on each batch, with other replayed samples each time.
    off_by_one : bool, default False
        See :class:`~wheretolearn.continual.memory.Reservoir`.
    **base
        See :class:`~wheretolearn.continual.base.Learner`.

    Raises
    ------
    ValueError
        If a number is below what makes sense.
    """

    saved = ("memory",)

    def __init__(
        self,
        *,
        rate: float,
        memory: int,
        replay: int = 10,
        glances: int = 1,
        off_by_one: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        at_least(0, rate=rate, replay=replay)
        at_least(1, glances=glances)
        self.rate, self.replay, self.glances = rate, replay, glances
        self.memory = Reservoir(memory, self.generator, off_by_one=off_by_one)

    def observe(self, batch: Batch) -> float:
        """Learn a batch, and return the loss at the last glance."""
        for _ in range(self.glances):
            replayed = self.memory.sample(self.replay, batch)
            rows = Batch(*(torch.cat(pair) for pair in zip(replayed, batch, strict=True)))
            loss, grads = self.gradient(rows, CLIP)
            self.descend(grads, self.rate)
        self.memory.add(batch)
        return loss
