"""La-MAML's step in several forms, which return the same meta-gradient.

Each takes the weights, the rates before their ReLU, the batch that arrives and the replayed one.
Networks are MLPs with ReLU, under cross-entropy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wheretolearn import seam
from wheretolearn.networks import MLP
from wheretolearn.types import Batch, Params

from .cases import LaMaml

Form = Callable[[Params, Params, Batch, Batch], tuple[Params, Params]]
"""``form(weights, rates, current, replay) -> gradients for weights, gradients for rates``."""

INNER_CLAMP = 2.0
"""What the authors' code cuts inner gradients to, without using the result."""


def usual(weights: Params, rates: Params, current: Batch, replay: Batch) -> tuple[Params, Params]:
    """Keep a graph over the steps and go back through it once, as the authors' code does."""
    w, r = ([p.detach().requires_grad_() for p in part.values()] for part in (weights, rates))
    rows, fast, losses = _rows(current, replay), w, []
    for x, y in _samples(current):
        grads = torch.autograd.grad(_loss(fast, x, y), fast)
        for g in grads:
            torch.clamp(g, -INNER_CLAMP, INNER_CLAMP)
        fast = [p - g * F.relu(a) for p, a, g in zip(fast, r, grads, strict=True)]
        losses.append(_loss(fast, *rows))
    grads = torch.autograd.grad(torch.stack(losses).mean(), w + r)
    return _named(weights, grads[: len(w)]), _named(rates, grads[len(w) :])


def two_gradients(
    weights: Params, rates: Params, current: Batch, replay: Batch
) -> tuple[Params, Params]:
    """Ask autograd for two gradients a step and sum them up, without a graph over the steps."""
    fast = [p.detach().clone() for p in weights.values()]
    step = [a.detach().relu() for a in rates.values()]
    rows, n = _rows(current, replay), len(current.targets)
    moved, outer, on_rates = ([torch.zeros_like(p) for p in fast] for _ in range(3))
    for x, y in _samples(current):
        for p, a, total, g in zip(fast, step, moved, _gradient(fast, x, y), strict=True):
            p.addcmul_(a, g, value=-1)
            total.add_(g)
        for g, total, o, q in zip(_gradient(fast, *rows), moved, outer, on_rates, strict=True):
            o.add_(g, alpha=1 / n)
            q.addcmul_(g, total, value=-1 / n)
    on_rates = [q * (a > 0) for q, a in zip(on_rates, step, strict=True)]
    return _named(weights, outer), _named(rates, on_rates)


def library(weights: Params, rates: Params, current: Batch, replay: Batch) -> tuple[Params, Params]:
    """Compute it by hand, see :mod:`wheretolearn.fast.mlp`."""
    by_hand = seam.fast("meta_gradient")
    assert by_hand
    result = by_hand(weights, {n: a.relu() for n, a in rates.items()}, current, replay)
    return result.params, {n: g * (rates[n] > 0) for n, g in result.rates.items()}


FORMS: dict[str, Form] = {"usual": usual, "two gradients": two_gradients, "library": library}
TITLES = {"usual": "usual form", "two gradients": "two gradients a step", "library": "this library"}


def make_glance(
    name: str, case: LaMaml, dtype: torch.dtype = torch.float32
) -> Callable[[], tuple[Params, Params]]:
    """Return a function that computes one meta-gradient, always the same one.

    Inputs are noise: they have no zeros that could be left out, as black pixels can.
    """
    generator = torch.Generator().manual_seed(0)

    def batch(rows: int) -> Batch:
        inputs = torch.rand(rows, case.sizes[0], generator=generator)
        return Batch(inputs.to(dtype), torch.arange(rows) % case.sizes[-1])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = {n: p.detach().to(dtype) for n, p in MLP(*case.sizes).named_parameters()}
    rates = {  # three quarters are positive
        n: (0.2 * torch.rand(w.shape, generator=generator) - 0.05).to(dtype)
        for n, w in weights.items()
    }
    current, replay = batch(case.current), batch(case.replay)
    return lambda: FORMS[name](weights, rates, current, replay)


def _loss(parameters: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Return the MLP's loss on [B, in], from weights and biases in turn."""
    *hidden, (w, b) = zip(parameters[::2], parameters[1::2], strict=True)
    for v, c in hidden:
        x = F.relu(F.linear(x, v, c))
    return F.cross_entropy(F.linear(x, w, b), y)


def _gradient(parameters: Sequence[Tensor], x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    leaves = [p.detach().requires_grad_() for p in parameters]
    return torch.autograd.grad(_loss(leaves, x, y), leaves)


def _samples(batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(batch.inputs.split(1), batch.targets.split(1), strict=True)


def _rows(current: Batch, replay: Batch) -> Batch:
    """Return what judges: the replayed rows, then the current ones."""
    return Batch(*(torch.cat(pair) for pair in zip(replay, current, strict=True)))


def _named(like: Params, values: Sequence[Tensor]) -> Params:
    return dict(zip(like, values, strict=True))
