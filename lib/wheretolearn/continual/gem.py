r"""Gradient episodic memory: no step may raise the loss on an earlier task's memory.

Where the gradient `g` of a batch points against one of the gradients :math:`g_t` on the
memories of earlier tasks, it is replaced by the nearest vector that points against none,

.. math:: \tilde g = g + \sum_t v_t g_t, \qquad
          v = \arg\min_{v \ge \text{margin}} \tfrac12 \Big\| g + \sum_t v_t g_t \Big\|^2

(Lopez-Paz and Ranzato, 2017, where a margin above 0 favours the past).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls
from torch import Tensor

from ..inner_loop import Batch
from .learner import Learner


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
    **base
        See :class:`~wheretolearn.continual.learner.Learner`.

    Raises
    ------
    ValueError
        If the memory holds less than one sample for each task.
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
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.rate, self.margin, self.glances = rate, margin, glances
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
            if self.past:
                flat = _flat(grads)
                memories = np.stack([_flat(self.gradient(Batch(*m))[1]) for m in self.past])
                safe = torch.from_numpy(project(flat, memories, self.margin))
                sizes = [g.numel() for g in grads.values()]
                parts = safe.to(next(iter(grads.values())).dtype).split(sizes)
                grads = {n: p.view_as(grads[n]) for n, p in zip(grads, parts, strict=True)}
            self.descend(grads, self.rate)
        return loss

    def end_task(self) -> None:
        """Keep what the task leaves in memory."""
        super().end_task()
        if self.current:
            self.past.append(self.current)
            self.current = []


def project(gradient: np.ndarray, memories: np.ndarray, margin: float) -> np.ndarray:
    """Turn a gradient so that it points against none of the memories' gradients.

    Parameters
    ----------
    gradient : ndarray, shape [p]
        The gradient wanted.
    memories : ndarray, shape [t, p]
        Gradients of earlier tasks.
    margin : float
        Least weight of each, 0 or more.

    Returns
    -------
    ndarray, shape [p]
        The gradient itself, if it points against none.
    """
    if (memories @ gradient >= 0).all():
        return gradient
    shifted = gradient + margin * memories.sum(0)
    gram = memories @ memories.T
    lower = cholesky(gram + 1e-9 * np.trace(gram) * np.eye(len(gram)), lower=True)
    # what the weights exceed the margin by; the least squares are those of the t x t problem
    excess, _ = nnls(lower.T, -solve_triangular(lower, memories @ shifted, lower=True))
    return shifted + excess @ memories


def _flat(grads: dict[str, Tensor]) -> np.ndarray:
    return torch.cat([g.flatten() for g in grads.values()]).double().numpy()
