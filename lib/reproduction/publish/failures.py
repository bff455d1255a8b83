"""Which jobs of the pipeline failed, and why: what is said at its end."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent


@dataclass
class Failure:
    """A job that failed, once or more often."""

    outputs: list[str]
    """The files that it should have made."""
    log: str | None
    """Its own log, if it has one."""
    message: str
    """What the cluster said about the last try; may be empty."""
    tries: int
    """How often it failed."""

    def reason(self) -> str:
        """Return what is known: the cluster's word, and the last line of the job's log."""
        said = re.split(r"\.\s|\n", self.message.strip())[0]  # the rest is advice
        known = filter(None, [said, _last_line(self.log)])
        return "; ".join(known) or "it was stopped before it said anything"


class Failures(logging.Handler):
    """Follows the events of Snakemake, whatever executes its jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[int, Failure] = {}
        """Failed jobs by Snakemake's number of the job."""

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a job that failed or succeeded."""
        event, seen = getattr(record, "event", None), vars(record)
        if event is LogEvent.JOB_ERROR:
            number = seen["jobid"]
            tries = self.jobs[number].tries + 1 if number in self.jobs else 1
            log = next(iter(_paths(seen["log"])), None)  # those of the cluster come after it
            self.jobs[number] = Failure(_paths(seen["output"]), log, seen["rule_msg"] or "", tries)
        elif event is LogEvent.JOB_FINISHED:
            self.jobs.pop(seen["job_id"], None)

    def __str__(self) -> str:
        """Return one line for each failed job, and where its log is."""
        if not self.jobs:
            return "No job failed."
        lines = [f"{len(self.jobs)} failed; everything that does not depend on them was done:"]
        for job in sorted(self.jobs.values(), key=lambda job: job.outputs):
            tries = f" ({job.tries} tries)" if job.tries > 1 else ""
            lines.append(f"  {', '.join(job.outputs)}{tries}: {job.reason()}")
            lines += [f"    log: {job.log}"] if job.log else []
        return "\n".join([*lines, "Run the same command again to resume them."])


def _paths(shown: list[str]) -> list[str]:
    """Return paths without what Snakemake says about them, such as `` (send to storage)``."""
    return [re.sub(r" \([a-z ]+\)$", "", path) for path in shown]


def _last_line(log: str | None) -> str:
    """Return the last line of a log that is not empty, if there is one."""
    if log is None or not Path(log).is_file():
        return ""
    lines = Path(log).read_text(encoding="utf-8", errors="replace").split("\n")
    # what a progress bar wrote over itself is one line
    texts = [line.rstrip("\r").rpartition("\r")[2].strip() for line in lines]
    return next((text for text in reversed(texts) if text), "")
