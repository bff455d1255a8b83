"""A meta-learner: an initialisation, a rule, and one Adam for both.

>>> learner = MetaLearner(network, make_rule("sparse-maml", inner_rate=0.1))
>>> for tasks in stream_of_task_batches:
...     print(learner.step(tasks))
>>> adapted = learner.adapt(task.support)
"""

from __future__ import annotations

import copy
import math
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import seam
from .inner_loop import Adapted, FunctionalModule, MetaGradient, adapt, first_order, second_order
from .masked_steps import masked_steps
from .precision import Precision, check_precision, computing_in
from .rules import Count, Rule, count_frozen
from .states import check_like, check_optimizer, check_settings, kept_buffers, settings_of
from .types import Batch, Criterion, Forward, Params, Rates, Task

T = TypeVar("T")

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
        If torch knows no such device, or finds none here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        known = "'auto', 'cpu', 'cuda', 'mps' or 'xpu'"
        raise ValueError(f"unknown device {device!r}; use {known}") from None
    if chosen.type != "cpu":
        there = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        count = torch.accelerator.device_count() if there and there.type == chosen.type else 0
        if (chosen.index or 0) >= count:
            raise ValueError(
                f"device {device!r} was asked for, but torch finds none; use 'auto' or 'cpu'"
            )
    return chosen


