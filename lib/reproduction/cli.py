"""The command line: ``wheretolearn run | list | sweep | data | record``."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from .runs import records
from .runs.stopping import STOP, Stopped

if TYPE_CHECKING:
    from .plan.study import Run
    from .runs.experiment import Planned

# Commands import what they need when they are called: to import torch takes a second.


@dataclass
class RunCommand:
    """Run one experiment with one seed and write its record."""

    experiment: Annotated[str, tyro.conf.Positional]
    """Name of the experiment; see ``wheretolearn list``."""
    profile: str = "quick"
    """quick, study, search, paper or smoke."""
    seed: int = 0
    """Seed of initialisation, mask and episodes."""
    results: Path = Path("results")
    """Folder of the records."""
    data: Path | None = None
    """Root of the data; by default WHERETOLEARN_DATA or the user cache."""
    device: str = "auto"
    """auto, cpu, cuda, mps or xpu."""
    fresh: bool = False
    """Train even if there is a record."""
    keep_weights: bool = False
    """Write the trained weights beside the record, into seed<k>.weights.pt."""
    wait: bool = True
    """Wait if another process works on the same run."""
    progress: bool = True
    """Show a progress bar."""
    data_set: tuple[str, ...] = ()
    """Image folders by name, such as ``--data-set mine=my-images/``; use with ``data=mine``."""
    change: tuple[str, ...] = ()
    """Changes of parameters, such as ``--change width=64 updates=100``; the experiment is then
    called ``<name>+updates=100+width=64``, whatever their order."""

    def __call__(self) -> None:
        """Run, then print the summary of the record."""
        from wheretolearn import data as datasets

        from .plan import study
        from .plan.change import changed, read_changes
        from .runs import run_or_resume

        for one in self.data_set:
            name, _, folder = one.partition("=")
            datasets.register(name, folder)
        experiment = study.find(self.profile, self.experiment)
        if self.change:
            experiment = changed(experiment, read_changes(self.change))
        record = run_or_resume.run(
            experiment,
            self.seed,
            results=self.results,
            data=self.data,
            device=self.device,
            fresh=self.fresh,
            keep_weights=self.keep_weights,
            wait=self.wait,
            progress=self.progress,
        )
        print(_summary(record))


@dataclass
class ListCommand:
    """List the runs of a figure, with their state and estimated cost."""

    figure: Annotated[str | None, tyro.conf.Positional] = None
    """Name of a notebook; all by default."""
    profile: str = "quick"
    """quick, study, search, paper or smoke."""
    results: Path = Path("results")
    """Folder of the records."""

    def __call__(self) -> None:
        """Print one line for each run."""
        from .plan import study

        total = 0.0
        for run in study.plan(self.profile, self.figure):
            path = self.results / Path(run.record).relative_to("results")
            state = _state(path, study.find(self.profile, run.experiment))
            if state not in ("finished", "diverged"):
                total += run.seconds
            print(f"{run.experiment:32} seed {run.seed}  {_duration(run.seconds):>9}  {state}")
        waiting = [e for e in study.experiments(self.profile, self.figure) if study.waits(e)]
        if waiting:
            print(f"{len(waiting)} experiments wait for the search (profile search)")
        print(f"left: about {_duration(total)} on one CPU core, an estimate from operation counts")


@dataclass
class BatchCommand:
    """Make many records without a start of Python for each; what fails is told in its log."""

    runs: Annotated[Path, tyro.conf.Positional]
    """File with lines "<experiment> <seed>"."""
    profile: str = "quick"
    """quick, study, search, paper or smoke."""
    results: Path = Path("results")
    """Folder of the records and logs."""
    device: str = "auto"
    """auto, cpu, cuda, mps or xpu."""
    cores: int = 1
    """Runs at a time."""

    def __call__(self) -> None:
        """Share the runs out among as many processes as there are cores."""
        from .plan import study

        chosen = study.chosen_runs(self.profile, self.runs.read_text().splitlines())
        with multiprocessing.get_context("spawn").Pool(self.cores) as pool:
            for number, _ in enumerate(pool.imap(self._one, chosen), start=1):
                print(f"{number} of {len(chosen)} runs", end="\r", file=sys.stderr, flush=True)

    def _one(self, run: Run) -> None:
        from .plan import study
        from .runs import run_or_resume

        log = self.results / self.profile / run.experiment / f"seed{run.seed}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as out, contextlib.redirect_stderr(out):
            try:
                experiment = study.find(self.profile, run.experiment)
                record = run_or_resume.run(
                    experiment,
                    run.seed,
                    results=self.results,
                    device=self.device,
                    progress=False,
                )
                print(_summary(record), file=out)
            except Exception:
                traceback.print_exc()


@dataclass
class SweepCommand:
    """Run an experiment over values of its parameters, and compare what comes out."""

    experiment: Annotated[str, tyro.conf.Positional]
    """Name of the experiment; see ``wheretolearn list``."""
    values: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Such as ``inner_rate=0.1,0.5 seed=0-4``; all combinations are run."""
    profile: str = "quick"
    """quick, study, search, paper or smoke."""
    cores: str = "all"
    """Runs at a time on this machine."""
    workflow_profile: str = ""
    """How jobs are sent elsewhere, such as ``profiles/slurm``."""
    out: Path = Path("_build/sweeps")
    """Folder of the list of runs, the table and the plot."""

    def __call__(self) -> None:
        """Let the pipeline make the records; then print the table and draw the plot."""
        from .plan import study
        from .plan.change import changed, grid
        from .publish.book import run_pipeline
        from .report import sweep

        changes, seeds = grid(self.values)
        base = study.find(self.profile, self.experiment)
        seeds = study.seeds(base) if seeds is None else seeds
        chosen = [study.find(self.profile, changed(base, change).name) for change in changes]
        runs = self.out / f"{self.experiment}.txt"
        runs.parent.mkdir(parents=True, exist_ok=True)
        runs.write_text("".join(f"{e.name} {s}\n" for e in chosen for s in seeds))
        where = ["--workflow-profile", self.workflow_profile] if self.workflow_profile else []
        asked = ["records", *where, "--cores", self.cores, "--config"]
        if code := run_pipeline([*asked, f"profile={self.profile}", f"runs={runs}"]):
            raise SystemExit(code)
        made = [r for r in records.load("results", chosen) if r["seed"] in seeds]
        table = sweep.table(self.experiment, made)
        runs.with_suffix(".md").write_text(table + "\n")
        sweep.draw(self.experiment, made).savefig(runs.with_suffix(".svg"))
        print(f"{table}\n\n{runs.with_suffix('.svg')}")


