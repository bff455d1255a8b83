"""Run an experiment of any kind."""

from __future__ import annotations

from typing import Any

from . import few_shot as training
from . import run_or_resume as life
from .experiment import Experiment, Planned
from .osaka import OsakaExperiment
from .records import Record
from .streams import ContinualExperiment


def run(experiment: Planned, seed: int, **options: Any) -> Record:
    """Return the record of a run: the one that exists, or that of a training done now."""
    check_seed(seed)
    if isinstance(experiment, Experiment):
        return training.run(experiment, seed, **options)
    if isinstance(experiment, ContinualExperiment | OsakaExperiment):
        return life.run(experiment, seed, **options)
    raise TypeError(f"no experiment: {type(experiment).__name__}")


def check_seed(seed: object) -> None:
    """Raise ``ValueError`` for something that is no seed: a whole number from 0 to 2**63 - 1."""
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ValueError(f"a seed is a whole number from 0 to 2**63 - 1, got {seed!r}")
