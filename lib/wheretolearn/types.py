"""What the parts of the library hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Params = dict[str, Tensor]
"""Parameters by name, as in ``dict(module.named_parameters())``."""

Rates = dict[str, Tensor | float]
"""Inner-loop rates by name; a name that is absent does not move."""


class ByStep(Rates):
    """Rates that differ from step to step: every tensor has a first dimension of K."""


def rates_at(rates: Rates, step: int) -> Rates:
    """Return the rates at a step of the inner loop."""
    if isinstance(rates, ByStep):
        return {n: r[step] for n, r in rates.items() if isinstance(r, Tensor)}
    return rates


Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]
"""``forward(params, inputs) -> outputs``: a network as a pure function."""

Criterion = Callable[[Tensor, Tensor], Tensor]
"""``criterion(outputs, targets) -> loss``: any differentiable scalar."""


class Batch(NamedTuple):
    """Inputs and targets of a few examples."""

    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device; what was made in inference mode as a usual copy."""
        moved = (t.to(device) for t in self)
        return Batch(*(t.clone() if t.is_inference() else t for t in moved))


class ReplayGradient(NamedTuple):
    """The first-order meta-gradient of one pass over a batch; all detached."""

    loss: Tensor
    """The meta-loss, a scalar: mean over the steps."""
    params: Params
    """Gradient for every parameter."""
    rates: Params
    """Gradient for the rate of every moving weight (empty if not asked for)."""


class Task(NamedTuple):
    """What the network adapts on, and what it is judged on."""

    support: Batch
    query: Batch

    def to(self, device: torch.device) -> Task:
        """Return the task on a device."""
        return Task(self.support.to(device), self.query.to(device))


class Adapted(NamedTuple):
    """The end of an inner loop."""

    params: Params
    r""":math:`\phi_K`, all parameters, detached."""
    gradient_sum: Params
    r""":math:`\sum_k g_k`, for the moving parameters; all :math:`g_k`, [K, ...], where rates differ
    from step to step."""


class MetaGradient(NamedTuple):
    """The meta-gradient of one task."""

    loss: Tensor
    """Query loss after adaptation, a scalar."""
    outputs: Tensor
    """Query outputs after adaptation."""
    params: Params
    """Gradient for every parameter."""
    rates: Params
    """Gradient for the rate of every moving parameter (empty if not asked for)."""
