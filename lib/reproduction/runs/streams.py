"""A continual experiment, and its run: a learner goes through a stream, task by task."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wheretolearn.continual.interference import EACH, EVERY, Interference
from wheretolearn.continual.methods import BATCH, LEARNERS, Settings, make_learner, settings
from wheretolearn.continual.metrics import summarise
from wheretolearn.continual.streams.cifar100 import SplitCIFAR100
from wheretolearn.continual.streams.pixels import MNIST_STREAMS, RECIPES, make_stream
from wheretolearn.continual.streams.stream import Stream
from wheretolearn.rules import count_frozen
from wheretolearn.types import Batch, Rates

from .experiment import CPU_FLOPS, Planned, check_value
from .protocol import DIVERGED, Run
from .record_types import ContinualFinal

_SIZES = {name: (r.tasks, r.tasks * r.samples) for name, r in RECIPES.items()}
_TESTED = 6.5e-6
"""Seconds for each test image on one CPU core of the study's machine, its making included."""

_TEST_IMAGES = {False: 10_000, True: 5_000}  # of MNIST, by whether the stream is for validation
_MILLISECONDS = dict.fromkeys(LEARNERS, 0.6) | {
    "online": 1.5,
    "replay": 0.25,
    "ewc": 3.0,
    "gem": 6.0,
    "mer": 1.0,
}
"""For each sample at each glance or in each trajectory, on one CPU core of the study's machine,
about; most of it is not arithmetic, for the network is small."""


