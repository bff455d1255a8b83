"""Pretraining before a stream: epochs of updates until validation no longer gets better.

Meta-learners are pretrained on episodes.  In an episode classes have arbitrary labels, so a
classifier without an inner loop has nothing to learn there: it is pretrained in the plain
supervised way, to tell all training classes apart, and leaves its body to the stream, where it
gets a new last layer.  (What the code released with OSAKA calls fine-tuning is pretrained by MAML
with one inner step.)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...data import ImageSet
from ...meta import Score
from ...networks import Staged
from ...states import check_like, check_optimizer, kept_buffers, whole
from ...tasks import EpisodeSampler
from ...types import Batch, Params, Task


class Trainee(Protocol):
    """What can be pretrained: a meta-learner, or a classifier."""

    def step(self, drawn: Any, /) -> Score:
        """Make one update."""

    def evaluate(self, tasks: Iterable[Task]) -> Score:
        """Return how well few-shot tasks are solved."""

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that updates change."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state."""


class Draws(Protocol):
    """What updates are made from."""

    def batch(self, update: int, size: int) -> Any:
        """Return what update number `update` learns."""


class Pretraining:
    """Pretrain a learner, one update at a time, with early stopping.

    Parameters
    ----------
    trainee : Trainee
        What is trained, in place.
    train : Draws
        What from: episodes for a meta-learner, labelled images for a classifier.
    val : EpisodeSampler
        Episodes of other classes; every validation uses the same ones.
    size, updates, epochs : int
        Episodes, or images, of an update; updates of an epoch; epochs at most.
    patience : int
        Epochs in a row without a better validation accuracy that are still tolerated; one more
        ends pretraining.
    val_tasks : int
        Episodes of a validation.

    Attributes
    ----------
    diverged : bool
        Whether a loss was not finite; this ends pretraining too.
    update : int
        Updates made so far.
    """

    def __init__(
        self,
        trainee: Trainee,
        train: Draws,
        val: EpisodeSampler,
        *,
        size: int,
        updates: int,
        epochs: int,
        patience: int,
        val_tasks: int,
    ) -> None:
        if min(size, updates, epochs, val_tasks) < 1 or patience < 0:
            raise ValueError(
                "size, updates, epochs and val_tasks must be positive and patience not negative, "
                f"got {size=}, {updates=}, {epochs=}, {val_tasks=}, {patience=}"
            )
        self.trainee, self.train, self.val = trainee, train, val
        self.size, self.updates, self.epochs = size, updates, epochs
        self.patience, self.val_tasks = patience, val_tasks
        self.update, self.waited, self.diverged, self.over = 0, 0, False, False
        self.losses: list[float] = []  # of this epoch
        self.curves: dict[str, list[float]] = {"train_loss": [], "val_accuracy": []}
        self.best: dict[str, Any] = {}  # epoch and state of the best validation

    def advance(self) -> None:
        """Make one update; at the end of an epoch validate, at the end of all take the best."""
        if self.over:
            raise ValueError("pretraining is over")
        loss = self.trainee.step(self.train.batch(self.update, self.size)).loss
        self.update += 1
        if not math.isfinite(loss):
            self.diverged = self.over = True
            return
        self.losses.append(loss)
        if self.update % self.updates == 0:
            self._validate()

    def _validate(self) -> None:
        epoch = self.update // self.updates
        accuracy = self.trainee.evaluate(self.val[i] for i in range(self.val_tasks)).accuracy
        self.waited += 1
        if not self.best or accuracy > max(self.curves["val_accuracy"]):
            self.best, self.waited = {"epoch": epoch, "state": self.trainee.state_dict()}, 0
        self.curves["train_loss"].append(math.fsum(self.losses) / len(self.losses))
        self.curves["val_accuracy"].append(accuracy)
        self.losses = []
        if self.waited > self.patience or epoch == self.epochs:
            self.over = True
            self.trainee.load_state_dict(self.best["state"])
            self.best["state"] = {}  # no longer needed

    def result(self) -> dict[str, Any]:
        """Return what happened, as plain data: updates, best epoch, and curves by epoch."""
        return {"updates": self.update, "best_epoch": self.best.get("epoch"), **self.curves}

    _SAVED = ("update", "waited", "diverged", "over", "losses", "curves", "best")

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that :meth:`advance` changes, with the trainee."""
        state = {name: getattr(self, name) for name in self._SAVED}
        return copy.deepcopy(state | {"trainee": self.trainee.state_dict()})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        check_like(dict.fromkeys([*self._SAVED, "trainee"]), state)
        self.trainee.load_state_dict(state["trainee"])
        for name in self._SAVED:
            setattr(self, name, copy.deepcopy(state[name]))


class LabelledImages:
    """Random images of a split with the numbers of their classes in it.

    Parameters
    ----------
    images : ImageSet
        Grey images, of mean 0 and standard deviation 1 by definition, so in [0, 1].
    split : str
        ``train``, ``val`` or ``test``.
    seed : int
        Seed of the draws; update number `u` is a pure function of it and `u`.
    """

    def __init__(self, images: ImageSet, split: str, seed: int) -> None:
        self.images, self.seed = images, seed
        self.classes = np.asarray(images.splits[split], dtype=np.int64)

    def batch(self, update: int, size: int) -> Batch:
        """Return `size` images float32 [size, 1, S, S] and their classes int64 [size]."""
        rng = np.random.default_rng([self.seed, 3, update])
        targets = rng.integers(len(self.classes), size=size)
        start = self.images.offsets[self.classes[targets]]
        stop = self.images.offsets[self.classes[targets] + 1]
        pixels = self.images.images[rng.integers(start, stop)].astype(np.float32) / 255
        return Batch(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(targets))


class Supervised:
    """A classifier that learns with Adam, and is judged by few-shot tasks on its features.

    Parameters
    ----------
    network : Staged
        Its last stage is the classifier, the others are the body; trained in place.
    rate : float
        Of Adam.
    """

    def __init__(self, network: Staged, rate: float) -> None:
        if not network.is_chain():
            raise ValueError("a network with a forward or hooks of its own has no body")
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters(), lr=rate)
        self.device = next(network.parameters()).device
        self._stages = len(list(network.children()))

    @torch.enable_grad()
    def step(self, drawn: Batch) -> Score:
        """Take one step on labelled images, and return loss and accuracy before it."""
        inputs, targets = drawn.to(self.device)
        self.optimizer.zero_grad()
        outputs = self.network(inputs)
        loss = F.cross_entropy(outputs, targets)
        loss.backward()
        self.optimizer.step()
        accuracy = (outputs.detach().argmax(1) == targets).cpu().double().mean()
        return Score([float(loss.detach())], [float(accuracy)])

    @torch.no_grad()
    def evaluate(self, tasks: Iterable[Task]) -> Score:
        """Solve tasks of new classes by the nearest mean of the support's features."""
        losses, accuracies = [], []
        for given in tasks:
            task = given.to(self.device)
            features = (self.features(task.support.inputs), self.features(task.query.inputs))
            loss, accuracy = nearest_mean(features, task, int(task.support.targets.max()) + 1)
            losses.append(loss)
            accuracies.append(accuracy)
        return Score(losses, accuracies)

    def features(self, inputs: Tensor) -> Tensor:
        """Return what the classifier sees, [B, d]."""
        with kept_buffers(self.network):
            return self.network(inputs, 0, self._stages - 1).flatten(1)

    def body(self) -> Params:
        """Return the parameters before the classifier, detached."""
        head = list(self.network.named_children())[-1][0]
        return {
            n: p.detach() for n, p in self.network.named_parameters() if n.partition(".")[0] != head
        }

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of network and optimizer."""
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        return copy.deepcopy(state)

    @whole
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        check_like(self.network.state_dict(), state["network"])
        check_optimizer(self.optimizer, state["optimizer"], dict(self.network.named_parameters()))
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))


def nearest_mean(features: tuple[Tensor, Tensor], task: Task, ways: int) -> tuple[float, float]:
    """Classify queries by the nearest mean of the support's features, [n, d] and [m, d].

    Return the cross-entropy of minus the squared distances, and the share of correct classes.
    """
    member = F.one_hot(task.support.targets, ways).to(features[0])  # [n, ways]
    means = (member.t() @ features[0]) / member.sum(0).unsqueeze(1)  # [ways, d]
    outputs = -torch.cdist(features[1], means).square()  # [m, ways]
    loss = F.cross_entropy(outputs, task.query.targets)
    return float(loss), float((outputs.argmax(1) == task.query.targets).cpu().double().mean())
