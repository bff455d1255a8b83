"""Run an experiment of any kind."""

from __future__ import annotations

from typing import Any

from . import training
from .continual import life
from .continual.experiment import ContinualExperiment
from .continual.osaka_run import OsakaExperiment
from .experiments import Experiment, Planned
from .records import Record


def run(experiment: Planned, seed: int, **options: Any) -> Record:
    """Return the record of a run: the one that exists, or that of a training done now.

    Parameters
    ----------
    experiment : Planned
        What is run: a few-shot experiment, or one with a stream.
    seed : int
        The seed.
    **options
        See :func:`wheretolearn.training.run`.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    TypeError
        For something that is no experiment.
    """
    if isinstance(experiment, Experiment):
        return training.run(experiment, seed, **options)
    if isinstance(experiment, ContinualExperiment | OsakaExperiment):
        return life.run(experiment, seed, **options)
    raise TypeError(f"no experiment: {type(experiment).__name__}")
