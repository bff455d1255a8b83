"""Run an experiment of any kind: lock, checkpoint, resume, record.

A run has one record, at ``<results>/<profile>/<experiment>/seed<k>.json``.  While it is at work
its state stands in ``<results>/.checkpoints``, and a second process waits for the first.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import torch

from wheretolearn import seam

from . import few_shot, records
from .checkpoint import Checkpoint, StateError, in_torchs_format
from .experiment import Experiment, Planned
from .protocol import Run
from .stopping import STOP, Stopped


def run(
    experiment: Planned,
    seed: int,
    *,
    results: Path | str = "results",
    data: Path | str | None = None,
    device: str = "auto",
    fresh: bool = False,
    keep: bool = False,
    keep_weights: bool = False,
    threads: int = 1,
    progress: bool = True,
    wait: bool = True,
) -> records.Record:
    """Return the record of a run: the one that exists, or that of a run done now.

    A `fresh` run is done even if there is a record.  With `keep` its checkpoint stays, and a longer
    run can go on from it.  With `keep_weights` the weights at the end (of a few-shot run, those
    that are tested) are written beside the record, into ``seed<k>.weights.pt``: ``torch.load``
    reads them, and :meth:`wheretolearn.meta.MetaLearner.load` those of a few-shot run.
    """
    check_seed(seed)
    results, root = Path(results), Path(data) if data is not None else None
    place = Path(experiment.profile) / experiment.name / f"seed{seed}"
    path, checkpoint = results / f"{place}.json", results / ".checkpoints" / f"{place}.pt"
    weights = results / f"{place}.weights.pt"

    def existing() -> records.Record | None:
        record = None if fresh else _existing(path, experiment, root)
        if record and keep_weights and record["status"] == "finished" and not weights.exists():
            raise ValueError(
                f"{path} was made without its weights; ask for a fresh run, which replaces it"
            )
        return record

    def made() -> records.Record:
        running = experiment.start(seed, root, device, results=results)
        record = _to_the_end(running, checkpoint, progress)
        weights.unlink(missing_ok=True)  # those of another record
        if keep_weights and record["status"] == "finished":
            records.write_atomically(weights, in_torchs_format(running.weights()))
        return records.write(path, record)

    if (record := existing()) is not None:
        return record
    records.check_writable(path)
    records.check_writable(checkpoint)
    with _locked(checkpoint.with_suffix(".lock"), f"{experiment.name} seed {seed}", wait):
        if (record := existing()) is not None:
            return record
        for file in (path, weights, checkpoint):
            records.remove_leftovers(file)
        if fresh:
            checkpoint.unlink(missing_ok=True)
        torch.set_num_threads(threads)
        (seam.fast("keep_memory") or bool)()
        there, STOP.kept = checkpoint.exists(), ""
        try:
            record = made()
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            if not isinstance(error, StateError) and not (there and STOP.kept):
                raise  # it is not for the state that was taken up
            print(f"{checkpoint} does not serve ({error!r}); starting afresh")
            checkpoint.unlink(missing_ok=True)
            record = made()
        except Stopped:
            if fresh and path.exists():  # who asks again gets that record, or begins afresh
                checkpoint.unlink(missing_ok=True)
                STOP.kept = ""
            raise
        if not keep:
            checkpoint.unlink(missing_ok=True)
    return record


@contextlib.contextmanager
def _locked(path: Path, name: str, wait: bool) -> Iterator[None]:
    """Within, no other process works on a run."""
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if not wait:
            raise TimeoutError(f"another process works on {name}") from None
        print(f"another process works on {name}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_seed(seed: object) -> None:
    """Raise ``ValueError`` for something that is no seed: a whole number from 0 to 2**63 - 1."""
    if type(seed) is not int or not 0 <= seed < 2**63:
        raise ValueError(f"a seed is a whole number from 0 to 2**63 - 1, got {seed!r}")


def _existing(path: Path, experiment: Planned, root: Path | None) -> records.Record | None:
    """Return the record at a path, if there is one and it answers all that can be asked now."""
    if not path.exists():
        return None
    record = records.read_run(path)
    if others := records.differing(record, experiment):
        raise records.RecordError(
            f"{path} was made with other parameters ({', '.join(others)}); give the changed "
            "experiment a name of its own, or ask for a fresh run, which replaces the record"
        )
    names = isinstance(experiment, Experiment) and few_shot.unanswered(record, experiment, root)
    if names:
        print(f"{path} was made without {' and '.join(names)}, now at hand; running again")
    return None if names else record


def _to_the_end(running: Run, path: Path, progress: bool) -> records.Record:
    """Resume a run, bring it to its end, and return its record."""
    started, running.show = time.monotonic(), progress
    records.commit()  # remember the code that is running, not the code at the end
    torch.backends.cudnn.deterministic = True  # as far as a GPU can
    checkpoint = Checkpoint(path, running.identity(), running.device)
    seconds, interruptions = 0.0, 0

    def take(state: dict[str, Any]) -> None:
        nonlocal seconds, interruptions
        running.load_state_dict(state["run"])
        seconds, interruptions = state["seconds"], state["interruptions"] + 1

    checkpoint.resume(take)
    done, total = running.progress
    title = f"{running.experiment.name} seed {running.seed}"
    bar = running.bar(desc=title, initial=done, total=total, unit=running.unit)
    with bar, STOP.between_updates():
        while not running.over:
            running.advance()
            bar.update(running.progress[0] - bar.n)
            bar.set_postfix(running.shown(), refresh=False)
            if checkpoint.due() or running.over:
                state = {"run": running.state_dict(), "interruptions": interruptions}
                state["seconds"] = seconds + time.monotonic() - started
                checkpoint.save(state, "{} {} of {}".format(running.unit, *running.progress))
    result = running.result()
    spent = seconds + time.monotonic() - started, running.input_seconds
    where = records.provenance(running.device, torch.get_num_threads(), *spent, interruptions)
    return {"schema_version": records.SCHEMA_VERSION} | result | {"provenance": where}
