"""What tests compare with: the usual inner loop in one autograd graph, written out plainly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wheretolearn import Batch, Task, make_rule
from wheretolearn.types import Criterion, Forward, Params, Rates


def episodes(count: int, support: int, query: int, *shape: int, seed: int = 1) -> list[Task]:
    """Return tasks of three classes in double precision."""
    generator = torch.Generator().manual_seed(seed)
    size = support + query
    x = torch.randn(count, size, *shape, generator=generator, dtype=torch.float64)
    y, z = torch.arange(support) % 3, torch.arange(query) % 3
    return [Task(Batch(a[:support], y), Batch(a[support:], z)) for a in x]


def leaves(tensors: Mapping[str, Tensor]) -> Params:
    """Return copies that require a gradient."""
    return {n: t.detach().clone().requires_grad_() for n, t in tensors.items()}


def outer_loss(
    forward: Forward,
    start: Params,
    step: Callable[[str, Tensor, Tensor, int], Tensor],
    task: Task,
    steps: int,
    graph: bool,
    criterion: Criterion = F.cross_entropy,
) -> Tensor:
    """Return the query loss after an inner loop; ``step(name, weights, gradient, k)`` is one step.

    With `graph` the gradients of the inner loop are differentiated, too.
    """
    fast = dict(start)
    for k in range(steps):
        loss = criterion(forward(fast, task.support.inputs), task.support.targets)
        grads = torch.autograd.grad(
            loss, list(fast.values()), create_graph=graph, materialize_grads=True
        )
        fast = {n: step(n, p, g, k) for (n, p), g in zip(fast.items(), grads, strict=True)}
    return criterion(forward(fast, task.query.inputs), task.query.targets)


def gradients(loss: Tensor, *groups: Params) -> list[Params]:
    """Return the gradient of a loss for groups of leaves; zeros where they take no part."""
    every = [t for group in groups for t in group.values()]
    grads = iter(torch.autograd.grad(loss, every, materialize_grads=True))
    return [{n: next(grads) for n in group} for group in groups]


def grads(tensors: Params) -> Params:
    """Return what a learner's step left as their gradients."""
    return {n: t.grad for n, t in tensors.items() if t.grad is not None}


def rates_of(method: str, module: nn.Module, **changes: Any) -> tuple[Params, Rates]:
    """Return the weights of a network and newly drawn rates for them, detached."""
    params = {n: p.detach() for n, p in module.named_parameters()}
    rule = make_rule(method, **changes)
    rates = rule.rates(rule.init(params, torch.Generator().manual_seed(0)), params)
    return params, {n: r.detach() if isinstance(r, Tensor) else r for n, r in rates.items()}


def assert_close(got: Mapping[str, Tensor], want: Mapping[str, Tensor], atol: float = 1e-10):
    """Compare tensors by name."""
    assert got.keys() == want.keys()
    for n, t in want.items():
        torch.testing.assert_close(got[n], t, rtol=1e-9, atol=atol, msg=f"{n} differs")
