r"""Weights that are masked at every step: the meta-gradient of masked weights as released.

.. math:: \phi_0 = b \circ \theta, \qquad \phi_{k+1} = b \circ (\phi_k - \alpha g_k), \qquad
          b = 1[m \ge 0].

To mask twice is to mask once, so these are the weights of a loop that starts masked and masks its
gradients.  But the straight-through derivative of :math:`b` counts each time that it is put on.
Autograd keeps these products over the steps, and to first order nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from .inner_loop import MetaGradient, gradients
from .rules import Rule
from .types import Criterion, Forward, Rates, Task


def masked_steps(
    forward: Forward,
    criterion: Criterion,
    params: Mapping[str, Tensor],
    rates: Rates,
    task: Task,
    steps: int,
    rule: Rule,
    order: Literal[1, 2] = 1,
) -> MetaGradient:
    r"""Return the meta-gradient of one task.

    Parameters
    ----------
    forward, criterion, rates, task, steps
        As in :func:`wheretolearn.inner_loop.first_order`.
    params : mapping of str to Tensor
        :math:`\theta`, not masked yet.
    rule : Rule
        The rule of the rates.
    order : {1, 2}, default 1
        Whether the gradients of the inner loop are constants, or differentiated as well.

    Returns
    -------
    MetaGradient
        For :math:`\theta` and the rates :math:`\alpha b`.
    """
    theta = {n: p.detach().requires_grad_() for n, p in params.items()}
    rate = {n: torch.as_tensor(r).detach().requires_grad_() for n, r in rates.items()}
    masks = {n: r / rule.inner_rate for n, r in rate.items()}  # exactly 0 or 1
    fast = theta | {n: mask * theta[n] for n, mask in masks.items()}
    for _ in range(steps if masks else 0):
        loss = criterion(forward(fast, task.support.inputs), task.support.targets)
        grads = gradients(loss, [fast[n] for n in masks], graph=order == 2, inner=True)
        for (n, mask), g in zip(masks.items(), grads, strict=True):
            fast[n] = mask * (fast[n] - rule.inner_rate * g)
    outputs = forward(fast, task.query.inputs)
    loss = criterion(outputs, task.query.targets)
    grads = gradients(loss, [*theta.values(), *rate.values()])
    return MetaGradient(
        loss.detach(),
        outputs.detach(),
        dict(zip(theta, grads[: len(theta)], strict=True)),
        dict(zip(rate, grads[len(theta) :], strict=True)),
    )