@dataclass
class DataCommand:
    """Show where data sets are looked for, verify them, or decode them into the cache."""

    action: Annotated[Literal["show", "verify", "prepare"], tyro.conf.Positional]
    """What to do."""
    name: Annotated[str | None, tyro.conf.Positional] = None
    """Name of a data set; all by default (show, verify)."""
    data: Path | None = None
    """Root of the data; by default WHERETOLEARN_DATA or the user cache."""
    image_size: int = 28
    """Image size for prepare, pixels."""

    def __call__(self) -> None:
        """Do it for one data set or all."""
        from wheretolearn import data as datasets

        if self.action == "prepare":
            if self.name is None:
                raise ValueError("prepare needs the name of a data set")
            images = datasets.load(self.name, self.image_size, root=self.data)
            print(f"{images.name}: {images.images.shape}, {len(images.classes)} classes")
            return
        failed = False
        for name in [self.name] if self.name else list(datasets.DATASETS):
            if self.action == "show":
                print(datasets.describe(name, self.data))
                continue
            try:
                print("\n".join(datasets.verify(name, self.data)))
            except datasets.AbsentError as error:
                failed |= self.name is not None  # nobody has them all
                print(f"not at hand: {error}", file=sys.stderr)
            except datasets.DataError as error:
                failed = True
                print(f"{name}: {error}", file=sys.stderr)
        if failed:
            raise SystemExit(1)


@dataclass
class RecordCommand:
    """Show a record, after checking it."""

    path: Annotated[Path, tyro.conf.Positional]
    """Path of the JSON file."""
    full: bool = False
    """Print everything instead of a summary."""

    def __call__(self) -> None:
        """Print the record or its summary."""
        record = records.read(self.path)
        print(json.dumps(record, indent=1) if self.full else _summary(record))


