"""The file in which a run saves its state, so that it can be stopped at any time."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import records
from .stopping import STOP

_SECONDS_BETWEEN_CHECKPOINTS = 20.0


class StateError(ValueError):
    """A checkpoint of which only a part could be taken up: the run must be made anew."""


class Checkpoint:
    """The checkpoint of one run."""

    def __init__(self, path: Path, identity: str, device: torch.device) -> None:
        self.path, self.identity, self.device = path, identity, device
        self._saved = time.monotonic()

    def resume(self, take: Callable[[dict[str, Any]], None]) -> None:
        """Let `take` take up the state of this run, if there is one that serves."""
        if not self.path.exists():
            return
        try:
            state = _open(self.path.read_bytes())
            if state["identity"] != self.identity:
                print(f"{self.path} belongs to other parameters or data; starting afresh")
                return
            if state["device"] != self.device.type:
                print(f"{self.path} was made on {state['device']}; starting afresh")
                return
        except Exception as error:  # torch.load raises many types
            print(f"{self.path} cannot be read ({type(error).__name__}); starting afresh")
            return
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

    def due(self) -> bool:
        """Return whether it is time to save."""
        return STOP.asked or time.monotonic() - self._saved > _SECONDS_BETWEEN_CHECKPOINTS

    def save(self, state: dict[str, Any], where: str) -> None:
        """Save a state, with that of torch's random numbers; stop if that was asked."""
        state |= {"identity": self.identity, "where": where, "device": self.device.type}
        state["random"] = torch.get_rng_state()
        if self.device.type != "cpu":
            module = torch.get_device_module(self.device)
            state["random_there"] = module.get_rng_state(self.device)
        content = in_torchs_format(state)
        records.write_atomically(self.path, hashlib.sha256(content).digest() + content)
        self._saved = time.monotonic()
        STOP.keep(where)


def in_torchs_format(state: dict[str, Any]) -> bytes:
    """Return the content of the file that ``torch.save`` makes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _open(content: bytes) -> dict[str, Any]:
    """Return the state in a checkpoint, if it is as it was written."""
    size = hashlib.sha256().digest_size
    if hashlib.sha256(content[size:]).digest() != content[:size]:
        raise ValueError("changed after it was written")
    file = io.BytesIO(content[size:])
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state
