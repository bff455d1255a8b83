"""A run that was killed gives the record of one that was not, to the bit."""

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
from synthetic import TINY, content, image_set
from wheretolearn.meta import MetaLearner


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Run on a small image set with dropout, and keep a checkpoint after every update."""
    monkeypatch.setattr(few_shot, "load", lambda name, size, root=None: image_set())
    monkeypatch.setattr(checkpoints, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(Experiment, "build_network", driver.dropout_network)


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


def interrupt_at(patch, moment, *, after):
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

    for owner, name in ((MetaLearner, "step"), (MetaLearner, "evaluate"), (Checkpoint, "save")):
        patch.setattr(owner, name, wrapped(getattr(owner, name)))
    return calls


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the record of a run that was never interrupted, and its number of calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(few_shot, "load", lambda name, size, root=None: image_set())
        patch.setattr(checkpoints, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
        patch.setattr(Experiment, "build_network", driver.dropout_network)
        calls = interrupt_at(patch, None, after=False)
        record = run(tmp_path_factory.mktemp("whole"))
    assert calls[0] == 6 + 5 + 6  # updates; four validations and a test; checkpoints
    return record


def test_a_second_run_is_the_same(tmp_path, whole):
    assert as_bytes(run(tmp_path)) == as_bytes(whole)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("moment", range(17))
def test_interrupted_anywhere(tmp_path, whole, moment, after):
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, moment, after=after)
        with pytest.raises(Interrupted):
            run(tmp_path)
    assert not place(tmp_path)[0].exists()
    torch.manual_seed(99)  # as in a new process: the state is another
    record = run(tmp_path)
    assert as_bytes(record) == as_bytes(whole)
    # calls: validation, update, save, update, validation, save, ...
    saved_once = moment > 2 or (moment == 2 and after)
    assert record["provenance"]["interruptions"] == saved_once


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
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 9, after=False)
        with pytest.raises(Interrupted):
            run(tmp_path, experiment)
    assert as_bytes(run(tmp_path, experiment)) == as_bytes(want)


def checkpoint_of(results, moment=8):
    """Interrupt a run after three updates, one since the last evaluation; return its state."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, moment, after=False)
        with pytest.raises(Interrupted):
            run(results)
    path = place(results)[1]
    return path, torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)


