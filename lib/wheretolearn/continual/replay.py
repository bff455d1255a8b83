"""Reservoir memory, a fair sample of all that has been seen, and learning from it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..states import check_settings, settings_of
from ..types import Batch
from .base import CLIP, Learner, at_least

_SETTINGS = ("capacity", "off_by_one")


class Reservoir:
    """Keep each of the `n` samples seen so far with the same probability, capacity / n.

    Sample number `n` (from 1) replaces a random one with probability capacity / n
    (Vitter, 1985, algorithm R).

    Parameters
    ----------
    capacity : int
        Samples that fit, at least 1.
    generator : torch.Generator
        Source of randomness.
    off_by_one : bool, default False
        Draw from n + 1 places instead of `n`, as the code released with La-MAML does: a new
        sample is then taken with probability capacity / (n + 1), so early ones stay a little
        too often.
    """

    def __init__(
        self, capacity: int, generator: torch.Generator, *, off_by_one: bool = False
    ) -> None:
        if capacity < 1:
            raise ValueError(f"a memory must hold at least one sample, got size {capacity}")
        self.capacity, self.generator, self.off_by_one = capacity, generator, off_by_one
        self.seen = 0
        self._inputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def __len__(self) -> int:
        """Return the number of samples held."""
        return len(self._inputs)

    def add(self, batch: Batch) -> None:
        """Offer samples, one by one in their order."""
        for x, y in zip(batch.inputs, batch.targets, strict=True):
            self.seen += 1
            if len(self) < self.capacity:
                self._inputs.append(x.clone())
                self._targets.append(y.clone())
                continue
            places = self.seen + self.off_by_one
            place = int(torch.randint(places, (), generator=self.generator))
            if place < self.capacity:
                self._inputs[place], self._targets[place] = x.clone(), y.clone()

    def sample(self, count: int, like: Batch) -> Batch:
        """Draw samples with replacement, as many as are held at most; `like` gives their shape."""
        count = min(count, len(self))
        if count == 0:
            return Batch(like.inputs[:0], like.targets[:0])
        rows = torch.randint(len(self), (count,), generator=self.generator).tolist()
        return Batch(
            torch.stack([self._inputs[i] for i in rows]),
            torch.stack([self._targets[i] for i in rows]),
        )

    def copy(self) -> Reservoir:
        """Return a memory of what is held now, which later samples do not change."""
        other = Reservoir(self.capacity, self.generator, off_by_one=self.off_by_one)
        other.seen = self.seen
        other._inputs, other._targets = list(self._inputs), list(self._targets)
        return other

    def state_dict(self) -> dict[str, Any]:
        """Return everything but the generator's state."""
        held = [torch.stack(t) for t in (self._inputs, self._targets)] if len(self) else []
        return {"settings": settings_of(self, _SETTINGS), "seen": self.seen, "held": held}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        check_settings(settings_of(self, _SETTINGS), state["settings"])
        seen, (inputs, targets) = state["seen"], state["held"] or ([], [])
        if len(inputs) != len(targets) or len(inputs) != min(seen, self.capacity):
            raise ValueError(
                f"a memory of size {self.capacity} that has seen {seen} samples cannot hold "
                f"{len(inputs)} with {len(targets)} targets"
            )
        self.seen, self._inputs, self._targets = seen, list(inputs), list(targets)


class ExperienceReplay(Learner):
    """Online SGD on the batch and samples from a reservoir (Chaudhry et al., 2019).

    Gradients are clipped as in La-MAML, beside which it stands.

    Parameters
    ----------
    rate : float
        Learning rate.
    memory : int
        Samples that the memory holds.
    replay : int, default 10
        Samples that are replayed with each batch.
    glances : int, default 1
        Steps on each batch, with other replayed samples each time.
    off_by_one : bool, default False
        See :class:`~wheretolearn.continual.replay.Reservoir`.
    """

    saved = ("memory",)

    def __init__(
        self,
        *,
        rate: float,
        memory: int,
        replay: int = 10,
        glances: int = 1,
        off_by_one: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        at_least(0, rate=rate, replay=replay)
        at_least(1, glances=glances)
        self.rate, self.replay, self.glances = rate, replay, glances
        self.memory = Reservoir(memory, self.generator, off_by_one=off_by_one)

    def observe(self, batch: Batch) -> float:
        """Learn a batch, and return the loss at the last glance."""
        for _ in range(self.glances):
            replayed = self.memory.sample(self.replay, batch)
            rows = Batch(*(torch.cat(pair) for pair in zip(replayed, batch, strict=True)))
            loss, grads = self.gradient(rows, CLIP)
            self.descend(grads, self.rate)
        self.memory.add(batch)
        return loss
