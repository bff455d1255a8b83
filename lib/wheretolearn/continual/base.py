"""What every continual learner has: a network, a stream of batches, a state that can be saved."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import seam
from ..inner_loop import FunctionalModule, gradients
from ..networks import MLP
from ..states import check_like, check_settings, kept_buffers, kind_of, whole
from ..types import Batch, Criterion, Params, Rates
from ..unmodified import unmodified

CLIP = 2.0
"""Largest norm of a gradient in La-MAML and its relatives (Gupta et al., 2020), and in replay."""


class Learner(ABC):
    """A network that learns from batches as they come; the base class of all learners.

    Parameters
    ----------
    network : nn.Module
        Where to start; its parameters are copied.  Those that require no gradient now never move.
    generator : torch.Generator
        Source of all randomness of the learner.
    ways : int, optional
        Classes of a task's own head, see :class:`~wheretolearn.continual.streams.stream.Stream`.
    """

    saved: tuple[str, ...] = ()
    """Attributes that learning changes, besides parameters and generator."""

    def __init__(
        self, network: nn.Module, generator: torch.Generator, *, ways: int | None = None
    ) -> None:
        self.network, self.generator, self.ways = network, generator, ways
        self.forward = FunctionalModule(network)
        self.criterion = in_heads(ways)
        self.params: Params = {n: p.detach().clone() for n, p in network.named_parameters()}
        self.moving = trainable(network)
        self.tasks_ended = 0

    def shortcut(self, purpose: str, *batches: Batch) -> Callable[..., Any] | None:
        """Return a faster way to the same numbers, if there is one: :mod:`wheretolearn.seam`."""
        return seam.fast(purpose) if self.plain_mlp(*batches) else None

    def plain_mlp(self, *batches: Batch) -> bool:
        """Return whether the gradients on batches can be had by hand.

        That is so for an MLP with one head, on the CPU, that does what its class says, whose
        weights and biases are all its parameters, and move; and for batches, maybe empty, of its
        type, width and classes.  For all else autograd finds the gradient, or what is wrong.
        """
        mlp = self.network
        if type(mlp) is not MLP or not unmodified(mlp, MLP, nn.Linear, nn.ModuleList):
            return False
        names = [f"layers.{i}.{n}" for i in range(len(mlp.layers)) for n in ("weight", "bias")]
        if mlp.dropout or len(mlp.layers) < 2 or not list(self.params) == self.moving == names:
            return False
        first, *_ = tensors = list(self.params.values())
        return (
            self.criterion is cross_entropy
            and not torch.is_autocast_enabled("cpu")
            and not torch.is_inference_mode_enabled()
            and first.dtype in (torch.float32, torch.float64)
            and all(p.is_cpu and p.dtype == first.dtype for p in tensors)
            and all(self.fits(b) for b in batches)
        )

    def fits(self, batch: Batch) -> bool:
        """Return whether a batch is of the type, width and classes of a plain MLP."""
        inputs, targets = batch
        first, *_, last = self.params.values()
        return (
            inputs.dtype == first.dtype
            and inputs.shape[1:].numel() == first.shape[1]
            and targets.dtype == torch.int64
            and targets.shape == inputs.shape[:1]
            and all(0 <= c < len(last) for c in targets.tolist())  # a few: faster than as a tensor
        )

    @abstractmethod
    def observe(self, batch: Batch) -> float:
        """Learn a batch that arrives, and return a training loss."""

    def end_task(self) -> None:
        """Be told that a task is over; most learners only count."""
        self.tasks_ended += 1

    def rates(self) -> Rates | None:
        """Return the rate of every weight, where the learner has rates."""
        return None

    @torch.no_grad()
    def accuracy(self, test: Batch, head: tuple[int, int]) -> float:
        """Return the share of samples told right among the classes of a head, in [0, 1]."""
        with kept_buffers(self.network):
            outputs = self.forward(self.params, test.inputs)[:, slice(*head)]
        return float((outputs.argmax(1) + head[0] == test.targets).double().mean())

    def gradient(self, batch: Batch, norm: float = math.inf) -> tuple[float, Params]:
        """Return the mean loss on a batch and its gradient, clipped to a norm if one is given.

        The gradient has the parameters that move, zeros for those that take no part in the loss.
        """
        leaves = {n: self.params[n].detach().requires_grad_() for n in self.moving}
        with torch.enable_grad():
            loss = self.criterion(self.outputs(leaves, batch.inputs), batch.targets)
        grads = dict(zip(leaves, gradients(loss, leaves.values()), strict=True))
        clip(grads, norm)
        return float(loss.detach()), grads

    def outputs(self, moving: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Return the outputs with some parameters given, and the others as they are."""
        return self.forward({**self.params, **moving}, inputs)

    def descend(self, grads: Mapping[str, Tensor], rate: float) -> None:
        """Move the parameters one step down; the tensors of before stay as they are."""
        self.params = self.params | {n: self.params[n] - rate * g for n, g in grads.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that learning changes."""
        state: dict[str, Any] = {"params": self.params, "generator": self.generator.get_state()}
        state["buffers"] = dict(self.network.named_buffers())
        state["settings"] = kind_of(self, ("tasks_ended", *self.saved))
        for name in ("tasks_ended", *self.saved):
            value = getattr(self, name)
            state[name] = value.state_dict() if hasattr(value, "state_dict") else value
        return copy.deepcopy(state)

    @whole
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        mine = self.state_dict()
        check_like(mine | {"settings": None}, state)
        check_settings(mine["settings"], state["settings"])
        state = copy.deepcopy(state)
        self.params = _like(self.params, state["params"])
        self.generator.set_state(state["generator"])
        for n, b in self.network.named_buffers():
            b.copy_(state["buffers"][n])
        for name in ("tasks_ended", *self.saved):
            value = getattr(self, name)
            if hasattr(value, "load_state_dict"):
                value.load_state_dict(state[name])
            else:
                saved = state[name]
                setattr(self, name, _like(value, saved) if isinstance(value, dict) else saved)


def _like(params: Params, saved: Params) -> Params:
    """Return saved tensors in the precision of others, and where those are."""
    return {n: saved[n].to(p) for n, p in params.items()}


def trainable(network: nn.Module) -> list[str]:
    """Return the names of the parameters that require a gradient."""
    return [n for n, p in network.named_parameters() if p.requires_grad]


def clip(grads: Params, norm: float = CLIP) -> None:
    """Shorten gradients to a common norm, where they are longer."""
    total = torch.nn.utils.get_total_norm(list(grads.values()))
    if total > norm:  # not in place: the gradients of a sum may be one tensor
        grads |= {n: g * (norm / total) for n, g in grads.items()}


def at_least(least: float, **numbers: float) -> None:
    """Refuse, with a ValueError, settings below the smallest value that makes sense, and NaN."""
    for name, value in numbers.items():
        if not value >= least:  # NaN is not
            raise ValueError(f"{name} must be at least {least:g}, got {value}")


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy; classes may be integers of any type."""
    return F.cross_entropy(outputs, targets if targets.is_floating_point() else targets.long())


def in_heads(ways: int | None) -> Criterion:
    """Return cross-entropy over all classes, or over the `ways` of each sample's own head.

    The head of a sample follows from its class.
    """
    if ways is None:
        return cross_entropy

    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        targets = targets.long()
        heads = outputs.unflatten(1, (-1, ways))  # [B, heads, ways]
        chosen = heads[torch.arange(len(targets)), targets // ways]  # [B, ways]
        return F.cross_entropy(chosen, targets % ways)

    return criterion
