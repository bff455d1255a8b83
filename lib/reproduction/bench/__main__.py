"""Run the benchmark: print its tables and write its result."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path

from . import report, result
from .cases import CASES
from .measure import measure


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m reproduction.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a trial of about a minute")
    parser.add_argument("--out", type=Path, help="the JSON file; named after the processor")
    parser.add_argument(
        "--case", action="append", choices=CASES, help="only this case (repeatable)"
    )
    asked = parser.parse_args()
    start = time.monotonic()
    cases = [CASES[n] for n in asked.case or CASES]
    if asked.quick:
        wanted = ("convnet4-28-k5", "la-maml")
        cases = [dataclasses.replace(c, seconds=2) for c in cases if c.name in wanted]

    def say(what: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)

    found = result.complete(measure(cases, asked.quick, say), time.monotonic() - start)
    folder = Path("_build/bench" if asked.quick or asked.case else "results/bench")
    out = asked.out or folder / f"{result.slug(found.machine.processor)}.json"
    result.write(out, found)
    print(report.full(found))
    print(f"\nwritten to {out} after {found.wall_seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()