_Command = (
    Annotated[RunCommand, tyro.conf.subcommand("run")]
    | Annotated[ListCommand, tyro.conf.subcommand("list")]
    | Annotated[BatchCommand, tyro.conf.subcommand("batch")]
    | Annotated[SweepCommand, tyro.conf.subcommand("sweep")]
    | Annotated[DataCommand, tyro.conf.subcommand("data")]
    | Annotated[RecordCommand, tyro.conf.subcommand("record")]
)


def _state(path: Path, experiment: Planned) -> str:
    if not path.exists():
        return "not run"
    record = records.read(path)
    return record["status"] if records.fits(record, experiment) else "outdated"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _summary(record: records.Record) -> str:
    where = record["provenance"]
    return "\n".join(
        [
            f"{record['experiment']} (profile {record['profile']}), seed {record['seed']}",
            *(f"  {name:14} {value}" for name, value in _found(record).items()),
            f"  made by        {where['commit'] or where['library_version']} on "
            f"{where['processor']}, {_duration(where['wall_seconds'])}",
        ]
    )


def _found(record: records.Record) -> dict[str, str]:
    """Return what a run found, in words, by name."""
    final, kind = record["final"], record.get("kind", "few-shot")
    if record["status"] == "diverged":
        where = record["diverged_at"]
        if not isinstance(where, dict):
            where = {"update": where}
        return {"result": "diverged at " + ", ".join(f"{k} {v}" for k, v in where.items())}
    sparsity = "none" if final["sparsity"] is None else f"{final['sparsity']:.1%}"
    if kind == "continual":
        return {
            "retained": f"{final['ra']:.1%} over all tasks of {record['data']['name']}",
            "forgotten": f"{-final['bti']:.1%} since each was learned (BTI {final['bti']:.1%})",
            "sparsity": sparsity,
        }
    if kind == "osaka":
        steps = record["parameters"]["steps"]
        return {"accuracy": f"{final['accuracy']:.1%} over {steps} steps", "sparsity": sparsity}
    test = final["test_accuracy"]
    accuracy = "not measured"
    if test:
        accuracy = f"{test['mean']:.1%} on {test['n']} test episodes of {record['data']['name']}"
    return {
        "test accuracy": accuracy,
        "sparsity": f"{sparsity} after {final['update']} updates",
    }


@dataclass
class _Arguments:
    """Masked meta-learning: a reproduction of "Learning where to learn"."""

    command: _Command = field()


def main() -> None:
    """Run the command line; what a user can mend is said in a line, without a traceback."""
    arguments = tyro.cli(_Arguments, config=(tyro.conf.OmitSubcommandPrefixes,))
    with one_line("wheretolearn"), _resumable(arguments.command), STOP.by_signals():
        arguments.command()


@contextlib.contextmanager
def one_line(program: str) -> Iterator[None]:
    """Within, errors that a user can mend end the program with a line on standard error."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - closed by the caller
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None  # as a program that SIGPIPE ends
    except Exception as error:
        if (said := _told(error)) is None:
            raise
        print(f"{program}: {said}", file=sys.stderr)
        raise SystemExit(1) from error


def _told(error: Exception) -> str | None:
    """Return what to tell of an error that a user can mend."""
    from wheretolearn.data.errors import DataError

    if isinstance(error, (ValueError, OSError, DataError, MemoryError)):  # RecordError, too
        return str(error) or type(error).__name__
    said = str(error).partition("\n")[0]
    if isinstance(error, RuntimeError) and re.search("allocate|out of memory|overflow", said):
        return f"too large for this machine: {said}"  # as torch says it
    return None


@contextlib.contextmanager
def _resumable(command: object) -> Iterator[None]:
    """Within, a command that is stopped says how to go on with it."""
    try:
        yield
    except Stopped as stopped:
        again = "the same command" + " without --fresh" * getattr(command, "fresh", False)
        goes_on = f"; {again} goes on from {STOP.kept}" if STOP.kept else ""
        print(f"wheretolearn: stopped{goes_on}", file=sys.stderr)
        raise SystemExit(128 + stopped.number) from None
