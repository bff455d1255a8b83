"""A run that was killed gives the record of one that was not, to the bit, whatever is trained."""

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import random
import signal
import sys
import time
import types
from typing import Any

import filelock
import pytest
import torch

import driver
from reproduction import cli
from reproduction.plan import study
from reproduction.plan.change import changed, read_changes
from reproduction.runs import checkpoint as checkpoints
from reproduction.runs import few_shot, records, run_or_resume
from reproduction.runs.checkpoint import Checkpoint
from reproduction.runs.experiment import Experiment
from reproduction.runs.osaka import OsakaRun
from reproduction.runs.streams import ContinualRun
from synthetic import TINY, content, image_set
from wheretolearn.meta import MetaLearner

EXPERIMENTS: dict[str, Any] = {
    "few-shot": TINY,
    "continual": study.find("smoke", "glyph-rotations-sparse-la-maml"),
    "osaka": study.find("smoke", "osaka90-5way-sparse-c-maml"),
}
STREAMS: dict[str, Any] = {"continual": ContinualRun, "osaka": OsakaRun}


def small(patch):
    """Run on a small image set with dropout, and save a checkpoint after every update."""
    patch.setattr(few_shot, "load", lambda name, size, root=None: image_set())
    patch.setattr(checkpoints, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    patch.setattr(Experiment, "build_network", driver.dropout_network)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small(monkeypatch)


def run(results, experiment=TINY, **options):
    return run_or_resume.run(experiment, 0, results=results, progress=False, **options)


def place(results, experiment=TINY):
    """Return the paths of the record and of the checkpoint."""
    stem = f"{experiment.profile}/{experiment.name}/seed0"
    return results / f"{stem}.json", results / f".checkpoints/{stem}.pt"


def as_bytes(record):
    return json.dumps(content(record), sort_keys=True).encode()


# --- processes, killed


@pytest.fixture
def start(monkeypatch):
    """Start a process that runs a function of the driver; none outlives the test."""
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))  # not pytest's
    context = multiprocessing.get_context("forkserver")
    # torch imports _dynamo at the first update, which takes seconds
    context.set_forkserver_preload(["reproduction.cli", "torch._dynamo"])
    started = []

    def start(function, *args):
        process = context.Process(target=function, args=args)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def until(condition, what, process=None):
    """Wait for a condition that is sure to come; the limit is for a broken library."""
    limit = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < limit, f"{what}: not after two minutes"
        if process is not None and not process.is_alive():
            return
        time.sleep(0.001)


CHANGES = [
    *("network=mlp", "image_size=8", "width=6", "ways=3", "shots=2", "queries=3"),
    *("inner_steps=2", "meta_batch=2", "updates=36", "eval_every=7"),
    *("val_tasks=3", "test_tasks=8"),
]


def command(results):
    run = ["run", "fig1-glyphs-sparse50", "--profile", "smoke", "--results", str(results)]
    return [*run, "--device", "cpu", "--no-progress", "--change", *CHANGES]


def test_kill_at_random_points(tmp_path, start):
    """SIGKILL, again and again, while ``wheretolearn run`` is at work."""
    experiment = changed(study.find("smoke", "fig1-glyphs-sparse50"), read_changes(CHANGES))
    whole = run(tmp_path / "whole", experiment, device="cpu")
    results, output = tmp_path / "killed", tmp_path / "output.txt"
    path, checkpoint = place(results, experiment)
    chance = random.Random(os.environ.get("WHERETOLEARN_TEST_SEED", "0"))

    def stamp():
        with contextlib.suppress(FileNotFoundError):
            return checkpoint.stat().st_mtime_ns, checkpoint.stat().st_ino
        return None

    kills = 0
    while not path.exists() and kills < 100:
        process = start(driver.command_line, command(results), str(output))
        for _ in range(chance.randint(1, 12)):  # every step of this loop is one checkpoint
            last = stamp()
            until(lambda last=last: stamp() != last, "a checkpoint", process)
        time.sleep(chance.random() * 0.01)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills >= 3, f"the run was over too early:\n{output.read_text()}"
    record = records.read(path)
    assert as_bytes(record) == as_bytes(whole), output.read_text()
    assert 1 <= record["provenance"]["interruptions"] <= kills
    assert whole["provenance"]["interruptions"] == 0
    assert not checkpoint.exists()


