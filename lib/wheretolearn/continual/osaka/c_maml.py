r"""C-MAML of OSAKA: keep meta-learning while the stream goes on.

A batch arrives, is predicted with the fast weights :math:`\phi`, which were adapted to the batch
before, and its loss :math:`\ell` becomes known (Caccia et al., 2020).  Then

.. math:: \phi' = U_K(\theta; \text{batch}), \qquad \ell' = L(\phi'; \text{batch}),

and where :math:`\ell' + \gamma \le \ell` the context is taken to have changed: two batches of
different contexts say nothing about how to adapt within one.  Otherwise the slow weights
:math:`\theta` and the numbers of the rule take a step of Adam on :math:`h(\ell)\,\nabla\ell`, to
first order (:mod:`wheretolearn.inner_loop`), with :math:`\ell` at the old fast weights.  In
either case :math:`\phi'` are the new ones.

How much is learned from a loss, :math:`h`, is 0 up to a threshold :math:`\lambda` and 1 beyond
it, or, with *update modulation*, :math:`1 - e^{-\lambda \ell}`.

With a learned rate for each tensor this is C-MAML.  With a prolonged adaptation phase
(:mod:`~wheretolearn.continual.osaka.prolonged`), and rates or gates that can be zero, it becomes
sparse-C-MAML (von Oswald et al., 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ...inner_loop import gradients
from ...meta import MetaLearner
from ...types import Batch
from ..base import at_least
from .fast_slow import FastSlowLearner


class CMAML(FastSlowLearner):
    r"""Meta-learn from each batch how to adapt to the one before it.

    Parameters
    ----------
    slow : MetaLearner
        Slow weights, rule, inner steps and Adam.
    margin : float, optional
        :math:`\gamma`; by default no shift is ever detected.
    threshold : float, default 0
        :math:`\lambda` of the rule with a threshold: losses up to it are not learned from.
    modulation : float, optional
        :math:`\lambda` of update modulation; by default there is none.

    Raises
    ------
    ValueError
        If a number is negative, or NaN.
    """

    uses_sums = True

    def __init__(
        self,
        slow: MetaLearner,
        *,
        margin: float | None = None,
        threshold: float = 0.0,
        modulation: float | None = None,
    ) -> None:
        super().__init__(slow)
        at_least(0, margin=margin or 0, threshold=threshold, modulation=modulation or 0)
        self.margin, self.threshold, self.modulation = margin, threshold, modulation

    @torch.enable_grad()
    def observe(self, batch: Batch) -> None:
        """Adapt to the batch, and learn from how well the fast weights of before did."""
        sums = self.sums  # of the inner gradients that led to the fast weights
        loss, leaves = self.loss_of_leaves(batch)
        before = float(loss.detach())
        self.adapt(batch, self.slow.params)
        if not sums:  # the first batch: nothing was adapted before
            return
        self.shifted = self.shift(before, batch)
        if not self.shifted and self.weight(before) > 0:
            grads = dict(zip(leaves, gradients(loss, leaves.values()), strict=True))
            self.gradients += len(batch.targets)
            self.step(before, grads, {n: -grads[n] * s for n, s in sums.items()})

    def shift(self, before: float, batch: Batch) -> bool:
        """Return whether adaptation has lowered the loss on the batch by the margin or more."""
        return self.margin is not None and self.loss(batch) + self.margin <= before

    def weight(self, loss: float) -> float:
        """Return how much is learned from a loss, in [0, 1]."""
        if loss <= self.threshold:
            return 0.0
        return 1.0 if self.modulation is None else -math.expm1(-self.modulation * loss)

    def step(self, loss: float, params: Mapping[str, Tensor], rates: Mapping[str, Tensor]) -> None:
        """Move slow weights and rule by gradients for the parameters and for the rates."""
        weight = self.weight(loss)
        for n in self.moving:
            self.slow.params[n].grad = weight * params[n]
        for n, g in self.slow.rule.pull_back(self.slow.rule_params, dict(rates)).items():
            self.slow.rule_params[n].grad = weight * g
        self.slow.optimizer.step()
        self.outer_steps += 1
