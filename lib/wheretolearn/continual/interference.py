r"""How much what arrives disagrees with what was learned before: cosines between gradients.

Before every so many samples of a task, the gradient `g` of the loss on those that arrive is
compared with the gradient `h` on a few samples of each earlier task, at the weights as they are.
The cosine is taken of the gradients whole, of both as the learner's rates `r` let them act, and of
a step that the rates let act with a whole gradient,

.. math:: \cos(g, h), \qquad \cos(r \circ g,\; r \circ h), \qquad \cos(r \circ g,\; h) .

To first order a step :math:`-r \circ g` changes the loss on earlier tasks by
:math:`-\langle r \circ g, h\rangle`, so its sign is that of the third; for a mask also that of the
second.  Below zero, a step that helps the new task harms the old ones (Riemer et al., 2019).
For learners whose weights move by another rate (``sync``, ``sparse-la-maml-plain``) the step is
that of the look-ahead alone.

Nothing that a learner does depends on these numbers, and all are asked the same: the samples of
earlier tasks are the first ones that arrived, whatever a learner's memory holds.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..states import kept_buffers
from ..types import Batch, Params
from .base import Learner

EVERY = 100
"""Samples of a task between two comparisons."""

COSINES = ("gradient", "step", "effect", "switch")
"""The three cosines, and the first of them once more, at a task's first comparison alone."""

EACH = 10
"""Samples that arrive at a comparison, and that are kept of each earlier task."""


class Interference:
    """Compares gradients along a stream.

    Its ``cosines`` are the means of each task learned, see :data:`COSINES`; ``step`` and ``effect``
    where the learner has rates; None for the first task, and where a gradient was zero.
    """

    def __init__(self) -> None:
        self.past: list[list[Tensor]] = []  # inputs and targets of each earlier task
        self.here: dict[str, list[float]] = {}  # of this task
        self.cosines: dict[str, list[float | None]] = {}

    def measure(self, learner: Learner, arriving: Batch) -> None:
        """Compare the gradient on samples that arrive with that on those of earlier tasks."""
        first = not self.here
        rates = learner.rates()
        for name in ("gradient", "switch") if rates is None else COSINES:
            self.here.setdefault(name, [])
        if not self.past or not learner.moving:
            return
        earlier = Batch(*(torch.cat(parts) for parts in zip(*self.past, strict=True)))
        with kept_buffers(learner.network):
            new, old = (learner.gradient(b)[1] for b in (arriving, earlier))
        self._compare("gradient", new, old)
        if first:
            self._compare("switch", new, old)
        if rates is not None:
            act, react = ({n: rates.get(n, 0.0) * g[n] for n in g} for g in (new, old))
            self._compare("step", act, react)
            self._compare("effect", act, old)

    def _compare(self, name: str, new: Params, old: Params) -> None:
        a, b = (torch.cat([t.flatten() for t in p.values()]) for p in (new, old))
        if a.any() and b.any():
            self.here[name].append(float(F.cosine_similarity(a, b, dim=0)))

    def end_task(self, samples: Batch) -> None:
        """Take the mean of the task, and keep its first samples."""
        for name, values in self.here.items():
            mean = sum(values) / len(values) if values else None
            self.cosines.setdefault(name, []).append(mean)
        self.here = {}
        self.past.append([samples.inputs[:EACH].clone(), samples.targets[:EACH].clone()])

    def state_dict(self) -> dict[str, Any]:
        """Return all that the methods change."""
        return {"past": self.past, "here": self.here, "cosines": self.cosines}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        self.past, self.here, self.cosines = state["past"], state["here"], state["cosines"]
