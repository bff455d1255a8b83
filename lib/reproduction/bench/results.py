"""The result of a benchmark: a JSON file, its schema and its targets."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..runs import records
from ..runs.schemas import fault
from .forms import BF16, LIBRARY

SCHEMA_VERSION = 1

Result = dict[str, Any]
"""A validated result, as plain data; ``bench.schema.json`` says what each field means."""

PACKAGES = ("torch", "numpy", "numba", "higher", "torchopt")


class ResultError(ValueError):
    """A file that is no result of this benchmark."""


class Spread(NamedTuple):
    """Median and quartiles of what was measured round by round."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise values, one for each round."""
        values = list(values)
        ends = [25, 50, 75] if len(values) >= 5 else [0, 50, 100]
        low, median, high = np.percentile(values, ends)
        return cls(float(median), float(low), float(high), len(values))

    def as_json(self) -> dict[str, float | int]:
        """Return it as it stands in the file, with four digits."""
        rounded = {n: float(f"{v:.4g}") for n, v in self._asdict().items()}
        return rounded | {"rounds": self.rounds}


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


def targets(result: Mapping[str, Any]) -> list[Target]:
    """Return the targets, set before the engine was written, and what a result says to them."""
    cases = {c["case"]: c for c in result["cases"]}

    def of(case: str, contender: str, field: str) -> float | None:
        rows = {r["contender"]: r for r in cases.get(case, {"contenders": []})["contenders"]}
        return rows.get(contender, {}).get(field, {}).get("median")

    small, large = "convnet4-28-k5", "convnet4-84-k5"
    found = [
        Target("28 px: times as fast as the usual form", 2.2, of(small, LIBRARY, "speedup")),
        Target("84 px: times as fast as the usual form", 3.0, of(large, LIBRARY, "speedup")),
        Target("La-MAML: times as fast as the usual form", 3.0, of("la-maml", LIBRARY, "speedup")),
        Target("28 px: share of a product's rate", 0.6, of(small, LIBRARY, "share_of_product")),
        Target("84 px: share of a product's rate", 0.9, of(large, LIBRARY, "share_of_product")),
        Target("28 px, bf16: times as fast", 2.6, of(small, BF16, "speedup")),
        Target("84 px, bf16: times as fast", 4.5, of(large, BF16, "speedup")),
    ]
    for entry in result["memory"]:
        if entry["contender"] == LIBRARY:
            what = f"{entry['title']}: memory at K = {entry['steps'][-1]} over that at K = 1"
            value = None if None in entry["peak_mb"] else entry["peak_mb"][-1] / entry["peak_mb"][0]
            found.append(Target(what, 1.05, value, most=True))
    for entry in result["two_processes"]:
        what = f"{entry['title']}: two processes over one"
        found.append(Target(what, 1.85, entry["gain"]["median"]))
    return found


def complete(parts: Mapping[str, Any], wall_seconds: float) -> Result:
    """Add to what was measured where and when it was, and the targets."""
    origin = records.provenance(
        torch.device("cpu"), threads=1, wall_seconds=wall_seconds, input_seconds=0, interruptions=0
    )
    result = {
        "schema_version": SCHEMA_VERSION,
        "commit": origin["commit"],
        "finished": origin["finished"],
        "wall_seconds": origin["wall_seconds"],
        "machine": {
            "processor": origin["processor"],
            "cores": os.cpu_count(),
            "memory_gb": memory_gb(),
            "system": f"{platform.system()} {platform.machine()}",
            "vectors": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": {"python": origin["python"]} | {p: version(p) for p in PACKAGES},
        **parts,
    }
    result["targets"] = [t._asdict() | {"met": t.met} for t in targets(result)]
    return validate(result)


def version(package: str) -> str | None:
    """Return the installed version of a package, if any."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def memory_gb() -> float:
    """Return the machine's memory, GB (10^9 bytes)."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def validate(result: Result, where: str = "result") -> Result:
    """Return the result if it keeps to the schema."""
    if found := fault(result, __package__, "bench"):
        raise ResultError(f"{where}: {found}")
    return result


def write(path: Path | str, result: Result) -> None:
    """Validate a result and write it atomically."""
    text = json.dumps(validate(result), indent=1, allow_nan=False)
    records.write_atomically(path, text.encode() + b"\n")


def read(path: Path | str) -> Result:
    """Read and validate a result."""
    try:
        result = json.loads(Path(path).read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:  # of JSON or of UTF-8, or nested too deeply
        raise ResultError(f"{path}: not JSON ({error})") from error
    return validate(result, str(path))


def latest(folder: Path | str) -> Result:
    """Return the result of a folder that was measured last."""
    found = [read(path) for path in sorted(Path(folder).glob("*.json"))]
    if not found:
        raise FileNotFoundError(f"no result of a benchmark in {folder}; `make bench` makes one")
    return max(found, key=lambda result: result["finished"])


def slug(processor: str) -> str:
    """Return a processor's name as a file name: ``amd-epyc``."""
    return re.sub(r"[^a-z0-9]+", "-", processor.lower()).strip("-") or "processor"
