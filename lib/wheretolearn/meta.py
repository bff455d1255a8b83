"""A meta-learner: an initialisation, a rule, and one Adam for both.

>>> learner = MetaLearner(network, make_rule("sparse-maml", inner_rate=0.1))
>>> for tasks in stream_of_task_batches:
...     print(learner.step(tasks))
>>> adapted = learner.adapt(task.support)
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .inner_loop import (
    Adapted,
    Batch,
    Criterion,
    Forward,
    MetaGradient,
    Task,
    adapt,
    as_function,
    first_order,
    second_order,
)
from .precision import Precision, check_precision, computing_in
from .rules import Count, Params, Rates, Rule, count_frozen
from .stacked import adapt_all, first_order_all, outputs_of_all, stack

_EVALUATED_TOGETHER = 8
"""Tasks that adapt side by side in an evaluation on a GPU."""


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
    outer : {"adam", "nesterov"}, default "adam"
        Optimizer of both: Adam, or gradient descent with Nesterov's momentum of 0.9.
    meta_rate : float, default 0.001
        Its rate for the initialisation.
    rule_rate : float, default 0.0075
        Its rate for the numbers of the rule.
    outer_clamp : float, default infinity
        Every number of the meta-gradient of the initialisation is brought into
        [-outer_clamp, outer_clamp].
    precision : {"float32", "tf32", "bf16"}, default "float32"
        Of convolutions and products, see :mod:`wheretolearn.precision`.
    device : str, default "auto"
        ``auto``, ``cpu`` or ``cuda``.
    stacked : bool, optional
        Whether the tasks of a meta-update (to first order) and of an evaluation adapt side
        by side (:mod:`wheretolearn.stacked`); by default, on a GPU.  Tasks of unequal
        shapes never do.
    generator : torch.Generator, optional
        Source of the initial mask.

    Raises
    ------
    ValueError
        If a number is out of range, a name is unknown, or the module has no parameters.

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
        outer: Literal["adam", "nesterov"] = "adam",
        meta_rate: float = 1e-3,
        rule_rate: float = 7.5e-3,
        outer_clamp: float = math.inf,
        precision: Precision = "float32",
        device: str = "auto",
        stacked: bool | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2, got {order}")
        if inner_steps < 0:
            raise ValueError(f"inner_steps must be 0 or more, got {inner_steps}")
        for name, rate in (("meta_rate", meta_rate), ("rule_rate", rule_rate)):
            if not 0 <= rate < math.inf:  # Adam does not check the rates of its groups
                raise ValueError(f"{name} must be 0 or more and finite, got {rate}")
        if outer not in ("adam", "nesterov"):
            raise ValueError(f"outer must be 'adam' or 'nesterov', not {outer!r}")
        if not outer_clamp > 0:
            raise ValueError(f"outer_clamp must be positive, got {outer_clamp}")
        check_precision(precision)
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
        self.outer_clamp, self.precision = outer_clamp, precision
        self.stacked = self.device.type == "cuda" if stacked is None else stacked
        self.forward = as_function(self.module)
        self.params: Params = {n: p.detach().clone() for n, p in module.named_parameters()}
        if not self.params:
            raise ValueError("the network has no parameters")
        self.rule_params: Params = rule.init(self.params, generator)
        groups: list[dict[str, Any]] = [{"params": list(self.params.values()), "lr": meta_rate}]
        if self.rule_params:
            groups.append({"params": list(self.rule_params.values()), "lr": rule_rate})
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(groups)
            if outer == "adam"
            else torch.optim.SGD(groups, momentum=0.9, nesterov=True)
        )

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
        outer = {n: torch.zeros_like(p) for n, p in self.params.items()}
        inner = {n: torch.zeros_like(p) for n, p in self.rule_params.items()}
        rates: Params = {}
        losses, accuracies = [], []
        tasks = [task.to(self.device) for task in tasks]
        with computing_in(self.precision, self.device):
            for task, (result, noise) in zip(tasks, self._meta_gradients(tasks), strict=True):
                _add(outer, result.params)
                if noise is None:  # all tasks have the same rates
                    _add(rates, result.rates)
                else:
                    _add(inner, self.rule.pull_back(self.rule_params, result.rates, noise))
                losses.append(float(result.loss))
                accuracies.append(_accuracy(result.outputs, task.query.targets))
        if rates:
            _add(inner, self.rule.pull_back(self.rule_params, rates))
        if self.rule.masks_start:
            outer, more = self.rule.pull_back_start(self.rule_params, self.params, outer)
            inner = {n: g + more[n] for n, g in inner.items()}
        for n, p in self.params.items():
            p.grad = (outer[n] / len(tasks)).clamp(-self.outer_clamp, self.outer_clamp)
        for n, m in self.rule_params.items():
            m.grad = inner[n] / len(tasks)
        self.optimizer.step()
        return Score(losses, accuracies)

    def _meta_gradients(
        self, tasks: Sequence[Task]
    ) -> Iterator[tuple[MetaGradient, Tensor | None]]:
        """Yield the meta-gradient of each task, for the start and the rates, and its noise."""
        together = self._together(tasks) if self.order == 1 else None
        if together is not None:
            results = first_order_all(*self.begin(), together, self.inner_steps)
            for i in range(len(tasks)):
                yield (
                    MetaGradient(
                        results.loss[i],
                        results.outputs[i],
                        {n: g[i] for n, g in results.params.items()},
                        {n: g[i] for n, g in results.rates.items()},
                    ),
                    None,
                )
        else:
            meta_gradient = first_order if self.order == 1 else second_order
            shared = None if self.rule.noise else self.begin()
            for task in tasks:
                noise = self.rule.draw()
                yield meta_gradient(*(shared or self.begin(noise)), task, self.inner_steps), noise

    def adapt(self, support: Batch) -> Params:
        """Return the parameters after adaptation to a support batch, detached."""
        with computing_in(self.precision, self.device):
            return self._adapt(support.to(self.device)).params

    def evaluate(self, tasks: Iterable[Task]) -> Score:
        """Adapt to each task and return loss and accuracy on its queries.

        Nothing is learned.
        """
        losses, accuracies = [], []
        tasks = iter(tasks)
        with computing_in(self.precision, self.device):
            while group := list(islice(tasks, _EVALUATED_TOGETHER if self.stacked else 1)):
                here = [task.to(self.device) for task in group]
                for task, outputs in zip(here, self._outputs(here), strict=True):
                    losses.append(float(self.criterion(outputs, task.query.targets)))
                    accuracies.append(_accuracy(outputs, task.query.targets))
        return Score(losses, accuracies)

    def _outputs(self, tasks: Sequence[Task]) -> Iterable[Tensor]:
        """Return the query outputs of each task after adaptation, detached."""
        together = self._together(tasks)
        if together is not None:
            adapted = adapt_all(*self.begin(), together.support, self.inner_steps)
            return outputs_of_all(self.forward, adapted, together.query.inputs)
        ends = [self._adapt(t.support).params for t in tasks]
        with torch.no_grad():
            return [self.forward(p, t.query.inputs) for p, t in zip(ends, tasks, strict=True)]

    def _together(self, tasks: Sequence[Task]) -> Task | None:
        """Return the tasks stacked, if they may adapt side by side."""
        return stack(tasks) if self.stacked and not self.rule.noise else None

    def _adapt(self, support: Batch) -> Adapted:
        forward, criterion, start, rates = self.begin(self.rule.draw())
        # tensors that are frozen altogether need no gradient
        rates = {n: r for n, r in rates.items() if torch.as_tensor(r).any()}
        return adapt(forward, criterion, start, rates, support, self.inner_steps)

    def begin(self, noise: Tensor | None = None) -> tuple[Forward, Criterion, Params, Rates]:
        """Return the first arguments of the inner loop: network, loss, start, rates.

        Parameters
        ----------
        noise : Tensor, optional
            For masks that are made from noise, see :meth:`wheretolearn.rules.Rule.draw`.
        """
        start = {n: p.detach() for n, p in self.rule.start(self.rule_params, self.params).items()}
        return self.forward, self.criterion, start, self._rates(noise)

    def frozen(self) -> dict[str, Count]:
        """Count the weights of each parameter tensor that the inner loop cannot move.

        Where masks are made from noise, those of one draw, the same at every call.
        """
        noise = self.rule.draw(torch.Generator().manual_seed(0))
        return count_frozen(self._rates(noise), self.params)

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
        return copies | {"optimizer": copy.deepcopy(self.optimizer.state_dict())}

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

    def _rates(self, noise: Tensor | None = None) -> Rates:
        rates = self.rule.rates(self.rule_params, self.params, noise)
        return {n: r.detach() if isinstance(r, Tensor) else r for n, r in rates.items()}


def _add(total: Params, more: Params) -> None:
    """Add tensors to those of the same names."""
    for n, g in more.items():
        total[n] = total[n] + g if n in total else g


def _accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Return the share of correct classes; NaN where the targets are not classes."""
    if targets.dtype != torch.int64 or outputs.ndim != 2:
        return math.nan
    return float((outputs.argmax(1) == targets).double().mean())
