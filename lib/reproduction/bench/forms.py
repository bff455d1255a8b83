"""Sparse-MAML's meta-step in several forms, which must all equal the usual one.

In the usual form tensors are contiguous [B, C, H, W]; convolution, batch normalisation, activation
and pooling follow one another; the masks and all inner steps stand in one autograd graph; tasks
come one by one.  The inner gradients are constants of that graph (first order).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from wheretolearn import MetaLearner, seam
from wheretolearn.types import Batch, Params, Task

from . import la_maml
from .cases import FewShot, LaMaml, Problem, make_problem

TOLERANCE = 1e-9
"""Largest relative difference of an exact contender's meta-gradient from the usual form's."""


class Unavailable(RuntimeError):
    """A peer that is not installed, or cannot be imported here; the message says why."""


class UsualNetwork(nn.Module):
    """ConvNet-4 or ResNet-12; parameters are named as the library's."""

    def __init__(self, case: FewShot) -> None:
        super().__init__()
        self.deep = case.network == "resnet12"
        widths = [case.width * 2**i if self.deep else case.width for i in range(4)]
        for i, (a, b) in enumerate(pairwise([case.channels, *widths]), start=1):
            block = nn.Module()
            for name in ("1", "2", "3") if self.deep else ("",):
                conv = nn.Conv2d(b if name > "1" else a, b, 3, padding=1, bias=not self.deep)
                block.add_module(f"conv{name}", conv)
                block.add_module(f"norm{name}", nn.BatchNorm2d(b, track_running_stats=False))
            if self.deep:
                block.add_module("shortcut", nn.Conv2d(a, b, 1, bias=False))
                block.add_module("norm_shortcut", nn.BatchNorm2d(b, track_running_stats=False))
            self.add_module(f"layer{i}", block)
        features = widths[-1] if self.deep else case.width * (case.image_size // 16) ** 2
        self.output = nn.Linear(features, case.ways)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [B, C, S, S] to logits [B, ways]."""
        layers: tuple[Any, ...] = (self.layer1, self.layer2, self.layer3, self.layer4)
        for layer in layers:  # [B, C', S/2, S/2] after each
            if self.deep:
                y = F.leaky_relu(layer.norm1(layer.conv1(x)), 0.01)
                y = F.leaky_relu(layer.norm2(layer.conv2(y)), 0.01)
                y = layer.norm3(layer.conv3(y)) + layer.norm_shortcut(layer.shortcut(x))
                x = F.max_pool2d(F.leaky_relu(y, 0.01), 2)
            else:
                x = F.max_pool2d(F.relu(layer.norm(layer.conv(x))), 2)
        return self.output(x.mean((2, 3)) if self.deep else x.flatten(1))


class Form:
    """One way to compute the meta-gradient, and the Adam that uses it.

    After `step` the ``grad`` of `params` and `rule_params` is the meta-gradient.
    """

    def __init__(self, case: FewShot, problem: Problem) -> None:
        self.steps, self.rule = case.steps, problem.rule
        self.module = UsualNetwork(case).to(problem.tasks[0].support.inputs.dtype)
        self.module.load_state_dict(problem.params)
        self.params: Params = dict(self.module.named_parameters())
        self.rule_params = {
            n: m.clone(memory_format=torch.contiguous_format).requires_grad_()
            for n, m in problem.rule_params.items()
        }
        self.optimizer = torch.optim.Adam([*self.params.values(), *self.rule_params.values()])

    def step(self, tasks: Sequence[Task]) -> None:
        """Make one meta-update on the mean meta-gradient of the tasks."""
        self.optimizer.zero_grad()
        self.backward(tasks)
        self.optimizer.step()

    def backward(self, tasks: Sequence[Task]) -> None:
        """Set the ``grad`` of initialisation and mask: here, through a graph of all steps."""
        for support, query in tasks:
            rates = self.rule.rates(self.rule_params, self.params)
            fast: Params = dict(self.params)
            for _ in range(self.steps):
                grads = torch.autograd.grad(self.loss(fast, *support), [fast[n] for n in rates])
                fast |= {n: fast[n] - r * g for (n, r), g in zip(rates.items(), grads, strict=True)}
            (self.loss(fast, *query) / len(tasks)).backward()

    def loss(self, params: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the network's loss at `params`."""
        return F.cross_entropy(functional_call(self.module, dict(params), (inputs,)), targets)

    def peer(self, name: str) -> Any:
        """Import an optional library."""
        try:
            return importlib.import_module(name)
        except Exception as error:  # compiled extensions fail in many ways
            raise Unavailable(f"{type(error).__name__}: {error}") from error

    def set_gradients(self, outer: Mapping[str, Tensor], rates: Mapping[str, Tensor]) -> None:
        """Set gradients for the initialisation, and through the rule those for the mask."""
        for n, p in self.params.items():
            p.grad = outer[n]
        for n, g in self.rule.pull_back(self.rule_params, rates).items():
            self.rule_params[n].grad = g


class Higher(Form):
    """``higher``, with nothing kept over the steps: a callback masks and sums the gradients."""

    def __init__(self, case: FewShot, problem: Problem) -> None:
        super().__init__(case, problem)
        self.higher = self.peer("higher")
        self.sgd = torch.optim.SGD(self.module.parameters(), lr=1.0)

    def backward(self, tasks: Sequence[Task]) -> None:
        """Adapt a copy for each task and take the gradient there."""
        rates = self.rule.rates(self.rule_params, self.params)
        outer, rate_grads = (
            {n: torch.zeros_like(p) for n, p in self.params.items()} for _ in range(2)
        )
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
                grads = torch.autograd.grad(loss, list(network.parameters()))
            for n, g in zip(self.params, grads, strict=True):
                outer[n] += g
                rate_grads[n] -= g * total[n]
        self.set_gradients(outer, rate_grads)


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
            each = vmap(meta_gradient)(support, query)
            means = [{n: g.mean(0) for n, g in grads.items()} for grads in each]
        self.set_gradients(*means)


class TorchOpt(Form):
    """TorchOpt: its functional SGD, which leaves the steps in an autograd graph."""

    def __init__(self, case: FewShot, problem: Problem) -> None:
        super().__init__(case, problem)
        self.torchopt = self.peer("torchopt")
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


class Library:
    """The library's meta-learner."""

    def __init__(self, case: FewShot, problem: Problem, **settings: Any) -> None:
        self.learner = MetaLearner(
            problem.module, problem.rule, inner_steps=case.steps, device="cpu", **settings
        )
        self.learner.load_state_dict({"params": problem.params, "rule_params": problem.rule_params})
        self.params, self.rule_params = self.learner.params, self.learner.rule_params

    def step(self, tasks: Sequence[Task]) -> None:
        """Make one meta-update."""
        self.learner.step(tasks)


class ClosedForm(Library):
    """The library's closed form on the usual network, its channels last in memory."""

    def __init__(self, case: FewShot, problem: Problem) -> None:
        network = UsualNetwork(case).to(problem.tasks[0].support.inputs.dtype)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(case, problem._replace(module=network))

    def step(self, tasks: Sequence[Task]) -> None:
        """Make one meta-update on images with channels last."""
        super().step([Task(*map(_channels_last, task)) for task in tasks])


def _channels_last(batch: Batch) -> Batch:
    # contiguous() would leave images of one channel as they are, and all that follows with them
    images = torch.empty_like(batch.inputs, memory_format=torch.channels_last)
    return batch._replace(inputs=images.copy_(batch.inputs))


class Contender(NamedTuple):
    """A form with its settings."""

    title: str
    form: Callable[..., Any]
    settings: Mapping[str, Any] = MappingProxyType({})
    keeps_memory: bool = False
    """Whether the process keeps freed memory, see :mod:`wheretolearn.fast.allocator`."""
    exact: bool = True
    """Whether it computes in the precision of its parameters."""


USUAL, LIBRARY, BF16 = "usual", "library", "library-bf16"

FEW_SHOT: dict[str, Contender] = {
    USUAL: Contender("usual form", Form),
    "higher": Contender("higher", Higher),
    "torch.func": Contender("torch.func, vmap over tasks", Vmap),
    "torchopt": Contender("TorchOpt", TorchOpt),
    "closed-form": Contender("closed form, channels last", ClosedForm),
    "library-unmapping": Contender("this library, memory not kept", Library),
    LIBRARY: Contender("this library", Library, keeps_memory=True),
    BF16: Contender(
        "this library, bf16", Library, {"precision": "bf16"}, keeps_memory=True, exact=False
    ),
}
"""Who takes part in the few-shot cases, in the order of the tables."""


def titles(case: FewShot | LaMaml) -> dict[str, str]:
    """Return the titles of those who take part in a case, by name."""
    return la_maml.TITLES if isinstance(case, LaMaml) else {n: c.title for n, c in FEW_SHOT.items()}


def make_turn(name: str, case: FewShot | LaMaml) -> Callable[[], object]:
    """Return a function that does one turn: the case's number of meta-steps."""
    if isinstance(case, LaMaml):
        if name == LIBRARY:
            keep_memory()
        glance = la_maml.make_glance(name, case)
        return lambda: [glance() for _ in range(case.repeats)]
    form, tasks = _make_form(name, case)
    return lambda: [form.step(tasks) for _ in range(case.repeats)]


def keep_memory() -> None:
    """Have this process keep freed memory, where the library can."""
    (seam.fast("keep_memory") or bool)()


def difference(name: str, case: FewShot | LaMaml) -> float:
    r"""Return :math:`\|a - b\| / \|b\|` of a contender's meta-gradient and the usual form's.

    The larger one of that for the initialisation and that for the rule, in float64 on a small
    case; a contender of lower precision starts from float32.
    """
    if isinstance(case, LaMaml):
        pair = [la_maml.make_glance(n, case, torch.float64)() for n in (name, USUAL)]
    else:
        dtype = torch.float64 if FEW_SHOT[name].exact else torch.float32
        pair = [
            _meta_gradient(name, case.small(), dtype),
            _meta_gradient(USUAL, case.small(), torch.float64),
        ]
    return max(apart(a, b) for a, b in zip(*pair, strict=True))


def apart(result: Params, wanted: Params) -> float:
    """Return the relative distance of two gradients, all parameters together."""
    distance = sum(float((result[n] - w).square().sum()) for n, w in wanted.items())
    return (distance / sum(float(w.square().sum()) for w in wanted.values())) ** 0.5


def _make_form(
    name: str, case: FewShot, dtype: torch.dtype = torch.float32
) -> tuple[Any, list[Task]]:
    contender = FEW_SHOT[name]
    if contender.keeps_memory:
        keep_memory()
    problem = make_problem(case, dtype)
    return contender.form(case, problem, **contender.settings), problem.tasks


def _meta_gradient(name: str, case: FewShot, dtype: torch.dtype) -> tuple[Params, Params]:
    form, tasks = _make_form(name, case, dtype)
    form.step(tasks)

    def gradients(tensors: Params) -> Params:
        return {n: p.grad.double() for n, p in tensors.items() if p.grad is not None}

    return gradients(form.params), gradients(form.rule_params)
