"""Run records: one small JSON file for each (experiment, seed).

:mod:`~reproduction.runs.record_types` says what each field means; runs through streams name their
``kind``.  A record is validated whenever it is read, and carries a checksum of itself: that shows
accidents, not authors, for whoever changes a record can also change its checksum.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .record_types import KINDS

if TYPE_CHECKING:  # records are read without torch, which takes a second to import
    import torch

    from .experiment import Planned

SCHEMA_VERSION = 1

Record = dict[str, Any]
"""A validated record, as plain data."""


class RecordError(ValueError):
    """A record that cannot be trusted: unreadable, of another schema, or changed."""


class WriteError(OSError):
    """A result that cannot be written; nothing that was there before is lost."""


_CHANGE_BITS = ("MKL_CBWR", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
"""Variables that choose among ways to compute the same numbers, which differ in the last bits."""


def checksum(record: Record) -> str:
    """Return the SHA-256 of a record's content, its own ``content_sha256`` left out."""
    content = {k: v for k, v in record.items() if k != "content_sha256"}
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError as error:
        raise RecordError(f"a number in the record is not finite ({error})") from error
    except RecursionError as error:
        raise RecordError("the record is nested too deeply") from error
    return hashlib.sha256(text.encode()).hexdigest()


def validate(record: Record, where: str = "record") -> Record:
    """Return the record if it can be trusted."""
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"{where}: schema version {version!r}, but this library reads {SCHEMA_VERSION}; "
            "delete the file and run the experiment again, or use the library that wrote it"
        )
    kind = record.get("kind", "few-shot")
    if not isinstance(kind, str) or kind not in KINDS:
        raise RecordError(f"{where}: a record of kind {kind!r}; known are {', '.join(KINDS)}")
    try:
        msgspec.convert(record, KINDS[kind])
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
        place = place.strip(".`").replace("[...]", ".*").replace("[", ".").replace("]", "")
        raise RecordError(f"{where}: {place.replace('.', '/') or 'top level'}: {what}") from error
    if checksum(record) != record["content_sha256"]:
        raise RecordError(
            f"{where}: the content was changed after it was written (its checksum is "
            f"{checksum(record)[:12]}…, the file says {record['content_sha256'][:12]}…)"
        )
    if found := next(_contradictions(record), None):
        raise RecordError(f"{where}: {found}")
    return record


def _contradictions(record: Record) -> Iterator[str]:
    """Tell what one part of a record says and another belies."""
    made_with, tensors = record["parameters"], record["tensors"]
    kind, curves = record.get("kind", "few-shot"), dict(record["curves"])
    own = {"data/name": record["data"]["name"]} | record
    data = "data" if kind == "few-shot" else "stream"
    names = {"experiment": "name", "profile": "profile", "figure": "figure", "data/name": data}
    for field, name in names.items():
        if own[field] != made_with.get(name):
            yield f"{field} is {own[field]!r}, but made with {made_with.get(name)!r}"
    if (record["status"] == "finished") != (record["diverged_at"] is None):
        yield "diverged_at: does not fit the status"
    tasks = len(curves.pop("before", ()))
    series = [s for c in curves.values() for s in (c.values() if isinstance(c, dict) else [c])]
    if len({len(s) for s in series}) > 1:
        yield "curves: their lengths differ"
    if any(len(row) != tasks for row in curves.get("accuracy", ())):
        yield "curves/accuracy: a row for other tasks"
    for name, counts in curves["frozen"].items():
        if max(counts, default=0) > tensors.get(name, -1):
            yield f"curves/frozen/{name}: more weights than there are"
    yield from (_in_few_shot if kind == "few-shot" else _in_stream)(record)


def _in_few_shot(record: Record) -> Iterator[str]:
    curves, final = record["curves"], record["final"]
    if curves["sparsity"][-1:] != [final["sparsity"]]:
        yield "final/sparsity: not the last of its curve"
    if record["status"] == "finished" and curves["update"][-1:] != [final["update"]]:
        yield "final/update: not the last of the curves"
    intervals = {f"probes/{name}": i for name, i in final.get("probes", {}).items()}
    intervals["test_accuracy"] = final["test_accuracy"]
    yield from (f"final/{name}: no interval" for name, i in intervals.items() if _odd(name, i))


def _in_stream(record: Record) -> Iterator[str]:
    made_with, tensors, final = record["parameters"], record["tensors"], record["final"]
    finished, frozen = record["status"] == "finished", record["curves"]["frozen"]
    osaka = record["kind"] == "osaka"
    if finished and frozen:
        total = sum(n for name, n in tensors.items() if name in frozen or not osaka)
        if final["sparsity"] != sum(sum(counts[-1:]) for counts in frozen.values()) / total:
            yield "final/sparsity: not the last of the curves"
    if osaka:
        correct, detected = _unpacked(record["correct"]), _unpacked(record["detected"])
        steps, ways, shots = (made_with.get(name, 0) for name in ("steps", "ways", "shots"))
        if len(correct) != len(detected) or (finished and len(correct) != steps):
            yield "correct, detected: not one number for each step"
        images = steps * ways * shots
        if finished and abs(sum(correct) - images * (final["accuracy"] or 0)) > 1e-9 * images:
            yield "final/accuracy: not that of the steps"


