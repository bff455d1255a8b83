"""The work that all contenders do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from wheretolearn.networks import NetworkName, make_network
from wheretolearn.rules import Rule, make_rule
from wheretolearn.types import Batch, Params, Task


@dataclass(frozen=True, kw_only=True)
class Case(ABC):
    """A piece of work."""

    name: str
    """Key of :data:`CASES`."""
    title: str
    """What the tables call it."""
    seconds: float = 60.0
    """How long the contenders take turns."""
    rounds: int = 3
    """Rounds that are made even where the time is up."""
    repeats: int = 1
    """Meta-steps of one turn."""

    @property
    @abstractmethod
    def units(self) -> int:
        """What a turn counts for."""


@dataclass(frozen=True, kw_only=True)
class FewShot(Case):
    """Meta-steps of sparse-MAML."""

    network: NetworkName = "convnet4"
    """As in :func:`wheretolearn.networks.make_network`."""
    image_size: int
    """Height and width of the images, pixels."""
    channels: int
    """Channels of the images."""
    width: int
    """Channels of the first block."""
    steps: int
    """Inner steps K."""
    ways: int = 5
    """Classes of an episode."""
    shots: int = 5
    """Support images of each class."""
    queries: int = 15
    """Query images of each class."""
    tasks: int = 1
    """Tasks of a meta-step."""

    @property
    def units(self) -> int:
        """Tasks of one turn."""
        return self.tasks * self.repeats

    def small(self) -> FewShot:
        """Return the same network on few and small images, to compare gradients in float64."""
        return replace(self, image_size=21, shots=1, queries=1, steps=2, tasks=2)


@dataclass(frozen=True, kw_only=True)
class LaMaml(Case):
    """Glances of La-MAML at a batch: an inner step on each sample, a meta-gradient after each."""

    sizes: tuple[int, ...] = (784, 100, 100, 10)
    """Units of the fully connected network."""
    current: int = 10
    """Samples that arrive: the inner steps of a glance."""
    replay: int = 10
    """Samples that are replayed with them."""

    @property
    def units(self) -> int:
        """Inner steps of one turn."""
        return self.current * self.repeats


_28: dict[str, Any] = {"image_size": 28, "channels": 1, "width": 32, "tasks": 2}
_84: dict[str, Any] = {"image_size": 84, "channels": 3, "width": 64}

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        FewShot(
            name="convnet4-28-k5",
            title="ConvNet-4, 28 px, 32 channels, K = 5",
            **_28,
            steps=5,
            repeats=2,
            seconds=40,
        ),
        FewShot(
            name="convnet4-28-k35",
            title="ConvNet-4, 28 px, 32 channels, K = 35",
            **_28,
            steps=35,
            seconds=50,
        ),
        FewShot(
            name="convnet4-84-k5",
            title="ConvNet-4, 84 px, 64 channels, K = 5",
            **_84,
            steps=5,
            seconds=130,
        ),
        FewShot(
            name="convnet4-84-k35",
            title="ConvNet-4, 84 px, 64 channels, K = 35",
            **_84,
            steps=35,
            seconds=0,
            rounds=2,
        ),
        FewShot(
            name="resnet12-84-k5",
            title="ResNet-12, 84 px, 5-way 1-shot, 1 query, K = 5",
            network="resnet12",
            **_84,
            shots=1,
            queries=1,
            steps=5,
            seconds=110,
            rounds=2,
        ),
        LaMaml(name="la-maml", title="La-MAML, MLP 784-100-100-10", repeats=30, seconds=15),
    )
}
"""Every case, by name; 5-way 5-shot with 15 queries where the title does not say otherwise."""


class Problem(NamedTuple):
    """A few-shot case with numbers: where meta-training stands, and tasks."""

    module: torch.nn.Module
    """The library's network."""
    rule: Rule
    params: Params
    """Initialisation; half of the BatchNorm scales are negative."""
    rule_params: Params
    """Mask, half of it frozen."""
    tasks: list[Task]


def make_problem(case: FewShot, dtype: torch.dtype = torch.float32) -> Problem:
    """Draw the numbers of a case, the same ones whenever it is called."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make_network(
            case.network,
            ways=case.ways,
            channels=case.channels,
            image_size=case.image_size,
            width=case.width,
        ).to(dtype)
        tasks = [
            Task(_batch(case, case.shots, dtype), _batch(case, case.queries, dtype))
            for _ in range(case.tasks)
        ]
    rule = make_rule("sparse-maml", inner_rate=0.1, init_sparsity=0.5)
    params = {n: p.detach().clone() for n, p in module.named_parameters()}
    for name, p in params.items():
        if "norm" in name and name.endswith("weight"):
            p[::2] *= -1
    rule_params = rule.init(params, torch.Generator().manual_seed(0))
    return Problem(module, rule, params, rule_params, tasks)


def _batch(case: FewShot, each: int, dtype: torch.dtype) -> Batch:
    """Return images of noise around a mean for each class, [ways * each, C, S, S]."""
    shape = (case.channels, case.image_size, case.image_size)
    means = torch.randn(case.ways, *shape).repeat(each, 1, 1, 1)
    images = means + torch.randn(means.shape)
    return Batch(images.to(dtype), torch.arange(case.ways).repeat(each))
