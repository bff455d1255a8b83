"""Sparse-MAML with other libraries, each in the form that suits it to first order."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

from wheretolearn.types import Batch, Params, Task

from .cases import FewShot, Problem
from .usual import Form


class Unavailable(RuntimeError):
    """A peer that is not installed, or cannot be imported here; the message says why."""


def import_peer(name: str) -> ModuleType:
    """Import an optional library."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # compiled extensions fail in many ways
        raise Unavailable(f"{type(error).__name__}: {error}") from error


class Higher(Form):
    """``higher``: a stateless copy of the module and its differentiable SGD."""

    def __init__(self, case: FewShot, problem: Problem) -> None:
        super().__init__(case, problem)
        self.higher: Any = import_peer("higher")
        self.sgd = torch.optim.SGD(self.module.parameters(), lr=1.0)

    def backward(self, tasks: Sequence[Task]) -> None:
        """Adapt a copy for each task and take the gradient there."""
        rates = self.rule.rates(self.rule_params, self.params)
        rate_grads = {n: torch.zeros_like(p) for n, p in self.params.items()}
        for p in self.params.values():
            p.grad = torch.zeros_like(p)
        for support, query in tasks:
            total = {n: torch.zeros_like(p) for n, p in self.params.items()}

            def masked(grads: Sequence[Tensor], total: Params = total) -> list[Tensor]:
                for t, g in zip(total.values(), grads, strict=True):
                    t.add_(g)
                return [
                    torch.as_tensor(rates.get(n, 0.0)).detach() * g
                    for n, g in zip(total, grads, strict=True)
                ]

            with self.higher.innerloop_ctx(
                self.module, self.sgd, copy_initial_weights=False, track_higher_grads=False
            ) as (network, sgd):
                for _ in range(self.steps):
                    loss = F.cross_entropy(network(support.inputs), support.targets)
                    sgd.step(loss, grad_callback=masked)
                loss = F.cross_entropy(network(query.inputs), query.targets) / len(tasks)
                outer = torch.autograd.grad(loss, list(network.parameters()))
            for (n, p), g in zip(self.params.items(), outer, strict=True):
                assert p.grad is not None
                p.grad += g
                rate_grads[n] -= g * total[n]
        for n, g in self.rule.pull_back(self.rule_params, rate_grads).items():
            self.rule_params[n].grad = g


class Vmap(Form):
    """``torch.func``: the closed form as a pure function of a task, mapped over the tasks."""

    def backward(self, tasks: Sequence[Task]) -> None:
        """Stack the tasks and compute all meta-gradients at once."""
        support, query = (
            Batch(*map(torch.stack, zip(*batches, strict=True)))
            for batches in zip(*tasks, strict=True)
        )
        params = {n: p.detach() for n, p in self.params.items()}
        rates = self.rule.rates({n: m.detach() for n, m in self.rule_params.items()}, params)

        def meta_gradient(support: Batch, query: Batch) -> tuple[Params, Params]:
            fast = dict(params)
            total = {n: torch.zeros_like(params[n]) for n in rates}
            for _ in range(self.steps):
                grads = grad(self.loss)(fast, *support)
                total = {n: t + grads[n] for n, t in total.items()}
                fast |= {n: fast[n] - r * grads[n] for n, r in rates.items()}
            outer = grad(self.loss)(fast, *query)
            return outer, {n: -outer[n] * t for n, t in total.items()}

        with torch.no_grad():
            outer, rate_grads = (
                {n: g.mean(0) for n, g in grads.items()}
                for grads in vmap(meta_gradient)(support, query)
            )
        for n, p in self.params.items():
            p.grad = outer[n]
        for n, g in self.rule.pull_back(self.rule_params, rate_grads).items():
            self.rule_params[n].grad = g


class TorchOpt(Form):
    """TorchOpt: its functional SGD, which leaves the steps in an autograd graph."""

    def __init__(self, case: FewShot, problem: Problem) -> None:
        super().__init__(case, problem)
        self.torchopt: Any = import_peer("torchopt")
        self.sgd = self.torchopt.sgd(lr=1.0)

    def backward(self, tasks: Sequence[Task]) -> None:
        """Go backward through the graph of each task."""
        for support, query in tasks:
            rates = self.rule.rates(self.rule_params, self.params)
            fast = {n: self.params[n] for n in rates}
            state = self.sgd.init(fast)
            for _ in range(self.steps):
                loss = self.loss({**self.params, **fast}, *support)
                grads = torch.autograd.grad(loss, list(fast.values()))
                masked = {n: r * g for (n, r), g in zip(rates.items(), grads, strict=True)}
                updates, state = self.sgd.update(masked, state, inplace=False)
                fast = self.torchopt.apply_updates(fast, updates, inplace=False)
            (self.loss({**self.params, **fast}, *query) / len(tasks)).backward()