def others(results):
    """Return the files that are neither records nor locks."""
    files = [p for p in results.rglob("*") if p.is_file() and p.name != "output.txt"]
    return [p for p in files if p.name.startswith(".") or p.suffix not in (".json", ".lock")]


def test_leftovers_of_others_stay(tmp_path):
    """They may be at work on them."""
    path, checkpoint = place(tmp_path)
    mine = [path.with_name(".seed0.json.abc"), checkpoint.with_name(".seed0.pt.abc")]
    theirs = [path.with_name(".seed01.json.abc"), checkpoint.with_name(".seed1.pt.abc")]
    for file in mine + theirs:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half a fi")
    run(tmp_path)
    assert sorted(others(tmp_path)) == sorted(theirs)


def test_two_processes_on_one_run(tmp_path, start):
    """One works; the other waits for it and takes its record, or says so."""
    go, first, second = (tmp_path / n for n in ("go", "first.txt", "second.txt"))
    _, checkpoint = place(tmp_path)
    one = start(driver.run_tiny, str(tmp_path), str(first), str(go))
    until(lambda: is_locked(checkpoint), "the lock", one)
    with pytest.raises(TimeoutError, match="another process works on tiny seed 0"):
        run(tmp_path, wait=False)
    two = start(driver.run_tiny, str(tmp_path), str(second))
    until(lambda: second.exists() and "waiting" in second.read_text(), "the second", two)
    assert one.is_alive()
    assert two.is_alive()
    go.touch()
    for process in (one, two):
        process.join(120)
        assert process.exitcode == 0, first.read_text() + second.read_text()
    assert "waiting" not in first.read_text()
    # the checksum covers date and time: it is one record, not two that agree
    assert first.read_text().split()[-1] == second.read_text().split()[-1]
    assert as_bytes(run(tmp_path)) == as_bytes(run(tmp_path / "alone"))


def is_locked(checkpoint):
    """Return whether a process works on a run."""
    lock = checkpoint.with_suffix(".lock")
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True


# --- one process, interrupted by an exception at every place


class Interrupted(BaseException):
    """Like KeyboardInterrupt: nothing in the library may catch it."""


def interrupt_at(patch, moment, *, after=False, where=None):
    """Raise before or after the moment-th (from 0) step, evaluation or save; count them."""
    calls = [0]

    def wrapped(original):
        def call(*args, **kwargs):
            mine = calls[0]
            calls[0] += 1
            if mine == moment and not after:
                raise Interrupted
            result = original(*args, **kwargs)
            if mine == moment:
                raise Interrupted
            return result

        return call

    in_few_shot = [(MetaLearner, "step"), (MetaLearner, "evaluate"), (Checkpoint, "save")]
    for owner, name in in_few_shot if where is None else [where]:
        patch.setattr(owner, name, wrapped(getattr(owner, name)))
    return calls


def interrupted(results, moment, experiment=TINY, **where):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, moment, **where)
        with pytest.raises(Interrupted):
            run(results, experiment)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Return the records of runs that were never interrupted, by kind."""
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        calls = interrupt_at(patch, None)
        results = tmp_path_factory.mktemp("whole")
        made = {"few-shot": run(results)}
        assert calls[0] == 6 + 5 + 6  # updates; four validations and a test; checkpoints
        return made | {kind: run(results, EXPERIMENTS[kind]) for kind in STREAMS}


@pytest.fixture
def whole(wholes):
    return wholes["few-shot"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("moment", range(17))
def test_interrupted_anywhere(tmp_path, whole, moment, after):
    interrupted(tmp_path, moment, after=after)
    assert not place(tmp_path)[0].exists()
    torch.manual_seed(99)  # as in a new process: the state is another
    record = run(tmp_path)
    assert as_bytes(record) == as_bytes(whole)
    # calls: validation, update, save, update, validation, save, ...
    saved_once = moment > 2 or (moment == 2 and after)
    assert record["provenance"]["interruptions"] == saved_once


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_interrupted_twice(kind, wholes, tmp_path):
    for moment in (5, 3):
        interrupted(tmp_path, moment, EXPERIMENTS[kind], where=(STREAMS[kind], "advance"))
        torch.manual_seed(moment)
        assert len(list(tmp_path.rglob("*.pt"))) == 1
    record = run(tmp_path, EXPERIMENTS[kind])
    assert record["provenance"]["interruptions"] == 2
    assert as_bytes(record) == as_bytes(wholes[kind])
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("maml", {"order": 2}),
        ("anil", {}),
        ("meta-sgd", {"order": 2}),
        ("sparse-relu-maml", {"order": 2}),
        ("sparse-maml-plus", {"noise": 5, "outer": "nesterov", "init_sparsity": 0.5}),
        ("masked-weights", {"precision": "bf16", "init_sparsity": 0.5}),
    ],
)
def test_other_rules_resume_as_well(tmp_path, method, changes):
    experiment = TINY.replace(**{"method": method, "init_sparsity": 0.0, **changes})
    want = run(tmp_path / "whole", experiment)
    interrupted(tmp_path, 9, experiment)
    assert as_bytes(run(tmp_path, experiment)) == as_bytes(want)


def checkpoint_of(results, kind="few-shot"):
    """Interrupt a run (after three updates, one since the last evaluation); return its state."""
    where = (STREAMS[kind], "advance") if kind in STREAMS else None
    interrupted(results, 5 if where else 8, EXPERIMENTS[kind], where=where)
    path = place(results, EXPERIMENTS[kind])[1]
    return path, torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)


def save(path, state):
    """Write a checkpoint as the library does: a digest, then what torch makes of the state."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())


