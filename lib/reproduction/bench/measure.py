"""Contenders take turns, each in a process of its own, so that none profits from another's memory.

Every other round goes in the opposite order, and ratios are taken within a round: what slows the
machine for a while hits all alike.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from . import forms
from .cases import FewShot, LaMaml
from .forms import FEW_SHOT, LIBRARY, USUAL
from .result import Contender, Measured, Memory, Pair, Spread

SIDE = 2048
"""Rows and columns of the matrices whose product is the yardstick."""

PRODUCT, PRODUCT_FLOPS = "product", 2 * SIDE**3
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
GROWTH = {"convnet4-28-k5": (1, 35), "convnet4-84-k5": (1, 35), "resnet12-84-k5": (1, 35)}
"""Numbers of inner steps that memory is compared at."""
SIDE_BY_SIDE = {"convnet4-28-k5": 10, "convnet4-84-k5": 1}
"""Cases for two processes, with the meta-steps of a turn."""

# In a contender's process


_turn: Callable[[], object]
_bare: float | None


def _open(name: str, case: FewShot | LaMaml) -> None:
    """Get a contender ready: its kernels are compiled and it has made one step."""
    global _turn, _bare  # noqa: PLW0603 - the state of this process
    torch.set_num_threads(1)
    if name == PRODUCT:
        a, b = torch.randn(2, SIDE, SIDE)
        out = torch.empty_like(a)
        _bare, _turn = None, lambda: torch.mm(a, b, out=out)
        return
    small: dict[str, Any] = {"repeats": 1} | ({"steps": 1} if isinstance(case, FewShot) else {})
    forms.make_turn(name, dataclasses.replace(case, **small))()
    _bare = _reset_peak()
    _turn = forms.make_turn(name, case)


def _timed() -> float:
    start = time.perf_counter()
    _turn()
    return time.perf_counter() - start


def _peak() -> float | None:
    """Return the most memory used beyond that of the bare process, MB."""
    return None if _bare is None else round(_status("VmHWM") - _bare, 1)


def _reset_peak() -> float | None:
    """Forget the peak so far and return the resident memory, MB; None where Linux is not."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024 / 1e6  # the kernel's kB are KiB


# In the parent


def _process(stack: ExitStack, name: str, case: FewShot | LaMaml) -> ProcessPoolExecutor:
    """Start a process with one thread for a contender, ready to take its turn."""
    os.environ.update(dict.fromkeys(THREADS, "1"))
    pool = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
    pool.submit(_open, name, case).result()
    return pool


def measure_case(case: FewShot | LaMaml, names: Sequence[str] | None = None) -> Measured:
    """Compare the contenders of a case, then let those that agree take turns."""
    contenders = {n: _judge(n, case) for n in names or forms.titles(case)}
    able = [n for n, c in contenders.items() if c.status == "measured"]
    few_shot = isinstance(case, FewShot)
    seconds: dict[str, list[float]] = {n: [] for n in (*able, *([PRODUCT] if few_shot else []))}
    with ExitStack() as stack:
        pools = {n: _process(stack, n, case) for n in seconds}
        start = time.monotonic()
        while len(seconds[USUAL]) < case.rounds or time.monotonic() - start < case.seconds:
            for n in seconds if len(seconds[USUAL]) % 2 else reversed(seconds):
                seconds[n].append(pools[n].submit(_timed).result())
        peaks = {n: pools[n].submit(_peak).result() for n in able}
    result = Measured(case.name, case.title, "inner step", list(contenders.values()))
    if isinstance(case, FewShot):
        result.unit, result.gflop_per_unit = "task", task_flops(case) / 1e9
        speed = (PRODUCT_FLOPS / s / 1e9 for s in seconds[PRODUCT])
        result.ceiling = {"product-float32": Spread.of(speed)}
    for n in able:
        c, own = contenders[n], seconds[n]
        c.rate, c.peak_mb = Spread.of(case.units / s for s in own), peaks[n]
        c.speedup = ratio(seconds[USUAL], own)
        if isinstance(case, FewShot):
            work = case.units * task_flops(case) / PRODUCT_FLOPS
            c.share_of_product = ratio(seconds[PRODUCT], own, work)
    return result


