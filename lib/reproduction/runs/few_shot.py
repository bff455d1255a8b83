"""Meta-training and meta-testing: one few-shot run, from its first episode to its record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from wheretolearn.data import DataError, ImageSet, at_hand, load
from wheretolearn.meta import MetaLearner
from wheretolearn.tasks import Ahead, EpisodeSampler
from wheretolearn.types import Task

from . import records
from .experiment import Experiment
from .mask_codec import Masks, of_rates, pack, rearrange, unpack
from .probes import ask
from .protocol import DIVERGED, Run
from .statistics import Interval, episode_interval

T = TypeVar("T")


class FewShotRun(Run):
    """One meta-training of an experiment with a seed, update by update; then the test."""

    unit = "update"
    saved = ("update", "losses", "accuracies", "curves", "best", "diverged_at", "input_seconds")

    def __init__(
        self,
        experiment: Experiment,
        seed: int,
        images: ImageSet,
        *,
        device: str = "auto",
        masks: Masks | None = None,
        others: Mapping[str, ImageSet] | None = None,
    ) -> None:
        self.experiment: Experiment = experiment
        self.seed, self.given = seed, [] if masks is None else [pack(masks)]
        self._episodes = {s: self._sampler(images, s) for s in ("train", "val", "test")}
        self._elsewhere = {n: self._sampler(i, "test") for n, i in (others or {}).items()}
        self._batches: Iterator[list[Task]] | None = None  # from the next update on
        classes = {split: len(c) for split, c in images.splits.items()}
        self.data = {"name": images.name, "fingerprint": images.fingerprint, "classes": classes}
        torch.manual_seed(seed)
        self.learner = MetaLearner(
            experiment.build_network(),
            experiment.rule,
            inner_steps=experiment.inner_steps,
            order=experiment.order,
            outer=experiment.outer,
            meta_rate=experiment.meta_rate,
            rule_rate=experiment.rule_rate if masks is None else 0.0,
            outer_clamp=experiment.outer_clamp or math.inf,
            precision=experiment.precision,
            device=device,
            generator=torch.Generator().manual_seed(seed),
        )
        self.device = self.learner.device
        for name, mask in (masks or {}).items():
            m = self.learner.rule_params[name]
            m.copy_(torch.from_numpy(mask).to(m) - 0.5)
        self.update = 0
        self.losses: list[float] = []  # since the last evaluation
        self.accuracies: list[float] = []
        names = ("update", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "sparsity")
        self.curves: dict[str, Any] = {name: [] for name in names} | {"frozen": {}}
        self.best: dict[str, Any] = {}  # update, accuracy, sparsity, weights

    def _sampler(self, images: ImageSet, split: str) -> EpisodeSampler:
        exp = self.experiment
        return EpisodeSampler(
            images, split, ways=exp.ways, shots=exp.shots, queries=exp.queries, seed=self.seed
        )

    @property
    def progress(self) -> tuple[int, int]:
        """Updates made, and all of them."""
        return self.update, self.experiment.updates

    def _advance(self) -> None:
        """Make one update, and validate where that is due; before the first one, too."""
        exp = self.experiment
        if not self.curves["update"]:
            self._evaluate()
        if self._batches is None:
            episodes = self._episodes["train"]
            self._batches = self._ahead(
                lambda update: episodes.batch(update, exp.meta_batch), self.update, exp.updates
            )
        score = self.learner.step(next(self._batches))
        self.update += 1
        if not score.loss <= DIVERGED:  # NaN is not
            self.diverged_at = self.update
            return
        self.losses.append(score.loss)
        self.accuracies.append(score.accuracy)
        if self.update % exp.eval_every == 0 or self.update == exp.updates:
            if all(bool(p.isfinite().all()) for p in self.learner.params.values()):
                self._evaluate()
            else:
                self.diverged_at = self.update

    def _ahead(self, make: Callable[[int], T], first: int, last: int) -> Iterator[T]:
        """Make episodes ahead of their use, and add up how long they are waited for."""
        ahead, noted = Ahead(make, range(first, last)), 0.0
        for made in ahead:
            self.input_seconds += ahead.seconds_waited - noted
            noted = ahead.seconds_waited
            yield made

    def _evaluate(self) -> None:
        tasks = self._ahead(self._episodes["val"].__getitem__, 0, self.experiment.val_tasks)
        score, sparsity = self.learner.evaluate(tasks), self.learner.sparsity()
        point = {
            "update": self.update,
            "train_loss": _mean(self.losses),
            "train_accuracy": _mean(self.accuracies),
            "val_loss": score.loss if math.isfinite(score.loss) else None,
            "val_accuracy": score.accuracy,
            "sparsity": sparsity,
        }
        for name, value in point.items():
            self.curves[name].append(value)
        for name, count in self.learner.frozen().items():
            self.curves["frozen"].setdefault(name, []).append(count.frozen)
        self.losses, self.accuracies = [], []
        # the untrained network is tested only where a run ends before its first validation
        first = not self.best or self.best["update"] == 0
        if first or score.accuracy > self.best["accuracy"]:
            state = self.learner.state_dict()
            self.best = {
                "update": self.update,
                "accuracy": score.accuracy,
                "sparsity": sparsity,
                "weights": {k: state[k] for k in ("params", "rule_params")},
            }

    def _ending(self) -> dict[str, Any]:
        final = {
            "update": self.update,
            "best_update": self.best["update"],
            "val_accuracy": self.best["accuracy"],
            "sparsity": self.curves["sparsity"][-1],
            "best_sparsity": self.best["sparsity"],
            "test_accuracy": None,
            "test_loss": None,
        }
        if self.diverged_at is None:
            self.learner.load_state_dict(self.best["weights"])
            if self.experiment.test_tasks:
                final |= self._test()
        return {"final": final}

    def _test(self) -> dict[str, Any]:
        count = self.experiment.test_tasks
        tasks = self._ahead(self._episodes["test"].__getitem__, 0, count)
        score = self.learner.evaluate(self.bar(tasks, "test", count, leave=False))
        answers: dict[str, Interval] = {}
        for probe in self.experiment.probes:
            episodes = self._episodes["test"]
            if probe.startswith("on:"):
                if (name := probe.removeprefix("on:")) not in self._elsewhere:
                    continue
                episodes = self._elsewhere[name]
            answers |= ask(probe, self.learner, episodes, self.experiment.asked(probe))
        others = {
            n: e.images.fingerprint for n, e in self._elsewhere.items() if f"on:{n}" in answers
        }
        return {
            "test_accuracy": _plain(episode_interval(score.accuracies)),
            "test_loss": score.loss if math.isfinite(score.loss) else None,
            "probes": {name: _plain(interval) for name, interval in answers.items()},
            "masks": self._masks(),
            "rate_quantiles": self._rate_quantiles(),
        } | ({"others": others} if others else {})

    def _masks(self) -> dict[str, str]:
        """Return the masks of the tested network, where weights can freeze one by one."""
        if not self.learner.rule.can_freeze:
            return {}
        return pack(of_rates(self.learner.begin()[-1], self.learner.params))

    def _rate_quantiles(self) -> dict[str, list[float]]:
        """Return quantiles of the learned rates of each tensor: 0, 5, ..., 100 %."""
        if not self.learner.rule.learned or self.learner.rule.gate == "mask":
            return {}
        levels = torch.linspace(0, 1, 21, dtype=torch.float64)
        return {
            n: torch.quantile(torch.as_tensor(r).flatten().cpu().double(), levels).tolist()
            for n, r in self.learner.begin()[-1].items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what ``state_dict`` of a run that is not further than this one's end returned.

        It may have been shorter, see :meth:`computed`.
        """
        if state["update"] > self.experiment.updates:
            raise ValueError(f"it is at update {state['update']} already")
        super().load_state_dict(state)
        self._batches = None

    def computed(self) -> Experiment:
        """Return the experiment without what is asked at the end, and without how far that is."""
        exp = self.experiment
        length = exp.updates if exp.updates % exp.eval_every else exp.eval_every
        return exp.replace(
            name="", figure="", probes=(), test_tasks=0, away_tasks=1, updates=length
        )

    def weights(self) -> dict[str, Any]:
        """Return the state of the learner that was tested, without the optimizer's."""
        return {n: part for n, part in self.learner.state_dict().items() if n != "optimizer"}

    def shown(self) -> dict[str, str]:
        """Return the last loss, and the last validation."""
        loss = self.losses[-1] if self.losses else self.curves["train_loss"][-1]
        return {
            "loss": f"{loss:.3f}" if loss is not None else "nan",
            "val acc": f"{self.curves['val_accuracy'][-1]:.1%}",
            "sparsity": f"{self.curves['sparsity'][-1]:.0%}",
        }


