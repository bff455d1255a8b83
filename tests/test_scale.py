"""A study loses nothing when its workers are killed, and says which runs failed and why."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

import driver
import workers
from reproduction.publish.failures import Failures
from reproduction.runs import few_shot as training
from reproduction.runs import records, run_or_resume
from reproduction.runs.experiment import Experiment
from synthetic import content, image_set

ROOT = Path(__file__).resolve().parents[1]


class Outcome(NamedTuple):
    """What is left of a study whose workers were killed."""

    folder: Path
    code: int
    shown: str
    kills: Counter[str]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Run a study of 24 runs, and 2 that have no data, while workers are killed at random."""
    folder = tmp_path_factory.mktemp("s")  # a socket's path is short
    for name in ("Snakefile", "lib", "notebooks", "profiles"):
        (folder / name).symlink_to(ROOT / name)
    address, python = folder / "socket", folder / "python"
    python.write_text(workers.PYTHON.format(python=sys.executable, address=address))
    python.chmod(0o755)
    (folder / "no-data").mkdir()
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WHERETOLEARN_DATA": str(folder / "no-data"),
    }
    script = [sys.executable, str(ROOT / "tests" / "workers.py")]
    seed = os.environ.get("WHERETOLEARN_TEST_SEED", "0")
    options = ["--workflow-profile", "profiles/local", "--cores", "2", "--config", "profile=smoke"]
    server = subprocess.Popen([*script, "serve", str(address), seed], env=environment)
    try:
        done = subprocess.run(
            [*script, "pipeline", str(folder), str(python), "records", *options],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=500,  # for a server that does not start
        )
    finally:
        server.kill()
        server.wait()
    kills = Counter((folder / "kills").read_text().splitlines())
    return Outcome(folder, done.returncode, done.stdout + done.stderr, kills)


@pytest.mark.slow
def test_all_records_arrive(outcome, tmp_path, monkeypatch):
    """They are those of runs that nobody disturbed."""
    monkeypatch.setattr(training, "load", lambda name, size, root=None: image_set())
    monkeypatch.setattr(Experiment, "build_network", driver.dropout_network)
    assert sum(outcome.kills.values()) >= 8, outcome.shown
    resumed = 0
    for experiment in workers.GOOD:
        for seed in (0, 1):
            place = f"smoke/{experiment.name}/seed{seed}"
            path = outcome.folder / "results" / f"{place}.json"
            assert path.exists(), f"{place}, killed {outcome.kills[place]} times:\n{outcome.shown}"
            record = records.read(path)
            whole = run_or_resume.run(
                experiment, seed, results=tmp_path, device="cpu", progress=False
            )
            assert content(record) == content(whole)
            interruptions = record["provenance"]["interruptions"]
            assert interruptions <= outcome.kills[place], "only its own kills disturb a run"
            resumed += interruptions > 0
    assert resumed >= 5, "most that were killed went on from a checkpoint"


@pytest.mark.slow
def test_the_summary_names_what_failed_and_why(outcome):
    assert outcome.code == 1
    summary = outcome.shown[outcome.shown.rindex("2 failed;") :]
    named = re.findall(r"results/smoke/(\S+)\.json \(3 tries\): (.*)", summary)
    assert [name for name, _ in named] == ["hopeless/seed0", "hopeless/seed1"]
    for _, reason in named:
        assert "miniimagenet is not in" in reason
        assert "no-data" in reason, "the last line of its log"
    assert "log: _build/logs/smoke/hopeless/seed0.log" in summary
    assert "tiny" not in summary, "a run that was killed and then finished did not fail"


@pytest.mark.slow
def test_a_killed_worker_says_so_in_its_log(outcome):
    """What is shown of the log of a failed try ends with it."""
    assert outcome.shown.count("killed by signal 9") == sum(outcome.kills.values())


# --- the summary


def event(kind: LogEvent, **fields: object) -> logging.LogRecord:
    """Return an event as Snakemake logs it."""
    return logging.makeLogRecord({"event": kind, **fields})


def error(log: Path, message: str | None = None, number: int = 1) -> logging.LogRecord:
    return event(
        LogEvent.JOB_ERROR,
        jobid=number,
        output=[f"results/run{number}.json"],
        log=[str(log), "cluster.log"],
        rule_msg=message,
    )


def test_reason_is_the_last_line_of_the_log(tmp_path):
    failures, log = Failures(), tmp_path / "run.log"
    log.write_text("starting\n 10%\r 20%\r no space left\r\n\n")
    failures.emit(error(log))
    assert "results/run1.json: no space left\n" in str(failures)
    failures.emit(error(log, "SLURM-job '7' failed, SLURM status is: 'TIMEOUT'. Ask somebody."))
    assert "(2 tries): SLURM-job '7' failed, SLURM status is: 'TIMEOUT'; no space" in str(failures)
    failures.emit(error(tmp_path / "none.log", number=2))
    assert "2 failed;" in str(failures)
    assert "results/run2.json: it was stopped before it said anything" in str(failures)
    failures.emit(event(LogEvent.JOB_FINISHED, job_id=1))
    failures.emit(event(LogEvent.JOB_FINISHED, job_id=2))
    assert str(failures) == "No job failed."


# --- profiles and resources
