"""All contenders by name, what a turn of each does, and whether they compute the same."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wheretolearn.fast.allocator import keep_memory
from wheretolearn.meta import MetaLearner
from wheretolearn.types import Batch, Params, Task

from . import la_maml
from .cases import Case, FewShot, LaMaml, Problem, make_problem
from .ceiling import PRODUCTS, make_convolutions, make_product
from .peers import Higher, TorchOpt, Vmap
from .usual import Usual, usual_network


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
        network = usual_network(case).to(problem.tasks[0].support.inputs.dtype)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__(case, problem._replace(module=network))

    def step(self, tasks: Sequence[Task]) -> None:
        """Make one meta-update on images with channels last."""
        super().step([Task(*(_channels_last(batch) for batch in task)) for task in tasks])


def _channels_last(batch: Batch) -> Batch:
    # contiguous() would leave images of one channel as they are, and all that follows with them
    images = torch.empty_like(batch.inputs, memory_format=torch.channels_last)
    return batch._replace(inputs=images.copy_(batch.inputs))


class Contender(NamedTuple):
    """A form with its settings."""

    title: str
    """What the tables call it."""
    form: Callable[..., Any]
    """Called with case and problem."""
    settings: Mapping[str, Any] = MappingProxyType({})
    """Further arguments of the form."""
    keeps_memory: bool = False
    """Whether the process keeps freed memory, see :mod:`wheretolearn.fast.allocator`."""
    exact: bool = True
    """Whether it computes in the precision of its parameters."""


USUAL, LIBRARY, BF16 = "usual", "library", "library-bf16"

FEW_SHOT: dict[str, Contender] = {
    USUAL: Contender("usual form", Usual),
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

CONVOLUTIONS = "convolutions"
"""A contender that only convolves; beside the keys of ``ceiling.PRODUCTS``."""


def contenders(case: Case) -> dict[str, str]:
    """Return the titles of those who take part in a case, by name."""
    if isinstance(case, LaMaml):
        return la_maml.TITLES
    return {name: contender.title for name, contender in FEW_SHOT.items()}


def make_turn(name: str, case: Case) -> Callable[[], object]:
    """Return a function that does one turn."""
    if name in PRODUCTS:
        a, b, out = make_product(PRODUCTS[name])
        return lambda: torch.mm(a, b, out=out)
    if isinstance(case, LaMaml):
        if name == LIBRARY:
            keep_memory()
        glance = la_maml.make_glance(name, case)
        return lambda: [glance() for _ in range(case.repeats)]
    assert isinstance(case, FewShot)
    if name == CONVOLUTIONS:
        keep_memory()
        return make_convolutions(case)
    form, tasks = _make_form(name, case)

    def turn() -> None:
        for _ in range(case.repeats):
            form.step(tasks)

    return turn


def difference(name: str, case: Case) -> float:
    """Return how far a contender's meta-gradient is from the usual form's."""
    if isinstance(case, LaMaml):
        got, want = (la_maml.make_glance(n, case, torch.float64)() for n in (name, USUAL))
        return max(apart(a, b) for a, b in zip(got, want, strict=True))
    assert isinstance(case, FewShot)
    dtype = torch.float64 if FEW_SHOT[name].exact else torch.float32
    got = _meta_gradient(name, case.small(), dtype)
    want = _meta_gradient(USUAL, case.small(), torch.float64)
    return max(apart(a, b) for a, b in zip(got, want, strict=True))


def apart(got: Params, want: Params) -> float:
    """Return the relative distance of two gradients, all parameters together."""
    distance = sum(float((got[n] - w).square().sum()) for n, w in want.items())
    return (distance / sum(float(w.square().sum()) for w in want.values())) ** 0.5


def _make_form(
    name: str, case: FewShot, dtype: torch.dtype = torch.float32
) -> tuple[Any, list[Task]]:
    contender = FEW_SHOT[name]
    if contender.keeps_memory:
        keep_memory()
    problem = make_problem(case, dtype)
    return contender.form(case, problem, **contender.settings), problem.tasks


@functools.lru_cache(maxsize=2)  # the usual form's is asked for again and again
def _meta_gradient(name: str, case: FewShot, dtype: torch.dtype) -> tuple[Params, Params]:
    form, tasks = _make_form(name, case, dtype)
    form.step(tasks)
    return _gradients(form.params), _gradients(form.rule_params)


def _gradients(tensors: dict[str, Tensor]) -> Params:
    return {n: p.grad.double() for n, p in tensors.items() if p.grad is not None}
