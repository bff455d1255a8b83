r"""Elastic weight consolidation: weights that mattered to old tasks are held by springs.

After each task the parameters :math:`w^*` and the diagonal `F` of the Fisher information are
kept, and later batches are learned under

.. math:: L(w) + \frac{\lambda}{2} \sum_{\text{old tasks}} \sum_i F_i (w_i - w^*_i)^2

(Kirkpatrick et al., 2017).  :math:`F_i` is the mean, over samples of the task, of the squared
gradient of the log-likelihood of the sample's own class.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..inner_loop import Batch
from ..rules import Params
from .learner import Learner, clip


class EWC(Learner):
    r"""Online SGD with quadratic springs to the ends of earlier tasks.

    Parameters
    ----------
    rate : float
        Learning rate.
    strength : float
        :math:`\lambda`.
    fisher_samples : int, default 200
        Last samples of a task, from which its Fisher information is estimated.
    glances : int, default 1
        Steps on each batch.
    **base
        See :class:`~wheretolearn.continual.learner.Learner`.

    Notes
    -----
    The springs of all tasks add up to one for each weight, with stiffness
    :math:`\sum F` and rest position :math:`\sum F w^* / \sum F`, so memory does not grow.
    """

    saved = ("stiffness", "pull", "recent")

    def __init__(
        self,
        *,
        rate: float,
        strength: float,
        fisher_samples: int = 200,
        glances: int = 1,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.rate, self.strength, self.glances = rate, strength, glances
        self.fisher_samples = fisher_samples
        self.stiffness = {n: torch.zeros_like(p) for n, p in self.params.items()}  # sum of F
        self.pull = {n: torch.zeros_like(p) for n, p in self.params.items()}  # sum of F w*
        self.recent: list[Tensor] = []  # inputs and targets of the last samples

    def observe(self, batch: Batch) -> float:
        """Learn a batch, and return its loss at the last glance, without the springs."""
        for _ in range(self.glances):
            loss, grads = self.gradient(batch, norm=math.inf)
            for n, p in self.params.items():
                grads[n] = grads[n] + self.strength * (self.stiffness[n] * p - self.pull[n])
            clip(grads)
            self.descend(grads, self.rate)
        joined = zip(self.recent, batch, strict=True) if self.recent else ((t,) for t in batch)
        self.recent = [torch.cat(parts)[-self.fisher_samples :] for parts in joined]
        return loss

    def end_task(self) -> None:
        """Attach springs where the weights are now."""
        super().end_task()
        if not self.recent:
            return
        for n, f in self.fisher(Batch(*self.recent)).items():
            self.stiffness[n] = self.stiffness[n] + f
            self.pull[n] = self.pull[n] + f * self.params[n]
        self.recent = []

    def fisher(self, samples: Batch) -> Params:
        """Return the diagonal of the Fisher information, estimated from samples."""

        def loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
            return self.criterion(self.forward(params, x[None]), y[None])

        total = {n: torch.zeros_like(p) for n, p in self.params.items()}
        for x, y in zip(*samples, strict=True):  # one by one: 200 gradients would need much memory
            for n, g in torch.func.grad(loss)(self.params, x, y).items():
                total[n] += g**2 / len(samples.targets)
        return total
