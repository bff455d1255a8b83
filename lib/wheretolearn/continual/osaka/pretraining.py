"""Pretraining before a stream: epochs of updates until validation no longer gets better."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, Protocol

from ...meta import Score
from ...states import check_like
from ...tasks import EpisodeSampler
from ...types import Task


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
    size : int
        Episodes, or images, of an update.
    updates : int
        Updates of an epoch.
    epochs : int
        Epochs at most.
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

    Raises
    ------
    ValueError
        If a number makes no sense.
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
        own = {name: getattr(self, name) for name in self._SAVED}
        return copy.deepcopy(own | {"trainee": self.trainee.state_dict()})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        check_like(dict.fromkeys([*self._SAVED, "trainee"]), state)
        self.trainee.load_state_dict(state["trainee"])
        for name in self._SAVED:
            setattr(self, name, copy.deepcopy(state[name]))
