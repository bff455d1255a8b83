"""Meta-training and meta-testing: one few-shot run, from its first episode to its record."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm.auto import tqdm

from wheretolearn.data import DataError, ImageSet, at_hand, load
from wheretolearn.meta import MetaLearner
from wheretolearn.tasks import Ahead, EpisodeSampler
from wheretolearn.types import Task

from . import protocol as runs
from . import records
from .experiment import Experiment
from .mask_codec import Masks, of_rates, pack, rearrange, unpack
from .probes import ask
from .statistics import Interval, episode_interval
from .stopping import STOP

T = TypeVar("T")

SPLITS = ("train", "val", "test")


@dataclass
class _Progress:
    """What a run has done so far; with the learner's state, all that a checkpoint holds."""

    update: int = 0
    losses: list[float] = field(default_factory=list)  # since the last evaluation
    accuracies: list[float] = field(default_factory=list)
    curves: dict[str, Any] = field(
        default_factory=lambda: {
            "update": [],
            "train_loss": [],
            "train_accuracy": [],
            "val_loss": [],
            "val_accuracy": [],
            "sparsity": [],
            "frozen": {},
        }
    )
    best: dict[str, Any] = field(default_factory=dict)  # update, accuracy, sparsity, weights
    diverged_at: int | None = None
    seconds: float = 0.0
    input_seconds: float = 0.0  # of these, spent waiting for episodes
    interruptions: int = 0


