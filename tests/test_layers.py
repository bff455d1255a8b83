"""The records of a notebook: where they are found, and which seeds a reader may ask for."""

import os
import subprocess
import sys

import pytest

from reproduction.plan import study
from reproduction.plan.few_shot import FIG1
from reproduction.report import load_records as layers
from reproduction.runs import run_or_resume


def test_records_that_are_there_are_shown_as_they_are(monkeypatch):
    """Even where more could be asked of their networks now: a page trains nothing anew unasked."""
    there = [{"experiment": e.name, "seed": 0} for e in study.experiments("smoke", FIG1)]
    monkeypatch.setattr(layers, "load", lambda *_: there)
    monkeypatch.setattr(run_or_resume, "run", lambda *_, **__: pytest.fail("it was run again"))
    assert layers.own_records(FIG1, "smoke", seeds=[0]) == there


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Return the seeds and the freshness that runs were asked for; nothing is trained."""
    monkeypatch.setenv("WHERETOLEARN_RESULTS", str(tmp_path / "results"))
    runs = []

    def run(experiment, seed, *, fresh, **options):
        runs.append((seed, fresh))
        return {"experiment": experiment.name}

    monkeypatch.setattr(run_or_resume, "run", run)

    def ask(**options):
        runs.clear()
        layers.own_records(FIG1, "smoke", **options)
        assert len(runs) == len(set(runs)) * len(study.experiments("smoke", FIG1))
        return sorted(set(runs))

    return ask


READ = [  # a seed that is named twice is one run
    (None, [0, 1]),
    (range(2), [0, 1]),
    ("[2, 0, 2]", [0, 2]),
    ("null", [0, 1]),
    ("3", [3]),
    (3, [3]),
]


@pytest.mark.parametrize(("seeds", "wanted"), READ)
def test_seeds_are_read(asked, seeds, wanted):
    assert [seed for seed, _ in asked(seeds=seeds)] == wanted


@pytest.mark.parametrize("fresh", [True, "true", "True"])
def test_truth_values_are_read(asked, fresh):
    assert asked(fresh=fresh, seeds=[0]) == [(0, True)]
    assert asked(fresh=str(not fresh) if fresh is True else "false", seeds=[0]) == [(0, False)]


NO_SEEDS = ("[0", "zero", ["0"], [0.5], "0.5", [-1], True, '{"a": 1}')


@pytest.mark.parametrize(
    ("name", "value"), [("fresh", "maybe"), ("fresh", 1), *(("seeds", s) for s in NO_SEEDS)]
)
def test_what_is_no_seed_is_refused_before_anything_runs(asked, tmp_path, name, value):
    with pytest.raises(ValueError, match=name.rstrip("s")):
        asked(**{name: value})
    assert list(tmp_path.iterdir()) == []


def test_results_are_found_from_anywhere(tmp_path):
    """Those of the project that the library lies in; a project around the reader goes first."""
    script = "from reproduction.report.load_records import results_folder; print(results_folder())"
    environment = {k: v for k, v in os.environ.items() if k != "WHERETOLEARN_RESULTS"}

    def found(folder):
        command = [sys.executable, "-c", script]
        return subprocess.check_output(command, cwd=folder, env=environment, text=True).strip()

    assert found(tmp_path) == found(os.path.dirname(layers.__file__)) != str(tmp_path / "results")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "_config.yml").touch()
    assert found(tmp_path / "notebooks") == str(tmp_path / "results")
