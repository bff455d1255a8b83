"""The life of a run: lock, checkpoint, resume, record, whatever is trained.

A run has one record, at ``<results>/<profile>/<experiment>/seed<k>.json``.  While it is at work
its state stands in ``<results>/.checkpoints``, and a second process waits for the first.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import filelock
import torch

from . import records
from .allocator import keep_memory
from .experiments import Planned

T = TypeVar("T")

_SECONDS_BETWEEN_CHECKPOINTS = 20.0


class Checkpoint:
    """The file in which a run keeps its state, so that it can be stopped at any time.

    Parameters
    ----------
    path : Path, optional
        Where; without one nothing is kept.
    identity : str
        What the run is: a state of another one is not taken up.
    device : torch.device
        Where it computes: a state from elsewhere is not taken up.
    """

    def __init__(self, path: Path | None, identity: str, device: torch.device) -> None:
        self.path, self.identity, self.device = path, identity, device
        self._saved = time.monotonic()

    def load(self, parts: Callable[[dict[str, Any]], T]) -> T | None:
        """Return what `parts` finds in the state of this run, if there is one that serves.

        Torch's random numbers then go on from there.  Why a state is not taken up is said.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state["identity"] != self.identity:
                print(f"{self.path} belongs to other parameters; starting afresh")
                return None
            if state.get("device", "cpu") != self.device.type:
                print(f"{self.path} was made on {state['device']}; starting afresh")
                return None
            found = parts(state)
        except Exception as error:  # torch.load raises many types for a damaged file
            print(f"{self.path} cannot be read ({type(error).__name__}); starting afresh")
            return None
        torch.set_rng_state(state["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        return found

    def due(self) -> bool:
        """Return whether it is time to save."""
        return time.monotonic() - self._saved > _SECONDS_BETWEEN_CHECKPOINTS

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state, with that of torch's random numbers."""
        if self.path is None:
            return
        whole = state | {
            "identity": self.identity,
            "device": self.device.type,
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            whole["random_cuda"] = torch.cuda.get_rng_state(self.device)
        buffer = io.BytesIO()
        torch.save(whole, buffer)
        records.write_atomically(self.path, buffer.getvalue())
        self._saved = time.monotonic()


def live(
    experiment: Planned,
    seed: int,
    train: Callable[[Path], records.Record],
    existing: Callable[[Path], records.Record | None],
    *,
    results: Path,
    fresh: bool = False,
    threads: int = 1,
    wait: bool = True,
) -> records.Record:
    """Return the record of a run: the one that exists, or that of a training done now.

    Parameters
    ----------
    experiment : Planned
        What is run.
    seed : int
        The seed.
    train : callable
        ``train(checkpoint)`` trains, keeping its state in that file, and returns the record.
    existing : callable
        ``existing(path)`` returns the record at a path, or None if it does not serve.
    results : Path
        Folder of the records.
    fresh : bool, default False
        Train even if there is a record, and from the beginning.
    threads : int, default 1
        CPU threads; small networks gain nothing from more.
    wait : bool, default True
        If another process works on the same run, wait for it (and use its record);
        otherwise raise.

    Returns
    -------
    dict
        The record, as written.

    Raises
    ------
    wheretolearn.records.WriteError
        If the results cannot be written; said before the training starts.
    TimeoutError
        If another process works on the run and `wait` is false.
    """
    place = Path(experiment.profile) / experiment.name / f"seed{seed}"
    path = results / place.with_suffix(".json")
    checkpoint = results / ".checkpoints" / place.with_suffix(".pt")
    if not fresh and (record := existing(path)) is not None:
        return record
    records.check_writable(path.parent)
    records.check_writable(checkpoint.parent)
    lock = filelock.FileLock(checkpoint.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if not wait:
            raise TimeoutError(f"another process works on {experiment.name} seed {seed}") from None
        print(f"another process works on {experiment.name} seed {seed}; waiting for it")
        lock.acquire()
    try:
        if not fresh and (record := existing(path)) is not None:
            return record
        if fresh:
            checkpoint.unlink(missing_ok=True)
        torch.set_num_threads(threads)
        keep_memory()
        record = records.write(path, train(checkpoint))
        checkpoint.unlink(missing_ok=True)
    finally:
        lock.release()
    return record


def existing(path: Path, experiment: Planned) -> records.Record | None:
    """Return the record at a path, if it was made with the parameters of an experiment."""
    if not path.exists():
        return None
    record = records.read_run(path)
    if not records.fits(record, experiment):
        print(f"{path} was made with other parameters; running again")
        return None
    return record


def seconds_between_bars() -> float:
    """Return how often a progress bar is drawn: seldom in a log file."""
    return 1.0 if sys.stdout.isatty() or "ipykernel" in sys.modules else 10.0