def start(
    experiment: Experiment, seed: int, data: Path | None, device: str, results: Path
) -> FewShotRun:
    """Return a run that is at its beginning."""
    images = load(experiment.data, experiment.image_size, root=data)
    masks = _learned_masks(experiment, seed, results)
    others = _others(_tested_on(experiment), experiment.image_size, data)
    return FewShotRun(experiment, seed, images, device=device, masks=masks, others=others)


def _plain(interval: Interval) -> dict[str, float | None]:
    """Return an interval as it stands in a record."""
    return {k: v if math.isfinite(v) else None for k, v in interval._asdict().items()}


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _learned_masks(experiment: Experiment, seed: int, results: Path) -> Masks | None:
    """Return the masks that an experiment borrows, as it wants them arranged."""
    if not experiment.masks_from:
        return None
    path = results / experiment.profile / experiment.masks_from / f"seed{seed}.json"
    if not path.exists():
        raise ValueError(
            f"{experiment.name} uses the masks of {experiment.masks_from}, and {path} is missing: "
            f"run {experiment.masks_from} with seed {seed} first"
        )
    donor = records.read_run(path)
    if donor["status"] != "finished":
        raise ValueError(f"{path} diverged: it has no masks that {experiment.name} could use")
    with torch.device("meta"):
        shapes = {n: tuple(p.shape) for n, p in experiment.build_network().named_parameters()}
    learned = unpack(donor["final"].get("masks", {}), shapes)
    return rearrange(learned, experiment.masks_as, np.random.default_rng([seed, 1]))


def _tested_on(experiment: Experiment) -> list[str]:
    """Return the data sets that the ``on:`` probes name."""
    return [p.removeprefix("on:") for p in experiment.probes if p.startswith("on:")]


def _others(names: Iterable[str], image_size: int, root: Path | None) -> dict[str, ImageSet]:
    """Load data sets to test on; one that is absent or damaged is left out, and named."""
    found = {}
    for name in names:
        try:
            found[name] = load(name, image_size, root=root)
        except DataError as error:
            print(f"not tested on {name}: {error}")
    return found


def unanswered(record: records.Record, experiment: Experiment, root: Path | None) -> list[str]:
    """Return the data sets that a record has no answer on, though they can be loaded now."""
    size = experiment.image_size
    if record["status"] != "finished" or not experiment.test_tasks:
        return []
    answers = record["final"].get("probes", {})
    names = [n for n in _tested_on(experiment) if f"on:{n}" not in answers]
    if not names or not at_hand(experiment.data, size, root=root):
        return []
    return list(_others((n for n in names if at_hand(n, size, root=root)), size, root))
