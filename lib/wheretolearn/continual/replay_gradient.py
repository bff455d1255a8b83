r"""The meta-gradient of La-MAML's step: learn sample by sample, be judged on old and new.

A batch of `n` samples arrives.  From the weights :math:`w` the network learns the
samples one by one,

.. math:: \phi_0 = w, \qquad \phi_k = \phi_{k-1} - r \circ g_k, \qquad
          g_k = \nabla \ell_k(\phi_{k-1}), \qquad k = 1 \dots n,

and after each of them it is judged on the `B` rows of replayed and current samples
together.  The meta-loss is :math:`\frac1n \sum_k L(\phi_k)` (Gupta et al., 2020,
algorithm 1).  To first order, with :math:`G_k = \nabla L(\phi_k)`,

.. math:: \frac{\partial}{\partial w} = \frac1n \sum_k G_k, \qquad
          \frac{\partial}{\partial r} = -\frac1n \sum_k G_k \circ \sum_{j \le k} g_j .

:func:`by_autograd` lets autograd find this for any network; for a fully connected one,
:mod:`wheretolearn.fast.mlp` computes it by hand, several times faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..inner_loop import gradients
from ..types import Batch, Criterion, Forward, Params, Rates


class ReplayGradient(NamedTuple):
    """The first-order meta-gradient of one pass over a batch; all detached."""

    loss: Tensor
    """The meta-loss, a scalar: mean over the steps."""
    params: Params
    """Gradient for every parameter."""
    rates: Params
    """Gradient for the rate of every moving weight, of the parameters' shapes (empty if not
    asked for)."""


@torch.enable_grad()
def by_autograd(
    forward: Forward,
    criterion: Criterion,
    params: Mapping[str, Tensor],
    rates: Rates,
    current: Batch,
    replay: Batch,
    *,
    learn_rates: bool = True,
    clamp: float | None = None,
) -> ReplayGradient:
    """Find the meta-gradient by autograd through the steps, for any network.

    Parameters
    ----------
    forward, criterion : callable
        The network and its loss, see :mod:`wheretolearn.inner_loop`.
    params : mapping of str to Tensor
        The weights `w`.
    rates : dict of str to Tensor or float
        Rate of each moving parameter.
    current, replay : Batch
        The samples that arrive, at least one, and those replayed, possibly none.
    learn_rates : bool, default True
        Whether the gradient for the rates is wanted.
    clamp : float, optional
        Cut every entry of the inner gradients to [-clamp, clamp].

    Returns
    -------
    ReplayGradient

    Raises
    ------
    ValueError
        If no sample arrives, or a rate has no parameter.
    """
    check(params, rates, current)
    rows = Batch(*(torch.cat(pair) for pair in zip(replay, current, strict=True)))
    leaves = {n: p.detach().requires_grad_() for n, p in params.items()}
    rate = {n: full(rates[n], leaves[n]).clone().requires_grad_(learn_rates) for n in rates}
    fast = dict(leaves)
    total = torch.zeros((), dtype=rows.inputs.dtype, device=rows.inputs.device)
    for x, y in zip(current.inputs.split(1), current.targets.split(1), strict=True):
        if rate:
            inner = criterion(forward(fast, x), y)
            grads = gradients(inner, [fast[n] for n in rate], inner=True)
            if clamp is not None:
                grads = tuple(g.clamp(-clamp, clamp) for g in grads)
            fast |= {n: fast[n] - r * g for (n, r), g in zip(rate.items(), grads, strict=True)}
        total = total + criterion(forward(fast, rows.inputs), rows.targets)
    loss = total / len(current.targets)
    wanted = [*leaves.values(), *(rate.values() if learn_rates else ())]
    found = gradients(loss, wanted)
    return ReplayGradient(
        loss.detach(),
        dict(zip(leaves, found, strict=False)),
        dict(zip(rate, found[len(leaves) :], strict=True)) if learn_rates else {},
    )


def full(rate: Tensor | float, p: Tensor) -> Tensor:
    """Return a rate as a tensor of its parameter's shape, detached."""
    return torch.as_tensor(rate, dtype=p.dtype, device=p.device).detach().expand(p.shape)


def check(params: Mapping[str, Tensor], rates: Rates, current: Batch) -> None:
    """Refuse a batch without samples, and rates of no parameter."""
    if len(current.targets) == 0:
        raise ValueError("there is no sample to learn: the current batch is empty")
    if unknown := [n for n in rates if n not in params]:
        raise ValueError(f"rates without a parameter: {unknown}")