class Training:
    """One meta-training run of an experiment with a seed."""

    def __init__(
        self,
        experiment: Experiment,
        seed: int,
        images: ImageSet,
        *,
        device: str = "auto",
        checkpoint: Path | None = None,
        progress: bool = True,
        masks: Masks | None = None,
        others: Mapping[str, ImageSet] | None = None,
    ) -> None:
        self.experiment, self.seed, self.images = experiment, seed, images
        self.show = progress
        self._borrowed = masks
        self._streams = {split: self._episodes(images, split) for split in SPLITS}
        self._others = {n: self._episodes(i, "test") for n, i in (others or {}).items()}
        records.commit()  # remember the code that is running, not the code at the end
        torch.backends.cudnn.deterministic = True  # as far as a GPU can
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
        for name, mask in (masks or {}).items():
            m = self.learner.rule_params[name]
            m.copy_(torch.from_numpy(mask).to(m) - 0.5)
        self.done = _Progress()
        self._started = time.monotonic()
        self._checkpoint = runs.Checkpoint(checkpoint, self._identity(), self.learner.device)
        self._checkpoint.resume(self._take)

    def _episodes(self, images: ImageSet, split: str) -> EpisodeSampler:
        exp = self.experiment
        return EpisodeSampler(
            images, split, ways=exp.ways, shots=exp.shots, queries=exp.queries, seed=self.seed
        )

    def run(self) -> records.Record:
        """Train to the end, test at the best validation, and return the record's content."""
        exp, done = self.experiment, self.done
        if not done.curves["update"]:
            self._evaluate()
        bar = tqdm(
            initial=done.update,
            total=exp.updates,
            desc=f"{exp.name} seed {self.seed}",
            unit="update",
            disable=not self.show,
            file=sys.stdout,
            mininterval=runs.seconds_between_bars(),
        )
        stream = self._streams["train"]
        last = exp.updates if done.diverged_at is None else done.update
        batches = self._ahead(
            lambda update: stream.batch(update, exp.meta_batch), done.update, last
        )
        with bar, STOP.between_updates():
            for tasks in batches:
                self._update(tasks)
                bar.update()
                bar.set_postfix(self._postfix(), refresh=False)
                if self._checkpoint.due() or done.update == exp.updates:
                    self._save()
                if done.diverged_at is not None:
                    break
        return self._record(self._test() if done.diverged_at is None else None)

    def _ahead(self, make: Callable[[int], T], first: int, last: int) -> Iterator[T]:
        """Make episodes ahead of their use, and add up how long they are waited for."""
        ahead, noted = Ahead(make, range(first, last)), 0.0
        for made in ahead:
            self.done.input_seconds += ahead.seconds_waited - noted
            noted = ahead.seconds_waited
            yield made

    def _update(self, tasks: list[Task]) -> None:
        exp, done = self.experiment, self.done
        score = self.learner.step(tasks)
        done.update += 1
        if not score.loss <= runs.DIVERGED:  # NaN is not
            done.diverged_at = done.update
            return
        done.losses.append(score.loss)
        done.accuracies.append(score.accuracy)
        if done.update % exp.eval_every == 0 or done.update == exp.updates:
            if all(bool(p.isfinite().all()) for p in self.learner.params.values()):
                self._evaluate()
            else:
                done.diverged_at = done.update

    def _evaluate(self) -> None:
        exp, done, curves = self.experiment, self.done, self.done.curves
        tasks = self._ahead(self._streams["val"].__getitem__, 0, exp.val_tasks)
        score = self.learner.evaluate(tasks)
        sparsity = self.learner.sparsity()
        curves["update"].append(done.update)
        curves["train_loss"].append(_mean(done.losses))
        curves["train_accuracy"].append(_mean(done.accuracies))
        curves["val_loss"].append(score.loss if math.isfinite(score.loss) else None)
        curves["val_accuracy"].append(score.accuracy)
        curves["sparsity"].append(sparsity)
        for name, count in self.learner.frozen().items():
            curves["frozen"].setdefault(name, []).append(count.frozen)
        done.losses, done.accuracies = [], []
        # the untrained network is tested only where a run ends before its first validation
        first = not done.best or done.best["update"] == 0
        if first or score.accuracy > done.best["accuracy"]:
            state = self.learner.state_dict()
            done.best = {
                "update": done.update,
                "accuracy": score.accuracy,
                "sparsity": sparsity,
                "weights": {k: state[k] for k in ("params", "rule_params")},
            }

    def _test(self) -> dict[str, Any]:
        if not self.experiment.test_tasks:
            return {"test_accuracy": None, "test_loss": None}
        self.learner.load_state_dict(self.done.best["weights"])
        tasks = self._ahead(self._streams["test"].__getitem__, 0, self.experiment.test_tasks)
        score = self.learner.evaluate(
            tqdm(
                tasks,
                "test",
                self.experiment.test_tasks,
                disable=not self.show,
                leave=False,
                file=sys.stdout,
                mininterval=runs.seconds_between_bars(),
            )
        )
        answers: dict[str, Interval] = {}
        for probe in self.experiment.probes:
            other = self._others.get(probe.removeprefix("on:"))
            if not probe.startswith("on:") or other is not None:
                episodes = other or self._streams["test"]
                answers |= ask(probe, self.learner, episodes, self.experiment.asked(probe))
        asked = {n: e for n, e in self._others.items() if f"on:{n}" in answers}
        return {
            "test_accuracy": _plain(episode_interval(score.accuracies)),
            "test_loss": score.loss if math.isfinite(score.loss) else None,
            "probes": {name: _plain(interval) for name, interval in answers.items()},
            "masks": self._masks(),
            "rate_quantiles": self._rate_quantiles(),
        } | ({"others": {n: e.images.fingerprint for n, e in asked.items()}} if asked else {})

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

    def _record(self, test: dict[str, Any] | None) -> records.Record:
        exp, done = self.experiment, self.done
        sizes = {n: p.numel() for n, p in self.learner.params.items()}
        return {
            "schema_version": records.SCHEMA_VERSION,
            "experiment": exp.name,
            "profile": exp.profile,
            "figure": exp.figure,
            "seed": self.seed,
            "parameters": json.loads(json.dumps(exp.parameters())),
            "data": {
                "name": self.images.name,
                "fingerprint": self.images.fingerprint,
                "classes": {s: len(c) for s, c in self.images.splits.items()},
            },
            "tensors": sizes,
            "status": "diverged" if test is None else "finished",
            "diverged_at": done.diverged_at,
            "curves": done.curves,
            "final": {
                "update": done.update,
                "best_update": done.best["update"],
                "val_accuracy": done.best["accuracy"],
                "sparsity": done.curves["sparsity"][-1],
                "best_sparsity": done.best["sparsity"],
            }
            | (test or {"test_accuracy": None, "test_loss": None}),
            "provenance": records.provenance(
                self.learner.device,
                torch.get_num_threads(),
                self._seconds(),
                done.input_seconds,
                done.interruptions,
            ),
        }

    def _postfix(self) -> dict[str, str]:
        done = self.done
        loss = done.losses[-1] if done.losses else done.curves["train_loss"][-1]
        return {
            "loss": f"{loss:.3f}" if loss is not None else "nan",
            "val acc": f"{done.curves['val_accuracy'][-1]:.1%}",
            "sparsity": f"{done.curves['sparsity'][-1]:.0%}",
        }

    def _seconds(self) -> float:
        return self.done.seconds + time.monotonic() - self._started

    def _identity(self) -> str:
        exp = self.experiment
        length = exp.updates if exp.updates % exp.eval_every else exp.eval_every
        # what is asked at the end, and how far it is, make no other training
        trained = exp.replace(
            name="", figure="", probes=(), test_tasks=0, away_tasks=1, updates=length
        )
        borrowed = [] if self._borrowed is None else [pack(self._borrowed)]
        return runs.identity(trained, self.seed, self.images.fingerprint, *borrowed)

    def _save(self) -> None:
        self._checkpoint.save(
            {
                "learner": self.learner.state_dict(),
                "progress": vars(self.done) | {"seconds": self._seconds()},
            },
            f"update {self.done.update} of {self.experiment.updates}",
        )

    def _take(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`_save` kept."""
        progress, own = state["progress"], vars(self.done)
        same = progress.keys() == own.keys()
        if not same or progress["curves"].keys() != self.done.curves.keys():
            raise ValueError("the progress has other fields")
        if progress["update"] > self.experiment.updates:
            raise ValueError(f"it is at update {progress['update']} already")
        self.learner.load_state_dict(state["learner"])
        self.done = _Progress(**progress)
        self.done.interruptions += 1


def _plain(interval: Interval) -> dict[str, float | None]:
    """Return an interval as it stands in a record."""
    return {k: v if math.isfinite(v) else None for k, v in interval._asdict().items()}


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def run(
    experiment: Experiment,
    seed: int,
    *,
    results: Path | str = "results",
    data: Path | str | None = None,
    device: str = "auto",
    fresh: bool = False,
    keep: bool = False,
    threads: int = 1,
    progress: bool = True,
    wait: bool = True,
) -> records.Record:
    """Return the record of a run: the one that exists, or that of a training done now."""
    results = Path(results)
    root = Path(data) if data is not None else None

    def train(checkpoint: Path) -> records.Record:
        images = load(experiment.data, experiment.image_size, root=root)
        return Training(
            experiment,
            seed,
            images,
            device=device,
            checkpoint=checkpoint,
            progress=progress,
            masks=_learned_masks(experiment, seed, results),
            others=_others(_tested_on(experiment), experiment.image_size, root),
        ).run()

    return runs.live(
        experiment,
        seed,
        train,
        lambda path: _existing(path, experiment, root),
        results=results,
        fresh=fresh,
        keep=keep,
        threads=threads,
        wait=wait,
    )


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


def _lacks(record: records.Record, experiment: Experiment, root: Path | None) -> list[str]:
    """Return the data sets that a record has no answer on, though they can be loaded now."""
    size = experiment.image_size
    if record["status"] != "finished" or not experiment.test_tasks:
        return []
    answers = record["final"].get("probes", {})
    names = [n for n in _tested_on(experiment) if f"on:{n}" not in answers]
    if not names or not at_hand(experiment.data, size, root=root):
        return []
    return list(_others((n for n in names if at_hand(n, size, root=root)), size, root))


def _existing(path: Path, experiment: Experiment, root: Path | None) -> records.Record | None:
    record = runs.existing(path, experiment)
    if record is not None and (names := _lacks(record, experiment, root)):
        print(f"{path} was made without {' and '.join(names)}, now at hand; running again")
        return None
    return record
