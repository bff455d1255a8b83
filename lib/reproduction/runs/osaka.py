"""An experiment in OSAKA's stream, and its run: pretraining if any, then step by step.

At every step the learner predicts, is scored, and learns: the score never knows the labels
before the prediction is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from wheretolearn.continual.osaka.c_maml import ProlongedCMAML
from wheretolearn.continual.osaka.data import OsakaData, open_data
from wheretolearn.continual.osaka.methods import (
    LEARNERS,
    Settings,
    make_learner,
    new_network,
    settings,
)
from wheretolearn.continual.osaka.metrics import around, by_source, detection, pack
from wheretolearn.continual.osaka.pretraining import (
    Draws,
    LabelledImages,
    Pretraining,
    Supervised,
    Trainee,
)
from wheretolearn.continual.osaka.stream import ContextStream
from wheretolearn.tasks import EpisodeSampler

from .experiment import Planned, check_value, image_flops
from .protocol import DIVERGED, Run
from .record_types import OsakaFinal

FINAL = OsakaFinal.__struct_fields__
"""What is known of a run at its end."""

_POINTS = 100  # of each curve over the stream


@dataclass(frozen=True)
class OsakaExperiment(Planned):
    """Parameters of one run through a stream of contexts; only the seed is missing."""

    name: str  #: File-name-safe name, unique within its profile
    figure: str  #: Notebook that shows it
    profile: str = "paper"  #: ``quick``, ``study``, ``paper`` or ``smoke``
    stream: str = "omniglot-mnist-fashion"
    """A key of ``wheretolearn.continual.osaka.data.STREAMS``."""
    validation: bool = False
    """Whether the stream is one to choose hyper-parameters on; the study chooses none."""
    alpha: float = 0.98  #: Probability that the context stays, in [0, 1]
    steps: int = 10_000  #: Length of the stream
    ways: int = 5  #: Classes of a context, and of an episode of pretraining
    shots: int = 5  #: Images of each class at a step, and in the support of an episode
    learner: str = "sparse-c-maml"  #: A key of ``wheretolearn.continual.osaka.methods.LEARNERS``
    settings: Settings = field(default_factory=dict)
    """Settings of the learner that differ from ``osaka_methods.settings``."""
    width: int = 64  #: Channels of each convolution block
    queries: int = 15  #: Query images of each class in an episode of pretraining
    updates: int = 100  #: Updates of an epoch of pretraining
    epochs: int = 1000
    """Epochs of pretraining at most; it stops early, see the setting ``patience``."""
    val_tasks: int = 100  #: Episodes that pretraining is validated on

    def __post_init__(self) -> None:
        """Refuse numbers that have no meaning, and learners that do not exist."""
        super().__post_init__()
        for name, usual in settings(self.learner, self.alpha, self.ways).items():
            check_value(f"the setting {name}", self.settings.get(name, usual), type(usual))
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is a probability, in [0, 1]; got {self.alpha}")
        if self.steps < 1 or self.ways < 2 or self.shots < 1 or self.width < 1:
            raise ValueError(
                "steps, shots and width must be positive and ways at least 2, got "
                f"{self.steps=}, {self.shots=}, {self.width=}, {self.ways=}"
            )
        if self.ways * self.shots > 255:
            raise ValueError(
                f"a record has one byte for each step: at most 255 images, not "
                f"{self.ways * self.shots}"
            )

    def parameters(self) -> dict[str, Any]:
        """Return the parameters as plain data, with all settings of the learner."""
        return super().parameters() | {"settings": self.chosen}

    @property
    def chosen(self) -> Settings:
        """All settings of the learner."""
        return settings(self.learner, self.alpha, self.ways) | self.settings

    def flops(self) -> float:
        """Return the floating-point operations of one run, convolutions and products only."""
        chosen, images = self.chosen, self.ways * self.shots
        epochs = min(50, self.epochs)
        method = LEARNERS[self.learner]
        inner = 3 * chosen.get("inner_steps", 1) * images
        step = inner + 3 * images + 2 * images  # adapt, learn, predict and judge
        if method.make is ProlongedCMAML:  # adapts again to the half of what it kept
            step += inner // 2
        per_image = image_flops("convnet4", self.ways, 1, 28, self.width)
        total = self.steps * step
        if method.pretraining == "meta":
            episode = inner + 3 * self.ways * self.queries
            drawn = self.updates * chosen["meta_batch"] + self.val_tasks
            total += epochs * drawn * episode
        elif method.pretraining == "supervised":
            total += epochs * self.updates * chosen["meta_batch"] * 3
        return per_image * total

    def start(
        self, seed: int, data: Path | None = None, device: str = "cpu", **others: Any
    ) -> OsakaRun:
        """Return a run at its beginning."""
        opened = open_data(self.stream, data, validation=self.validation)
        return OsakaRun(self, seed, opened, device=device)


class OsakaRun(Run):
    """One run of an experiment with a seed: pretraining update by update, then step by step."""

    kind = "osaka"
    saved = ("step", "correct", "detected", "losses", "curves", "first_frozen", "diverged_at")

    def __init__(
        self, experiment: OsakaExperiment, seed: int, data: OsakaData, *, device: str = "cpu"
    ) -> None:
        self.experiment: OsakaExperiment = experiment
        self.seed = seed
        self.stream = ContextStream(
            data.name,
            data.sources,
            alpha=experiment.alpha,
            steps=experiment.steps,
            ways=experiment.ways,
            shots=experiment.shots,
            seed=2 * seed + experiment.validation,
        )
        fingerprint = f"{self.stream.fingerprint} | {data.pretraining.fingerprint}"
        self.data = {"name": self.stream.name, "fingerprint": fingerprint}
        self.learner = make_learner(
            experiment.learner,
            experiment.chosen,
            ways=experiment.ways,
            side=self.stream.shape[-1],
            width=experiment.width,
            seed=seed,
            device=device,
        )
        self.device = self.learner.slow.device
        self.pretraining = self._pretraining(data)
        self.step = 0  # the next one
        self.correct: list[int] = []  # images of each step
        self.detected: list[int] = []  # steps
        self.losses: list[float] = []  # since the last point of the curves
        self.curves: dict[str, Any] = {"step": [], "loss": []}
        self.curves |= {"frozen": {}, "rates": {}, "numbers": {}}
        self.first_frozen: int | None = None  # the step after which a learned rate was zero

    def _pretraining(self, data: OsakaData) -> Pretraining | None:
        exp, kind = self.experiment, LEARNERS[self.experiment.learner].pretraining
        if kind is None:
            return None
        few = {"ways": exp.ways, "shots": exp.shots, "queries": exp.queries, "seed": self.seed}
        trainee: Trainee = self.learner.slow
        train: Draws = EpisodeSampler(data.pretraining, "train", **few)
        if kind == "supervised":
            classes, side = len(data.pretraining.splits["train"]), self.stream.shape[-1]
            network = new_network(classes, side, exp.width, self.seed).to(self.device)
            trainee = Supervised(network, exp.chosen["meta_rate"])
            train = LabelledImages(data.pretraining, "train", self.seed)
        return Pretraining(
            trainee,
            train,
            EpisodeSampler(data.pretraining, "val", **few),
            size=exp.chosen["meta_batch"],
            updates=exp.updates,
            epochs=exp.epochs,
            patience=exp.chosen["patience"],
            val_tasks=exp.val_tasks,
        )

    @property
    def progress(self) -> tuple[int, int]:
        """Steps of the stream lived through, and all of them."""
        return self.step, len(self.stream)

    def _advance(self) -> None:
        """Make one update of pretraining, or else go one step through the stream."""
        if self.pretraining is not None and not self.pretraining.over:
            self._pretrain(self.pretraining)
        else:
            self._step()

    def _pretrain(self, pretraining: Pretraining) -> None:
        pretraining.advance()
        if pretraining.diverged:
            self.diverged_at = {"update": pretraining.update}
        elif pretraining.over and isinstance(pretraining.trainee, Supervised):
            for n, p in pretraining.trainee.body().items():
                self.learner.slow.params[n].copy_(p)

    def _step(self) -> None:
        batch = self.stream[self.step].to(self.device)
        outputs = self.learner.predict(batch.inputs)
        loss = float(F.cross_entropy(outputs, batch.targets))
        if not loss <= DIVERGED:  # NaN is not
            self.diverged_at = {"step": self.step}
            return
        self.correct.append(int((outputs.argmax(1) == batch.targets).sum()))
        self.losses.append(loss)
        self.learner.observe(batch)
        if self.learner.shifted:
            self.detected.append(self.step)
        if self.first_frozen is None and any(c.frozen for c in self.learner.frozen().values()):
            self.first_frozen = self.step
        self.step += 1
        if self.step % math.ceil(len(self.stream) / _POINTS) == 0 or self.over:
            self._note()

    def _note(self) -> None:
        curves = self.curves
        curves["step"].append(self.step)
        curves["loss"].append(math.fsum(self.losses) / len(self.losses))
        self.losses = []
        for name, count in self.learner.frozen().items():
            curves["frozen"].setdefault(name, []).append(count.frozen)
        for name, rate in self.learner.rates().items():
            curves["rates"].setdefault(name, []).append(float(f"{rate:.5g}"))
        for name, number in self.learner.numbers().items():
            curves["numbers"].setdefault(name, []).append(float(f"{number:.5g}"))

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The slow weights."""
        return self.learner.slow.params

    def weights(self) -> dict[str, Any]:
        """Return the slow weights, and the numbers of the rule."""
        return {"params": self.params, "rule_params": self.learner.slow.rule_params}

    def _parts(self) -> dict[str, Any]:
        learned = {"learner": self.learner}
        return learned if self.pretraining is None else learned | {"pretraining": self.pretraining}

    def _ending(self) -> dict[str, Any]:
        starts = [int(s) for s in self.stream.starts if s < max(self.step, 1)]
        sources = [self.stream.context(s).source for s in starts]
        flags = torch.zeros(self.step, dtype=torch.uint8)
        flags[self.detected] = 1
        names = [s.name for s in self.stream.sources]
        return {
            "final": self._final(starts, sources),
            "pretraining": None if self.pretraining is None else self.pretraining.result(),
            "contexts": {"starts": starts, "sources": sources, "names": names},
            "correct": pack(self.correct),
            "detected": pack(flags.tolist()),
        }

    def _final(self, starts: list[int], sources: list[int]) -> dict[str, Any]:
        final: dict[str, Any] = dict.fromkeys(FINAL)
        if self.diverged_at is not None:
            return final
        correct = torch.tensor(self.correct).numpy()
        images = self.experiment.ways * self.experiment.shots
        accuracies = by_source(correct, images, starts, sources, len(self.stream.sources))
        names = (s.name for s in self.stream.sources)
        final["accuracy"] = float(correct.mean() / images)
        final["by_source"] = dict(zip(names, accuracies, strict=True))
        final["around"] = around(correct, images, starts)
        final |= detection(self.detected, starts)._asdict()
        if counts := self.learner.frozen().values():
            final["sparsity"] = sum(c.frozen for c in counts) / sum(c.size for c in counts)
        final["gradients"], final["outer_steps"] = self.learner.gradients, self.learner.outer_steps
        final["first_frozen"] = self.first_frozen
        return final
