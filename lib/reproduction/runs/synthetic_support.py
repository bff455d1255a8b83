r"""Problems in which it is known where to learn, to see whether sparse-MAML finds the place.

All tasks share most of their parameters; only some coordinates, the *planted* ones,
differ from task to task.  A linear model on features :math:`f(x) \in R^d` must fit

.. math:: y = w \cdot f(x) + \sigma \varepsilon, \qquad
          w_i = c_i + 1[i \in S]\, z_i, \qquad z_i \sim N(0, 1),

with :math:`c` and the planted set :math:`S` the same for all tasks.  From a few
examples, moving a shared coordinate can only fit noise, so the best mask is
:math:`1[i \in S]`.  Features are Gaussian (``linear``) or sines and cosines of a
number (``sinusoid``).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from wheretolearn import seam
from wheretolearn.meta import MetaLearner
from wheretolearn.rules import make_rule
from wheretolearn.types import Batch, Task

RULE_RATE = 7.5e-3
"""Adam's rate for a mask that is learned, as on images."""

_OF_RANDOM_MASKS = 1_000_003  # far from the seeds of problems


@dataclass(frozen=True)
class Planted:
    """A problem with planted coordinates, and how it is meta-learned."""

    features: Literal["linear", "sinusoid"] = "linear"
    """Gaussian features, or sin(f x) and cos(f x) of x uniform in [-pi, pi], scaled to
    variance 1, for f = 1, ..., dimension / 2."""
    dimension: int = 40  #: Number of features d
    planted: int = 10  #: Coordinates that differ from task to task
    noise: float = 0.5  #: Standard deviation of the noise of the targets
    shots: int = 10  #: Examples in the support
    queries: int = 20  #: Examples in the query
    inner_steps: int = 5  #: Inner-loop steps K
    updates: int = 400  #: Meta-updates
    tasks: int = 8  #: Tasks of each meta-update

    def __post_init__(self) -> None:
        """Refuse problems without a planted or without a shared coordinate."""
        if not 0 < self.planted < self.dimension:
            raise ValueError(
                f"planted must lie between 0 and dimension, got {self.planted} of {self.dimension}"
            )
        if self.features == "sinusoid" and self.dimension % 2:
            raise ValueError(f"sines and cosines come in pairs, dimension is {self.dimension}")

    @property
    def shape(self) -> Planted:
        """The setting without what does not change the shape of a training."""
        return self.replace(features="linear", planted=1, noise=0.0)

    @property
    def inner_rate(self) -> float:
        """Half of the largest inner rate at which steps on the support still converge."""
        return 0.5 / (1 + math.sqrt(self.dimension / self.shots)) ** 2

    def replace(self, **changes: object) -> Planted:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


class Found(NamedTuple):
    """What sparse-MAML found of the planted coordinates."""

    precision: float
    """Share of the coordinates that may move which are planted (NaN if none may move)."""
    recall: float  #: Share of the planted coordinates that may move
    density: float  #: Share of all coordinates that may move: the recall of a random mask
    chance: float  #: Share of coordinates that are planted: the precision of a random mask
    loss: float  #: Query loss of sparse-MAML on fresh tasks, mean squared error
    loss_dense: float  #: That of MAML, trained alike
    loss_right: float
    """That of weights trained alike under the right mask, which moves the planted coordinates."""
    loss_random: float  #: The same under a mask that moves as many coordinates at random


