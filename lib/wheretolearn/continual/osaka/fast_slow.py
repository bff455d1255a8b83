r"""What every learner in OSAKA's stream has: slow weights, fast weights, a forecast.

The *slow* weights :math:`\theta`, the numbers of the rule and their optimizer are a
:class:`~wheretolearn.meta.MetaLearner`, so a pretrained one can go on in the stream.  The *fast*
weights :math:`\phi` are those that the inner loop has moved; they predict the next batch, with
the slow values of all parameters that never move.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ...inner_loop import adapt, gradients
from ...meta import MetaLearner
from ...rules import Count
from ...states import check_like, check_optimizer, check_settings, kept_buffers, kind_of, whole
from ...types import Batch, Params

_SAVED = ("fast", "sums", "shifted", "gradients", "outer_steps")
"""Attributes of every learner that learning changes."""


class FastSlowLearner(ABC):
    """A learner that predicts a batch first and is told its labels then; the base class of all.

    Parameters
    ----------
    slow : MetaLearner
        Initial weights, rule, loss, inner steps and optimizer; it is changed in place.

    Attributes
    ----------
    shifted : bool
        Whether the last batch looked like the first of a new context.
    gradients : int
        Images that gradients were taken of so far, one for each image and gradient.
    outer_steps : int
        Steps that the optimizer of the slow weights took in the stream so far; 0 for
        :class:`Online`, which takes one at every batch.
    """

    saved: tuple[str, ...] = ()
    """Attributes that learning changes, besides those of every learner."""

    uses_sums = False
    """Whether it learns from the sums of inner gradients, for which all have to be taken."""

    def __init__(self, slow: MetaLearner) -> None:
        slow.rule.check_alike()
        self.slow = slow
        self.moving = list(slow.learned())
        self.fast: Params = {}
        self.sums: Params = {}  # of the inner gradients that led there, of tensors that moved
        self.shifted = False
        self.gradients = 0
        self.outer_steps = 0

    @property
    def weights(self) -> Params:
        """The weights that predict: the fast ones, and the slow ones that never move."""
        return self.slow.params | self.fast

    @torch.no_grad()
    def predict(self, inputs: Tensor) -> Tensor:
        """Return the outputs of the present weights, [B, ways]; nothing is learned."""
        with kept_buffers(self.slow.module):
            return self.slow.forward(self.weights, inputs)

    def loss_of_leaves(self, batch: Batch) -> tuple[Tensor, Params]:
        """Return the loss of the present weights, and those that it can be differentiated for."""
        weights = self.weights
        leaves = {n: weights[n].detach().requires_grad_() for n in self.moving}
        outputs = self.slow.forward(weights | leaves, batch.inputs)
        return self.slow.criterion(outputs, batch.targets), leaves

    @abstractmethod
    def observe(self, batch: Batch) -> None:
        """Learn a batch whose labels are now known."""

    @torch.enable_grad()
    def adapt(self, batch: Batch, start: Mapping[str, Tensor]) -> None:
        """Run the inner loop on a batch from some weights; its end are the fast weights.

        Tensors whose rates are all zero stay where they are, so nothing is differentiated for
        them, and layers before the first that moves are computed once.  The end is the same; where
        the sums are used, all gradients are taken.
        """
        forward, criterion, _, rates = self.slow.begin()
        moving = {n: r for n, r in rates.items() if self.uses_sums or torch.as_tensor(r).any()}
        adapted = adapt(forward, criterion, start, moving, batch, self.slow.inner_steps)
        # the others still share memory with the start, which may be the slow weights
        self.fast = {n: adapted.params[n].clone() for n in rates}
        self.sums = adapted.gradient_sum
        self.gradients += self.slow.inner_steps * len(batch.targets)

    @torch.no_grad()
    def loss(self, batch: Batch) -> float:
        """Return the loss of the present weights."""
        return float(self.slow.criterion(self.predict(batch.inputs), batch.targets))

    def frozen(self) -> dict[str, Count]:
        """Count the weights whose learned rate is zero, of each tensor that the rule lets move.

        Empty where rates are not learned.
        """
        if not self.slow.rule.learned:
            return {}
        counts = self.slow.frozen()
        return {n: counts[n] for n in self.slow.rule.moves(self.slow.params)}

    def rates(self) -> dict[str, float]:
        """Return the mean learned rate of each tensor that may move; empty without such rates."""
        if not self.slow.rule.learned:
            return {}
        return {n: float(torch.as_tensor(r).mean()) for n, r in self.slow.begin()[-1].items()}

    def numbers(self) -> dict[str, float]:
        """Return the learned number of each tensor, where the rule has one for each."""
        return {n: float(m) for n, m in self.slow.rule_params.items() if m.ndim == 0}

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that learning changes."""
        state: dict[str, Any] = {"slow": self.slow.state_dict()}
        state["settings"] = kind_of(self, (*_SAVED, *self.saved))
        for name in (*_SAVED, *self.saved):
            value = getattr(self, name)
            state[name] = value.state_dict() if hasattr(value, "state_dict") else value
        return copy.deepcopy(state)

    @whole
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        mine = self.state_dict()
        check_like({n: None if isinstance(v, dict) else v for n, v in mine.items()}, state)
        check_settings(mine["settings"], state["settings"])
        for name in self.saved:
            if isinstance(optimizer := getattr(self, name), torch.optim.Optimizer):
                moving = {n: self.slow.params[n] for n in self.moving}
                check_optimizer(optimizer, state[name], moving)
        for name in ("fast", "sums"):
            some = {n: p for n, p in self.slow.params.items() if n in (state[name] or ())}
            check_like(some, state[name], f"the state, {name!r}")
        state = copy.deepcopy(state)
        self.slow.load_state_dict(state["slow"])
        for name in (*_SAVED, *self.saved):
            value = getattr(self, name)
            if hasattr(value, "load_state_dict"):
                value.load_state_dict(state[name])
            else:
                setattr(self, name, _on(self.slow.device, state[name]))