def forget_random_state(state):
    state["random"] = torch.Generator().manual_seed(0).get_state()


def forget_adam(state):
    state["run"]["learner"]["optimizer"]["state"] = {}


def forget_adams_step(state):
    for moments in state["run"]["learner"]["optimizer"]["state"].values():
        moments["step"] = torch.zeros_like(moments["step"])


def forget_last_update(state):
    state["run"]["update"] -= 1


def forget_losses(state):
    state["run"]["losses"] = []


def forget_mask(state):
    for m in state["run"]["learner"]["rule_params"].values():
        m.mul_(-1)


def forget_best(state):
    state["run"]["best"]["accuracy"] = 1.0
    for p in state["run"]["best"]["weights"]["params"].values():
        p.zero_()


FORGET = [v for name, v in list(globals().items()) if name.startswith("forget_")]


@pytest.mark.parametrize("forget", [*FORGET, lambda state: None])
def test_each_part_of_a_checkpoint_is_needed(tmp_path, whole, forget):
    """What a checkpoint might forget shows in the record: the tests above are sharp."""
    path, state = checkpoint_of(tmp_path)
    assert state["run"]["update"] == 3
    forget(state)
    save(path, state)
    record = run(tmp_path)
    assert record["provenance"]["interruptions"] == 1
    assert (as_bytes(record) == as_bytes(whole)) == (forget not in FORGET)


# --- checkpoints that cannot be used


