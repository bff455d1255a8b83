"""Streams of tasks: what a continual learner sees, one task after another.

A stream hands out the training samples and the test samples of each task as it is asked
for them, so only one task is in memory at a time.  Task number `t` is a pure function of
the stream's seed and `t`: nothing hangs on the order of the questions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from ...types import Batch


class Stream(ABC):
    """Tasks one after another; the base class of all streams.

    Parameters
    ----------
    name : str
        What to call it.
    tasks : int
        Number of tasks, at least 1.
    classes : int
        Classes of the network's output, at least 2.
    shape : tuple of int
        Shape of one input.
    ways : int, optional
        Classes of each task's own head: task `t` then has the classes from ``t * ways`` to
        ``(t + 1) * ways - 1``, and is told so.  By default all tasks share one head.
    fingerprint : str, default ""
        What the images depend on.
    """

    def __init__(
        self,
        name: str,
        *,
        tasks: int,
        classes: int,
        shape: tuple[int, ...],
        ways: int | None = None,
        fingerprint: str = "",
    ) -> None:
        if tasks < 1:
            raise ValueError(f"{name}: a stream needs at least one task, got {tasks}")
        if classes < 2 or ways == 1:
            raise ValueError(f"{name}: one class only, so there is nothing to tell apart")
        if ways is not None and classes != tasks * ways:
            raise ValueError(f"{name}: {tasks} heads of {ways} classes are not {classes} classes")
        self.name, self.classes, self.shape, self.ways = name, classes, shape, ways
        self.fingerprint = fingerprint
        self._tasks = tasks

    def __len__(self) -> int:
        """Return the number of tasks."""
        return self._tasks

    def train(self, task: int) -> Batch:
        """Return the training samples of a task, in the order in which they arrive."""
        return self._checked(task, "training", self._train(task))

    def test(self, task: int, limit: int | None = None) -> Batch:
        """Return the test samples of a task, or the first `limit` of them."""
        return self._checked(task, "test", self._test(task, limit))

    @abstractmethod
    def _train(self, task: int) -> Batch: ...

    @abstractmethod
    def _test(self, task: int, limit: int | None) -> Batch: ...

    def _checked(self, task: int, part: str, batch: Batch) -> Batch:
        where = f"{self.name}, task {task}, {part} samples"
        inputs, targets = batch
        if len(inputs) != len(targets):
            raise ValueError(f"{where}: {len(inputs)} inputs, but {len(targets)} targets")
        if len(targets) == 0:
            raise ValueError(f"{where}: there are none")
        if tuple(inputs.shape[1:]) != self.shape:
            raise ValueError(
                f"{where}: inputs of shape {tuple(inputs.shape[1:])}, but the stream's are "
                f"of shape {self.shape}"
            )
        first, last = (0, self.classes) if self.ways is None else self.head(task)
        if targets.dtype != torch.int64 or targets.min() < first or targets.max() >= last:
            raise ValueError(f"{where}: targets must be integers from {first} to {last - 1}")
        return batch

    def head(self, task: int) -> tuple[int, int]:
        """Return the first class of a task and the one after its last."""
        if self.ways is None:
            return 0, self.classes
        return task * self.ways, (task + 1) * self.ways


class TensorStream(Stream):
    """A stream of tasks that are already in memory: the reader's own.

    Parameters
    ----------
    name : str
        What to call it.
    tasks : sequence of pairs of Batch
        Training and test samples of each task: inputs [n, ...], classes int64 [n].
    classes : int
        Number of classes.
    ways : int, optional
        As in :class:`Stream`.
    """

    def __init__(
        self,
        name: str,
        tasks: Sequence[tuple[Batch, Batch]],
        *,
        classes: int,
        ways: int | None = None,
    ) -> None:
        shape = tuple(tasks[0][0].inputs.shape[1:]) if tasks else ()
        super().__init__(name, tasks=len(tasks), classes=classes, shape=shape, ways=ways)
        self._data = list(tasks)
        for task in range(len(tasks)):  # say now what is wrong with the last task
            self.train(task)
            self.test(task)

    def _train(self, task: int) -> Batch:
        return self._data[task][0]

    def _test(self, task: int, limit: int | None) -> Batch:
        inputs, targets = self._data[task][1]
        return Batch(inputs[:limit], targets[:limit])
