"""Contenders take turns, and what comes out of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from .cases import Case, FewShot
from .ceiling import PRODUCT_FLOPS, PRODUCTS, convolutions, task_flops
from .forms import CONVOLUTIONS, FEW_SHOT, LIBRARY, USUAL, contenders
from .results import Spread
from .worker import Worker

TOLERANCE = 1e-9
"""Largest relative difference of an exact contender's meta-gradient from the usual form's."""

Seconds = dict[str, list[float]]
"""Seconds of a turn, round by round, by contender."""


def measure_case(case: Case, chosen: Sequence[str] | None = None) -> dict[str, Any]:
    """Compare the contenders of a case, then let them take turns."""
    titles = contenders(case)
    rows: list[dict[str, Any]] = [{"contender": n, "title": titles[n]} for n in chosen or titles]
    with Worker() as worker:
        for row in rows:
            answer = worker.ask("check", row["contender"], as_json(case))
            row.update(judge(row["contender"], answer, case))
    able = [row["contender"] for row in rows if row["status"] == "measured"]
    ceilings = [*PRODUCTS, CONVOLUTIONS] if isinstance(case, FewShot) else []
    seconds, peaks = take_turns(case, able, ceilings)
    found: dict[str, Any] = {
        "case": case.name,
        "title": case.title,
        "unit": "inner step",
        "contenders": rows,
    }
    for row in rows:
        name = row["contender"]
        if name in able:
            row["rate"] = Spread.of(case.units / s for s in seconds[name]).as_json()
            row["speedup"] = ratio(seconds[USUAL], seconds[name]).as_json()
            row["peak_mb"] = peaks[name]
    if isinstance(case, FewShot):
        flops = task_flops(case)
        found |= {"unit": "task", "gflop_per_unit": flops / 1e9, "ceiling": {}}
        work = dict.fromkeys(PRODUCTS, PRODUCT_FLOPS)
        work[CONVOLUTIONS] = sum(c.flops for c in convolutions(case))
        for name, operations in work.items():
            rates = Spread.of(operations / s / 1e9 for s in seconds[name])
            found["ceiling"][name] = rates.as_json()
        product = seconds["product-float32"]
        for row in rows:
            if row["contender"] in able:
                per_product = case.units * flops / PRODUCT_FLOPS
                share = ratio(product, seconds[row["contender"]], per_product)
                row["share_of_product"] = share.as_json()
    return found


def judge(name: str, answer: dict[str, Any], case: Case) -> dict[str, Any]:
    """Return the fields of a contender that its comparison with the usual form decides."""
    if "unavailable" in answer:
        return {"status": "unavailable", "reason": answer["unavailable"]}
    apart = answer["difference"]
    exact = not isinstance(case, FewShot) or FEW_SHOT[name].exact
    if exact and not apart <= TOLERANCE:  # NaN is not
        reason = f"its meta-gradient differs by {apart:.1e} of its size"
        return {"status": "different", "reason": reason}
    return {"status": "measured", "difference": apart, "exact": exact}


def take_turns(
    case: Case, names: Sequence[str], ceilings: Sequence[str] = ()
) -> tuple[Seconds, dict[str, float | None]]:
    """Give each contender a process, and let one after the other do a turn, round by round."""
    seconds: Seconds = {n: [] for n in (*names, *ceilings)}
    with ExitStack() as stack:
        workers = {n: stack.enter_context(Worker()) for n in names}
        shared = stack.enter_context(Worker())
        everyone = [*((w, n) for n, w in workers.items()), *((shared, n) for n in ceilings)]
        for worker, name in everyone:
            worker.send("open", name, as_json(case))
        for worker, _ in everyone:
            worker.receive()
        start = time.monotonic()
        while len(seconds[USUAL]) < case.rounds or time.monotonic() - start < case.seconds:
            for worker, name in everyone:
                seconds[name].append(worker.ask("turn", name))
            everyone.reverse()
        return seconds, {n: w.ask("peak") for n, w in workers.items()}


def memory_growth(
    case: FewShot, steps: Sequence[int], names: Sequence[str] = (USUAL, LIBRARY)
) -> list[dict[str, Any]]:
    """Measure peak memory by the number of inner steps, each in a process of its own."""
    found = []
    for name in names:
        peaks = []
        for k in steps:
            work = dataclasses.replace(case, steps=k, repeats=1)
            with Worker() as worker:
                worker.ask("open", name, as_json(work))
                for _ in range(2):  # the heap finds its size
                    worker.ask("turn", name)
                peaks.append(worker.ask("peak"))
        title = case.title.rpartition(",")[0]  # without its K
        found.append(
            {
                "case": case.name,
                "title": title,
                "contender": name,
                "steps": list(steps),
                "peak_mb": peaks,
            }
        )
    return found


def profile(case: FewShot) -> dict[str, Any]:
    """Measure where the library's time goes in a case, in a process of its own."""
    with Worker() as worker:
        worker.ask("open", LIBRARY, as_json(case))
        shares = worker.ask("profile", LIBRARY)
    return {"case": case.name, "title": case.title, "shares": shares}


def two_processes(case: Case, rounds: int, name: str = LIBRARY) -> dict[str, Any]:
    """Measure how much more two processes do than one, when each has a core."""
    gains = []
    with Worker() as first, Worker() as second:
        pair = [first, second]
        for worker in pair:
            worker.ask("open", name, as_json(case))
        for _ in range(rounds):
            alone = pair[0].ask("turn", name)
            start = time.perf_counter()
            for worker in pair:
                worker.send("turn", name)
            for worker in pair:
                worker.receive()
            gains.append(2 * alone / (time.perf_counter() - start))
            pair.reverse()
    return {"case": case.name, "title": case.title, "gain": Spread.of(gains).as_json()}


def ratio(numerator: Sequence[float], denominator: Sequence[float], factor: float = 1) -> Spread:
    """Return the spread of a ratio, taken within each round."""
    pairs = zip(numerator, denominator, strict=True)
    return Spread.of(factor * a / b for a, b in pairs)


def as_json(case: Case) -> dict[str, Any]:
    """Return a case as it goes to a child process."""
    return dataclasses.asdict(case)