class Problem:
    """One draw of a problem: which coordinates are planted, and the shared weights."""

    def __init__(self, setting: Planted, seed: int) -> None:
        self.setting = setting
        self.generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(setting.dimension, generator=self.generator)
        self.planted = torch.zeros(setting.dimension, dtype=torch.bool)
        self.planted[order[: setting.planted]] = True
        self.shared = torch.randn(setting.dimension, generator=self.generator)

    def tasks(self, count: int) -> Task:
        """Draw tasks, stacked: inputs [count, n, d], targets [count, n]."""
        own = torch.randn(count, self.setting.dimension, generator=self.generator)
        weights = self.shared + self.planted * own
        return Task(
            self._batch(weights, self.setting.shots), self._batch(weights, self.setting.queries)
        )

    def _batch(self, weights: Tensor, size: int) -> Batch:
        x = self._features(len(weights), size)  # [count, n, d]
        noise = self.setting.noise * torch.randn(len(weights), size, generator=self.generator)
        return Batch(x, (x @ weights[:, :, None])[:, :, 0] + noise)

    def _features(self, count: int, size: int) -> Tensor:
        d = self.setting.dimension
        if self.setting.features == "linear":
            return torch.randn(count, size, d, generator=self.generator)
        x = torch.pi * (2 * torch.rand(count, size, 1, generator=self.generator) - 1)
        angles = x * torch.arange(1, d // 2 + 1)  # [count, n, d/2]
        return 2**0.5 * torch.cat([angles.sin(), angles.cos()], dim=2)


class _LinearModels(nn.Module):
    """P linear models side by side: inputs [n, P, d], outputs [n, P]."""

    def __init__(self, problems: int, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(problems, dimension))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).sum(-1)