class MetaLearner:
    r"""Meta-learn the initialisation of a network and the numbers of a rule.

    Parameters
    ----------
    module : nn.Module
        Any network with one input and one output.  Its present parameters are
        the initial :math:`\theta`, which are copied; those that require no gradient now stay
        where they are in both loops, and, as buffers, in the module.  The module is moved to
        the device and used in the mode (``train`` or ``eval``) that it is in.
    rule : Rule
        Where and how far the inner loop moves each weight.
    criterion : callable, default cross-entropy
        ``criterion(outputs, targets) -> scalar``.  For ``F.cross_entropy`` itself classes may
        be integers of any type.
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
        ``auto``, ``cpu``, ``cuda``, ``mps`` or ``xpu``.
    stacked : bool, optional
        Whether the tasks of a meta-update (to first order) and of an evaluation adapt side
        by side (:mod:`wheretolearn.fast.vmap`); by default, on a GPU.  Tasks of unequal
        shapes never do, nor those of a network or loss for which it proves impossible.
    generator : torch.Generator, optional
        Source of the initial mask.

    Raises
    ------
    ValueError
        If a number is out of range, a name is unknown, or the module has no parameters
        that require a gradient.

    Warns
    -----
    UserWarning
        If the module keeps running statistics: they would carry information
        from one task to the next.  Build it with ``track_running_stats=False``.  And, once,
        if tasks cannot adapt side by side as `stacked` says.
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
        self.outer: Literal["adam", "nesterov"] = outer
        self.outer_clamp, self.precision = outer_clamp, precision
        self.stacked = self.device.type == "cuda" if stacked is None else stacked
        self.forward = FunctionalModule(self.module)
        way = seam.fast("side_by_side")
        self._together: Any = way() if way else None
        own = dict(self.module.named_parameters())
        self._fixed = {n for n, p in own.items() if not p.requires_grad}
        self.params: Params = {
            n: p.detach() if n in self._fixed else p.detach().clone() for n, p in own.items()
        }
        if len(self._fixed) == len(own):
            raise ValueError("the network has no parameters that require a gradient")
        learned = self.learned()
        nothing = next(iter(learned.values())).new_zeros(())
        numbers = rule.init({n: learned.get(n, nothing) for n in own}, generator)
        self.rule_params: Params = {n: m for n, m in numbers.items() if n not in self._fixed}
        groups: list[dict[str, Any]] = [{"params": list(learned.values()), "lr": meta_rate}]
        if self.rule_params:
            groups.append({"params": list(self.rule_params.values()), "lr": rule_rate})
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(groups)
            if outer == "adam"
            else torch.optim.SGD(groups, momentum=0.9, nesterov=True)
        )

    def _settings(self) -> dict[str, Any]:
        """Return what a state is the state of: the rule and the two loops."""
        return settings_of(self, ("rule", "inner_steps", "order", "outer", "outer_clamp"))

    def learned(self) -> Params:
        """Return the parameters that require a gradient."""
        return {n: p for n, p in self.params.items() if n not in self._fixed}

    @torch.inference_mode(False)  # which allows gradients, too
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
        learned = self.learned()
        outer = {n: torch.zeros_like(p) for n, p in learned.items()}
        inner = {n: torch.zeros_like(p) for n, p in self.rule_params.items()}
        rates: Params = {}
        losses, accuracies = [], []
        tasks = [self._here(task) for task in tasks]
        with computing_in(self.precision, self.device):
            for task, (result, noise) in zip(tasks, self._meta_gradients(tasks), strict=True):
                _add(outer, result.params)
                if noise is None:  # all tasks have the same rates
                    _add(rates, result.rates)
                elif result.rates:
                    _add(inner, self.rule.pull_back(self.rule_params, result.rates, noise))
                losses.append(float(result.loss))
                accuracies.append(accuracy(result.outputs, task.query.targets))
        if rates:
            _add(inner, self.rule.pull_back(self.rule_params, rates))
        if self.rule.masks_start and not self.rule.masks_steps:
            outer, more = self.rule.pull_back_start(self.rule_params, learned, outer)
            inner = {n: g + more[n] for n, g in inner.items()}
        for n, p in learned.items():
            p.grad = (outer[n] / len(tasks)).clamp(-self.outer_clamp, self.outer_clamp)
        for n, m in self.rule_params.items():
            m.grad = inner[n] / len(tasks)
        self.optimizer.step()
        return Score(losses, accuracies)

    def _meta_gradients(
        self, tasks: Sequence[Task]
    ) -> Iterator[tuple[MetaGradient, Tensor | None]]:
        """Yield the meta-gradient of each task, for the start and the rates, and its noise."""
        if self.rule.masks_steps:
            parts = self.forward, self.criterion, self.learned(), self._rates()
            for task in tasks:
                yield masked_steps(*parts, task, self.inner_steps, self.rule, self.order), None
            return
        meta_gradient = first_order if self.order == 1 else second_order
        shared = None if self.rule.noise else self.begin()

        def of_all(together: Task) -> list[tuple[MetaGradient, Tensor | None]]:
            parts = shared or self.begin()
            found = self._together.first_order(*parts, together, self.inner_steps)
            return [
                (
                    MetaGradient(
                        found.loss[i],
                        found.outputs[i],
                        {n: g[i] for n, g in found.params.items()},
                        {n: g[i] for n, g in found.rates.items()},
                    ),
                    None,
                )
                for i in range(len(tasks))
            ]

        def of_one(task: Task) -> tuple[MetaGradient, Tensor | None]:
            noise = self.rule.draw()
            return meta_gradient(*(shared or self.begin(noise)), task, self.inner_steps), noise

        if self.order == 1:
            yield from self._side_by_side(tasks, of_all, of_one)
        else:
            yield from map(of_one, tasks)

    @torch.inference_mode(False)
    def adapt(self, support: Batch) -> Params:
        """Return the parameters after adaptation to a support batch, detached.

        Nothing is learned, by buffers of the network neither.
        """
        with computing_in(self.precision, self.device), kept_buffers(self.module):
            end = self.params | self._adapt(self._batch(support)).params
            return {n: p.clone() for n, p in end.items()}  # those that stay are the learner's own

    def predict(self, support: Batch, inputs: Tensor) -> Tensor:
        """Return the outputs for some inputs after adaptation to a support batch, detached.

        Parameters
        ----------
        support : Batch
            What to adapt on.
        inputs : Tensor
            [B, ...], as the network takes them.

        Returns
        -------
        Tensor
            [B, ...], on the learner's device; nothing is learned.
        """
        here = Task(self._batch(support), Batch(inputs.to(self.device), support.targets))
        with torch.inference_mode(False), computing_in(self.precision, self.device):
            return self._outputs_of(here)

    @torch.inference_mode(False)
    def evaluate(self, tasks: Iterable[Task]) -> Score:
        """Adapt to each task and return loss and accuracy on its queries.

        Nothing is learned, by buffers of the network neither.
        """
        losses, accuracies = [], []
        tasks = iter(tasks)
        with computing_in(self.precision, self.device):
            while group := list(islice(tasks, _EVALUATED_TOGETHER if self.stacked else 1)):
                here = [self._here(task) for task in group]
                for task, outputs in zip(here, self._outputs(here), strict=True):
                    losses.append(float(self.criterion(outputs, task.query.targets)))
                    accuracies.append(accuracy(outputs, task.query.targets))
        return Score(losses, accuracies)

    def _outputs(self, tasks: Sequence[Task]) -> Iterator[Tensor]:
        """Yield the query outputs of each task after adaptation, detached."""

        def of_all(together: Task) -> Tensor:
            adapted = self._together.adapt(*self.begin(), together.support, self.inner_steps)
            return self._together.outputs(self.forward, adapted, together.query.inputs)

        yield from self._side_by_side(tasks, of_all, self._outputs_of)

    def _outputs_of(self, task: Task) -> Tensor:
        with kept_buffers(self.module):
            end = self._adapt(task.support).params
            with torch.no_grad():
                return self.forward(end, task.query.inputs)

    def _side_by_side(
        self,
        tasks: Sequence[Task],
        of_all: Callable[[Task], Iterable[T]],
        of_one: Callable[[Task], T],
    ) -> Iterator[T]:
        """Yield what is computed of tasks: of all at a time where that works, else of each.

        That vmap cannot do what a network does shows when it is tried.  It is said once, when the
        same has been done one by one: what fails there, too, says nothing about vmap.
        """
        possible = self._together and self.stacked and not (self.rule.noise or self.rule.steps)
        together = self._together.stack(tasks) if possible else None
        if together is None:
            yield from map(of_one, tasks)
            return
        why = "the network changes its buffers"
        try:
            with kept_buffers(self.module):
                before = self._buffers()
                found = of_all(together)
                unchanged = self._buffers() == before
        except Exception as error:  # of many types, also by what a network does itself
            unchanged = False
            why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if unchanged:
            yield from found
            return
        yield from map(of_one, tasks)
        self.stacked = False
        warnings.warn(
            f"tasks cannot adapt side by side ({why}), so from here on they adapt one by one, "
            "which is slower on a GPU; MetaLearner(..., stacked=False) does so from the beginning",
            stacklevel=5,
        )

    def _buffers(self) -> list[tuple[str, int, int]]:
        """Return which buffers there are, and how often each was changed."""
        return [(n, id(b), b._version) for n, b in self.module.named_buffers()]

    def _batch(self, batch: Batch) -> Batch:
        """Return a batch on the device, its classes as cross-entropy wants them."""
        inputs, targets = batch.to(self.device)
        if self.criterion is F.cross_entropy and not targets.is_floating_point():
            targets = targets.long()
        return Batch(inputs, targets)

    def _here(self, task: Task) -> Task:
        return Task(*map(self._batch, task))

    def _adapt(self, support: Batch) -> Adapted:
        forward, criterion, start, rates = self.begin(self.rule.draw())
        # tensors that are frozen altogether need no gradient
        rates = type(rates)({n: r for n, r in rates.items() if torch.as_tensor(r).any()})
        return adapt(forward, criterion, start, rates, support, self.inner_steps)

    def begin(self, noise: Tensor | None = None) -> tuple[Forward, Criterion, Params, Rates]:
        """Return the first arguments of the inner loop: network, loss, start, rates.

        The start has the parameters that require a gradient; the module holds the others.

        Parameters
        ----------
        noise : Tensor, optional
            For masks that are made from noise, see :meth:`wheretolearn.rules.Rule.draw`.
        """
        start = self.rule.start(self.rule_params, self.learned())
        start = {n: p.detach() for n, p in start.items()}
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
        """Return copies of everything that training changes, and the settings it belongs to."""
        copies = {
            part: {n: t.detach().clone() for n, t in own.items()}
            for part, own in self._tensors().items()
        }
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        return {"settings": self._settings(), **copies, "optimizer": optimizer}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what :meth:`state_dict` returned, or weights taken from it.

        Parameters
        ----------
        state : mapping
            ``params`` and ``rule_params``, and maybe ``buffers``, ``optimizer`` (with the rates of
            the outer loop) and ``settings``.  Weights without ``settings`` are taken wherever
            names and shapes fit, say to go on with another number of steps.

        Raises
        ------
        ValueError
            If the state belongs to other settings or another network: what differs is named,
            and nothing has been loaded.
        """
        here = self._settings()
        check_settings(here, state.get("settings", here))
        own = self._tensors()
        if "buffers" not in state:
            del own["buffers"]
        check_like(own, {part: state.get(part) for part in own})
        if "optimizer" in state:
            learned = self.learned() | {f"{n} of the rule": m for n, m in self.rule_params.items()}
            check_optimizer(self.optimizer, state["optimizer"], learned)
        with torch.no_grad():
            for part, tensors in own.items():
                for n, t in tensors.items():
                    t.copy_(state[part][n])
        if "optimizer" in state:
            optimizer = copy.deepcopy(state["optimizer"])  # what it is given it goes on to change
            self.optimizer.load_state_dict(optimizer)

    def save(self, path: Path | str) -> None:
        """Write what :meth:`state_dict` returns to a file, for :meth:`load`."""
        torch.save(self.state_dict(), path)

    @classmethod
    def load(cls, path: Path | str, module: nn.Module, **options: Any) -> MetaLearner:
        """Return the learner that was saved, ready to be used or trained further.

        Parameters
        ----------
        path : path
            From :meth:`save`.  Only tensors and plain values are read from it.
        module : nn.Module
            A network of the same architecture.
        **options
            Of :class:`MetaLearner` that a state does not hold: criterion, device, ...

        Raises
        ------
        ValueError
            If the file is of something else, or the network is another one.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            saved = dict(state["settings"])
            rule = Rule(**{f.name: saved.pop(f.name) for f in fields(Rule)})
        except (pickle.UnpicklingError, KeyError, TypeError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path} holds no meta-learner ({error!r:.200})") from error
        learner = cls(module, rule, **{n: v for n, v in saved.items() if n != "rule"}, **options)
        learner.load_state_dict(state)
        return learner

    def export(self) -> nn.Module:
        """Return a copy of the network with the meta-learned initialisation as its parameters."""
        module = copy.deepcopy(self.module)
        with torch.no_grad():
            for n, p in module.named_parameters():
                p.copy_(self.params[n])
        return module

    def _tensors(self) -> dict[str, Params]:
        """Return the tensors of the state, by part, without those of the optimizer."""
        saved = self.module.state_dict()
        buffers = {n: b for n, b in self.module.named_buffers() if n in saved}
        return {"params": self.params, "rule_params": self.rule_params, "buffers": buffers}

    def _rates(self, noise: Tensor | None = None) -> Rates:
        rates = self.rule.rates(self.rule_params, self.params, noise)
        moving = {n: r for n, r in rates.items() if n not in self._fixed}
        return type(rates)(
            {n: r.detach() if isinstance(r, Tensor) else r for n, r in moving.items()}
        )


def _add(total: Params, more: Params) -> None:
    """Add tensors to those of the same names."""
    for n, g in more.items():
        total[n] = total[n] + g if n in total else g


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Return the share of correct classes, in [0, 1]; NaN where the targets are not classes.

    Parameters
    ----------
    outputs : Tensor
        Of any shape; a score for each of two or more classes, [B, C], where targets are classes.
    targets : Tensor
        Of any shape and type; classes are integers [B] in [0, C).

    Returns
    -------
    float
    """
    if outputs.ndim != 2 or targets.shape != outputs.shape[:1] or targets.is_floating_point():
        return math.nan
    classes, targets = outputs.shape[1], targets.long()
    if classes < 2 or not bool(((targets >= 0) & (targets < classes)).all()):
        return math.nan  # one output tells no classes apart
    return float((outputs.argmax(1) == targets).cpu().double().mean())
