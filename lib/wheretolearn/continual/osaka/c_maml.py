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

With a *prolonged adaptation phase* (:class:`ProlongedCMAML`), and rates or gates that can be zero,
C-MAML becomes sparse-C-MAML (von Oswald et al., 2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...inner_loop import first_order, gradients
from ...meta import MetaLearner
from ...types import Batch, Params, Task
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


class ProlongedCMAML(CMAML):
    r"""C-MAML whose fast weights go further and further until the context shifts.

    They go on from where they are, :math:`\phi \leftarrow U_K(\phi; \text{batch})`, and the
    batches are collected.  Where the loss falls by the margin or more the context is taken to have
    changed.  Then the slow weights learn from what was collected, with the older half of the
    batches to adapt to and the younger half to be judged on, pair by pair (of an odd number the one
    in the middle is left out); the fast weights start again from the slow ones; and the batch at
    hand is the first of the new context.

    Parameters
    ----------
    slow : MetaLearner
        Slow weights, rule, inner steps and Adam.
    late : bool, default False
        Reset the fast weights one step late, as the released branch does.
    **others
        See :class:`CMAML`; threshold and modulation apply to the mean loss on the younger batches.

    Notes
    -----
    Also without a shift the slow weights learn once more batches are collected than two for each
    image of a step, as in the released code.  In the branch behind the sparse learners

    - the fast weights are reset one step late: at the batch *after* the one that gave the shift
      away (``late=True`` does so here);
    - the batch that gave the shift away is not collected, nor the one at which there are too many;
    - the threshold :math:`\lambda` is computed but has no effect;
    - the fast weights keep the graph of all their steps, so memory grows until a shift.
    """

    saved = ("collected", "restart")
    uses_sums = False  # it takes those of the collected batches anew

    def __init__(self, slow: MetaLearner, *, late: bool = False, **others: Any) -> None:
        super().__init__(slow, **others)
        self.late = late
        self.collected: list[list[Tensor]] = []  # inputs and targets of batches of one context
        self.restart = False

    @torch.enable_grad()
    def observe(self, batch: Batch) -> None:
        """Adapt further; at a shift learn from the context that is over, and start again."""
        first = not self.fast
        before = self.loss(batch)
        self.adapt(batch, self.slow.params if self.restart else self.weights)
        self.restart = False
        self.shifted = not first and self.shift(before, batch)
        if self.shifted or len(self.collected) > 2 * len(batch.targets):
            self.learn()
            self.collected = []
        if self.shifted and self.late:
            self.restart = True
        elif self.shifted:
            self.adapt(batch, self.slow.params)
        self.collected.append(list(batch))

    def learn(self) -> None:
        """Meta-learn from the batches collected, at least one."""
        batches = [Batch(*tensors) for tensors in self.collected]
        half = math.ceil(len(batches) / 2)
        pairs = list(zip(batches, batches[half:] or batches, strict=False))
        params: Params = {}
        rates: Params = {}
        losses = []
        start = self.slow.begin()
        for support, query in pairs:
            meta = first_order(*start, Task(support, query), self.slow.inner_steps)
            losses.append(float(meta.loss))
            for total, grads in ((params, meta.params), (rates, meta.rates)):
                for n, g in grads.items():
                    total[n] = total.get(n, 0.0) + g / len(pairs)
            self.gradients += self.slow.inner_steps * len(support.targets) + len(query.targets)
        loss = math.fsum(losses) / len(losses)
        if self.weight(loss) > 0:
            self.step(loss, params, rates)