class Trap:
    """A pickle that makes a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_pickle_in_a_checkpoint_is_not_executed(tmp_path, whole, capsys):
    path, state = checkpoint_of(tmp_path)
    trap = tmp_path / "sprung"
    save(path, state | {"extra": Trap(trap)})
    record = run(tmp_path)
    assert not trap.exists()
    assert "cannot be read (UnpicklingError); starting afresh" in capsys.readouterr().out
    assert record["provenance"]["interruptions"] == 0
    assert as_bytes(record) == as_bytes(whole)
    torch.save(Trap(trap), tmp_path / "x.pt")
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert trap.exists(), "the trap does not work"


def of_another(part, value):
    """Return what makes of a state one of another run: parameters, seed, images, libraries."""

    def spoil(state):
        identity = json.loads(state["identity"])
        assert identity[part] != value
        identity[part] = identity[part] | value if isinstance(value, dict) else value
        state["identity"] = json.dumps(identity, sort_keys=True)

    return spoil


def without(*place):
    def spoil(state):
        *parents, last = place
        for name in parents:
            state = state[name]
        del state[last]

    return spoil


def with_a_bad_random_state(state):
    """Refused when the parameters are already there: what was taken up must not stay."""
    for p in state["run"]["learner"].get("params", {}).values():
        p.add_(1.0)
    state["random"] = torch.zeros(3, dtype=torch.uint8)


def of_another_optimizer(state):
    for p in state["run"]["learner"]["params"].values():
        p.add_(1.0)
    state["run"]["learner"]["optimizer"]["param_groups"] = []


def with_an_unknown_part(state):
    state["run"]["unknown"] = 1


SPOILED = {
    "other images": of_another(2, "0" * 64),
    "another torch": of_another(-1, "0.0.0"),
    "a bad random state": with_a_bad_random_state,
    "no learner": without("run", "learner"),
    "no curve": without("run", "curves", "frozen"),
}
SPOILED_FEW_SHOT = SPOILED | {
    "other parameters": of_another(0, {"width": 999}),
    "another seed": of_another(1, 1),
    "another library": of_another(-2, "0.0.0"),
    "another device": lambda state: state.update(device="cuda"),
    "no losses": without("run", "losses"),
    "an unknown part": with_an_unknown_part,
    "no parameter": without("run", "learner", "params", "layers.0.weight"),
    "another optimizer": of_another_optimizer,
}


@pytest.mark.parametrize(
    ("kind", "spoiled"),
    [(k, s) for k in STREAMS for s in SPOILED] + [("few-shot", s) for s in SPOILED_FEW_SHOT],
)
def test_a_state_that_does_not_serve_is_not_used(kind, spoiled, wholes, tmp_path, capsys):
    path, state = checkpoint_of(tmp_path, kind)
    SPOILED_FEW_SHOT[spoiled](state)
    save(path, state)
    record = run(tmp_path, EXPERIMENTS[kind], device="cpu")
    assert "starting afresh" in capsys.readouterr().out
    assert record["provenance"]["interruptions"] == 0
    assert as_bytes(record) == as_bytes(wholes[kind])


def with_a_flipped_bit(content, state):
    """In the middle of a tensor: torch reads it without a word."""
    numbers = next(iter(state["run"]["learner"]["params"].values())).numpy().tobytes()
    assert content.count(numbers) == 1
    at = content.index(numbers) + len(numbers) // 2
    content = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    torch.load(io.BytesIO(content[32:]), weights_only=True)
    return content


@pytest.mark.parametrize(
    "damage",
    [
        lambda content, _: content[: len(content) // 2],
        lambda content, _: b"",
        lambda content, _: b"not a checkpoint",
        with_a_flipped_bit,
    ],
)
def test_a_damaged_checkpoint_is_not_used(damage, whole, tmp_path, capsys):
    path, state = checkpoint_of(tmp_path)
    path.write_bytes(damage(path.read_bytes(), state))
    record = run(tmp_path)
    assert "starting afresh" in capsys.readouterr().out
    assert record["provenance"]["interruptions"] == 0
    assert as_bytes(record) == as_bytes(whole)


def test_fresh_does_not_use_the_checkpoint(tmp_path, whole):
    checkpoint_of(tmp_path)
    record = run(tmp_path, fresh=True)
    assert record["provenance"]["interruptions"] == 0
    assert as_bytes(record) == as_bytes(whole)


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_does_not_go_on_with_other_images(kind, tmp_path, monkeypatch):
    """The state of a run on some images is none of a run on others, though all else is alike."""
    checkpoint_of(tmp_path, kind)
    start = EXPERIMENTS[kind].start

    def on_others(self, *args, **options):
        running = start(*args, **options)
        running.data["fingerprint"] = "others"
        return running

    monkeypatch.setattr(type(EXPERIMENTS[kind]), "start", on_others)
    record = run(tmp_path, EXPERIMENTS[kind])
    assert record["provenance"]["interruptions"] == 0
    assert record["data"]["fingerprint"] == "others"


# --- what is recorded


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_a_record_says_what_it_is_of(kind, wholes):
    record, experiment = wholes[kind], EXPERIMENTS[kind]
    assert record.get("kind", "few-shot") == kind
    assert record["profile"] == "smoke"
    assert record["experiment"] == experiment.name
    assert record["figure"] == experiment.figure
    assert records.fits(record, experiment)
    assert not records.fits(record, experiment.replace(width=5))
    assert record["status"] == "finished"


@pytest.mark.parametrize("kind", EXPERIMENTS)
def test_a_changed_run_does_not_take_the_place_of_a_record(kind, wholes, tmp_path):
    experiment = EXPERIMENTS[kind]
    path, _ = place(tmp_path, experiment)
    records.write(path, {k: v for k, v in wholes[kind].items() if k != "content_sha256"})
    with pytest.raises(records.RecordError, match=r"seed0\.json was .* parameters \(width\)"):
        run(tmp_path, experiment.replace(width=5))
    assert records.read(path) == wholes[kind]
    assert run(tmp_path, experiment.replace(name="other", width=5))["parameters"]["width"] == 5
    assert run(tmp_path, experiment) == wholes[kind]


DIVERGING: dict[str, dict[str, Any]] = {
    "few-shot": {"inner_rate": 1e30},
    "continual": {"settings": {"inner_rate": 1e9, "glances": 1}},
}


@pytest.mark.parametrize("kind", DIVERGING)
def test_a_run_that_diverges_says_so(kind, tmp_path, capsys):
    experiment = EXPERIMENTS[kind].replace(**DIVERGING[kind])
    record = run(tmp_path, experiment)
    path, checkpoint = place(tmp_path, experiment)
    assert records.read(path) == record
    assert record["status"] == "diverged"
    if kind == "few-shot":
        assert record["diverged_at"] == record["final"]["update"] == 1
        assert record["final"]["test_accuracy"] is record["final"]["test_loss"] is None
        assert record["curves"]["update"] == [0]
        assert record["curves"]["val_loss"] == [None]
    else:
        assert record["diverged_at"]["task"] == 0
        assert set(record["final"].values()) == {None}
    assert not checkpoint.exists()
    cli.RecordCommand(path)()
    assert "diverged at " in capsys.readouterr().out


def test_the_command_line_runs_streams(tmp_path, monkeypatch, capsys):
    for kind in STREAMS:
        arguments = ["run", EXPERIMENTS[kind].name, "--profile", "smoke", "--results"]
        arguments += [str(tmp_path), "--no-progress"]
        monkeypatch.setattr("sys.argv", ["wheretolearn", *arguments])
        cli.main()
        said = capsys.readouterr().out
        assert ("retained" if kind == "continual" else "accuracy") in said
    monkeypatch.setattr("sys.argv", ["wheretolearn", *arguments, "--change", "learnr=online"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "did you mean 'learner'" in capsys.readouterr().err


# --- what is kept


@pytest.mark.parametrize("kept", [True, False])
def test_a_longer_run_goes_on_from_the_kept_end_of_a_shorter_one(tmp_path, kept):
    longer = TINY.replace(name="longer", updates=3 * TINY.eval_every, test_tasks=4)
    shorter = TINY.replace(name="shorter", updates=TINY.eval_every)
    run(tmp_path, shorter, keep=kept)
    _, end = place(tmp_path, shorter)
    assert end.exists() is kept
    if kept:
        _, start = place(tmp_path, longer)
        start.parent.mkdir(parents=True)
        end.rename(start)
    went_on = run(tmp_path, longer)
    assert went_on["provenance"]["interruptions"] == kept
    assert as_bytes(went_on) == as_bytes(run(tmp_path / "anew", longer))


def test_a_shorter_run_does_not_take_up_the_end_of_a_longer_one(tmp_path):
    longer = TINY.replace(name="longer", updates=3 * TINY.eval_every)
    shorter = TINY.replace(name="shorter", updates=TINY.eval_every)
    run(tmp_path, longer, keep=True)
    _, start = place(tmp_path, shorter)
    start.parent.mkdir(parents=True)
    place(tmp_path, longer)[1].rename(start)
    assert as_bytes(run(tmp_path, shorter)) == as_bytes(run(tmp_path / "anew", shorter))


def test_kept_weights_are_those_that_were_tested(tmp_path, wholes):
    record = run(tmp_path, keep_weights=True)
    assert as_bytes(record) == as_bytes(wholes["few-shot"])
    weights = place(tmp_path)[0].with_suffix(".weights.pt")
    learner = MetaLearner.load(weights, TINY.build_network(), device="cpu")
    assert learner.sparsity() == record["final"]["best_sparsity"]
    assert (learner.inner_steps, learner.rule) == (TINY.inner_steps, TINY.rule)
    assert run(tmp_path, keep_weights=True) == record, "nothing was run again"
    run(tmp_path, fresh=True)
    assert not weights.exists(), "they are not of this record"
    with pytest.raises(ValueError, match="made without its weights; ask for a fresh run"):
        run(tmp_path, keep_weights=True)


@pytest.mark.parametrize("kind", STREAMS)
def test_streams_keep_weights_too(tmp_path, kind):
    record = run(tmp_path, EXPERIMENTS[kind], keep_weights=True)
    path = place(tmp_path, EXPERIMENTS[kind])[0].with_suffix(".weights.pt")
    params = torch.load(path, weights_only=True)["params"]
    assert {n: p.numel() for n, p in params.items()} == record["tensors"]
