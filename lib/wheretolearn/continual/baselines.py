r"""Baselines: online SGD, elastic weight consolidation, gradient episodic memory, MER.

*EWC* holds weights that mattered to old tasks by springs: after each task the parameters
:math:`w^*` and the diagonal `F` of the Fisher information are kept, and later batches are learned
under

.. math:: L(w) + \frac{\lambda}{2} \sum_{\text{old tasks}} \sum_i F_i (w_i - w^*_i)^2

(Kirkpatrick et al., 2017).  :math:`F_i` is the mean, over samples of the task, of the squared
gradient of the log-likelihood of the sample's own class; some code squares the mean instead.

*GEM* lets no step raise the loss on an earlier task's memory: where the gradient `g` of a batch
points against one of the gradients :math:`g_t` on those memories, it is replaced by the nearest
vector that points against none,

.. math:: \tilde g = g + \sum_t v_t g_t, \qquad
          v = \arg\min_{v \ge \text{margin}} \tfrac12 \Big\| g + \sum_t v_t g_t \Big\|^2

(Lopez-Paz and Ranzato, 2017, where a margin above 0 favours the past).  A memory that is fitted has
a gradient many orders of magnitude shorter than one that is not, and its direction asks for as
much.  So it matters in which precision gradients are computed: as in the released code, it is
that of the weights, unless ``exact`` is set.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..states import kept_buffers
from ..types import Batch, Params
from .base import Learner, at_least
from .replay import Reservoir
from .task_gradients import Factored, Stacked, TaskGradients

_NOT_EXACT = "exact gradients are there for a perceptron with one head, on the CPU"


class Online(Learner):
    """Take one gradient step on every batch, or a few.

    Parameters
    ----------
    rate : float
        Learning rate.
    glances : int, default 1
        Steps on each batch.
    """

    def __init__(self, *, rate: float, glances: int = 1, **base: Any) -> None:
        super().__init__(**base)
        at_least(0, rate=rate)
        at_least(1, glances=glances)
        self.rate, self.glances = rate, glances

    def observe(self, batch: Batch) -> float:
        """Learn a batch, and return its loss at the last glance."""
        for _ in range(self.glances):
            loss, grads = self.gradient(batch)
            self.descend(grads, self.rate)
        return loss


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
        square of the mean gradient of its first ones, which is never larger on the same samples.
    fisher_samples : int, default 200
        Samples of a task, at least 1, from which its Fisher information is estimated.
    glances : int, default 1
        Steps on each batch.

    Notes
    -----
    The springs of all tasks add up to one for each weight, with stiffness
    :math:`\sum F` and rest position :math:`\sum F w^* / \sum F`, so memory does not grow.

    A strength means something for one estimate only.  The script released with MER (Riemer et
    al., 2019) has 100, 10 and 1 for the three streams and runs a copy of the EWC released with
    GEM: ``fisher="mean"`` with 10 samples, batches of one, and no factor 1/2 before the springs,
    so :math:`\lambda` = 200, 20 and 2 here.  Whether the accuracies that Gupta et al. (2020) report
    for EWC are those of that script is not known.
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
        chosen = slice(self.count) if self.of_mean else slice(-self.count, None)
        self.samples = [torch.cat(parts)[chosen] for parts in joined]
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
                of_tasks = self._gradients(batch, grads)
                weights = turn(of_tasks.gram(), self.margin)
                if weights.any():
                    grads = of_tasks.mixture(np.concatenate([[1.0], weights]))
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
        The weight `v` of each earlier gradient; zeros if the gradient points against none, NaN if
        not all products are finite.
    """
    from scipy.optimize import nnls  # noqa: PLC0415

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


class MER(Learner):
    r"""For every sample, several small Reptile steps with replayed ones (Riemer et al., 2019).

    Algorithm 1 of the paper: a trajectory of SGD steps on single samples moves the weights
    from :math:`w` to :math:`w'`, and what is kept is :math:`w + \beta (w' - w)`; over all
    trajectories of an incoming sample the same is done with :math:`\gamma`.

    Parameters
    ----------
    rate : float
        Learning rate of the single steps.
    memory : int
        Samples that the memory holds.
    replay : int, default 10
        Replayed samples of a trajectory; the incoming one goes first.
    trajectories : int, default 5
        Trajectories for each incoming sample.
    beta, gamma : float, default 0.03 and 1
        Shares of the way that are kept.
    off_by_one : bool, default False
        See :class:`~wheretolearn.continual.replay.Reservoir`; true in the released code.
    """

    saved = ("memory",)

    def __init__(
        self,
        *,
        rate: float,
        memory: int,
        replay: int = 10,
        trajectories: int = 5,
        beta: float = 0.03,
        gamma: float = 1.0,
        off_by_one: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        at_least(0, rate=rate, replay=replay, beta=beta, gamma=gamma)
        at_least(1, trajectories=trajectories)
        self.rate, self.beta, self.gamma = rate, beta, gamma
        self.replay, self.trajectories = replay, trajectories
        self.memory = Reservoir(memory, self.generator, off_by_one=off_by_one)

    def observe(self, batch: Batch) -> float:
        """Learn a batch sample by sample, and return the mean loss of all steps."""
        losses: list[float] = []
        descend = self.shortcut("descend")
        for x, y in zip(batch.inputs.split(1), batch.targets.split(1), strict=True):
            incoming, before = Batch(x, y), self.params
            for _ in range(self.trajectories):
                losses += self._trajectory(incoming, descend)
            self._back(before, self.gamma)
            self.memory.add(incoming)
        return sum(losses) / len(losses)

    def _trajectory(self, incoming: Batch, descend: Callable[..., Any] | None) -> list[float]:
        start, losses = self.params, []
        replayed = self.memory.sample(self.replay, incoming)
        both = Batch(*(torch.cat(pair) for pair in zip(incoming, replayed, strict=True)))
        if descend and self.fits(both):
            self.params, losses = descend(self.params, both, self.rate)
        else:
            for x, y in zip(both.inputs.split(1), both.targets.split(1), strict=True):
                loss, grads = self.gradient(Batch(x, y))
                self.descend(grads, self.rate)
                losses.append(loss)
        self._back(start, self.beta)
        return losses

    def _back(self, start: dict[str, Any], share: float) -> None:
        """Keep a share of the way from `start`."""
        moved = {n: start[n] + share * (self.params[n] - start[n]) for n in self.moving}
        self.params = self.params | moved
