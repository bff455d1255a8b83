"""Stop a run between two updates, its state kept: what a signal does on the command line."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = [s for s in signal.Signals if s.name in ("SIGINT", "SIGTERM", "SIGHUP")]
_PATIENCE = 12  # seconds; twice that is less than what schedulers wait


class Stopped(KeyboardInterrupt):
    """A run was stopped."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Stop:
    """Whether the run at work was asked to stop, and where it would go on."""

    def __init__(self) -> None:
        self.kept = ""
        """What of it is kept, such as ``update 120 of 600``; empty while there is nothing."""
        self._asked_by = 0  # the signal
        self._obeys = False

    @property
    def asked(self) -> bool:
        """Whether it was asked."""
        return self._asked_by != 0

    def keep(self, where: str) -> None:
        """Take note that the state is kept, and stop now if that was asked."""
        self.kept = where
        if self.asked:
            raise Stopped(self._asked_by)

    @contextlib.contextmanager
    def between_updates(self) -> Iterator[None]:
        """Within, a run looks at :attr:`asked` after each update and then calls :meth:`keep`."""
        self._obeys = True
        try:
            yield
        finally:
            self._obeys = False

    @contextlib.contextmanager
    def by_signals(self) -> Iterator[None]:
        """Within, SIGINT, SIGTERM and SIGHUP ask for it; a second one stops at once."""
        self.kept, self._asked_by = "", 0
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        heeded = [number for number, handler in before.items() if handler != signal.SIG_IGN]
        for number in heeded:
            signal.signal(number, self._ask)
        try:
            yield
        finally:
            _alarm(0, signal.SIG_DFL)
            for number in heeded:
                signal.signal(number, before[number])
            self._asked_by = 0

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self._obeys:
            raise Stopped(number)
        self._asked_by = number
        _alarm(_PATIENCE, self._stop)
        with contextlib.suppress(OSError):  # not print, which may be at work already
            os.write(2, b"\nstopping after this update; once more to stop at once\n")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        _alarm(_PATIENCE, signal.SIG_DFL)  # if a thread does not let go, the system ends it all
        raise Stopped(self._asked_by)


def _alarm(seconds: int, handler: Any) -> None:
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, handler)
        signal.alarm(seconds)


STOP = Stop()
"""That of this process."""