@dataclass(frozen=True)
class ContinualExperiment(Planned):
    """Parameters of one run through a stream; only the seed is missing."""

    name: str  #: File-name-safe name, unique within its profile
    figure: str  #: Notebook that shows it
    profile: str = "paper"  #: ``quick``, ``study``, ``paper`` or ``smoke``
    stream: str = "rotations"
    """A key of ``wheretolearn.continual.streams.pixels.RECIPES``, or ``split-cifar100``."""
    validation: bool = False
    """Whether the stream is one to choose hyper-parameters on, of held-out images.  Of Split
    CIFAR-100 only its test images are held out; those it trains on, others train on too."""
    learner: str = "la-maml"  #: A key of ``wheretolearn.continual.methods.LEARNERS``
    settings: Settings = field(default_factory=dict)
    """Settings of the learner that differ from the paper's."""
    batch: int = 0
    """Samples that arrive together; 0 is the learner's own number, see ``methods.BATCH``."""
    width: int = 100  #: Units of each of the two hidden layers
    probe: int | None = None
    """Test images for accuracies that no metric needs, off the diagonal and before the last
    row of the matrix; by default all."""

    def __post_init__(self) -> None:
        """Refuse numbers that have no meaning, and learners that do not exist."""
        super().__post_init__()
        for name, usual in settings(self.learner, self.stream).items():
            check_value(f"the setting {name}", self.settings.get(name, usual), type(usual))
        if self.batch < 0 or self.width < 1:
            raise ValueError(
                f"batch must not be negative and width positive, got {self.batch}, {self.width}"
            )
        if self.probe is not None and self.probe < 1:
            raise ValueError(f"probe must be positive, got {self.probe}")

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as plain data, with all settings of the learner."""
        chosen = settings(self.learner, self.stream) | self.settings
        return super().parameters() | {"settings": chosen, "batch": self.together}

    @property
    def tuned(self) -> bool:
        """Whether the settings were chosen on validation streams."""
        return self.name.endswith("-tuned")

    @property
    def together(self) -> int:
        """Samples that arrive together."""
        return self.batch or BATCH.get(self.learner, 10)

    def seconds(self) -> float:
        """Return the estimated time of one run on one CPU core, in seconds."""
        tasks, samples = _SIZES.get(self.stream, (20, 45_000))  # Split CIFAR-100
        own = self.parameters()["settings"]
        repeated = own.get("glances", own.get("trajectories", 1))
        slower = 50 if self.stream == "split-cifar100" else 1
        learning = samples * repeated * _MILLISECONDS[self.learner] / 1000
        images = _TEST_IMAGES[self.validation] if self.stream in MNIST_STREAMS else 500
        needed = 2 * tasks * images  # the diagonal, and the last row
        testing = needed + tasks * tasks * min(images, self.probe or images)
        return slower * (learning + testing * _TESTED)

    def flops(self) -> float:
        """Return the floating-point operations of one run: a tenth of what the time allows."""
        return self.seconds() * CPU_FLOPS / 10

    def start(
        self, seed: int, data: Path | None = None, device: str = "cpu", **others: Any
    ) -> ContinualRun:
        """Return a run at its beginning; these learners are small, and always on the CPU."""
        return ContinualRun(self, seed, open_stream(self, seed, data))


class ContinualRun(Run):
    """One run of an experiment with a seed, batch by batch."""

    unit = "task"
    kind = "continual"
    saved = ("task", "position", "losses", "curves", "diverged_at", "still")

    def __init__(self, experiment: ContinualExperiment, seed: int, stream: Stream) -> None:
        self.experiment: ContinualExperiment = experiment
        self.seed, self.stream, self.device = seed, stream, torch.device("cpu")
        self.data = {"name": stream.name, "fingerprint": stream.fingerprint}
        self.learner = make_learner(
            experiment.learner, stream, seed, experiment.settings, experiment.width
        )
        self.task, self.position = 0, 0  # the next batch
        self.losses: list[float] = []  # of this task
        self.curves: dict[str, Any] = {"before": [], "train_loss": [], "accuracy": []}
        self.curves |= {"frozen": {}, "thawed": {}, "rates": {}}
        self.still: dict[str, torch.Tensor] = {}  # weights that were frozen after the last task
        self.interference = Interference()
        self._samples: tuple[int, Batch] | None = None  # training samples of a task

    @property
    def progress(self) -> tuple[int, int]:
        """Tasks learned, and all tasks."""
        return self.task, len(self.stream)

    def _advance(self) -> None:
        """Learn one batch; after the last of a task, test on all tasks."""
        if not self.curves["before"]:
            self.curves["before"] = self._accuracies(self.experiment.probe)
        if self._samples is None or self._samples[0] != self.task:
            self._samples = (self.task, self.stream.train(self.task))
        samples = self._samples[1]
        if self.position % EVERY < self.experiment.together:  # a multiple was reached or passed
            arriving = slice(self.position, self.position + EACH)
            here = Batch(samples.inputs[arriving], samples.targets[arriving])
            self.interference.measure(self.learner, here)
        part = slice(self.position, self.position + self.experiment.together)
        loss = self.learner.observe(Batch(samples.inputs[part], samples.targets[part]))
        self.position += self.experiment.together
        if not loss <= DIVERGED or not self._finite():  # NaN is not
            done = min(self.position, len(samples.targets))
            self.diverged_at = {"task": self.task, "samples": done}
            return
        self.losses.append(loss)
        if self.position >= len(samples.targets):
            self.learner.end_task()
            self.interference.end_task(samples)
            self._evaluate()
            self.task, self.position, self.losses = self.task + 1, 0, []

    def _finite(self) -> bool:
        return all(bool(p.isfinite().all()) for p in self.learner.params.values())

    def _accuracies(self, probe: int | None, whole: int | None = None) -> list[float]:
        """Test on every task, on all of its images or, but for the task `whole`, on `probe`."""
        return [
            self.learner.accuracy(
                self.stream.test(i, None if i == whole else probe), self.stream.head(i)
            )
            for i in range(len(self.stream))
        ]

    def _evaluate(self) -> None:
        last = self.task == len(self.stream) - 1
        probe = None if last else self.experiment.probe
        self.curves["accuracy"].append(self._accuracies(probe, self.task))
        self.curves["train_loss"].append(math.fsum(self.losses) / len(self.losses))
        if (rates := self.learner.rates()) is not None:
            self._note(rates)

    def _note(self, rates: Rates) -> None:
        """Note the frozen weights of each tensor, those of them that came back, the mean rate."""
        frozen, thawed, means = (self.curves[n] for n in ("frozen", "thawed", "rates"))
        for name, count in count_frozen(rates, self.learner.params).items():
            frozen.setdefault(name, []).append(count.frozen)
            p = self.learner.params[name]
            rate = torch.as_tensor(rates.get(name, 0.0)).expand(p.shape)
            still, before = rate == 0, self.still.get(name)
            back = 0 if before is None else int((before & ~still).sum())
            thawed.setdefault(name, []).append(back)
            means.setdefault(name, []).append(float(f"{float(rate.mean()):.5g}"))
            self.still[name] = still

    def _parts(self) -> dict[str, Any]:
        return {"learner": self.learner, "interference": self.interference}

    def _ending(self) -> dict[str, Any]:
        final: dict[str, float | None] = dict.fromkeys(ContinualFinal.__struct_fields__)
        if self.diverged_at is None:
            final |= summarise(np.array(self.curves["accuracy"]))._asdict()
            if self.curves["frozen"]:
                frozen = sum(counts[-1] for counts in self.curves["frozen"].values())
                final["sparsity"] = frozen / sum(p.numel() for p in self.learner.params.values())
            for name, cosines in self.interference.cosines.items():
                known = [c for c in cosines if c is not None]
                final[name] = math.fsum(known) / len(known) if known else None
        return {"curves": self.curves | {"interference": self.interference.cosines}, "final": final}


def open_stream(experiment: ContinualExperiment, seed: int, data: Path | None = None) -> Stream:
    """Open the stream of an experiment."""
    if experiment.stream == "split-cifar100":
        return SplitCIFAR100(seed, data, validation=experiment.validation)
    return make_stream(experiment.stream, seed, validation=experiment.validation, root=data)
