"""A meta-learner: an initialisation, a rule, and one Adam for both.

>>> learner = MetaLearner(network, make_rule("sparse-maml", inner_rate=0.1))
>>> for tasks in stream_of_task_batches:
...     print(learner.step(tasks))
>>> adapted = learner.adapt(task.support)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .inner_loop import (
    Batch,
    Criterion,
    Task,
    adapt,
    as_function,
    first_order,
    second_order,
)
from .rules import Count, Params, Rule, count_frozen


class Score(NamedTuple):
    """Loss and accuracy on the queries of some tasks, one number for each task."""

    losses: list[float]
    accuracies: list[float]

    @property
    def loss(self) -> float:
        """Mean loss."""
        return math.fsum(self.losses) / len(self.losses)

    @property
    def accuracy(self) -> float:
        """Mean accuracy in [0, 1]."""
        return math.fsum(self.accuracies) / len(self.accuracies)


def pick_device(device: str) -> torch.device:
    """Return a device by name; ``auto`` is CUDA where there is one, else the CPU.

    Raises
    ------
    ValueError
        If CUDA is asked for and there is none, or torch knows no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"unknown device {device!r}; use 'auto', 'cpu' or 'cuda'") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch finds none; use 'auto' or 'cpu'")
    return chosen


class MetaLearner:
    r"""Meta-learn the initialisation of a network and the numbers of a rule.

    Parameters
    ----------
    module : nn.Module
        Any network with one input and one output.  Its present parameters are
        the initial :math:`\theta`, which are copied.  The module is moved to the
        device and used in the mode (``train`` or ``eval``) that it is in.
    rule : Rule
        Where and how far the inner loop moves each weight.
    criterion : callable, default cross-entropy
        ``criterion(outputs, targets) -> scalar``.
    inner_steps : int, default 5
        Gradient steps `K` on the support.
    order : {1, 2}, default 1
        First-order meta-gradient in closed form, or the exact one through autograd.
    meta_rate : float, default 0.001
        Adam's rate for the initialisation.
    rule_rate : float, default 0.0075
        Adam's rate for the numbers of the rule.
    device : str, default "auto"
        ``auto``, ``cpu`` or ``cuda``.
    generator : torch.Generator, optional
        Source of the initial mask.

    Raises
    ------
    ValueError
        If a number is out of range, or the module has no parameters.

    Warns
    -----
    UserWarning
        If the module keeps running statistics: they would carry information
        from one task to the next.  Build it with ``track_running_stats=False``.
    """

    def __init__(
        self,
        module: nn.Module,
        rule: Rule,
        *,
        criterion: Criterion = F.cross_entropy,
        inner_steps: int = 5,
        order: Literal[1, 2] = 1,
        meta_rate: float = 1e-3,
        rule_rate: float = 7.5e-3,
        device: str = "auto",
        generator: torch.Generator | None = None,
    ) -> None:
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order}")
        if inner_steps < 0:
            raise ValueError(f"inner_steps must be 0 or more, got {inner_steps}")
        for name, rate in (("meta_rate", meta_rate), ("rule_rate", rule_rate)):
            if not 0 <= rate < math.inf:  # Adam does not check the rates of its groups
                raise ValueError(f"{name} must be 0 or more and finite, got {rate}")
        if any(getattr(m, "running_mean", None) is not None for m in module.modules()):
            warnings.warn(
                "the network keeps running statistics, which leak from task to task; "
                "build its normalisation layers with track_running_stats=False",
                stacklevel=2,
            )
        self.device = pick_device(device)
        self.module = module.to(self.device)
        self.rule, self.criterion = rule, criterion
        self.inner_steps, self.order = inner_steps, order
        self.forward = as_function(self.module)
        self.params: Params = {n: p.detach().clone() for n, p in module.named_parameters()}
        if not self.params:
            raise ValueError("the network has no parameters")
        self.rule_params: Params = rule.init(self.params, generator)
        groups: list[dict[str, Any]] = [{"params": list(self.params.values()), "lr": meta_rate}]
        if self.rule_params:
            groups.append({"params": list(self.rule_params.values()), "lr": rule_rate})
        self.optimizer = torch.optim.Adam(groups)

    def step(self, tasks: Sequence[Task]) -> Score:
        """Make one meta-update on the mean meta-gradient of some tasks.

        Parameters
        ----------
        tasks : sequence of Task
            At least one.

        Returns
        -------
        Score
            Query loss and accuracy after adaptation, before the update.
        """
        if not tasks:
            raise ValueError("a meta-update needs at least one task")
        meta_gradient = first_order if self.order == 1 else second_order
        rates = self._rates()
        outer = {n: torch.zeros_like(p) for n, p in self.params.items()}
        rate_grads = {n: torch.zeros_like(p) for n, p in self.rule_params.items()}
        losses, accuracies = [], []
        for task_on_host in tasks:
            task = task_on_host.to(self.device)
            result = meta_gradient(
                self.forward, self.criterion, self.params, rates, task, self.inner_steps
            )
            for n, g in result.params.items():
                outer[n] += g / len(tasks)
            for n in rate_grads:
                rate_grads[n] += result.rates[n] / len(tasks)
            losses.append(float(result.loss))
            accuracies.append(_accuracy(result.outputs, task.query.targets))
        for n, p in self.params.items():
            p.grad = outer[n]
        for n, g in self.rule.pull_back(self.rule_params, rate_grads).items():
            self.rule_params[n].grad = g
        self.optimizer.step()
        return Score(losses, accuracies)

    def adapt(self, support: Batch) -> Params:
        """Return the parameters after adaptation to a support batch, detached."""
        support = support.to(self.device)
        rates = {n: r for n, r in self._rates().items() if torch.as_tensor(r).any()}
        return adapt(
            self.forward, self.criterion, self.params, rates, support, self.inner_steps
        ).params

    def evaluate(self, tasks: Iterable[Task]) -> Score:
        """Adapt to each task and return loss and accuracy on its queries.

        Nothing is learned.
        """
        losses, accuracies = [], []
        for task_on_host in tasks:
            task = task_on_host.to(self.device)
            adapted = self.adapt(task.support)
            with torch.no_grad():
                outputs = self.forward(adapted, task.query.inputs)
                losses.append(float(self.criterion(outputs, task.query.targets)))
            accuracies.append(_accuracy(outputs, task.query.targets))
        return Score(losses, accuracies)

    def frozen(self) -> dict[str, Count]:
        """Count the weights of each parameter tensor that the inner loop cannot move."""
        return count_frozen(self._rates(), self.params)

    def sparsity(self) -> float:
        """Return the share of all weights that the inner loop cannot move, in [0, 1]."""
        counts = self.frozen().values()
        return sum(c.frozen for c in counts) / sum(c.size for c in counts)

    def state_dict(self) -> dict[str, Any]:
        """Return copies of everything that training changes."""
        copies = {
            "params": {n: p.detach().clone() for n, p in self.params.items()},
            "rule_params": {n: p.detach().clone() for n, p in self.rule_params.items()},
        }
        return copies | {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned; without ``optimizer``, the weights alone."""
        with torch.no_grad():
            for mine, saved in (
                (self.params, state["params"]),
                (self.rule_params, state["rule_params"]),
            ):
                if mine.keys() != saved.keys():
                    raise ValueError("the state belongs to another network or rule")
                for n, p in mine.items():
                    p.copy_(saved[n])
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])

    def _rates(self) -> dict[str, Tensor | float]:
        rates = self.rule.rates(self.rule_params, self.params)
        return {n: r.detach() if isinstance(r, Tensor) else r for n, r in rates.items()}


def _accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Return the share of correct classes; NaN where the targets are not classes."""
    if targets.dtype != torch.int64 or outputs.ndim != 2:
        return math.nan
    return float((outputs.argmax(1) == targets).double().mean())
