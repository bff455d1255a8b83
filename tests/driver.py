"""What the processes do that tests start and kill; imports nothing that is slow."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from reproduction import cli
from reproduction.runs import few_shot as training
from reproduction.runs import protocol as runs
from reproduction.runs import records
from reproduction.runs.experiment import Experiment
from synthetic import TINY, image_set
from wheretolearn.networks import MLP


def dropout_network(experiment: Experiment) -> MLP:
    """A network that draws from torch's random state whenever it is used."""
    return MLP(
        experiment.channels * experiment.image_size**2,
        experiment.width,
        experiment.ways,
        dropout=0.3,
    )


def use_small_things() -> None:
    """Make runs small, and checkpoints as frequent as can be."""
    training.load = lambda name, size, root=None: image_set()  # type: ignore[assignment,misc]
    runs._SECONDS_BETWEEN_CHECKPOINTS = 0.0
    records.commit = lambda: None  # type: ignore[assignment]  # git takes its time
    Experiment.build_network = dropout_network  # type: ignore[assignment,method-assign]


def _print_to(output: str) -> None:
    sys.stdout = sys.stderr = Path(output).open("a", buffering=1)  # noqa: SIM115


def command_line(arguments: list[str], output: str, die_at_replace: int | None = None) -> None:
    """Run ``wheretolearn`` with some arguments, and maybe die while a file is put in place."""
    _print_to(output)
    use_small_things()
    if die_at_replace is not None:
        replace, calls = os.replace, 0

        def dying(source, target):
            nonlocal calls
            calls += 1
            if calls == die_at_replace:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        records.os.replace = dying  # type: ignore[assignment]
    sys.argv = ["wheretolearn", *arguments]
    cli.main()


def run_tiny(results: str, output: str, hold_until: str | None = None) -> None:
    """Run `TINY`; after its first update, maybe wait for a file."""
    _print_to(output)
    use_small_things()
    if hold_until is not None:
        update = training.Training._update

        def slow(self, tasks):
            update(self, tasks)
            while not Path(hold_until).exists():
                time.sleep(0.01)

        training.Training._update = slow  # type: ignore[method-assign]
    record = training.run(TINY, 0, results=results, progress=False)
    print("record", record["content_sha256"])