def save(path, state):
    """Write a checkpoint as the library does: a digest, then what torch makes of the state."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())


def without_random_state(state):
    state["random"] = torch.Generator().manual_seed(0).get_state()


def without_adam(state):
    state["run"]["learner"]["optimizer"]["state"] = {}


def without_adams_step(state):
    for moments in state["run"]["learner"]["optimizer"]["state"].values():
        moments["step"] = torch.zeros_like(moments["step"])


def without_last_update(state):
    state["run"]["update"] -= 1


def without_losses(state):
    state["run"]["losses"] = []


def without_mask(state):
    for m in state["run"]["learner"]["rule_params"].values():
        m.mul_(-1)


def without_best(state):
    state["run"]["best"]["accuracy"] = 1.0
    for p in state["run"]["best"]["weights"]["params"].values():
        p.zero_()


def unchanged(state):
    pass


@pytest.mark.parametrize(
    "lose",
    [
        without_random_state,
        without_adam,
        without_adams_step,
        without_last_update,
        without_losses,
        without_mask,
        without_best,
        unchanged,
    ],
)
def test_each_part_of_a_checkpoint_is_needed(tmp_path, whole, lose):
    """What a checkpoint might forget shows in the record: the tests above are sharp."""
    path, state = checkpoint_of(tmp_path)
    assert state["run"]["update"] == 3
    lose(state)
    save(path, state)
    record = run(tmp_path)
    assert record["provenance"]["interruptions"] == 1
    assert (as_bytes(record) == as_bytes(whole)) == (lose is unchanged)


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
    torch.load(_saved(tmp_path / "x.pt", Trap(trap)), weights_only=False)
    assert trap.exists(), "the trap does not work"


def _saved(path, value):
    torch.save(value, path)
    return path


def truncated(path, state):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path, state):
    path.write_bytes(b"")


def text(path, state):
    path.write_text("not a checkpoint")


def of_other_parameters(path, state):
    identity = json.loads(state["identity"])
    identity[0]["inner_rate"] = 0.3
    save(path, state | {"identity": json.dumps(identity, sort_keys=True)})


def of_another_seed(path, state):
    identity = json.loads(state["identity"])
    identity[1] = 1
    save(path, state | {"identity": json.dumps(identity, sort_keys=True)})


def of_other_images(path, state):
    identity = json.loads(state["identity"])
    identity[2] = "0" * 64
    save(path, state | {"identity": json.dumps(identity, sort_keys=True)})


def of_another_device(path, state):
    save(path, state | {"device": "cuda"})


def of_another_library(path, state):
    identity = json.loads(state["identity"])
    identity[-2] = "0.0.0"
    save(path, state | {"identity": json.dumps(identity, sort_keys=True)})


def of_another_torch(path, state):
    identity = json.loads(state["identity"])
    assert identity[-1] == torch.__version__
    identity[-1] = "0.0.0"
    save(path, state | {"identity": json.dumps(identity, sort_keys=True)})


def with_a_flipped_bit(path, state):
    """In the middle of a tensor: torch reads it without a word."""
    content, first = path.read_bytes(), next(iter(state["run"]["learner"]["params"].values()))
    numbers = first.numpy().tobytes()
    assert content.count(numbers) == 1
    at = content.index(numbers) + len(numbers) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)


def without_a_field_of_its_progress(path, state):
    del state["run"]["update"]
    save(path, state)


def with_another_field_of_its_progress(path, state):
    state["run"]["unknown"] = 1
    save(path, state)


def without_a_curve(path, state):
    del state["run"]["curves"]["val_loss"]
    save(path, state)


def without_a_parameter(path, state):
    del state["run"]["learner"]["params"]["layers.0.weight"]
    save(path, state)


def of_another_optimizer(path, state):
    """Refused when the parameters are already there: what was taken up must not stay."""
    for p in state["run"]["learner"]["params"].values():
        p.add_(1.0)
    state["run"]["learner"]["optimizer"]["param_groups"] = []
    save(path, state)


def with_a_bad_random_state(path, state):
    for p in state["run"]["learner"]["params"].values():
        p.add_(1.0)
    save(path, state | {"random": torch.zeros(3, dtype=torch.uint8)})


@pytest.mark.parametrize(
    "spoil",
    [
        truncated,
        empty,
        text,
        of_other_parameters,
        of_another_seed,
        of_other_images,
        of_another_device,
        of_another_library,
        of_another_torch,
        with_a_flipped_bit,
        without_a_field_of_its_progress,
        with_another_field_of_its_progress,
        without_a_curve,
        without_a_parameter,
        of_another_optimizer,
        with_a_bad_random_state,
    ],
)
def test_a_checkpoint_that_does_not_serve_is_not_used(tmp_path, whole, spoil, capsys):
    spoil(*checkpoint_of(tmp_path))
    record = run(tmp_path, device="cpu")
    assert "starting afresh" in capsys.readouterr().out
    assert record["provenance"]["interruptions"] == 0
    assert as_bytes(record) == as_bytes(whole)


def test_fresh_does_not_use_the_checkpoint(tmp_path, whole):
    checkpoint_of(tmp_path)
    record = run(tmp_path, fresh=True)
    assert record["provenance"]["interruptions"] == 0
    assert as_bytes(record) == as_bytes(whole)


# --- runs that diverge


def test_a_run_that_diverges_says_so(tmp_path, capsys):
    record = run(tmp_path, TINY.replace(inner_rate=1e30))
    path, checkpoint = place(tmp_path)
    assert records.read(path) == record
    assert record["status"] == "diverged"
    assert record["diverged_at"] == record["final"]["update"] == 1
    assert record["final"]["test_accuracy"] is None
    assert record["final"]["test_loss"] is None
    assert record["curves"]["update"] == [0]
    assert record["curves"]["val_loss"] == [None]
    assert not checkpoint.exists()
    cli.RecordCommand(path)()
    assert "diverged at update 1" in capsys.readouterr().out


# --- longer than before


@pytest.mark.parametrize("kept", [True, False])
def test_a_longer_run_goes_on_from_the_kept_end_of_a_shorter_one(tmp_path, capsys, kept):
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
