"""A run that is asked to stop keeps its state first, says where it goes on, and does."""

import os
import re
import signal
import sys

import pytest

from reproduction import cli
from reproduction.runs import checkpoint, few_shot, records
from reproduction.runs.few_shot import FewShotRun
from reproduction.runs.osaka import OsakaRun
from synthetic import content, image_set

CHANGES = [
    *("network=mlp", "image_size=8", "width=6", "ways=3", "shots=2", "queries=3"),
    *("inner_steps=2", "updates=12", "eval_every=4", "val_tasks=3", "test_tasks=4"),
]
FEW_SHOT = ["fig1-glyphs-sparse50", "--change", *CHANGES]
STREAM = ["osaka90-5way-c-maml", "--change", "updates=2", "epochs=1", "val_tasks=2"]


@pytest.fixture(autouse=True)
def _heeded():
    """Let no signal be ignored: a shell starts what is in the background without SIGINT."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.getsignal(n) for n in numbers}
    for n in numbers:
        signal.signal(n, signal.default_int_handler if n == signal.SIGINT else signal.SIG_DFL)
    yield
    for n, handler in before.items():
        signal.signal(n, handler)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in a folder of its own; return status and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(few_shot, "load", lambda name, size, root=None: image_set())
    monkeypatch.setattr(checkpoint, "_SECONDS_BETWEEN_CHECKPOINTS", 1e9)

    def call(arguments, *more):
        command = ["run", *arguments, "--profile", "smoke", "--no-progress", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["wheretolearn", *command, *more])
        before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
        try:
            cli.main()
            status: object = 0
        except SystemExit as end:
            status = end.code
        assert {n: signal.getsignal(n) for n in before} == before
        return status, capsys.readouterr().err

    return call


@pytest.fixture
def during(monkeypatch):
    """Have something done during the `number`-th call of a method, once."""

    def arrange(owner, name, number, do):
        whole = getattr(owner, name)
        calls: list[None] = []

        def method(self, *args):
            calls.append(None)
            if len(calls) == number:
                do()
            return whole(self, *args)

        monkeypatch.setattr(owner, name, method)

    return arrange


def send(number):
    return lambda: os.kill(os.getpid(), number)


def record_in(folder):
    (path,) = folder.glob("results/smoke/*/seed0.json")
    return records.read(path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    ("arguments", "owner", "method", "where"),
    [
        (FEW_SHOT, FewShotRun, "_advance", "update 5 of 12"),
        (STREAM, OsakaRun, "_step", r"step 5 of \d+"),
    ],
)
def test_stop_and_go_on(run, during, tmp_path, arguments, owner, method, where, number):
    assert run(arguments, "--results", "whole/results") == (0, "")
    during(owner, method, 5, send(number))
    status, err = run(arguments)
    assert status == 128 + number
    assert re.search(f"^wheretolearn: stopped; the same command goes on from {where}\n", err, re.M)
    assert not list(tmp_path.glob("results/smoke/*/*.json"))
    assert run(arguments) == (0, "")
    resumed, whole = record_in(tmp_path), record_in(tmp_path / "whole")
    assert content(resumed) == content(whole)
    assert resumed["provenance"]["interruptions"] == 1


def test_a_fresh_run_over_a_record_is_not_kept(run, during, tmp_path):
    """Without that word the old record would be returned."""
    assert run(FEW_SHOT) == (0, "")
    before = record_in(tmp_path)
    during(FewShotRun, "_advance", 5, send(signal.SIGINT))
    status, err = run(FEW_SHOT, "--fresh")
    assert status == 130
    assert "goes on" not in err
    assert record_in(tmp_path) == before
    assert list(tmp_path.rglob("*.pt")) == []


def test_a_second_signal_stops_at_once(run, during):
    """What was kept before stays."""
    during(FewShotRun, "_advance", 5, send(signal.SIGINT))
    run(FEW_SHOT)
    during(FewShotRun, "_evaluate", 1, lambda: [send(signal.SIGTERM)() for _ in range(2)])
    status, err = run(FEW_SHOT)
    assert status == 128 + signal.SIGTERM
    assert err.endswith("wheretolearn: stopped; the same command goes on from update 5 of 12\n")
    assert run(FEW_SHOT)[0] == 0


def test_while_it_is_tested_it_stops_at_once(run, during):
    during(FewShotRun, "_test", 1, send(signal.SIGINT))
    assert run(FEW_SHOT) == (
        130,
        "wheretolearn: stopped; the same command goes on from update 12 of 12\n",
    )
    assert run(FEW_SHOT)[0] == 0


def test_before_training_nothing_is_kept(run, monkeypatch):
    def load(name, size, root=None):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(few_shot, "load", load)
    assert run(FEW_SHOT) == (130, "wheretolearn: stopped\n")
