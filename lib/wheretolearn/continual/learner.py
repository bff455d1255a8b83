"""What every continual learner has: a network, a stream of batches, a state that can be saved."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..inner_loop import Batch, Criterion, as_function
from ..networks import MLP
from ..rules import Params, Rates

CLIP = 2.0
"""Largest norm of a gradient in La-MAML and its relatives (Gupta et al., 2020), and in replay."""


class Learner(ABC):
    """A network that learns from batches as they come; the base class of all learners.

    Parameters
    ----------
    network : nn.Module
        Where to start; its parameters are copied.
    generator : torch.Generator
        Source of all randomness of the learner.
    ways : int, optional
        Classes of a task's own head, see :class:`~wheretolearn.continual.streams.Stream`.
    """

    saved: tuple[str, ...] = ()
    """Attributes that learning changes, besides parameters and generator."""

    def __init__(
        self, network: nn.Module, generator: torch.Generator, *, ways: int | None = None
    ) -> None:
        self.network, self.generator, self.ways = network, generator, ways
        self.forward = as_function(network)
        self.criterion = in_heads(ways)
        self.params: Params = {n: p.detach().clone() for n, p in network.named_parameters()}

        self.tasks_ended = 0

    @property
    def plain_mlp(self) -> bool:
        """Whether gradients can be had by hand: an MLP with one head, on the CPU."""
        plain = isinstance(self.network, MLP) and not self.network.dropout and self.ways is None
        return plain and all(p.device.type == "cpu" for p in self.params.values())

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
        """Return the share of samples whose class is found among those of a head, in [0, 1]."""
        outputs = self.forward(self.params, test.inputs)[:, slice(*head)]
        return float((outputs.argmax(1) + head[0] == test.targets).double().mean())

    def gradient(self, batch: Batch, norm: float = math.inf) -> tuple[float, Params]:
        """Return the mean loss on a batch and its gradient, clipped to a norm if one is given."""
        leaves = {n: p.detach().requires_grad_() for n, p in self.params.items()}
        loss = self.criterion(self.forward(leaves, batch.inputs), batch.targets)
        grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        clip(grads, norm)
        return float(loss.detach()), grads

    def descend(self, grads: Mapping[str, Tensor], rate: float) -> None:
        """Move the parameters one step down; the tensors of before stay as they are."""
        self.params = {n: p - rate * grads[n] for n, p in self.params.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that learning changes."""
        state: dict[str, Any] = {"params": self.params, "generator": self.generator.get_state()}
        for name in ("tasks_ended", *self.saved):
            value = getattr(self, name)
            state[name] = value.state_dict() if hasattr(value, "state_dict") else value
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        if state["params"].keys() != self.params.keys():
            raise ValueError("the state belongs to another network")
        state = copy.deepcopy(state)
        self.params = state["params"]
        self.generator.set_state(state["generator"])
        for name in ("tasks_ended", *self.saved):
            value = getattr(self, name)
            if hasattr(value, "load_state_dict"):
                value.load_state_dict(state[name])
            else:
                setattr(self, name, state[name])


def clip(grads: Mapping[str, Tensor], norm: float = CLIP) -> None:
    """Shorten gradients, in place, to a common norm where they are longer."""
    total = torch.nn.utils.get_total_norm(list(grads.values()))
    if total > norm:
        for g in grads.values():
            g.mul_(norm / total)


def at_least(least: float, **numbers: float) -> None:
    """Refuse settings below a least value, and those that are not numbers.

    Parameters
    ----------
    least : float
        The smallest value that makes sense.
    **numbers : float
        Settings by name.

    Raises
    ------
    ValueError
        If one is smaller, or NaN.
    """
    for name, value in numbers.items():
        if not value >= least:  # NaN is not
            raise ValueError(f"{name} must be at least {least:g}, got {value}")


def in_heads(ways: int | None) -> Criterion:
    """Return cross-entropy over all classes, or over those of each sample's own head.

    Parameters
    ----------
    ways : int, optional
        Classes of a head; the head of a sample follows from its class.

    Returns
    -------
    callable
        ``criterion(outputs, targets) -> scalar``.
    """
    if ways is None:
        return F.cross_entropy

    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        heads = outputs.unflatten(1, (-1, ways))  # [B, heads, ways]
        own = heads[torch.arange(len(targets)), targets // ways]  # [B, ways]
        return F.cross_entropy(own, targets % ways)

    return criterion
