"""What runs in a child process: ``python -m reproduction.bench.child``.

Each line of the standard input is a JSON list, a request and its arguments; each line of
the output is the answer.

========================  =============================================================
request                   answer
========================  =============================================================
check, contender, case    ``{"difference": number}`` or ``{"unavailable": reason}``
open, contender, case     null; the contender is ready, and has made one step
turn, contender           seconds of one turn
peak                      megabytes used at most since the first ``open``; null where the
                          system does not tell
========================  =============================================================
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wheretolearn.fast.kernels import norm_act

from .cases import CASES, Case
from .forms import difference, make_turn
from .peers import Unavailable

KINDS = {
    "convolutions": ("convolution",),
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm"),
    "normalisation, activation, pooling": ("NormAct",),
}
"""Kinds of operations, and what the profiler's names of them contain."""

OTHER = "all else"


class Child:
    """The requests, as methods."""

    def __init__(self) -> None:
        self.turns: dict[str, Callable[[], object]] = {}
        self.bare: float | None = None

    def check(self, contender: str, case: dict[str, Any]) -> dict[str, Any]:
        """Compare a contender's meta-gradient with the usual form's."""
        try:
            return {"difference": difference(contender, as_case(case))}
        except Unavailable as reason:
            return {"unavailable": str(reason)}

    def open(self, contender: str, case: dict[str, Any]) -> None:
        """Get a contender ready."""
        if not self.turns:
            _load_kernels()
            self.bare = _reset_peak()
        first = {"repeats": 1} | ({"steps": 1} if "steps" in case else {})
        make_turn(contender, as_case(case | first))()
        self.turns[contender] = make_turn(contender, as_case(case))

    def turn(self, contender: str) -> float:
        """Do one turn."""
        start = time.perf_counter()
        self.turns[contender]()
        return time.perf_counter() - start

    def profile(self, contender: str) -> dict[str, float]:
        """Return the share of a turn's time that each kind of operation takes."""
        turn = self.turns[contender]
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
            turn()
        shares = dict.fromkeys((*KINDS, OTHER), 0.0)
        for event in seen.key_averages():
            kinds = [k for k, parts in KINDS.items() if any(p in event.key for p in parts)]
            shares[kinds[0] if kinds else OTHER] += event.self_cpu_time_total
        total = sum(shares.values())
        return {kind: float(f"{time / total:.3g}") for kind, time in shares.items()}

    def peak(self) -> float | None:
        """Return the most memory used beyond that of the bare process."""
        return None if self.bare is None else round(_status("VmHWM") - self.bare, 1)


def as_case(fields: dict[str, Any]) -> Case:
    """Return a case from the fields that went through JSON."""
    return dataclasses.replace(CASES[fields["name"]], **fields)


def _load_kernels() -> None:
    """Let Numba load the kernels, or compile them where no one has; that takes memory, too."""
    for pool in (1, 2):
        z, weight, bias = (torch.zeros(*s, requires_grad=True) for s in ((1, 1, 2, 2), (1,), (1,)))
        norm_act(z, weight, bias, pool=pool).sum().backward()


def _reset_peak() -> float | None:
    """Forget the peak so far and return the resident memory, MB; None where Linux is not."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(field: str) -> float:
    """Return a field of the process's status, MB (10^6 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024 / 1e6  # the kernel's kB are KiB


def main() -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(1)
    child = Child()
    for line in sys.stdin:
        request, *arguments = json.loads(line)
        answers: dict[str, Callable[..., Any]] = {
            "check": child.check,
            "open": child.open,
            "turn": child.turn,
            "profile": child.profile,
            "peak": child.peak,
        }
        print(json.dumps(answers[request](*arguments)), flush=True)


if __name__ == "__main__":
    main()
