r"""The inner loop and its meta-gradient.

One task gives a support batch, on which the network adapts for `K` steps,

.. math:: \phi_0 = \theta, \qquad \phi_{k+1} = \phi_k - r \circ g_k, \qquad
          g_k = \nabla L_{in}(\phi_k),

and a query batch, on which the adapted network is judged.  The meta-gradient is
the gradient of :math:`L_{out}(\phi_K)` for :math:`\theta` and for the rates
:math:`r`.  To **first order**, :math:`g_k` is taken as constant; what remains is
linear and is summed by hand,

.. math:: \frac{\partial L_{out}}{\partial \theta} = \nabla L_{out}(\phi_K), \qquad
          \frac{\partial L_{out}}{\partial r} =
          -\nabla L_{out}(\phi_K) \circ \sum_{k<K} g_k,

so no graph is kept over the steps and memory does not grow with `K`.  To
**second order**, autograd differentiates through the steps.  The chain rule from
:math:`r` to a rule's own numbers is :meth:`wheretolearn.rules.Rule.pull_back`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from . import seam
from .networks import Staged
from .types import (
    Adapted,
    Batch,
    ByStep,
    Criterion,
    Forward,
    MetaGradient,
    Params,
    Rates,
    Task,
    rates_at,
)


class FunctionalModule:
    """A module as a pure function of its parameters, ``forward(params, inputs) -> outputs``.

    It does what ``torch.func.functional_call`` does, with the places of the parameters looked
    up once and not at every call: small networks are called ten thousand times a minute.

    Parameters
    ----------
    module : nn.Module
        Any network.  Buffers, and parameters that are not given, are read from the module.

    Raises
    ------
    ValueError
        If a parameter has hooks, which would not see the tensors in its place; and, when it is
        called, if the module has other layers or parameters than before.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        names = {id(p): n for n, p in module.named_parameters()}  # a shared one has one name
        for name, p in module.named_parameters():
            if p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None):
                raise ValueError(f"hooks of the parameter {name!r} would have no effect here")
        modules = list(module.modules())
        self._held: list[dict[str, Any]] = [m._modules for m in modules]
        self._held += [m._parameters for m in modules]
        self._own = [value for held in self._held for value in held.values()]
        self._places = [
            (owner._parameters, attribute, names[id(p)], p)
            for owner in modules
            for attribute, p in owner._parameters.items()
            if p is not None
        ]

    def __call__(self, params: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Return the network's outputs at `params`."""
        return self._at(params, inputs)

    def _at(self, params: Mapping[str, Tensor], *arguments: Any) -> Tensor:
        now = [value for held in self._held for value in held.values()]
        if len(now) != len(self._own) or not all(map(is_, now, self._own)):
            raise ValueError("the network has other layers or parameters; build the learner anew")
        try:
            for holder, attribute, name, p in self._places:
                holder[attribute] = params.get(name, p)  # type: ignore[assignment]
            return self.module(*arguments)
        finally:
            for holder, attribute, _, p in self._places:
                holder[attribute] = p

    def split(self, moving: Iterable[str]) -> tuple[Forward, Forward]:
        """Cut the network where it begins to change while some parameters move.

        Parameters
        ----------
        moving : iterable of str
            Names of the parameters that will change.

        Returns
        -------
        before, after : callable
            ``after(params, before(params, inputs))`` is the whole network.  `before` is what
            :meth:`wheretolearn.networks.Staged.first_stage` allows; for others it does nothing.
        """
        cut = self.module.first_stage(moving) if isinstance(self.module, Staged) else 0
        if not cut:
            return _nothing, self
        return partial(self._stages, 0, cut), partial(self._stages, cut, None)

    def _stages(
        self, start: int, stop: int | None, params: Mapping[str, Tensor], x: Tensor
    ) -> Tensor:
        return self._at(params, x, start, stop)


def split(forward: Forward, moving: Iterable[str]) -> tuple[Forward, Forward]:
    """Do what :meth:`FunctionalModule.split` does for any function (others are not cut)."""
    return forward.split(moving) if isinstance(forward, FunctionalModule) else (_nothing, forward)


def _nothing(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return x


def gradients(
    loss: Tensor, at: Iterable[Tensor], *, graph: bool = False, inner: bool = False
) -> tuple[Tensor, ...]:
    """Return the gradient of a loss for tensors; zeros for those that take no part in it.

    Parameters
    ----------
    loss : Tensor
        A scalar.
    at : iterable of Tensor
        Leaves that require a gradient, or what was made from them.
    graph : bool, default False
        Whether the gradient can be differentiated in turn.
    inner : bool, default False
        Whether it may be that none of the tensors takes part in the loss.

    Returns
    -------
    tuple of Tensor

    Raises
    ------
    ValueError
        If the loss has no gradient at all, or there is none in inference mode.
    """
    at = list(at)
    if inner and not loss.requires_grad and not torch.is_inference_mode_enabled():
        return tuple(torch.zeros_like(t) for t in at)
    if not at:
        return ()
    check_differentiable(loss)
    return torch.autograd.grad(loss, at, create_graph=graph, materialize_grads=True)


def check_differentiable(loss: Tensor) -> None:
    """Raise :class:`ValueError` for a loss that nothing can be learned from."""
    if not loss.requires_grad:
        raise ValueError(
            "the loss has no gradient: network and criterion must be differentiable, with a part "
            "in it for what may move, and not be called in inference mode"
        )


def adapt(
    forward: Forward,
    criterion: Criterion,
    params: Mapping[str, Tensor],
    rates: Rates,
    support: Batch,
    steps: int,
) -> Adapted:
    """Run the inner loop on one task, without keeping a graph.

    Parameters
    ----------
    forward, criterion : callable
        The network and its loss.
    params : mapping of str to Tensor
        Where to start; left unchanged.
    rates : dict of str to Tensor or float
        Rate of each moving parameter; the others are not differentiated at all.
    support : Batch
        What to adapt on.
    steps : int
        Number of gradient steps `K`, 0 or more.

    Returns
    -------
    Adapted

    Raises
    ------
    ValueError
        If `steps` is negative or a rate has no parameter.
    """
    check(params, rates, steps)
    frozen = {n: p.detach() for n, p in params.items() if n not in rates}
    fast = {n: p.detach() for n, p in params.items() if n in rates}
    total = {n: torch.zeros_like(p) for n, p in fast.items()}
    each: list[Params] = []
    if fast and steps:
        gradient = _gradient(forward, criterion, params, support, fast)
        for k in range(steps):
            grads = gradient({**frozen, **fast})
            now = rates_at(rates, k)
            with torch.no_grad():
                for n, g in grads.items():
                    fast[n] = fast[n] - now[n] * g
                    total[n] += g
            each += [grads] if isinstance(rates, ByStep) else []
            del grads, g  # else they would live on beside the next forward pass
    if isinstance(rates, ByStep):
        total = {n: torch.stack([grads[n] for grads in each]) for n in total}
    order = {n: fast[n].detach() if n in fast else frozen[n] for n in params}
    return Adapted(order, total)


def _gradient(
    forward: Forward,
    criterion: Criterion,
    params: Mapping[str, Tensor],
    support: Batch,
    moving: Iterable[str],
) -> Callable[[Params], Params]:
    """Return the gradient of the inner loss for the moving parameters, a function of all."""
    moving = list(moving)
    by_hand = seam.fast("gradient") if seam.kernels_wanted() else None
    if by_hand and isinstance(forward, FunctionalModule):
        way = by_hand(forward.module, criterion, params, *support, moving)
        if way is not None:
            return way
    before, after = split(forward, moving)
    with torch.no_grad():
        features = before(params, support.inputs)  # once

    @torch.enable_grad()
    def by_autograd(at: Params) -> Params:
        leaves = {n: at[n].detach().requires_grad_() for n in moving}
        loss = criterion(after({**at, **leaves}, features), support.targets)
        return dict(zip(moving, gradients(loss, leaves.values(), inner=True), strict=True))

    return by_autograd


@torch.enable_grad()
def first_order(
    forward: Forward,
    criterion: Criterion,
    params: Mapping[str, Tensor],
    rates: Rates,
    task: Task,
    steps: int,
) -> MetaGradient:
    """Return the first-order meta-gradient of one task, in closed form.

    Parameters
    ----------
    forward, criterion, params, rates, steps
        As in :func:`adapt`.
    task : Task
        Support and query.

    Returns
    -------
    MetaGradient
        Detached.  Memory does not depend on `steps`.
    """
    adapted = adapt(forward, criterion, params, rates, task.support, steps)
    leaves = {n: p.detach().requires_grad_() for n, p in adapted.params.items()}
    outputs = forward(leaves, task.query.inputs)
    loss = criterion(outputs, task.query.targets)
    outer = dict(zip(leaves, gradients(loss, leaves.values()), strict=True))
    rate_grads = {n: -outer[n] * g for n, g in adapted.gradient_sum.items()}
    return MetaGradient(loss.detach(), outputs.detach(), outer, rate_grads)


@torch.enable_grad()
def second_order(
    forward: Forward,
    criterion: Criterion,
    params: Mapping[str, Tensor],
    rates: Rates,
    task: Task,
    steps: int,
) -> MetaGradient:
    """Return the exact meta-gradient of one task, by autograd through the inner loop.

    Parameters and results are those of :func:`first_order`.  Memory and time grow
    with `steps`.

    Returns
    -------
    MetaGradient
    """
    check(params, rates, steps)
    theta = {n: p.detach().requires_grad_() for n, p in params.items()}
    # one leaf for every rate, of the shape of its parameter
    rate = {n: _spread(r, theta[n], rates).requires_grad_() for n, r in rates.items()}
    fast = dict(theta)
    for k in range(steps if rate else 0):
        loss = criterion(forward(fast, task.support.inputs), task.support.targets)
        grads = gradients(loss, [fast[n] for n in rate], graph=True, inner=True)
        now = rates_at(type(rates)(rate), k)
        fast |= {n: fast[n] - now[n] * g for n, g in zip(rate, grads, strict=True)}
    outputs = forward(fast, task.query.inputs)
    loss = criterion(outputs, task.query.targets)
    grads = gradients(loss, [*theta.values(), *rate.values()])
    outer = dict(zip(theta, grads[: len(theta)], strict=True))
    rate_grads = dict(zip(rate, grads[len(theta) :], strict=True))
    return MetaGradient(loss.detach(), outputs.detach(), outer, rate_grads)


def check(params: Mapping[str, Tensor], rates: Rates, steps: int) -> None:
    """Raise :class:`ValueError` if `steps` is negative or a rate has no parameter."""
    if steps < 0:
        raise ValueError(f"the number of inner steps must be 0 or more, got {steps}")
    if isinstance(rates, ByStep) and any(len(torch.as_tensor(r)) != steps for r in rates.values()):
        raise ValueError(f"the rule has not one rate for each of {steps} inner steps")
    unknown = [n for n in rates if n not in params]
    if unknown:
        raise ValueError(f"rates without a parameter: {unknown}")


def _spread(rate: Tensor | float, p: Tensor, rates: Rates) -> Tensor:
    """Return a rate in the shape of its parameter, [K, ...] where it differs by step."""
    r = torch.as_tensor(rate, dtype=p.dtype, device=p.device).detach()
    shape = (len(r), *p.shape) if isinstance(rates, ByStep) else p.shape
    return r.reshape((*r.shape, *[1] * (len(shape) - r.ndim))).expand(shape).clone()
