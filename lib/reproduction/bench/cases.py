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
    """A piece of work; 5-way 5-shot with 15 queries where its title does not say otherwise."""

    name: str
    title: str
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
    steps: int = 5
    ways: int = 5
    shots: int = 5
    queries: int = 15
    tasks: int = 1

    @property
    def units(self) -> int:
        """What a turn counts for."""
        return self.tasks * self.repeats

    def at(self, steps: int, **changes: Any) -> FewShot:
        """Return the case with a number of inner steps, which its name and title say."""
        name, title = f"{self.name}-k{steps}", f"{self.title}, K = {steps}"
        return replace(self, name=name, title=title, steps=steps, **changes)

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


def _few_shot(name: str, title: str, image_size: int, **settings: Any) -> FewShot:
    settings = {"channels": 3, "width": 64} | settings
    return FewShot(name=f"{name}-{image_size}", title=title, image_size=image_size, **settings)


_28 = _few_shot("convnet4", "ConvNet-4, 28 px, 32 channels", 28, channels=1, width=32, tasks=2)
_32 = _few_shot(  # the long runs of the study
    "convnet4",
    "ConvNet-4, 32 px in colour, 32 channels, 5 queries",
    32,
    width=32,
    tasks=2,
    queries=5,
)
_84 = _few_shot("convnet4", "ConvNet-4, 84 px, 64 channels", 84)
_12 = _few_shot(
    "resnet12",
    "ResNet-12, 84 px, 5-way 1-shot, 1 query",
    84,
    network="resnet12",
    shots=1,
    queries=1,
)
_ALL: tuple[FewShot | LaMaml, ...] = (
    _28.at(5, repeats=2, seconds=40),
    _28.at(35, seconds=50),
    _32.at(15, seconds=40),
    _84.at(5, seconds=130),
    _84.at(35, seconds=0, rounds=2),
    _12.at(5, seconds=110, rounds=2),
    LaMaml(name="la-maml", title="La-MAML, MLP 784-100-100-10", repeats=30, seconds=15),
)
CASES = {case.name: case for case in _ALL}


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