def _judge(name: str, case: FewShot | LaMaml) -> Contender:
    """Say whether a contender computes what the usual form does."""
    exact = isinstance(case, LaMaml) or FEW_SHOT[name].exact
    result = Contender(name, forms.titles(case)[name], "measured", exact=exact)
    try:
        result.difference = forms.difference(name, case)
    except forms.Unavailable as error:
        return Contender(name, result.title, "unavailable", reason=str(error))
    if exact and not result.difference <= forms.TOLERANCE:  # NaN is not
        reason = f"its meta-gradient differs by {result.difference:.1e} of its size"
        return Contender(name, result.title, "different", reason=reason)
    return result


def task_flops(case: FewShot) -> int:
    """Return the operations that one task of a meta-step needs, whatever a form does.

    K forward and backward passes of the support and one of the query, counted on tensors without
    content: convolutions and products, a multiplication and an addition as two.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        images = torch.empty(2, case.channels, case.image_size, case.image_size)
        forms.UsualNetwork(case)(images).sum().backward()
    images_of_a_task = case.ways * (case.steps * case.shots + case.queries)
    return images_of_a_task * (counter.get_total_flops() // 2)


def memory_growth(case: FewShot, steps: Sequence[int], names: Iterable[str]) -> list[Memory]:
    """Measure peak memory by the number of inner steps, each in a process of its own."""
    result = []
    for name in names:
        peaks = []
        for k in steps:
            with ExitStack() as stack:
                work = dataclasses.replace(case, steps=k, repeats=1)
                pool = _process(stack, name, work)
                for _ in range(2):  # the heap finds its size
                    pool.submit(_timed).result()
                peaks.append(pool.submit(_peak).result())
        title = case.title.rpartition(",")[0]  # without its K
        result.append(Memory(case.name, title, name, list(steps), peaks))
    return result


def two_processes(case: FewShot, rounds: int) -> Pair:
    """Measure how much more two processes do than one, when each has a core."""
    gains = []
    with ExitStack() as stack:
        pair = [_process(stack, LIBRARY, case) for _ in range(2)]
        for i in range(rounds):
            alone = pair[i % 2].submit(_timed).result()
            start = time.perf_counter()
            for both in [pool.submit(_timed) for pool in pair]:
                both.result()
            gains.append(2 * alone / (time.perf_counter() - start))
    return Pair(case.name, case.title, Spread.of(gains))


def ratio(numerator: Sequence[float], denominator: Sequence[float], factor: float = 1) -> Spread:
    """Return the spread of a ratio, taken within each round."""
    return Spread.of(factor * np.divide(numerator, denominator))


def measure(cases: Sequence[FewShot | LaMaml], quick: bool, say: Callable[[str], Any]) -> dict:
    """Return the measured parts of a result."""
    load, rounds = os.getloadavg()[0], 3 if quick else 10
    result: dict[str, Any] = {"cases": [], "memory": [], "two_processes": []}
    for case in cases:
        say(f"speed: {case.title}")
        result["cases"].append(measure_case(case))
    for case in (c for c in cases if isinstance(c, FewShot)):
        if case.name in GROWTH:
            say(f"memory: {case.title}")
            result["memory"] += memory_growth(case, GROWTH[case.name], (USUAL, LIBRARY))
        if case.name in SIDE_BY_SIDE and (os.cpu_count() or 1) > 1:
            say(f"two processes: {case.title}")
            work = dataclasses.replace(case, repeats=SIDE_BY_SIDE[case.name])
            result["two_processes"].append(two_processes(work, rounds))
    return {"load_before": load, "quick": quick, **result}