def _errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of each problem, [..., P], from [..., n, P]."""
    return (outputs - targets).square().mean(-2)


def _tasks(problems: Sequence[Problem], count: int) -> Task:
    """Draw tasks of several problems, stacked: inputs [T, n, P, d], targets [T, n, P]."""
    drawn = [problem.tasks(count) for problem in problems]
    support, query = (
        Batch(*(torch.stack(tensors, 2) for tensors in zip(*batches, strict=True)))
        for batches in zip(*drawn, strict=True)
    )
    return Task(support, query)


def _one_by_one(tasks: Task) -> list[Task]:
    """Return stacked tasks one by one."""
    support, query = ([Batch(*pair) for pair in zip(*batch, strict=True)] for batch in tasks)
    return [Task(*pair) for pair in zip(support, query, strict=True)]


def _learner(
    method: str, setting: Planted, seeds: Sequence[int], masks: Tensor | None = None
) -> MetaLearner:
    """Return a learner of as many problems as there are seeds, with a mask from each seed."""
    rule = make_rule(
        method,
        inner_rate=setting.inner_rate,
        init_sparsity=0.5 if method == "sparse-maml" else 0.0,
    )
    learner = MetaLearner(
        _LinearModels(len(seeds), setting.dimension),
        rule,
        criterion=lambda outputs, targets: _errors(outputs, targets).sum(),
        inner_steps=setting.inner_steps,
        meta_rate=0.02,
        device="cpu",
        stacked=True,
        rule_rate=RULE_RATE if masks is None else 0.0,
    )
    if masks is not None:
        learner.rule_params["weight"].data.copy_(masks.float() - 0.5)
        return learner
    for m in learner.rule_params.values():
        for row, seed in zip(m.data, seeds, strict=True):
            generator = torch.Generator().manual_seed(seed)
            row.copy_(rule.init({"weight": row[None]}, generator)["weight"][0].detach())
    return learner


def search_all(draws: Sequence[tuple[Planted, int]]) -> list[Found]:
    """Meta-train sparse-MAML and MAML on problems of one shape; compare masks with the truth."""
    settings, seeds = zip(*draws, strict=True)
    if len({s.shape for s in settings}) > 1:
        raise ValueError("problems side by side must have one shape")
    problems = [Problem(setting, seed) for setting, seed in draws]
    setting = settings[0]
    right = torch.stack([problem.planted for problem in problems])
    random = torch.stack([_shuffled(mask, seed) for mask, seed in zip(right, seeds, strict=True)])
    learners = {
        "loss_dense": _learner("maml", setting, seeds),
        "loss": _learner("sparse-maml", setting, seeds),
        "loss_right": _learner("sparse-maml", setting, seeds, right),
        "loss_random": _learner("sparse-maml", setting, seeds, random),
    }
    for _ in range(setting.updates):
        tasks = _one_by_one(_tasks(problems, setting.tasks))
        for learner in learners.values():
            learner.step(tasks)
    tests = _tasks(problems, 200)
    losses = {name: _test(learner, tests).tolist() for name, learner in learners.items()}
    moves = learners["loss"].rule_params["weight"] >= 0
    return [
        _found(problem, moves[i], {name: values[i] for name, values in losses.items()})
        for i, problem in enumerate(problems)
    ]


def _shuffled(mask: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(_OF_RANDOM_MASKS + seed)
    return mask[torch.randperm(len(mask), generator=generator)]


def _test(learner: MetaLearner, tasks: Task) -> Tensor:
    """Return the mean query loss of each problem after adaptation, [P]."""
    side_by_side = seam.fast("side_by_side")
    assert side_by_side, "problems are made to be searched side by side"
    together = side_by_side()
    adapted = together.adapt(*learner.begin(), tasks.support, learner.inner_steps)
    outputs = together.outputs(learner.forward, adapted, tasks.query.inputs)
    return _errors(outputs, tasks.query.targets).mean(0)


def _found(problem: Problem, moves: Tensor, losses: Mapping[str, float]) -> Found:
    setting = problem.setting
    hits = int((moves & problem.planted).sum())
    return Found(
        precision=hits / int(moves.sum()) if moves.any() else float("nan"),
        recall=hits / setting.planted,
        density=float(moves.double().mean()),
        chance=setting.planted / setting.dimension,
        **losses,
    )


def losses_under(setting: Planted, seed: int, masks: Tensor) -> list[float]:
    """Train weights of one problem under several masks that stay, all on the same tasks."""
    problems = [Problem(setting, seed) for _ in masks]
    learner = _learner("sparse-maml", setting, [seed] * len(masks), masks)
    for _ in range(setting.updates):
        learner.step(_one_by_one(_tasks(problems, setting.tasks)))
    return _test(learner, _tasks(problems, 200)).tolist()


def search(setting: Planted, seed: int) -> Found:
    """Do :func:`search_all` with one draw of one problem."""
    return search_all([(setting, seed)])[0]


BASE = Planted()
"""The setting from which :data:`GRID` changes one thing at a time, for each kind of features."""

KINDS: dict[Literal["linear", "sinusoid"], str] = {
    "linear": "Gaussian features",
    "sinusoid": "sines and cosines",
}
"""Kinds of features, and what they are called."""

GRID: dict[str, list[Planted]] = {
    "dimension": [BASE.replace(dimension=d, planted=d // 4) for d in (20, 40, 80)],
    "noise": [BASE.replace(noise=s) for s in (0.0, 0.5, 2.0)],
    "shots": [BASE.replace(shots=n) for n in (5, 10, 40)],
    "inner_steps": [BASE.replace(inner_steps=k) for k in (1, 5, 15)],
}
"""Settings by what changes."""


def survey(
    seeds: Sequence[int], updates: int = BASE.updates, progress: bool = True
) -> pd.DataFrame:
    """Search every setting of :data:`GRID` with both kinds of features, each once."""
    lines = [
        (kind, panel, setting.replace(features=kind, updates=updates), seed)
        for kind in KINDS
        for panel, settings in GRID.items()
        for setting in settings
        for seed in seeds
    ]
    groups: dict[Planted, list[tuple[Planted, int]]] = {}
    for _, _, setting, seed in lines:
        groups.setdefault(setting.shape, []).append((setting, seed))
    found: dict[tuple[Planted, int], Found] = {}
    for group in tqdm(groups.values(), "problems", disable=not progress):
        draws = list(dict.fromkeys(group))
        found |= zip(draws, search_all(draws), strict=True)
    return pd.DataFrame(
        [
            {"features": kind, "panel": panel, "value": getattr(setting, panel), "seed": seed}
            | found[setting, seed]._asdict()
            for kind, panel, setting, seed in lines
        ]
    )
