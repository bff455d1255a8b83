"""One run of an experiment with a seed, whatever is trained: it advances, tells, is saved."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from tqdm.auto import tqdm

if TYPE_CHECKING:
    from .experiment import Planned

DIVERGED = 1e6
"""A training loss above this, or one that is not finite, ends a run as diverged."""


class Run:
    """What runs of every kind do; each has a learner, curves, and attributes that are saved."""

    unit: ClassVar[str] = "step"  #: What :attr:`progress` counts
    kind: ClassVar[str] = ""  #: How the record calls it; those of few-shot runs do not
    saved: ClassVar[tuple[str, ...]]
    """Attributes that ``advance`` changes, beside the parts that have states of their own."""

    experiment: Planned
    seed: int
    device: torch.device
    learner: Any
    data: dict[str, Any]  #: Name and fingerprint of the data
    curves: dict[str, Any]
    diverged_at: Any = None  #: Where the loss was not finite, or beyond the limit
    input_seconds = 0.0
    """Time spent waiting for data."""
    given: Sequence[Any] = ()  #: What else the run depends on
    show = False
    """Whether progress bars are drawn."""

    @property
    def progress(self) -> tuple[int, int]:
        """Units done, and all of them."""
        raise NotImplementedError

    @property
    def over(self) -> bool:
        """Whether all is done, or the learner diverged."""
        done, total = self.progress
        return done == total or self.diverged_at is not None

    def advance(self) -> None:
        """Do the least that can be done without being interrupted."""
        if self.over:
            raise ValueError("the run is over")
        self._advance()

    def finish(self) -> dict[str, Any]:
        """Advance to the end and return the result."""
        while not self.over:
            self.advance()
        return self.result()

    def result(self) -> dict[str, Any]:
        """Return what the run found, as plain data: a record without where and when."""
        if not self.over:
            done, total = self.progress
            raise ValueError(f"the run is not over: {self.unit} {done} of {total} is next")
        exp = self.experiment
        whole: dict[str, Any] = {"kind": self.kind} if self.kind else {}
        whole |= {
            "experiment": exp.name,
            "profile": exp.profile,
            "figure": exp.figure,
            "seed": self.seed,
            "parameters": exp.parameters(),
            "data": self.data,
            "tensors": {n: p.numel() for n, p in self.params.items()},
            "status": "finished" if self.diverged_at is None else "diverged",
            "diverged_at": self.diverged_at,
            "curves": self.curves,
        }
        plain: dict[str, Any] = json.loads(json.dumps(whole | self._ending()))
        return plain

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of all that ``advance`` changes; ``torch.save`` can write it."""
        own = {name: getattr(self, name) for name in self.saved}
        return copy.deepcopy(own | {name: p.state_dict() for name, p in self._parts().items()})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what ``state_dict`` of a run with the same parameters and seed returned."""
        parts, state = self._parts(), copy.deepcopy(state)
        if state.keys() != {*self.saved, *parts}:
            raise ValueError("the state has other parts")
        if state["curves"].keys() != self.curves.keys():
            raise ValueError("the curves have other names")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        for name in self.saved:
            setattr(self, name, state[name])

    def identity(self) -> str:
        """Return what the run is: what it computes, on which data, and with which libraries."""
        versions = [metadata.version("wheretolearn"), torch.__version__]
        parts = [self.computed().parameters(), self.seed, self.data["fingerprint"]]
        return json.dumps([*parts, *self.given, *versions], sort_keys=True)

    def computed(self) -> Planned:
        """Return the experiment without what makes no other training."""
        return self.experiment

    @property
    def params(self) -> dict[str, torch.Tensor]:
        """The weights."""
        params: dict[str, torch.Tensor] = self.learner.params
        return params

    def weights(self) -> dict[str, Any]:
        """Return what is worth keeping of the learner when the run is over."""
        return {"params": self.params}

    def shown(self) -> dict[str, str]:
        """Return what the progress bar tells beside the progress."""
        return {}

    def bar(self, *arguments: Any, **options: Any) -> tqdm[Any]:
        """Return a progress bar, which is drawn seldom in a log file."""
        every = 1.0 if sys.stdout.isatty() or "ipykernel" in sys.modules else 10.0
        options |= {"disable": not self.show, "file": sys.stdout, "mininterval": every}
        return tqdm(*arguments, **options)

    def _advance(self) -> None:
        raise NotImplementedError

    def _parts(self) -> dict[str, Any]:
        return {"learner": self.learner}

    def _ending(self) -> dict[str, Any]:
        """Return what the record has beside the curves, ``final`` above all."""
        raise NotImplementedError
