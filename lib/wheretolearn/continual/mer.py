"""Meta-experience replay: Reptile over single samples of present and past."""

from __future__ import annotations

from typing import Any

import torch

from ..fast.mlp_steps import descend
from ..types import Batch, Params
from .base import Learner, at_least
from .memory import Reservoir


class MER(Learner):
    r"""For every sample, several small Reptile steps with replayed ones (Riemer et al., 2019).

    Algorithm 1 of the paper: a trajectory of SGD steps on single samples moves the weights
    from :math:`w` to :math:`w'`, and what is kept is :math:`w + \beta (w' - w)`; over all
    trajectories of an incoming sample the same is done with :math:`\gamma`.

    Parameters
    ----------
    rate : float
        Learning rate of the single steps.
    memory : int
        Samples that the memory holds.
    replay : int, default 10
        Replayed samples of a trajectory; the incoming one goes first.
    trajectories : int, default 5
        Trajectories for each incoming sample.
    beta, gamma : float, default 0.03 and 1
        Shares of the way that are kept.
    off_by_one : bool, default False
        See :class:`~wheretolearn.continual.memory.Reservoir`; true in the released code.
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
        trajectories: int = 5,
        beta: float = 0.03,
        gamma: float = 1.0,
        off_by_one: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        at_least(0, rate=rate, replay=replay, beta=beta, gamma=gamma)
        at_least(1, trajectories=trajectories)
        self.rate, self.beta, self.gamma = rate, beta, gamma
        self.replay, self.trajectories = replay, trajectories
        self.memory = Reservoir(memory, self.generator, off_by_one=off_by_one)

    def observe(self, batch: Batch) -> float:
        """Learn a batch sample by sample, and return the mean loss of all steps."""
        losses, plain = [], self.plain_mlp()
        for x, y in zip(batch.inputs.split(1), batch.targets.split(1), strict=True):
            incoming = Batch(x, y)
            before = self.params
            for _ in range(self.trajectories):
                losses += self._trajectory(incoming, plain)
            self._back(before, self.gamma)
            self.memory.add(incoming)
        return sum(losses) / len(losses)

    def _trajectory(self, incoming: Batch, plain: bool) -> list[float]:
        start: Params = self.params
        losses: list[float] = []
        replayed = self.memory.sample(self.replay, incoming)
        both = Batch(*(torch.cat(pair) for pair in zip(incoming, replayed, strict=True)))
        if plain and self.fit(both):
            self.params, losses = descend(self.params, both, self.rate)
        else:
            for x, y in zip(both.inputs.split(1), both.targets.split(1), strict=True):
                loss, grads = self.gradient(Batch(x, y))
                self.descend(grads, self.rate)
                losses.append(loss)
        self._back(start, self.beta)
        return losses

    def _back(self, start: dict[str, Any], share: float) -> None:
        """Keep a share of the way from `start`."""
        moved = {n: start[n] + share * (self.params[n] - start[n]) for n in self.moving}
        self.params = self.params | moved