def _on(device: torch.device, value: Any) -> Any:
    """Return tensors, in lists and dicts too, on a device: a state read from a file is not."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {k: _on(device, v) for k, v in value.items()}
    return [_on(device, v) for v in value] if isinstance(value, list) else value


class Adapter(FastSlowLearner):
    r"""MAML and its relatives with everything but the fast weights frozen.

    .. math:: \phi \leftarrow U_K(\theta; \text{batch})

    The fast weights are those that `K` inner steps on the last batch make of the slow ones,
    which stay what pretraining made of them.  The rule says which of the family it is: MAML, ANIL
    (the last layer only), or MAML with learned, possibly sparse, rates.

    Parameters
    ----------
    slow : MetaLearner
        Pretrained.
    """

    def observe(self, batch: Batch) -> None:
        """Adapt the slow weights to the batch."""
        self.adapt(batch, self.slow.params)


class Online(FastSlowLearner):
    """Online gradient descent: one step of an optimizer on every batch, and no fast weights.

    From scratch this is the simplest learner; from pretrained weights it is fine-tuning.  What
    the code released with OSAKA calls online SGD takes steps of Adam.

    Parameters
    ----------
    slow : MetaLearner
        Where to start; of it only network, weights and loss are used.
    rate : float
        Learning rate.
    optimizer : {"adam", "sgd"}, default "adam"
        What makes the step.
    """

    saved = ("optimizer",)

    def __init__(
        self, slow: MetaLearner, *, rate: float, optimizer: Literal["adam", "sgd"] = "adam"
    ) -> None:
        super().__init__(slow)
        known: dict[str, Any] = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
        if optimizer not in known:
            raise ValueError(f"optimizer must be 'adam' or 'sgd', got {optimizer!r}")
        self.optimizer = known[optimizer]([slow.params[n] for n in self.moving], lr=rate)

    @torch.enable_grad()
    def observe(self, batch: Batch) -> None:
        """Step down the gradient of the batch."""
        loss, leaves = self.loss_of_leaves(batch)
        for n, g in zip(leaves, gradients(loss, leaves.values()), strict=True):
            self.slow.params[n].grad = g
        self.optimizer.step()
        self.gradients += len(batch.targets)
