"""A child process that holds contenders and does one turn of work when asked.

A process of its own keeps memory apart: what one contender keeps or fragments does not
help or hurt another, and the system knows the most that each has used.  Requests and
answers are lines of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class WorkerError(RuntimeError):
    """A child process died; the message ends with what it said last."""


class Worker:
    """The parent's end of a child process with one thread."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "reproduction.bench.child"],
            env=os.environ | dict.fromkeys(THREADS, "1"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def send(self, request: str, *arguments: Any) -> None:
        """Send a request, and do not wait; see :mod:`reproduction.bench.child`."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([request, *arguments]) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._died()

    def receive(self) -> Any:
        """Wait for the answer to the earliest open request."""
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline() or self._died())

    def ask(self, request: str, *arguments: Any) -> Any:
        """Send a request and wait for its answer."""
        self.send(request, *arguments)
        return self.receive()

    def _died(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip()[-2000:] or "without a word"
        raise WorkerError(f"a process of the benchmark died: {said}")
