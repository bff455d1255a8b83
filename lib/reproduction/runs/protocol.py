"""The life of a run: lock, checkpoint, resume, record, whatever is trained.

A run has one record, at ``<results>/<profile>/<experiment>/seed<k>.json``.  While it is at work
its state stands in ``<results>/.checkpoints``, and a second process waits for the first.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock
import torch

from wheretolearn import seam

from . import records
from .experiment import Planned
from .stopping import STOP, Stopped

DIVERGED = 1e6
"""A training loss above this, or one that is not finite, ends a run as diverged."""

_SECONDS_BETWEEN_CHECKPOINTS = 20.0


class StateError(ValueError):
    """A checkpoint of which only a part could be taken up: the run must be made anew."""


def identity(experiment: Planned, seed: int, fingerprint: str, *more: Any) -> str:
    """Return what a run is: what it computes, on which data, and with which libraries."""
    versions = [metadata.version("wheretolearn"), torch.__version__]
    parts = [experiment.parameters(), seed, fingerprint, *more, *versions]
    return json.dumps(parts, sort_keys=True)


class Checkpoint:
    """The file in which a run keeps its state, so that it can be stopped at any time."""

    def __init__(self, path: Path | None, identity: str, device: torch.device) -> None:
        self.path, self.identity, self.device = path, identity, device
        self._saved = time.monotonic()

    def resume(self, take: Callable[[dict[str, Any]], None]) -> bool:
        """Let `take` take up the state of this run, and return whether there is one that serves."""
        if self.path is None or not self.path.exists():
            return False
        try:
            state = _open(self.path.read_bytes())
            if state["identity"] != self.identity:
                print(f"{self.path} belongs to other parameters or data; starting afresh")
                return False
            if state["device"] != self.device.type:
                print(f"{self.path} was made on {state['device']}; starting afresh")
                return False
        except Exception as error:  # torch.load raises many types
            print(f"{self.path} cannot be read ({type(error).__name__}); starting afresh")
            return False
        try:
            take(state)
            torch.set_rng_state(state["random"])
            if self.device.type != "cpu":
                module = torch.get_device_module(self.device)
                module.set_rng_state(state["random_there"], self.device)
            STOP.kept = state["where"]
        except Exception as error:
            self.path.unlink()
            raise StateError(f"{type(error).__name__}: {error}") from error
        return True

    def due(self) -> bool:
        """Return whether it is time to save."""
        return STOP.asked or time.monotonic() - self._saved > _SECONDS_BETWEEN_CHECKPOINTS

    def save(self, state: dict[str, Any], where: str) -> None:
        """Keep a state, with that of torch's random numbers; stop if that was asked."""
        if self.path is None:
            return
        whole = state | {
            "identity": self.identity,
            "where": where,
            "device": self.device.type,
            "random": torch.get_rng_state(),
        }
        if self.device.type != "cpu":
            module = torch.get_device_module(self.device)
            whole["random_there"] = module.get_rng_state(self.device)
        buffer = io.BytesIO()
        torch.save(whole, buffer)
        content = buffer.getvalue()
        records.write_atomically(self.path, hashlib.sha256(content).digest() + content)
        self._saved = time.monotonic()
        STOP.keep(where)


def _open(content: bytes) -> dict[str, Any]:
    """Return the state in a checkpoint, if it is as it was written."""
    size = hashlib.sha256().digest_size
    if hashlib.sha256(content[size:]).digest() != content[:size]:
        raise ValueError("changed after it was written")
    state: dict[str, Any] = torch.load(
        io.BytesIO(content[size:]), map_location="cpu", weights_only=True
    )
    return state


def live(
    experiment: Planned,
    seed: int,
    train: Callable[[Path], records.Record],
    existing: Callable[[Path], records.Record | None],
    *,
    results: Path,
    fresh: bool = False,
    keep: bool = False,
    threads: int = 1,
    wait: bool = True,
) -> records.Record:
    """Return the record of a run: the one that exists, or that of a training done now."""
    place = Path(experiment.profile) / experiment.name / f"seed{seed}"
    path = results / place.with_suffix(".json")
    checkpoint = results / ".checkpoints" / place.with_suffix(".pt")
    if not fresh and (record := existing(path)) is not None:
        return record
    records.check_writable(path)
    records.check_writable(checkpoint)
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
        for file in (path, checkpoint):
            records.remove_leftovers(file)
        if fresh:
            checkpoint.unlink(missing_ok=True)
        torch.set_num_threads(threads)
        (seam.fast("keep_memory") or bool)()
        there, STOP.kept = checkpoint.exists(), ""
        try:
            record = records.write(path, train(checkpoint))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            if not isinstance(error, StateError) and not (there and STOP.kept):
                raise  # it is not for the state that was taken up
            print(f"{checkpoint} does not serve ({error!r}); starting afresh")
            checkpoint.unlink(missing_ok=True)
            record = records.write(path, train(checkpoint))
        except Stopped:
            if fresh and path.exists():  # who asks again gets that record, or begins afresh
                checkpoint.unlink(missing_ok=True)
                STOP.kept = ""
            raise
        if not keep:
            checkpoint.unlink(missing_ok=True)
    finally:
        lock.release()
    return record


def existing(path: Path, experiment: Planned) -> records.Record | None:
    """Return the record at a path, if there is one."""
    if not path.exists():
        return None
    record = records.read_run(path)
    if others := records.differing(record, experiment):
        raise records.RecordError(
            f"{path} was made with other parameters ({', '.join(others)}); give the changed "
            "experiment a name of its own, or ask for a fresh run, which replaces the record"
        )
    return record


def seconds_between_bars() -> float:
    """Return how often a progress bar is drawn: seldom in a log file."""
    return 1.0 if sys.stdout.isatty() or "ipykernel" in sys.modules else 10.0
