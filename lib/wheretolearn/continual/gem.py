r"""Gradient episodic memory: no step may raise the loss on an earlier task's memory.

Where the gradient `g` of a batch points against one of the gradients :math:`g_t` on the
memories of earlier tasks, it is replaced by the nearest vector that points against none,

.. math:: \tilde g = g + \sum_t v_t g_t, \qquad
          v = \arg\min_{v \ge \text{margin}} \tfrac12 \Big\| g + \sum_t v_t g_t \Big\|^2

(Lopez-Paz and Ranzato, 2017, where a margin above 0 favours the past).

A memory that is fitted has a gradient many orders of magnitude shorter than one that is not, and
its direction asks for as much.  So it matters in which precision gradients are computed: as in
the released code, it is that of the weights, unless ``exact`` is set.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from ..types import Batch, Params
from .base import Learner, at_least
from .task_gradients import Factored, Stacked, TaskGradients

_NOT_EXACT = "exact gradients are there for a perceptron with one head, on the CPU"


class GEM(Learner):
    """SGD on each batch, with gradients turned away from the harm of earlier tasks.

    Parameters
    ----------
    rate : float
        Learning rate.
    memory : int
        Samples that all tasks together keep.
    tasks : int
        Number of tasks; each keeps its last ``memory // tasks`` samples.
    margin : float, default 0.5
        Least weight of every earlier gradient, once one is violated.
    glances : int, default 1
        Steps on each batch.
    exact : bool, default False
        Compute gradients in double precision where steps are turned.
    **base
        See :class:`~wheretolearn.continual.base.Learner`.

    Raises
    ------
    ValueError
        If the memory holds less than one sample for each task, another number is below what
        makes sense, or `exact` is asked for with another network than a perceptron.
    """

    saved = ("current", "past")

    def __init__(
        self,
        *,
        rate: float,
        memory: int,
        tasks: int,
        margin: float = 0.5,
        glances: int = 1,
        exact: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        at_least(0, rate=rate, margin=margin)
        at_least(1, glances=glances)
        self.rate, self.margin, self.glances, self.exact = rate, margin, glances, exact
        if exact and not self.plain_mlp():
            raise ValueError(_NOT_EXACT)
        self.each = memory // tasks
        if self.each < 1:
            raise ValueError(
                f"a memory must hold a sample of each of {tasks} tasks, got size {memory}"
            )
        self.current: list[Tensor] = []  # inputs and targets of the last samples of this task
        self.past: list[list[Tensor]] = []  # the same of earlier tasks

    def observe(self, batch: Batch) -> float:
        """Learn a batch, and return its loss at the last glance."""
        joined = zip(self.current, batch, strict=True) if self.current else ((t,) for t in batch)
        self.current = [torch.cat(parts)[-self.each :] for parts in joined]
        for _ in range(self.glances):
            loss, grads = self.gradient(batch)
            if self.past and grads:
                found = self._gradients(batch, grads)
                weights = turn(found.gram(), self.margin)
                if weights.any():
                    grads = found.mixture(np.concatenate([[1.0], weights]))
            self.descend(grads, self.rate)
        return loss

    def _gradients(self, batch: Batch, grads: Params) -> TaskGradients:
        """Return the gradient on the batch, which is given, and those on the memories."""
        memories = [Batch(*m) for m in self.past]
        if self.plain_mlp(batch, *memories):
            return Factored(self.params, [batch, *memories], exact=self.exact)
        if self.exact:
            raise ValueError(_NOT_EXACT)
        return Stacked([grads, *(self.gradient(m)[1] for m in memories)])

    def end_task(self) -> None:
        """Keep what the task leaves in memory."""
        super().end_task()
        if self.current:
            self.past.append(self.current)
            self.current = []


def turn(products: np.ndarray, margin: float) -> np.ndarray:
    """Find what to add to a gradient so that it points against none of the memories' gradients.

    Parameters
    ----------
    products : ndarray, shape [1 + t, 1 + t]
        Inner products of the gradient wanted, which comes first, and those of earlier tasks.
    margin : float
        Least weight of each, 0 or more.

    Returns
    -------
    ndarray, shape [t]
        The weight `v` of each earlier gradient; zeros, if the gradient points against none; NaN,
        if not all products are finite.
    """
    past, gram = products[1:, 0], products[1:, 1:]
    if not np.isfinite(products).all():  # the learner has diverged: let its weights show it
        return np.full(len(past), np.nan)
    if (past >= 0).all():
        return np.zeros(len(past))
    # gradients of unit length, or one fitted long ago would count for nothing beside the others
    norms = np.sqrt(gram.diagonal())
    norms[norms == 0] = 1.0  # asks for nothing
    unit, least = gram / np.outer(norms, norms), margin * norms
    values, vectors = np.linalg.eigh(unit)
    roots = np.sqrt(np.maximum(values, 0.0) + 1e-9 * len(unit))
    # what the weights exceed the margin by; the least squares are those of the t x t problem
    shifted = past / norms + unit @ least
    excess, _ = nnls(roots[:, None] * vectors.T, -(vectors.T @ shifted) / roots)
    return margin + excess / norms
