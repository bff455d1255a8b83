r"""The family of La-MAML: look ahead on the batch, then step where the past agrees.

At each of several *glances* at a batch the network learns its samples one by one with the
rates `r(m)` of a rule, is judged after each on the batch and replayed samples together, and
the meta-gradient (:mod:`wheretolearn.continual.replay_gradient`) moves first the numbers `m`
of the rule, then the weights:

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

from typing import Any

import torch

from ..fast.mlp import by_hand
from ..rules import Rule
from ..types import Batch, Rates
from .base import Learner, at_least, clip
from .memory import Reservoir
from .replay_gradient import ReplayGradient, by_autograd

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
        See :class:`~wheretolearn.continual.memory.Reservoir`; true in the released code.
    **base
        See :class:`~wheretolearn.continual.base.Learner`.

    Raises
    ------
    ValueError
        If a number is below what makes sense, or the rule has noise or a masked start.
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
        # numbers of its own, so that learners with and without a mask see the same afterwards
        own = torch.Generator().manual_seed(self.generator.initial_seed() + _OF_RULES)
        frozen = {n: torch.empty(0) for n in self.params.keys() - self.moving}  # have no numbers
        numbers = rule.init(self.params | frozen, own)
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
            found = self._meta_gradient(shuffled, memory.sample(self.replay, batch))
            if glance == 0:
                self.memory.add(shuffled)
            if self.rule_params:
                rule_grads = self.rule.pull_back(self.rule_params, found.rates)
                clip(rule_grads)
                self.rule_params = {
                    n: m - self.rule_rate * rule_grads[n] for n, m in self.rule_params.items()
                }
            clip(found.params)
            if self.outer_rate is not None:
                self.descend(found.params, self.outer_rate)
            else:
                rates = self.rates()
                self.params = self.params | {
                    n: self.params[n] - rates.get(n, 0.0) * g for n, g in found.params.items()
                }
        return float(found.loss)

    def _meta_gradient(self, current: Batch, replayed: Batch) -> ReplayGradient:
        rates, learned = self.rates(), self.rule.learned
        if self.clamp is None and self.plain_mlp(current, replayed):
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
        found = self.rule.rates(self.rule_params, self.params).items()
        rates = {n: r for n, r in found if n in self.moving}
        return {n: r.detach() if isinstance(r, torch.Tensor) else r for n, r in rates.items()}

    def end_task(self) -> None:
        """Remember what the memory holds, where only the past is replayed."""
        super().end_task()
        if self.past_only:
            self.past = self.memory.copy()
