"""The result of a benchmark: one JSON file, typed and checked, and its targets."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
import torch

from ..runs import records
from .forms import BF16, LIBRARY

PACKAGES = ("torch", "numpy", "numba", "higher", "torchopt")
Positive = Annotated[float, msgspec.Meta(ge=0)]


class ResultError(ValueError):
    """A file that is no result of this benchmark."""


class Strict(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What knows all of its fields."""


class Spread(Strict):
    """Median and quartiles over rounds; of fewer than five rounds, the extremes."""

    median: Positive
    low: Positive
    high: Positive
    rounds: Annotated[int, msgspec.Meta(ge=1)]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise values, one for each round, with four digits."""
        values = list(values)
        ends = [25, 50, 75] if len(values) >= 5 else [0, 50, 100]
        low, median, high = (float(f"{v:.4g}") for v in np.percentile(values, ends))
        return cls(median, low, high, len(values))


class Contender(Strict):
    """What came out for one form in one case."""

    contender: str
    title: str
    status: Literal["measured", "unavailable", "different"]
    reason: str | None = None
    difference: float | None = None
    exact: bool | None = None
    rate: Spread | None = None
    speedup: Spread | None = None
    peak_mb: float | None = None
    share_of_product: Spread | None = None

    def __post_init__(self) -> None:
        """Refuse a form that was not measured and does not say why."""
        if self.status != "measured" and not self.reason:
            raise ValueError(f"{self.contender!r} was not measured, and no reason is given")


class Measured(Strict):
    """What came out in one case."""

    case: str
    title: str
    unit: Literal["task", "inner step"]
    contenders: list[Contender]
    gflop_per_unit: Positive | None = None
    ceiling: dict[str, Spread] | None = None
    """Rates of the yardstick in the same rounds, GFLOP/s."""


class Memory(Strict):
    """Peak memory by the number of inner steps."""

    case: str
    title: str
    contender: str
    steps: list[int]
    peak_mb: list[float | None]

    @property
    def growth(self) -> float | None:
        """Peak with the most steps over that with the fewest; None where it is not known."""
        first, last = self.peak_mb[0], self.peak_mb[-1]
        return last / first if first and last else None


class Pair(Strict):
    """How much more two processes do than one."""

    case: str
    title: str
    gain: Spread


class Machine(Strict):
    """Where it was measured."""

    processor: str
    cores: Annotated[int, msgspec.Meta(ge=1)]
    memory_gb: Positive
    system: str
    vectors: str


class Result(Strict):
    """A benchmark."""

    schema_version: Literal[1]
    commit: str | None
    finished: str
    wall_seconds: Positive
    machine: Machine
    versions: dict[str, str | None]
    load_before: float
    quick: bool
    cases: list[Measured]
    memory: list[Memory]
    two_processes: list[Pair]
    targets: list[dict[str, Any]] = []
    profiles: list[dict[str, Any]] = []
    """Of older results: where the library's time went."""


class Target(NamedTuple):
    """What was to be reached, and what was."""

    what: str
    needed: float
    value: float | None
    """None where it was not measured."""
    most: bool = False
    """Whether `needed` is the most that is allowed, not the least."""

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None where nothing was measured."""
        if self.value is None:
            return None
        return self.value <= self.needed if self.most else self.value >= self.needed


_28, _84 = "convnet4-28-k5", "convnet4-84-k5"
TARGETS = (
    ("28 px: times as fast as the usual form", 2.2, _28, LIBRARY, "speedup"),
    ("84 px: times as fast as the usual form", 3.0, _84, LIBRARY, "speedup"),
    ("La-MAML: times as fast as the usual form", 3.0, "la-maml", LIBRARY, "speedup"),
    ("28 px: share of a product's rate", 0.6, _28, LIBRARY, "share_of_product"),
    ("84 px: share of a product's rate", 0.9, _84, LIBRARY, "share_of_product"),
    ("28 px, bf16: times as fast", 2.6, _28, BF16, "speedup"),
    ("84 px, bf16: times as fast", 4.5, _84, BF16, "speedup"),
)
"""What was to be reached, how much, and where it is read: case, contender, field."""


def targets(result: Result) -> list[Target]:
    """Return the targets, set before the engine was written, and what a result says to them."""
    rows = {(c.case, row.contender): row for c in result.cases for row in c.contenders}

    def of(case: str, contender: str, field: str) -> float | None:
        value = getattr(rows.get((case, contender)), field, None)
        return value and value.median

    listed = [Target(what, needed, of(*place)) for what, needed, *place in TARGETS]
    for m in result.memory:
        if m.contender == LIBRARY:
            what = f"{m.title}: memory at K = {m.steps[-1]} over that at K = 1"
            listed.append(Target(what, 1.05, m.growth, most=True))
    for p in result.two_processes:
        listed.append(Target(f"{p.title}: two processes over one", 1.85, p.gain.median))
    return listed


def complete(parts: dict[str, Any], wall_seconds: float) -> Result:
    """Add to what was measured where and when it was, and the targets."""
    origin = records.provenance(
        torch.device("cpu"), threads=1, wall_seconds=wall_seconds, input_seconds=0, interruptions=0
    )
    memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    system = f"{platform.system()} {platform.machine()}"
    vectors = torch.backends.cpu.get_cpu_capability()
    result = Result(
        schema_version=1,
        **{k: origin[k] for k in ("commit", "finished", "wall_seconds")},
        machine=Machine(origin["processor"], os.cpu_count() or 1, memory, system, vectors),
        versions={"python": origin["python"]} | {p: _version(p) for p in PACKAGES},
        **parts,
    )
    result.targets = [t._asdict() | {"met": t.met} for t in targets(result)]
    return result


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def write(path: Path | str, result: Result) -> None:
    """Write a result atomically, once what is written can be read again."""
    text = msgspec.json.format(msgspec.json.encode(result), indent=1)
    msgspec.json.decode(text, type=Result)
    records.write_atomically(path, text + b"\n")


def read(path: Path | str) -> Result:
    """Read and check a result; :class:`ResultError` names the field that is wrong."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Result)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ResultError(f"{path}: {error}") from error


def latest(folder: Path | str) -> Result:
    """Return the result of a folder that was measured last."""
    results = [read(path) for path in sorted(Path(folder).glob("*.json"))]
    if not results:
        raise FileNotFoundError(f"no result of a benchmark in {folder}; `make bench` makes one")
    return max(results, key=lambda result: result.finished)


def slug(processor: str) -> str:
    """Return a processor's name as a file name: ``amd-epyc``."""
    return re.sub(r"[^a-z0-9]+", "-", processor.lower()).strip("-") or "processor"
