"""Run the benchmark: print its tables and write its result."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import report, results
from .cases import CASES, Case, FewShot
from .measure import measure_case, memory_growth, profile, two_processes

GROWTH = {"convnet4-28-k5": (1, 35), "convnet4-84-k5": (1, 35), "resnet12-84-k5": (1, 35)}
"""Numbers of inner steps that memory is compared at."""

SIDE_BY_SIDE = {"convnet4-28-k5": 10, "convnet4-84-k5": 1}
"""Cases for two processes, with the meta-steps of a turn."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a trial of about a minute")
    parser.add_argument("--out", type=Path, help="the JSON file; named after the processor")
    parser.add_argument(
        "--case", action="append", choices=CASES, help="only this case (repeatable)"
    )
    arguments = parser.parse_args()
    start = time.monotonic()
    result = results.complete(
        measure(arguments.case or list(CASES), arguments.quick), time.monotonic() - start
    )
    partial = arguments.quick or arguments.case
    folder = Path("_build/bench" if partial else "results/bench")
    out = arguments.out or folder / f"{results.slug(result['machine']['processor'])}.json"
    results.write(out, result)
    print(report.full(result))
    print(f"\nwritten to {out} after {result['wall_seconds'] / 60:.1f} minutes")


def measure(names: list[str], quick: bool) -> results.Result:
    """Return the measured parts of a result."""
    cases: list[Case] = [CASES[n] for n in names]
    if quick:
        wanted = ("convnet4-28-k5", "la-maml")
        cases = [dataclasses.replace(c, seconds=2) for c in cases if c.name in wanted]
    return {
        "load_before": os.getloadavg()[0],
        "quick": quick,
        "cases": [measure_case(c) for c in told(cases, "speed")],
        "memory": [
            entry
            for c in told(cases, "memory")
            if isinstance(c, FewShot) and c.name in GROWTH
            for entry in memory_growth(c, GROWTH[c.name])
        ],
        "profiles": [
            profile(c)
            for c in told(cases, "profile")
            if isinstance(c, FewShot) and c.name in GROWTH  # once for each network
        ],
        "two_processes": [
            two_processes(dataclasses.replace(c, repeats=SIDE_BY_SIDE[c.name]), 3 if quick else 10)
            for c in told(cases, "two processes")
            if c.name in SIDE_BY_SIDE and (os.cpu_count() or 1) > 1
        ],
    }


def told(cases: list[Case], what: str) -> Iterator[Case]:
    """Yield the cases, and say on the standard error what comes now."""
    for case in cases:
        print(f"{time.strftime('%H:%M:%S')} {what}: {case.title}", file=sys.stderr, flush=True)
        yield case


if __name__ == "__main__":
    main()
