"""Every learner of the library behind one face, and networks that a reader may bring along."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from wheretolearn import METHODS, Batch, MetaLearner, Task, make_rule
from wheretolearn.continual.methods import LEARNERS, settings
from wheretolearn.continual.osaka.c_maml import CMAML, ProlongedCMAML
from wheretolearn.continual.osaka.fast_slow import Adapter, Online
from wheretolearn.continual.osaka.rules import TensorRule
from wheretolearn.networks import MLP
from wheretolearn.rules import Count, Rule, count_frozen
from wheretolearn.types import Params

SIZES = (6, 8, 7, 3)


def batch(count: int, seed: int, classes: torch.dtype = torch.int64) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return Batch(inputs, torch.randint(3, (count,), generator=generator).to(classes))


def mlp(
    change: Callable[[MLP], object] | None = None, sizes: tuple[int, ...] = SIZES, seed: int = 0
) -> MLP:
    torch.manual_seed(seed)
    network = MLP(*sizes).double()
    if change is not None:
        change(network)
    return network


class Tracked(nn.Module):
    """Subtracts a running mean, which it changes in place, and counts in another buffer."""

    mean: torch.Tensor
    count: torch.Tensor

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.body = mlp(seed=seed)
        self.register_buffer("mean", torch.full((6,), float(seed)).double())
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.1)
            self.count = self.count + 1
        return self.body(x - self.mean)


class Blind(MLP):
    """Keeps no graph."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return super().forward(x)


class Kind(NamedTuple):
    """A learner."""

    make: Callable[..., Any]
    """Of a network and a seed."""
    learn: Callable[..., Any]
    """Learn what comes at a step; its classes may be of another type."""
    look: Callable[..., Any]
    """Use it on what may have classes of another type, so that nothing is learned."""
    params: Callable[[Any], Params]
    counts: Callable[[Any], dict[str, Count]]
    """How much of each tensor never moves, where the learner knows."""
    family: str

    def lived(self, learner: Any, steps: Iterable[int] = range(5)) -> Any:
        """Let it learn at some steps."""
        for k in steps:
            self.learn(learner, k)
        return learner


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """Compare states, to the bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for n, value in one.items():
            assert_same(value, other[n], f"{where}/{n}")
    elif isinstance(one, list | tuple):
        assert_same(dict(enumerate(one)), dict(enumerate(other)), where)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


# --- few-shot learners


def tasks(seed: int = 3, count: int = 3, classes: torch.dtype = torch.int64) -> list[Task]:
    seeds = range(1000 * seed, 1000 * seed + 2 * count, 2)
    return [Task(batch(5, s, classes), batch(4, s + 1, classes)) for s in seeds]


def few_shot(
    network: nn.Module,
    seed: int = 0,
    method: str = "maml",
    rule: Rule | None = None,
    **changes: Any,
) -> MetaLearner:
    generator = torch.Generator().manual_seed(seed)
    chosen = {"inner_steps": 2, "device": "cpu", "meta_rate": 0.01} | changes
    return MetaLearner(network, rule or make_rule(method), generator=generator, **chosen)


def _meta_step(learner: MetaLearner, k: int, *classes: torch.dtype) -> Any:
    torch.manual_seed(k)  # for masks that are made from noise
    return learner.step(tasks(k, 3, *classes))


def _evaluate(learner: MetaLearner, *classes: torch.dtype) -> Any:
    learner.adapt(tasks(3, 3, *classes)[0].support)
    return learner.evaluate(tasks(3, 9, *classes))


FORMS: dict[str, dict[str, Any]] = {
    "": {},
    ", side by side": {"stacked": True},
    ", second order": {"order": 2},
}
FEW_SHOT = {
    f"{method}{form}": Kind(
        partial(few_shot, method=method, **changes),
        _meta_step,
        _evaluate,
        lambda learner: learner.params,
        MetaLearner.frozen,
        "few-shot",
    )
    for method in METHODS
    for form, changes in FORMS.items()
}

# --- learners on streams of tasks

_CHANGES: dict[str, dict[str, Any]] = {
    "gem": {"tasks": 3, "rate": 0.05},
    "mer": {"trajectories": 2, "replay": 3},
    "la-maml": {"glances": 2},
    "sparse-la-maml": {"glances": 2},
}


def on_stream(network: nn.Module, seed: int = 0, name: str = "online", **changes: Any) -> Any:
    chosen = settings(name, "rotations")
    chosen |= ({"memory": 12} if "memory" in chosen else {}) | _CHANGES.get(name, {}) | changes
    return LEARNERS[name].make(
        network=network, generator=torch.Generator().manual_seed(seed), **chosen
    )


def _observe(learner: Any, k: int, *classes: torch.dtype) -> None:
    """Live through two tasks of two batches, and the beginning of a third."""
    learner.observe(batch(4, k, *classes))
    if k in (1, 3):
        learner.end_task()


def _counts(learner: Any) -> dict[str, Count]:
    rates = learner.rates()
    return {} if rates is None else count_frozen(rates, learner.params)


ON_STREAMS = {
    name: Kind(
        partial(on_stream, name=name),
        _observe,
        lambda learner, *classes: learner.accuracy(batch(5, 0, *classes), (0, 3)),
        lambda learner: learner.params,
        _counts,
        "stream",
    )
    for name in LEARNERS
}

# --- learners on the stream of OSAKA


def slow_learner(network: nn.Module, seed: int = 0, rule: Rule | None = None) -> MetaLearner:
    rule = rule or TensorRule(gate="relu", inner_rate=0.3)
    return few_shot(network, seed, rule=rule, inner_steps=3, meta_rate=0.02, rule_rate=0.02)


def contexts(count: int, size: int = 6, every: int = 5) -> list[Batch]:
    """Return batches of clusters whose labels change with each context."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for t in range(count):
        if t % every == 0:
            centres = 2 * torch.randn(3, 6, generator=generator, dtype=torch.float64)
        targets = torch.randint(3, (size,), generator=generator)
        noise = torch.randn(size, 6, generator=generator, dtype=torch.float64)
        batches.append(Batch(centres[targets] + 0.3 * noise, targets))
    return batches


_STREAM = contexts(20, every=4)


def _look(learner: Any) -> None:
    learner.predict(_STREAM[0].inputs)
    learner.loss(_STREAM[1])


_OSAKA: dict[str, Callable[..., Any]] = {
    "fine-tuned": partial(Online, rate=0.05),
    "fine-tuned by SGD": partial(Online, rate=0.05, optimizer="sgd"),
    "adapter": Adapter,
    "c-maml of osaka": partial(CMAML, margin=0.3),
    "modulated": partial(CMAML, margin=0.3, modulation=0.5),
    "prolonged": partial(ProlongedCMAML, margin=0.3),
    "prolonged, late": partial(ProlongedCMAML, margin=0.3, late=True),
}
OSAKA = {
    name: Kind(
        lambda network, seed=0, make=make, **more: make(slow_learner(network, seed, **more)),
        lambda learner, k: learner.observe(_STREAM[k]),
        _look,
        lambda learner: learner.weights,
        lambda learner: learner.frozen(),
        "osaka",
    )
    for name, make in _OSAKA.items()
}

KINDS = FEW_SHOT | ON_STREAMS | OSAKA
