r"""C-MAML with a prolonged adaptation phase: adapt further and further until the context shifts.

The fast weights go on from where they are, :math:`\phi \leftarrow U_K(\phi; \text{batch})`, and
the batches are kept.  Where the loss falls by the margin or more the context is taken to have
changed.  Then the slow weights learn from what was kept, with the older half of the batches to
adapt to and the younger half to be judged on, pair by pair (of an odd number the one in the middle
is left out); the fast weights start again from the slow ones; and the batch at hand is the first
that is kept of the new context.

In the branch behind the sparse learners

- the fast weights are reset one step late: at the batch *after* the one that gave the shift
  away (``late=True`` does so here);
- the batch that gave the shift away is not kept, nor the one at which too many are kept;
- the threshold :math:`\lambda` is computed but has no effect;
- the fast weights keep the graph of all their steps, so memory grows until a shift.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from ...inner_loop import first_order
from ...meta import MetaLearner
from ...types import Batch, Params, Task
from .c_maml import CMAML


class ProlongedCMAML(CMAML):
    """C-MAML whose fast weights accumulate until a shift.

    Parameters
    ----------
    slow : MetaLearner
        Slow weights, rule, inner steps and Adam.
    late : bool, default False
        Reset the fast weights one step late, as the released branch does.
    **others
        See :class:`~wheretolearn.continual.osaka.c_maml.CMAML`; threshold and modulation apply to
        the mean loss on the younger batches.

    Notes
    -----
    Also without a shift the slow weights learn once more batches are kept than two for each image
    of a step, as in the released code.
    """

    saved = ("kept", "restart")
    uses_sums = False  # it takes those of the kept batches anew

    def __init__(self, slow: MetaLearner, *, late: bool = False, **others: Any) -> None:
        super().__init__(slow, **others)
        self.late = late
        self.kept: list[list[torch.Tensor]] = []  # inputs and targets of batches of one context
        self.restart = False

    @torch.enable_grad()
    def observe(self, batch: Batch) -> None:
        """Adapt further; at a shift learn from the context that is over, and start again."""
        first = not self.fast
        before = self.loss(batch)
        self.adapt(batch, self.slow.params if self.restart else self.weights)
        self.restart = False
        self.shifted = not first and self.shift(before, batch)
        if self.shifted or len(self.kept) > 2 * len(batch.targets):
            self.learn()
            self.kept = []
        if self.shifted and self.late:
            self.restart = True
        elif self.shifted:
            self.adapt(batch, self.slow.params)
        self.kept.append(list(batch))

    def learn(self) -> None:
        """Meta-learn from the batches that were kept, at least one."""
        batches = [Batch(*tensors) for tensors in self.kept]
        half = math.ceil(len(batches) / 2)
        pairs = list(zip(batches, batches[half:] or batches, strict=False))
        params: Params = {}
        rates: Params = {}
        losses = []
        start = self.slow.begin()
        for support, query in pairs:
            found = first_order(*start, Task(support, query), self.slow.inner_steps)
            losses.append(float(found.loss))
            for total, grads in ((params, found.params), (rates, found.rates)):
                for n, g in grads.items():
                    total[n] = total.get(n, 0.0) + g / len(pairs)
            images = self.slow.inner_steps * len(support.targets) + len(query.targets)
            self.gradients += images
        loss = math.fsum(losses) / len(losses)
        if self.weight(loss) > 0:
            self.step(loss, params, rates)
