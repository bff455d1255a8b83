"""The work that all contenders do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from wheretolearn.networks import make_network
from wheretolearn.rules import Rule, make_rule
from wheretolearn.types import Batch, Params, Task


@dataclass(frozen=True, kw_only=True)
class Case:
    """A piece of work."""

    name: str
    title: str
    """What the tables call it; 5-way 5-shot with 15 queries where it does not say otherwise."""
    seconds: float = 60.0
    """How long the contenders take turns."""
    rounds: int = 3
    """Rounds that are made even where the time is up."""
    repeats: int = 1
    """Meta-steps of one turn."""


@dataclass(frozen=True, kw_only=True)
class FewShot(Case):
    """Meta-steps of sparse-MAML, counted in tasks."""

    network: str = "convnet4"
    image_size: int
    channels: int
    width: int
    steps: int
    ways: int = 5
    shots: int = 5
    queries: int = 15
    tasks: int = 1

    @property
    def units(self) -> int:
        """What a turn counts for."""
        return self.tasks * self.repeats

    def small(self) -> FewShot:
        """Return the same network on few images, to compare gradients in float64.

        On their way through four poolings, 21 pixels meet odd and even sides.
        """
        return replace(self, image_size=21, shots=1, queries=1, steps=2, tasks=2)


@dataclass(frozen=True, kw_only=True)
class LaMaml(Case):
    """Glances of La-MAML at a batch, counted in inner steps: one on each sample."""

    sizes: tuple[int, ...] = (784, 100, 100, 10)
    current: int = 10
    replay: int = 10

    @property
    def units(self) -> int:
        """What a turn counts for."""
        return self.current * self.repeats


_28: dict[str, Any] = {"image_size": 28, "channels": 1, "width": 32, "tasks": 2}
_32: dict[str, Any] = {"image_size": 32, "channels": 3, "width": 32, "tasks": 2, "queries": 5}
_84: dict[str, Any] = {"image_size": 84, "channels": 3, "width": 64}
_12: dict[str, Any] = {"network": "resnet12", "shots": 1, "queries": 1, "rounds": 2, **_84}

CASES: dict[str, FewShot | LaMaml] = {
    case.name: case
    for case in (
        FewShot(
            name="convnet4-28-k5",
            title="ConvNet-4, 28 px, 32 channels, K = 5",
            steps=5,
            repeats=2,
            seconds=40,
            **_28,
        ),
        FewShot(
            name="convnet4-28-k35",
            title="ConvNet-4, 28 px, 32 channels, K = 35",
            steps=35,
            seconds=50,
            **_28,
        ),
        FewShot(  # the long runs of the study
            name="convnet4-32-k15",
            title="ConvNet-4, 32 px in colour, 32 channels, 5 queries, K = 15",
            steps=15,
            seconds=40,
            **_32,
        ),
        FewShot(
            name="convnet4-84-k5",
            title="ConvNet-4, 84 px, 64 channels, K = 5",
            steps=5,
            seconds=130,
            **_84,
        ),
        FewShot(
            name="convnet4-84-k35",
            title="ConvNet-4, 84 px, 64 channels, K = 35",
            steps=35,
            seconds=0,
            rounds=2,
            **_84,
        ),
        FewShot(
            name="resnet12-84-k5",
            title="ResNet-12, 84 px, 5-way 1-shot, 1 query, K = 5",
            steps=5,
            seconds=110,
            **_12,
        ),
        LaMaml(name="la-maml", title="La-MAML, MLP 784-100-100-10", repeats=30, seconds=15),
    )
}


class Problem(NamedTuple):
    """A few-shot case with numbers: where meta-training stands, and tasks."""

    module: torch.nn.Module
    rule: Rule
    params: Params
    """Initialisation; half of the BatchNorm scales are negative."""
    rule_params: Params
    """Mask, half of it frozen."""
    tasks: list[Task]


def make_problem(case: FewShot, dtype: torch.dtype = torch.float32) -> Problem:
    """Draw the numbers of a case in float32, the same ones whenever it is called."""

    def batch(each: int) -> Batch:
        """Return images of noise around a mean for each class, [ways * each, C, S, S]."""
        shape = (case.channels, case.image_size, case.image_size)
        means = torch.randn(case.ways, *shape).repeat(each, 1, 1, 1)
        images = means + torch.randn(means.shape)
        return Batch(images.to(dtype), torch.arange(case.ways).repeat(each))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = make_network(
            case.network,
            ways=case.ways,
            channels=case.channels,
            image_size=case.image_size,
            width=case.width,
        ).to(dtype)
        tasks = [Task(batch(case.shots), batch(case.queries)) for _ in range(case.tasks)]
    rule = make_rule("sparse-maml", inner_rate=0.1, init_sparsity=0.5)
    params = {n: p.detach().clone() for n, p in module.named_parameters()}
    for name, p in params.items():
        if "norm" in name and name.endswith("weight"):
            p[::2] *= -1
    rule_params = rule.init(params, torch.Generator().manual_seed(0))
    return Problem(module, rule, params, rule_params, tasks)
