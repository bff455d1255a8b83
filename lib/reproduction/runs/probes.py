r"""What else is asked of a trained network, at its best validation.

================  ============================================================================
probe             answers, each with a 95 % interval over episodes
================  ============================================================================
``steps``         ``steps/k``: test accuracy after k = 0, K, 2 K, 4 K and 10 K inner steps
``masks``         ``masks/<arrangement>``: test accuracy with other masks, and
                  ``masks/head``, ``masks/body``: the own one on the last layer or the rest
``movement``      ``movement/<layer>``: similarity of a layer's features of the queries before
                  and after adaptation (linear CKA, 1 is none moved)
``interference``  ``interference/gradient``, ``interference/step``: cosine between two tasks'
                  gradients at the initialisation, whole and as the rule lets them act
``on:<data>``     ``on:<data>``: test accuracy on the test classes of another data set
================  ============================================================================

Linear CKA of features X, Y [n, d], centred, is
:math:`\|X^\top Y\|_F^2 / (\|X^\top X\|_F \|Y^\top Y\|_F)` (Kornblith et al., 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from wheretolearn.data.catalogue import row_of
from wheretolearn.inner_loop import adapt, gradients
from wheretolearn.meta import MetaLearner, accuracy
from wheretolearn.networks import Staged
from wheretolearn.precision import computing_in
from wheretolearn.states import kept_buffers
from wheretolearn.suggestions import closest
from wheretolearn.tasks import EpisodeSampler
from wheretolearn.types import Params, Rates, Task

from . import mask_codec as masks
from .statistics import Interval, episode_interval

EPISODES = 100
"""Most test episodes of a probe; they are the first ones of the final test."""

STEPS = (0, 1, 2, 4, 10)
"""Multiples of K at which the probe ``steps`` looks."""

Answers = dict[str, list[float]]


@torch.inference_mode(False)  # which allows gradients, too
def ask(
    probe: str, learner: MetaLearner, episodes: EpisodeSampler, count: int | None = None
) -> dict[str, Interval]:
    """Return the answers of a probe."""
    check_probe(probe)
    tasks = (episodes[i].to(learner.device) for i in range(EPISODES if count is None else count))
    if probe.startswith("on:"):
        answers = {probe: learner.evaluate(tasks).accuracies}
    else:
        with computing_in(learner.precision, learner.device), kept_buffers(learner.module):
            answers = PROBES[probe](learner, tasks)
    return {name: _interval(values) for name, values in answers.items()}


def _interval(values: list[float]) -> Interval:
    """Return the interval over the episodes that have an answer: constant features have none."""
    finite = [v for v in values if math.isfinite(v)]
    return episode_interval(finite) if finite else Interval(math.nan, math.nan, math.nan, 0)


def check_probe(probe: str) -> None:
    """Raise :class:`ValueError` for an unknown probe or data set; the nearest is suggested."""
    if probe.startswith("on:"):
        row_of(probe.removeprefix("on:"))
    elif probe not in PROBES:
        raise ValueError(f"unknown probe {probe!r}{closest(probe, PROBES)}")


def adaptations(probe: str, count: int = EPISODES) -> int:
    """Return how many adaptations of K steps a probe takes on `count` episodes, about."""
    each = {"steps": STEPS[-1], "masks": len(masks.ARRANGEMENTS) + 2, "interference": 0}
    return count * each.get(probe, 1)


def _steps(learner: MetaLearner, tasks: Iterator[Task]) -> Answers:
    """One inner loop goes on; it is judged on its way."""
    stops = [learner.inner_steps * factor for factor in STEPS]
    answers: Answers = {f"steps/{k}": [] for k in stops}
    for task in tasks:
        forward, criterion, params, rates = learner.begin()
        for before, k in pairwise([0, *stops]):
            params = adapt(forward, criterion, params, rates, task.support, k - before).params
            answers[f"steps/{k}"].append(_accuracy(learner, params, task))
    return answers


def _masks(learner: MetaLearner, tasks: Iterator[Task]) -> Answers:
    forward, criterion, params, rates = learner.begin()
    own = masks.of_rates(rates, params)
    generator = np.random.default_rng(0)
    arranged = {how: masks.rearrange(own, how, generator) for how in masks.ARRANGEMENTS}
    head = [n for n in own if n.rpartition(".")[0] == list(own)[-1].rpartition(".")[0]]
    arranged["head"] = {n: own[n] for n in head}
    arranged["body"] = {n: m for n, m in own.items() if n not in head}
    answers: Answers = {f"masks/{how}": [] for how in arranged}
    rate = learner.rule.inner_rate
    every: dict[str, Rates] = {
        how: {n: rate * torch.from_numpy(m).to(params[n]) for n, m in chosen.items()}
        for how, chosen in arranged.items()
    }
    for task in tasks:
        for how, others in every.items():
            end = adapt(forward, criterion, params, others, task.support, learner.inner_steps)
            answers[f"masks/{how}"].append(_accuracy(learner, end.params, task))
    return answers


def _movement(learner: MetaLearner, tasks: Iterator[Task]) -> Answers:
    answers: Answers = {}
    for task in tasks:
        forward, criterion, params, rates = learner.begin()
        end = adapt(forward, criterion, params, rates, task.support, learner.inner_steps).params
        before, after = (_features(learner, p, task.query.inputs) for p in (params, end))
        for layer in before:
            answers.setdefault(f"movement/{layer}", []).append(cka(before[layer], after[layer]))
    return answers


def _interference(learner: MetaLearner, tasks: Iterator[Task]) -> Answers:
    answers: Answers = {"interference/gradient": [], "interference/step": []}
    last: list[Tensor] | None = None
    for task in tasks:
        forward, criterion, params, rates = learner.begin()
        leaves = {n: p.requires_grad_() for n, p in params.items()}
        loss = criterion(forward(leaves, task.support.inputs), task.support.targets)
        grads = dict(zip(leaves, gradients(loss, leaves.values()), strict=True))
        here = [_flat(grads), _flat(_steps_of(grads, rates))]
        if last is not None:
            for name, a, b in zip(answers, last, here, strict=True):
                answers[name].append(float(F.cosine_similarity(a, b, dim=0)))
            last = None  # pairs of tasks are disjoint, so the cosines are independent
        else:
            last = here
    return answers


PROBES: dict[str, Callable[[MetaLearner, Iterator[Task]], Answers]] = {
    "steps": _steps,
    "masks": _masks,
    "movement": _movement,
    "interference": _interference,
}
"""Probes by name."""


def cka(x: Tensor, y: Tensor) -> float:
    """Return the linear CKA of two sets of features."""
    x, y = (t.flatten(1).cpu().double() for t in (x, y))
    x, y = (t - t.mean(0) for t in (x, y))
    gram_x, gram_y = x @ x.T, y @ y.T  # [n, n]: fewer examples than features
    return float((gram_x * gram_y).sum() / (gram_x.norm() * gram_y.norm()))


def _accuracy(learner: MetaLearner, params: Params, task: Task) -> float:
    with torch.no_grad():
        outputs = learner.forward(params, task.query.inputs)
    return accuracy(outputs, task.query.targets)


def _features(learner: MetaLearner, params: Params, x: Tensor) -> dict[str, Tensor]:
    """Return the outputs of each stage that has weights; of the network, if it has no stages."""
    if not (isinstance(learner.module, Staged) and learner.module.is_chain()):
        with torch.no_grad():
            return {"output": learner.forward(params, x)}
    features = {}
    with torch.no_grad():
        for i, (name, stage) in enumerate(learner.module.named_children()):
            x = functional_call(learner.module, params, (x, i, i + 1))
            if next(stage.parameters(), None) is not None:
                features[name] = x
    return features


def _steps_of(grads: Params, rates: Rates) -> Params:
    return {n: rates[n] * g if n in rates else torch.zeros_like(g) for n, g in grads.items()}


def _flat(tensors: Params) -> Tensor:
    return torch.cat([t.flatten() for t in tensors.values()])
