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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from .inner_loop import Batch, Task
from .meta import MetaLearner
from .rules import make_rule


@dataclass(frozen=True)
class Planted:
    """A problem with planted coordinates, and how it is meta-learned."""

    features: Literal["linear", "sinusoid"] = "linear"
    """Gaussian features, or sin(f x) and cos(f x) of x uniform in [-pi, pi], scaled to
    variance 1, for f = 1, ..., dimension / 2."""
    dimension: int = 40
    """Number of features d."""
    planted: int = 10
    """Coordinates that differ from task to task."""
    noise: float = 0.5
    """Standard deviation of the noise of the targets."""
    shots: int = 10
    """Examples in the support."""
    queries: int = 20
    """Examples in the query."""
    inner_steps: int = 5
    """Inner-loop steps K."""
    updates: int = 400
    """Meta-updates."""
    tasks: int = 8
    """Tasks of each meta-update."""

    def __post_init__(self) -> None:
        """Refuse problems without a planted or without a shared coordinate."""
        if not 0 < self.planted < self.dimension:
            raise ValueError(
                f"planted must lie between 0 and dimension, got {self.planted} of {self.dimension}"
            )
        if self.features == "sinusoid" and self.dimension % 2:
            raise ValueError(f"sines and cosines come in pairs, dimension is {self.dimension}")

    @property
    def inner_rate(self) -> float:
        r"""Half of the largest inner rate at which steps on the support still converge.

        The largest eigenvalue of the loss's Hessian on n examples of d features is about
        :math:`2 (1 + \sqrt{d/n})^2` (Marchenko and Pastur, 1967).
        """
        return 0.5 / (1 + math.sqrt(self.dimension / self.shots)) ** 2

    def replace(self, **changes: object) -> Planted:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


class Found(NamedTuple):
    """What sparse-MAML found of the planted coordinates."""

    precision: float
    """Share of the coordinates that may move which are planted (NaN if none may move)."""
    recall: float
    """Share of the planted coordinates that may move."""
    density: float
    """Share of all coordinates that may move: the recall of a random mask."""
    chance: float
    """Share of coordinates that are planted: the precision of a random mask."""
    loss: float
    """Query loss of sparse-MAML on fresh tasks, mean squared error."""
    loss_dense: float
    """That of MAML, trained alike."""


class Problem:
    """One draw of a problem: which coordinates are planted, and the shared weights.

    Parameters
    ----------
    setting : Planted
        The problem.
    seed : int
        Seed of everything that is drawn.
    """

    def __init__(self, setting: Planted, seed: int) -> None:
        self.setting = setting
        self.generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(setting.dimension, generator=self.generator)
        self.planted = torch.zeros(setting.dimension, dtype=torch.bool)
        self.planted[order[: setting.planted]] = True
        self.shared = torch.randn(setting.dimension, generator=self.generator)

    def task(self) -> Task:
        """Draw a task: inputs [n, d], targets [n, 1]."""
        own = torch.randn(self.setting.dimension, generator=self.generator)
        weights = self.shared + self.planted * own
        return Task(
            self._batch(weights, self.setting.shots), self._batch(weights, self.setting.queries)
        )

    def _batch(self, weights: Tensor, size: int) -> Batch:
        x = self._features(size)  # [n, d]
        noise = self.setting.noise * torch.randn(size, generator=self.generator)
        return Batch(x, (x @ weights + noise)[:, None])

    def _features(self, size: int) -> Tensor:
        d = self.setting.dimension
        if self.setting.features == "linear":
            return torch.randn(size, d, generator=self.generator)
        x = torch.pi * (2 * torch.rand(size, 1, generator=self.generator) - 1)
        angles = x * torch.arange(1, d // 2 + 1)  # [n, d/2]
        return 2**0.5 * torch.cat([angles.sin(), angles.cos()], dim=1)


def search(setting: Planted, seed: int) -> Found:
    """Meta-train sparse-MAML and MAML on a problem, and compare the mask with the truth.

    Parameters
    ----------
    setting : Planted
        The problem.
    seed : int
        Seed of the problem and of the initial mask; both methods see the same tasks.

    Returns
    -------
    Found
    """
    losses = {}
    moves = torch.zeros(setting.dimension, dtype=torch.bool)
    for method, start in (("maml", 0.0), ("sparse-maml", 0.5)):
        problem = Problem(setting, seed)
        network = nn.Linear(setting.dimension, 1, bias=False)
        nn.init.zeros_(network.weight)
        learner = MetaLearner(
            network,
            make_rule(method, inner_rate=setting.inner_rate, init_sparsity=start),
            criterion=F.mse_loss,
            inner_steps=setting.inner_steps,
            meta_rate=0.02,
            device="cpu",
            stacked=True,
            generator=torch.Generator().manual_seed(seed),
        )
        for _ in range(setting.updates):
            learner.step([problem.task() for _ in range(setting.tasks)])
        losses[method] = learner.evaluate(problem.task() for _ in range(200)).loss
        if method == "sparse-maml":
            moves = learner.rule_params["weight"][0] >= 0
    hits = int((moves & problem.planted).sum())
    return Found(
        precision=hits / int(moves.sum()) if moves.any() else float("nan"),
        recall=hits / setting.planted,
        density=float(moves.float().mean()),
        chance=setting.planted / setting.dimension,
        loss=losses["sparse-maml"],
        loss_dense=losses["maml"],
    )


BASE = Planted()
"""The setting from which :data:`GRID` changes one thing at a time."""

GRID: dict[str, list[Planted]] = {
    "dimension": [BASE.replace(dimension=d, planted=d // 4) for d in (20, 40, 80)],
    "noise": [BASE.replace(noise=s) for s in (0.0, 0.5, 2.0)],
    "shots": [BASE.replace(shots=n) for n in (5, 10, 40)],
    "inner_steps": [BASE.replace(inner_steps=k) for k in (1, 5, 15)],
    "features": [BASE.replace(features=f) for f in ("linear", "sinusoid")],
}
"""Settings by what changes."""


def survey(seeds: Sequence[int], progress: bool = True) -> pd.DataFrame:
    """Search every setting of :data:`GRID`, each once.

    Parameters
    ----------
    seeds : sequence of int
        Draws of each problem.
    progress : bool, default True
        Whether to show a progress bar.

    Returns
    -------
    DataFrame
        One line for each panel, value and seed, with the fields of :class:`Found`.
    """
    settings = list(dict.fromkeys(s for panel in GRID.values() for s in panel))
    found = {
        (setting, seed): search(setting, seed)
        for setting in tqdm(settings, "problems", disable=not progress)
        for seed in seeds
    }
    return pd.DataFrame(
        [
            {"panel": name, "value": getattr(s, name), "seed": seed} | found[s, seed]._asdict()
            for name, panel in GRID.items()
            for s in panel
            for seed in seeds
        ]
    )
