r"""The family of La-MAML: look ahead on the batch, then step where the past agrees.

A batch of `n` samples arrives.  At each of several *glances* at it the network learns the samples
one by one from the weights :math:`w`, with the rates `r(m)` of a rule,

.. math:: \phi_0 = w, \qquad \phi_k = \phi_{k-1} - r \circ g_k, \qquad
          g_k = \nabla \ell_k(\phi_{k-1}), \qquad k = 1 \dots n,

and is judged after each of them on the rows of replayed and current samples together.  The
meta-loss is :math:`\frac1n \sum_k L(\phi_k)` (Gupta et al., 2020, algorithm 1).  To first order,
with :math:`G_k = \nabla L(\phi_k)`,

.. math:: \nabla_w = \frac1n \sum_k G_k, \qquad
          \nabla_r = -\frac1n \sum_k G_k \circ \sum_{j \le k} g_j ,

which moves first the numbers `m` of the rule, then the weights:

.. math:: m \leftarrow m - \eta \nabla_m, \qquad
          w \leftarrow w - r(m) \circ \nabla_w \quad\text{or}\quad w \leftarrow w - \beta \nabla_w .

Both gradients are clipped to norm 2.  The members of the family are data:

===========================  ==============================  ==============
learner                      rule                            weights move by
===========================  ==============================  ==============
``c-maml``                   :math:`\alpha`, fixed           :math:`\beta`
``sync``                     :math:`\max(m, 0)`              :math:`\beta`
``la-maml``                  :math:`\max(m, 0)`              :math:`r(m)`
``la-maml-straight``         the same, straight-through      :math:`r(m)`
``sparse-la-maml``           :math:`\alpha\,1[m \ge 0]`      :math:`r(m)`
``sparse-la-maml-plain``     :math:`\alpha\,1[m \ge 0]`      :math:`\beta`
``la-maml-random``           the same, `m` never learned     :math:`r(m)`
===========================  ==============================  ==============

The first three are those of Gupta et al. (2020).  How the sparse paper combined La-MAML with
masks is not public; the next two are the two ways that suggest themselves.  The last is a control.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..inner_loop import gradients
from ..rules import Rule
from ..types import Batch, Criterion, Forward, Rates, ReplayGradient
from .base import Learner, at_least, clip
from .replay import Reservoir

_OF_RULES = 1_000_003  # far from any seed of a run


class LaMAML(Learner):
    r"""Look-ahead meta-learning with replay, for any rule.

    Parameters
    ----------
    rule : Rule
        What the inner rates are, see :mod:`wheretolearn.rules`.
    memory : int
        Samples that the memory holds.
    rule_rate : float, default 0
        :math:`\eta`, for the numbers of the rule.
    outer_rate : float, optional
        :math:`\beta`; by default weights move by the rule's own rates.
    replay : int, default 10
        Samples that are replayed with a batch.
    glances : int, default 5
        How often a batch is looked at.
    clamp : float, optional
        Cut the entries of inner gradients; the released code means to, at 2, but does not.
    past_only : bool, default False
        From the second task on, replay what was in memory when the task began.  The released
        code has this option on, but replays from the live memory all the same.
    off_by_one : bool, default False
        See :class:`~wheretolearn.continual.replay.Reservoir`; true in the released code.
    """

    saved = ("rule_params", "memory", "past")

    def __init__(
        self,
        *,
        rule: Rule,
        memory: int,
        rule_rate: float = 0.0,
        outer_rate: float | None = None,
        replay: int = 10,
        glances: int = 5,
        clamp: float | None = None,
        past_only: bool = False,
        off_by_one: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        at_least(
            0, rule_rate=rule_rate, outer_rate=outer_rate or 0, replay=replay, clamp=clamp or 0
        )
        at_least(1, glances=glances)
        rule.check_alike()
        self.rule, self.rule_rate, self.outer_rate = rule, rule_rate, outer_rate
        self.replay, self.glances, self.clamp, self.past_only = replay, glances, clamp, past_only
        # another generator, so that learners with and without a mask see the same afterwards
        generator = torch.Generator().manual_seed(self.generator.initial_seed() + _OF_RULES)
        frozen = {n: torch.empty(0) for n in self.params.keys() - self.moving}  # have no numbers
        numbers = rule.init(self.params | frozen, generator)
        self.rule_params = {n: m for n, m in numbers.items() if n not in frozen}
        self.memory = Reservoir(memory, self.generator, off_by_one=off_by_one)
        self.past = self.memory.copy()

    @torch.enable_grad()
    def observe(self, batch: Batch) -> float:
        """Learn a batch, and return the meta-loss at the last glance."""
        for glance in range(self.glances):
            order = torch.randperm(len(batch.targets), generator=self.generator)
            shuffled = Batch(batch.inputs[order], batch.targets[order])
            memory = self.past if self.past_only and self.tasks_ended else self.memory
            meta = self._meta_gradient(shuffled, memory.sample(self.replay, batch))
            if glance == 0:
                self.memory.add(shuffled)
            if self.rule_params:
                rule_grads = self.rule.pull_back(self.rule_params, meta.rates)
                clip(rule_grads)
                self.rule_params = {
                    n: m - self.rule_rate * rule_grads[n] for n, m in self.rule_params.items()
                }
            clip(meta.params)
            if self.outer_rate is not None:
                self.descend(meta.params, self.outer_rate)
            else:
                rates = self.rates()
                self.params = self.params | {
                    n: self.params[n] - rates.get(n, 0.0) * g for n, g in meta.params.items()
                }
        return float(meta.loss)

    def _meta_gradient(self, current: Batch, replayed: Batch) -> ReplayGradient:
        rates, learned = self.rates(), self.rule.learned
        if len(current.targets) == 0:
            raise ValueError("there is no sample to learn: the batch is empty")
        if self.clamp is None and (by_hand := self.shortcut("meta_gradient", current, replayed)):
            return by_hand(self.params, rates, current, replayed, learn_rates=learned)
        return by_autograd(
            self.outputs,
            self.criterion,
            {n: self.params[n] for n in self.moving},
            rates,
            current,
            replayed,
            learn_rates=learned,
            clamp=self.clamp,
        )

    def rates(self) -> Rates:
        """Return the rates of the rule."""
        rates = self.rule.rates(self.rule_params, self.params)
        rates = {n: rates[n] for n in rates if n in self.moving}
        return {n: r.detach() if isinstance(r, Tensor) else r for n, r in rates.items()}

    def end_task(self) -> None:
        """Remember what the memory holds, where only the past is replayed."""
        super().end_task()
        if self.past_only:
            self.past = self.memory.copy()


@torch.enable_grad()
def by_autograd(
    forward: Forward,
    criterion: Criterion,
    params: Mapping[str, Tensor],
    rates: Rates,
    current: Batch,
    replay: Batch,
    *,
    learn_rates: bool = True,
    clamp: float | None = None,
) -> ReplayGradient:
    """Find the meta-gradient by autograd through the steps, for any network.

    Parameters
    ----------
    forward, criterion : callable
        The network and its loss, see :mod:`wheretolearn.inner_loop`.
    params, rates
        The weights `w`, and the rate of each moving parameter, a tensor or a number.
    current, replay : Batch
        The samples that arrive, at least one, and those replayed, possibly none.
    learn_rates : bool, default True
        Whether the gradient for the rates is wanted.
    clamp : float, optional
        Cut every entry of the inner gradients to [-clamp, clamp].
    """
    rows = Batch(*(torch.cat(pair) for pair in zip(replay, current, strict=True)))
    leaves = {n: p.detach().requires_grad_() for n, p in params.items()}
    rate = {
        n: torch.as_tensor(r, dtype=leaves[n].dtype, device=leaves[n].device)
        .detach()
        .expand(leaves[n].shape)
        .clone()
        .requires_grad_(learn_rates)
        for n, r in rates.items()
    }
    fast = dict(leaves)
    total = torch.zeros((), dtype=rows.inputs.dtype, device=rows.inputs.device)
    for x, y in zip(current.inputs.split(1), current.targets.split(1), strict=True):
        if rate:
            inner = criterion(forward(fast, x), y)
            grads = gradients(inner, [fast[n] for n in rate], inner=True)
            if clamp is not None:
                grads = tuple(g.clamp(-clamp, clamp) for g in grads)
            fast |= {n: fast[n] - r * g for (n, r), g in zip(rate.items(), grads, strict=True)}
        total = total + criterion(forward(fast, rows.inputs), rows.targets)
    loss = total / len(current.targets)
    wanted = [*leaves.values(), *(rate.values() if learn_rates else ())]
    grads = gradients(loss, wanted)
    return ReplayGradient(
        loss.detach(),
        dict(zip(leaves, grads, strict=False)),
        dict(zip(rate, grads[len(leaves) :], strict=True)) if learn_rates else {},
    )
