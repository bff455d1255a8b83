"""What the processes do that tests start and kill; imports nothing that is slow."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from reproduction import cli
from reproduction.runs import checkpoint, few_shot, records, run_or_resume
from reproduction.runs.experiment import Experiment
from synthetic import TINY, image_set
from wheretolearn.networks import MLP


def dropout_network(experiment: Experiment) -> MLP:
    """A network that draws from torch's random state whenever it is used."""
    pixels = experiment.channels * experiment.image_size**2
    return MLP(pixels, experiment.width, experiment.ways, dropout=0.3)


def use_small_things() -> None:
    """Make runs small, and checkpoints as frequent as can be."""
    few_shot.load = lambda name, size, root=None: image_set()  # type: ignore[assignment,misc]
    checkpoint._SECONDS_BETWEEN_CHECKPOINTS = 0.0
    records.commit = lambda: None  # type: ignore[assignment]  # git takes its time
    Experiment.build_network = dropout_network  # type: ignore[assignment,method-assign]


def _print_to(output: str) -> None:
    sys.stdout = sys.stderr = Path(output).open("a", buffering=1)  # noqa: SIM115


def command_line(arguments: list[str], output: str) -> None:
    """Run ``wheretolearn`` with some arguments."""
    _print_to(output)
    use_small_things()
    sys.argv = ["wheretolearn", *arguments]
    cli.main()


def run_tiny(results: str, output: str, hold_until: str | None = None) -> None:
    """Run `TINY`; after its first update, maybe wait for a file."""
    _print_to(output)
    use_small_things()
    if hold_until is not None:
        advance = few_shot.FewShotRun._advance

        def slow(self):
            advance(self)
            while not Path(hold_until).exists():
                time.sleep(0.01)

        few_shot.FewShotRun._advance = slow  # type: ignore[method-assign]
    record = run_or_resume.run(TINY, 0, results=results, progress=False)
    print("record", record["content_sha256"])
