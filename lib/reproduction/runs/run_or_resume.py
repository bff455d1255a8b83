"""The life of a run through a stream, of either kind: see :mod:`reproduction.runs.protocol`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from . import protocol as runs
from . import records
from .osaka import OsakaExperiment, OsakaRun
from .stopping import STOP
from .streams import ContinualExperiment, ContinualRun

StreamExperiment = ContinualExperiment | OsakaExperiment
"""An experiment with a stream."""


def run(
    experiment: StreamExperiment,
    seed: int,
    *,
    results: Path | str = "results",
    data: Path | str | None = None,
    device: str = "auto",
    fresh: bool = False,
    threads: int = 1,
    progress: bool = True,
    wait: bool = True,
) -> records.Record:
    """Return the record of a run: the one that exists, or that of a run done now."""
    root = Path(data) if data is not None else None

    def train(checkpoint: Path) -> records.Record:
        return _train(experiment.start(seed, root, device), checkpoint, progress)

    return runs.live(
        experiment,
        seed,
        train,
        lambda path: runs.existing(path, experiment),
        results=Path(results),
        fresh=fresh,
        threads=threads,
        wait=wait,
    )


def _train(running: ContinualRun | OsakaRun, path: Path, progress: bool) -> records.Record:
    experiment, started = running.experiment, time.monotonic()
    records.commit()  # remember the code that is running, not the code at the end
    torch.backends.cudnn.deterministic = True  # as far as a GPU can
    identity = runs.identity(experiment, running.seed, running.fingerprint)
    checkpoint = runs.Checkpoint(path, identity, running.device)
    seconds, interruptions = 0.0, 0

    def take(state: dict[str, Any]) -> None:
        nonlocal seconds, interruptions
        running.load_state_dict(state["run"])
        seconds, interruptions = state["seconds"], state["interruptions"] + 1

    checkpoint.resume(take)

    def worked() -> float:
        return seconds + time.monotonic() - started

    done, total = running.progress
    bar = tqdm(
        initial=done,
        total=total,
        desc=f"{experiment.name} seed {running.seed}",
        disable=not progress,
        file=sys.stdout,
        mininterval=runs.seconds_between_bars(),
    )
    with bar, STOP.between_updates():
        while not running.over:
            running.advance()
            bar.update(running.progress[0] - bar.n)
            if checkpoint.due():
                state: dict[str, Any] = {"run": running.state_dict()}
                state |= {"seconds": worked(), "interruptions": interruptions}
                checkpoint.save(state, "step {} of {}".format(*running.progress))
    kind = "osaka" if isinstance(running, OsakaRun) else "continual"
    head = {"schema_version": records.SCHEMA_VERSION, "kind": kind}
    own = {"profile": experiment.profile, "figure": experiment.figure}
    made = records.provenance(running.device, torch.get_num_threads(), worked(), 0.0, interruptions)
    return head | json.loads(json.dumps(running.result())) | own | {"provenance": made}
