r"""The first-order inner loop for many tasks at a time: the form that suits a GPU.

A GPU is fast where there is much to do at once, so all tasks of a meta-update are
stacked and adapt together: ``torch.func.vmap`` turns the gradient of one task into that
of all (a convolution with different weights for each task becomes a grouped one).  On a
CPU this is slower than one task after the other, see the chapter on speed.  The numbers
are those of :func:`wheretolearn.inner_loop.first_order`, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

from ..seam import reference_only
from ..types import Adapted, Batch, Criterion, Forward, MetaGradient, Params, Rates, Task


def stack(tasks: Sequence[Task]) -> Task | None:
    """Stack tasks along a new first dimension, or return None where their shapes differ."""
    if len({tuple(t.shape for batch in task for t in batch) for task in tasks}) != 1:
        return None
    support, query = (
        Batch(*(torch.stack(tensors) for tensors in zip(*batches, strict=True)))
        for batches in zip(*tasks, strict=True)
    )
    return Task(support, query)


def adapt_all(
    forward: Forward,
    criterion: Criterion,
    params: Mapping[str, Tensor],
    rates: Rates,
    support: Batch,
    steps: int,
) -> Adapted:
    """Run the inner loop on `T` tasks at a time."""
    tasks = len(support.inputs)
    frozen = {n: p.detach() for n, p in params.items() if n not in rates}
    fast = {n: params[n].detach().expand(tasks, *params[n].shape) for n in rates}
    total = {n: torch.zeros_like(p) for n, p in fast.items()}
    cut = getattr(forward, "split", None)  # of a module: what does not move is computed once
    before, after = cut(fast) if cut else (lambda _, x: x, forward)

    def loss(fast: Params, features: Tensor, targets: Tensor) -> Tensor:
        return criterion(after({**frozen, **fast}, features), targets)

    steps = steps if fast else 0
    features = support.inputs
    with reference_only(), torch.no_grad():
        if steps:
            features = vmap(partial(before, params), randomness="different")(support.inputs)
        for _ in range(steps):
            grads = vmap(grad(loss), randomness="different")(fast, features, support.targets)
            fast = {n: p - rates[n] * grads[n] for n, p in fast.items()}
            total = {n: t + grads[n] for n, t in total.items()}
    return Adapted({n: fast.get(n, p.detach()) for n, p in params.items()}, total)


def first_order_all(
    forward: Forward,
    criterion: Criterion,
    params: Mapping[str, Tensor],
    rates: Rates,
    task: Task,
    steps: int,
) -> MetaGradient:
    """Return the first-order meta-gradients of `T` tasks."""
    adapted = adapt_all(forward, criterion, params, rates, task.support, steps)
    tasks = len(task.query.inputs)
    leaves = {n: p if n in rates else p.expand(tasks, *p.shape) for n, p in adapted.params.items()}

    def judged(leaves: Params, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        outputs = forward(leaves, x)
        loss = criterion(outputs, y)
        if not loss.requires_grad:
            raise ValueError("the loss has no gradient")
        return loss, outputs

    with reference_only():
        outer, (losses, outputs) = vmap(
            grad_and_value(judged, has_aux=True), randomness="different"
        )(leaves, *task.query)
    rate_grads = {n: -outer[n] * g for n, g in adapted.gradient_sum.items()}
    return MetaGradient(losses.detach(), outputs.detach(), outer, rate_grads)


def outputs_of_all(forward: Forward, adapted: Adapted, inputs: Tensor) -> Tensor:
    """Return the outputs of `T` adapted networks, [T, B, ...], for inputs [T, B, ...]."""
    moved = {n: p for n, p in adapted.params.items() if n in adapted.gradient_sum}
    frozen = {n: p for n, p in adapted.params.items() if n not in moved}
    with reference_only(), torch.no_grad():
        return vmap(lambda p, x: forward({**frozen, **p}, x), randomness="different")(moved, inputs)


class SideBySide(NamedTuple):
    """What computes with many tasks at a time."""

    stack: Callable[..., Task | None] = stack
    adapt: Callable[..., Adapted] = adapt_all
    first_order: Callable[..., MetaGradient] = first_order_all
    outputs: Callable[..., Tensor] = outputs_of_all


def side_by_side() -> SideBySide:
    """Return the functions of this module."""
    return SideBySide()