def _odd(name: str, interval: dict[str, Any] | None) -> bool:
    """Return whether the ends of an interval do not surround its mean, or not that of shares."""
    if interval is None or interval["mean"] is None:
        return False
    mean, low, high, n = (interval[k] for k in ("mean", "low", "high", "n"))
    of_shares = re.match("test_accuracy$|probes/(on:|steps/|masks/)", name)
    if of_shares and not 0 <= mean <= 1:
        return True
    if low is None or high is None:
        return False
    if not of_shares or not low <= mean <= high:
        return not low <= mean <= high
    most = 2 * math.sqrt(mean * (1 - mean) / max(n - 1, 1)) + 1e-9  # shares spread no more
    return bool(max(mean - low, high - mean) > most)


def _unpacked(numbers: str) -> bytes:
    try:
        return base64.b64decode(numbers, validate=True)
    except ValueError:
        return b""


def read(path: Path | str) -> Record:
    """Read and validate a record."""
    if Path(path).is_char_device():
        raise RecordError(f"{path}: not a file")  # some have no end
    content = Path(path).read_bytes()
    try:
        record = json.loads(content.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # of JSON or of UTF-8, or nested too deeply
        raise RecordError(f"{path}: not JSON ({error})") from error
    return validate(record, str(path))


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def write(path: Path | str, record: Record) -> Record:
    """Seal a record with its checksum, validate it and write it atomically."""
    sealed = record | {"content_sha256": checksum(record)}
    validate(sealed, str(path))
    text = json.dumps(sealed, indent=1, allow_nan=False)
    write_atomically(path, _NUMBERS.sub(_on_one_line, text).encode() + b"\n")
    return sealed


_NUMBERS = re.compile(r"\[\n([^\[\]{}\"]*)\n\s*\]")  # no string of JSON holds a line break


def _on_one_line(numbers: re.Match[str]) -> str:
    return f"[{' '.join(numbers[1].split())}]"


def write_atomically(path: Path | str, content: bytes) -> None:
    """Write a file so that readers see the old content or the new one, never a part."""
    with _beside(Path(path), content) as temporary:
        temporary.chmod(0o644)
        os.replace(temporary, path)


@contextlib.contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """Write a file beside another one, which is gone in the end."""
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except OSError as error:
        raise WriteError(
            error.errno, f"cannot write {path}: {error.strerror or error}; nothing was lost"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise :class:`WriteError` now, not after hours, if a file cannot be written."""
    with _beside(path, bytes(1 << 16)):  # an empty file would fit on a full disk
        pass


def remove_leftovers(path: Path) -> None:
    """Remove what writers of a file left beside it when they were killed; no other may write it."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        leftover.unlink(missing_ok=True)


def load(results: Path | str, chosen: Iterable[Planned]) -> list[Record]:
    """Read all records of some experiments, ordered by experiment and seed."""
    found = []
    for experiment in chosen:
        folder = Path(results) / experiment.profile / experiment.name
        records = [read_run(p) for p in folder.glob("seed*.json")]
        fitting = sorted((r for r in records if fits(r, experiment)), key=lambda r: r["seed"])
        if len({r["data"]["fingerprint"] for r in fitting}) > 1:
            raise RecordError(f"{folder}: its records were made on different data")
        found += fitting
    return found


def check_data(records: Iterable[Record]) -> None:
    """Raise an error unless runs that can be compared were made, and tested, on the same data."""
    known: dict[tuple[str, int | None], tuple[str, str]] = {}
    for r in records:
        size = r["parameters"].get("image_size")
        run = f"{r['experiment']} seed {r['seed']}"
        own = {r["data"]["name"]: r["data"]["fingerprint"]}
        for name, fingerprint in [*own.items(), *r["final"].get("others", {}).items()]:
            first, where = known.setdefault((name, size), (fingerprint, run))
            if fingerprint != first:
                pixels = f" at {size} pixels" if size else ""
                raise RecordError(f"{where} and {run} were made on different {name}{pixels}")


def read_run(path: Path) -> Record:
    """Read the record of a run, ``<profile>/<experiment>/seed<k>.json``, and check that it is."""
    record = read(path)
    if path.stem != f"seed{record['seed']}":
        raise RecordError(f"{path}: holds the record of seed {record['seed']}")
    own = (record["profile"], record["experiment"])
    if path.absolute().parts[-3:-1] != own:
        raise RecordError(f"{path}: holds a record of {'/'.join(own)}")
    return record


def fits(record: Record, experiment: Planned) -> bool:
    """Return whether a record was made with the parameters of an experiment."""
    return not differing(record, experiment)


def differing(record: Record, experiment: Planned) -> list[str]:
    """Return the parameters of an experiment that a record was not made with, by name."""
    defaults = {
        f.name: f.default
        for f in dataclasses.fields(experiment)  # type: ignore[arg-type]
        if f.default is not dataclasses.MISSING
    }
    made_with = json.loads(json.dumps(defaults)) | record["parameters"]
    wanted = json.loads(json.dumps(experiment.parameters()))
    return [
        name
        for name in sorted(made_with.keys() | wanted.keys())
        if name not in made_with or name not in wanted or made_with[name] != wanted[name]
    ]


def provenance(
    device: torch.device,
    threads: int,
    wall_seconds: float,
    input_seconds: float,
    interruptions: int,
) -> dict[str, Any]:
    """Return what says where and when a run was made."""
    import torch  # noqa: PLC0415 - see above

    return {
        "library_version": metadata.version("wheretolearn"),
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(device),
        "processor": (
            torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
        ),
        "threads": threads,
        "environment": {name: os.environ[name] for name in _CHANGE_BITS if name in os.environ},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": round(wall_seconds, 1),
        "input_seconds": round(input_seconds, 1),
        "interruptions": interruptions,
    }


@functools.cache
def commit() -> str | None:
    """Return the commit of the library when first asked, ``-dirty`` if files were changed."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
