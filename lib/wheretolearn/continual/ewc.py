r"""Elastic weight consolidation: weights that mattered to old tasks are held by springs.

After each task the parameters :math:`w^*` and the diagonal `F` of the Fisher information are
kept, and later batches are learned under

.. math:: L(w) + \frac{\lambda}{2} \sum_{\text{old tasks}} \sum_i F_i (w_i - w^*_i)^2

(Kirkpatrick et al., 2017).  :math:`F_i` is the mean, over samples of the task, of the squared
gradient of the log-likelihood of the sample's own class; some code squares the mean instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..states import kept_buffers
from ..types import Batch, Params
from .base import Learner, at_least


class EWC(Learner):
    r"""Online SGD with quadratic springs to the ends of earlier tasks.

    Parameters
    ----------
    rate : float
        Learning rate.
    strength : float
        :math:`\lambda`.
    fisher : {"samples", "mean"}, default "samples"
        Estimate of `F`: the mean of the squared gradients of a task's last samples, or the
        square of the mean gradient of its first ones.  On the same samples the second is never
        larger, and usually much smaller.
    fisher_samples : int, default 200
        Samples of a task, at least 1, from which its Fisher information is estimated.
    glances : int, default 1
        Steps on each batch.
    **base
        See :class:`~wheretolearn.continual.base.Learner`.

    Raises
    ------
    ValueError
        If `fisher` is neither of the two, there is no sample to estimate from, or another number
        is below what makes sense.

    Notes
    -----
    The springs of all tasks add up to one for each weight, with stiffness
    :math:`\sum F` and rest position :math:`\sum F w^* / \sum F`, so memory does not grow.

    A strength means something for one estimate only.  The script released with MER (Riemer et
    al., 2019) has 100, 10 and 1 for the three streams, and runs a copy of the EWC released with
    GEM (Lopez-Paz and Ranzato, 2017): ``fisher="mean"`` with 10 samples, batches of one,
    and no factor 1/2 before the springs.  That is :math:`\lambda` = 200, 20 and 2 here, and so it
    stands in :mod:`wheretolearn.continual.methods`.  Whether the accuracies that Gupta et al.
    (2020) report for EWC are those of that script is not known.
    """

    saved = ("stiffness", "pull", "samples")

    def __init__(
        self,
        *,
        rate: float,
        strength: float,
        fisher: str = "samples",
        fisher_samples: int = 200,
        glances: int = 1,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        if fisher not in ("samples", "mean"):
            raise ValueError(f"fisher must be 'samples' or 'mean', got {fisher!r}")
        at_least(0, rate=rate, strength=strength)
        at_least(1, fisher_samples=fisher_samples, glances=glances)
        self.rate, self.strength, self.glances = rate, strength, glances
        self.of_mean, self.count = fisher == "mean", fisher_samples
        self.stiffness = self._zeros()  # sum of F
        self.pull = self._zeros()  # sum of F w*
        self.samples: list[Tensor] = []  # inputs and targets, of this task, kept for F

    def observe(self, batch: Batch) -> float:
        """Learn a batch, and return its loss at the last glance, without the springs."""
        for _ in range(self.glances):
            loss, grads = self.gradient(batch)
            for n, g in grads.items():
                spring = self.stiffness[n] * self.params[n] - self.pull[n]
                grads[n] = g + self.strength * spring
            self.descend(grads, self.rate)
        joined = zip(self.samples, batch, strict=True) if self.samples else ((t,) for t in batch)
        kept = slice(self.count) if self.of_mean else slice(-self.count, None)
        self.samples = [torch.cat(parts)[kept] for parts in joined]
        return loss

    def end_task(self) -> None:
        """Attach springs where the weights are now."""
        super().end_task()
        if not self.samples:
            return
        for n, f in self.fisher(Batch(*self.samples)).items():
            self.stiffness[n] = self.stiffness[n] + f
            self.pull[n] = self.pull[n] + f * self.params[n]
        self.samples = []

    def fisher(self, samples: Batch) -> Params:
        """Return the diagonal of the Fisher information, estimated from samples."""
        together = len(samples.targets) if self.of_mean else 1  # one by one spares memory
        parts = [t.split(together) for t in samples]
        total = self._zeros()
        with kept_buffers(self.network):
            for part in zip(*parts, strict=True):
                _, grads = self.gradient(Batch(*part))
                for n, g in grads.items():
                    total[n] += g**2 / len(parts[0])
        return total

    def _zeros(self) -> Params:
        return {n: torch.zeros_like(self.params[n]) for n in self.moving}
