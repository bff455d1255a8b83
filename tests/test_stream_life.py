"""Runs through streams live as few-shot runs do: a record, a checkpoint, a command line."""

import hashlib
import io
import json
from typing import Any

import pytest
import torch

from reproduction import cli
from reproduction.plan import study
from reproduction.runs import checkpoint, records, run_or_resume
from reproduction.runs.experiment import Planned
from reproduction.runs.osaka import OsakaRun
from reproduction.runs.streams import ContinualRun
from synthetic import content

SHORT: dict[str, Planned] = {
    "continual": study.find("smoke", "glyph-rotations-sparse-la-maml"),
    "osaka": study.find("smoke", "osaka90-5way-sparse-c-maml"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    where = tmp_path_factory.mktemp("whole")
    return {
        kind: run_or_resume.run(experiment, 0, results=where, progress=False)
        for kind, experiment in SHORT.items()
    }


@pytest.mark.parametrize("kind", SHORT)
def test_a_record_says_what_it_is_of(kind, whole):
    record, experiment = whole[kind], SHORT[kind]
    assert (record["kind"], record["profile"]) == (kind, "smoke")
    assert record["experiment"] == experiment.name
    assert record["figure"] == experiment.figure
    assert records.fits(record, experiment)
    assert not records.fits(record, experiment.replace(width=5))
    assert record["status"] == "finished"


@pytest.mark.parametrize("kind", SHORT)
def test_a_run_that_is_stopped_gives_the_same_record(kind, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    run: Any = {"continual": ContinualRun, "osaka": OsakaRun}[kind]
    advance, calls = run.advance, 0

    def stopped(self):
        nonlocal calls
        calls += 1
        if calls in (5, 8):
            raise KeyboardInterrupt
        advance(self)

    monkeypatch.setattr(run, "advance", stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_or_resume.run(SHORT[kind], 0, results=tmp_path, progress=False)
        torch.manual_seed(calls)  # as in another process
        assert len(list(tmp_path.rglob("*.pt"))) == 1
    record = run_or_resume.run(SHORT[kind], 0, results=tmp_path, progress=False)
    assert record["provenance"]["interruptions"] == 2
    assert content(record) == content(whole[kind])
    assert not list(tmp_path.rglob("*.pt"))


RUNS: dict[str, Any] = {"continual": ContinualRun, "osaka": OsakaRun}


def stopped_early(kind, results, monkeypatch):
    """Stop a run after some of its steps; return where it keeps its state, and the state."""
    run, steps = RUNS[kind], 0

    def advance(self, original=RUNS[kind].advance):
        nonlocal steps
        if steps == 5:
            raise KeyboardInterrupt
        steps += 1
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
        patch.setattr(run, "advance", advance)
        with pytest.raises(KeyboardInterrupt):
            run_or_resume.run(SHORT[kind], 0, results=results, progress=False)
    (path,) = results.rglob("*.pt")
    return path, torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)


def without_a_part(state):
    del state["run"]["learner"]


def without_a_curve(state):
    del state["run"]["curves"]["rates"]


def with_a_bad_random_state(state):
    state["random"] = torch.zeros(3, dtype=torch.uint8)


def of_other_images(state):
    identity = json.loads(state["identity"])
    assert len(identity[2]) > 20
    identity[2] = identity[2][:-1] + "x"
    state["identity"] = json.dumps(identity, sort_keys=True)


def of_another_torch(state):
    assert torch.__version__ in state["identity"]
    state["identity"] = state["identity"].replace(torch.__version__, "0.0.0")


@pytest.mark.parametrize("kind", SHORT)
@pytest.mark.parametrize(
    "spoil",
    [without_a_part, without_a_curve, with_a_bad_random_state, of_other_images, of_another_torch],
)
def test_a_state_that_does_not_serve_is_not_used(kind, spoil, whole, tmp_path, monkeypatch, capsys):
    path, state = stopped_early(kind, tmp_path, monkeypatch)
    spoil(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    record = run_or_resume.run(SHORT[kind], 0, results=tmp_path, progress=False)
    assert "starting afresh" in capsys.readouterr().out
    assert record["provenance"]["interruptions"] == 0
    assert content(record) == content(whole[kind])


@pytest.mark.parametrize("kind", SHORT)
def test_a_run_does_not_go_on_with_other_images(kind, tmp_path, monkeypatch):
    """The state of a run on some images is none of a run on others, though all else is alike."""
    stopped_early(kind, tmp_path, monkeypatch)
    start = SHORT[kind].start

    def on_others(self, seed, *args, **options):
        running = start(seed, *args, **options)
        running.data["fingerprint"] = "others"
        return running

    monkeypatch.setattr(type(SHORT[kind]), "start", on_others)
    record = run_or_resume.run(SHORT[kind], 0, results=tmp_path, progress=False)
    assert record["provenance"]["interruptions"] == 0
    assert record["data"]["fingerprint"] == "others"


@pytest.mark.parametrize("kind", SHORT)
def test_a_changed_run_does_not_take_the_place_of_a_record(kind, whole, tmp_path):
    path = tmp_path / "smoke" / SHORT[kind].name / "seed0.json"
    records.write(path, {k: v for k, v in whole[kind].items() if k != "content_sha256"})
    with pytest.raises(records.RecordError, match=r"other parameters \(width\)"):
        run_or_resume.run(SHORT[kind].replace(width=5), 0, results=tmp_path, progress=False)
    assert records.read(path) == whole[kind]


def test_a_learner_that_diverges_has_a_record(tmp_path):
    experiment = SHORT["continual"].replace(settings={"inner_rate": 1e9, "glances": 1})
    record = run_or_resume.run(experiment, 0, results=tmp_path, progress=False)
    assert record["status"] == "diverged"
    assert record["diverged_at"]["task"] == 0
    assert set(record["final"].values()) == {None}


def test_the_command_line_runs_streams(tmp_path, monkeypatch, capsys):
    for kind, experiment in SHORT.items():
        arguments = ["run", experiment.name, "--profile", "smoke", "--results", str(tmp_path)]
        monkeypatch.setattr("sys.argv", ["wheretolearn", *arguments, "--no-progress"])
        cli.main()
        said = capsys.readouterr().out
        assert ("retained" if kind == "continual" else "accuracy") in said
    wrong = [*arguments, "--change", "learnr=online"]
    monkeypatch.setattr("sys.argv", ["wheretolearn", *wrong])
    with pytest.raises(SystemExit):
        cli.main()
    assert "did you mean 'learner'" in capsys.readouterr().err
