"""Runs in OSAKA's stream: pretraining, scores before labels, resuming, divergence, records."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from reproduction.runs import osaka as osaka_run
from reproduction.runs.osaka import OsakaExperiment, OsakaRun
from synthetic import image_set
from test_continual_runs import as_bytes, through_a_file
from test_osaka_stream import made_up, source
from wheretolearn import inner_loop
from wheretolearn.continual.osaka import fast_slow as osaka_learner
from wheretolearn.continual.osaka.c_maml import ProlongedCMAML
from wheretolearn.continual.osaka.methods import LEARNERS, new_network
from wheretolearn.continual.osaka.metrics import unpack
from wheretolearn.continual.osaka.pretraining import (
    LabelledImages,
    Pretraining,
    Supervised,
)
from wheretolearn.inner_loop import adapt
from wheretolearn.meta import Score

FAST = {"inner_steps": 2}
KINDS = ("fine-tuning", "sparse-maml", "c-maml", "sparse-c-maml-weights")
"""Learners with each kind of pretraining and without."""


def tiny(learner="sparse-c-maml", **changes):
    """Return an experiment of a moment, with pretraining of two epochs of two updates."""
    settings = FAST | changes.pop("settings", {})
    if LEARNERS[learner].pretraining:
        settings = {"meta_batch": 2} | settings
    stream = {"alpha": 0.7, "steps": 12, "ways": 3, "shots": 2, "width": 3}
    before = {"queries": 2, "updates": 2, "epochs": 2, "val_tasks": 2}
    parameters: dict[str, Any] = {"profile": "smoke", "learner": learner, "settings": settings}
    return OsakaExperiment("tiny", "none", **parameters | stream | before | changes)


@pytest.mark.parametrize("learner", KINDS)
def test_an_interrupted_run_gives_the_same_record(learner, monkeypatch):
    """Wherever it stops: in pretraining, between it and the stream, and in the stream."""
    monkeypatch.setattr(osaka_run, "_POINTS", 4)  # of nine steps
    settings = {"margin": 0.05} if learner == "sparse-c-maml-weights" else {}  # some shifts
    data, experiment = made_up(), tiny(learner, steps=9, settings=settings)
    running, states = OsakaRun(experiment, 0, data), []
    while not running.over:
        states.append(through_a_file(running.state_dict()))
        running.advance()
    whole = as_bytes(running.result())
    assert running.result()["status"] == "finished"
    assert len(states) == 9 + (4 if LEARNERS[learner].pretraining else 0)
    for stop in (1, 4, len(states) - 3):
        torch.manual_seed(stop)  # as in another process
        second = OsakaRun(experiment, 0, data)
        second.load_state_dict(states[stop])
        assert as_bytes(second.finish()) == whole, stop


@pytest.mark.parametrize("learner", ["online-adam", "anil", "c-maml", "sparse-c-maml"])
def test_scores_come_before_labels(learner, monkeypatch):
    """The learner predicts images, is scored on that, and sees images with labels then."""
    running = OsakaRun(tiny(learner), 0, made_up())
    while running.pretraining is not None and not running.pretraining.over:
        running.advance()
    calls, scores = [], []
    predict, observe = running.learner.predict, running.learner.observe

    def spy_predict(inputs):
        outputs = predict(inputs)
        calls.append(("predict", inputs, outputs))
        return outputs

    def spy_observe(batch):
        assert len(running.correct) == running.step + 1  # the score is written down
        scores.append(int((calls[-1][2].argmax(1) == batch.targets).sum()))
        calls.append(("observe", *batch))
        monkeypatch.setattr(running.learner, "predict", predict)  # its own use is its own affair
        observe(batch)
        monkeypatch.setattr(running.learner, "predict", spy_predict)

    monkeypatch.setattr(running.learner, "predict", spy_predict)
    monkeypatch.setattr(running.learner, "observe", spy_observe)
    result = running.finish()
    assert [c[0] for c in calls] == ["predict", "observe"] * 12
    for step in range(12):
        expected = running.stream[step]
        assert torch.equal(calls[2 * step][1], expected.inputs)
        assert torch.equal(calls[2 * step + 1][1], expected.inputs)
        assert torch.equal(calls[2 * step + 1][2], expected.targets)
    assert unpack(result["correct"]).tolist() == scores


def test_labels_of_a_step_do_not_change_its_predictions(monkeypatch):
    """With other labels for a batch the same is predicted at that step, and other things later."""

    def predictions(turn):
        running = OsakaRun(tiny("c-maml"), 0, made_up())
        found: list[torch.Tensor] = []
        of_stream, predict = type(running.stream).__getitem__, running.learner.predict

        def relabelled(stream, step):
            batch = of_stream(stream, step)
            turned = (batch.targets + turn * (step == 5)) % 3
            return batch._replace(targets=turned)

        def spy(inputs):
            outputs = predict(inputs)
            if len(found) == running.step:  # not those that the learner makes for itself
                found.append(outputs)
            return outputs

        with monkeypatch.context() as patched:
            patched.setattr(type(running.stream), "__getitem__", relabelled)
            patched.setattr(running.learner, "predict", spy)
            for _ in range(7):
                running.advance()
        return found

    told, otherwise = predictions(0), predictions(1)
    assert [torch.equal(a, b) for a, b in zip(told, otherwise, strict=True)] == [True] * 6 + [False]


def test_content_of_a_record():
    data = made_up()
    running = OsakaRun(tiny(steps=60, settings={"margin": 0.2}), 0, data)
    result = running.finish()
    correct = unpack(result["correct"])
    assert len(correct) == 60
    assert result["final"]["accuracy"] == pytest.approx(correct.sum() / 360)
    assert result["contexts"]["starts"] == running.stream.starts.tolist()
    source_of = [running.stream.context(t).source for t in range(60)]
    for number, name in enumerate("abc"):
        mine = [c for c, s in zip(correct, source_of, strict=True) if s == number]
        assert result["final"]["by_source"][name] == pytest.approx(sum(mine) / len(mine) / 6)
    detected = set(unpack(result["detected"]).nonzero()[0].tolist())
    assert detected == set(running.detected)
    hits = detected & set(result["contexts"]["starts"][1:])
    assert hits
    assert result["final"]["precision"] == len(hits) / len(detected)
    assert result["final"]["recall"] == len(hits) / (len(running.stream.starts) - 1)
    assert len(result["final"]["around"]) == 26
    curves = result["curves"]
    assert curves["step"] == [*range(1, 61)]
    assert {len(v) for v in curves["frozen"].values()} == {len(curves["step"])}
    assert {len(v) for v in curves["rates"].values()} == {len(curves["step"])}
    assert not [n for n in curves["frozen"] if "norm" in n]
    assert result["final"]["gradients"] > 60 * 2 * 6
    assert result["final"]["outer_steps"] == running.learner.outer_steps > 0
    numbers = curves["numbers"]
    assert numbers.keys() == curves["rates"].keys()
    for name, rates in curves["rates"].items():
        assert rates == [max(m, 0.0) for m in numbers[name]]
    rule = {"gate": "relu", "each": "tensor", "scope": "all"}
    rates = {"meta_rate": 0.001, "inner_rate": 0.1, "inner_steps": 2, "margin": 0.2}
    assert result["parameters"]["settings"] == rule | rates
    assert result["pretraining"] is None


def test_a_record_of_the_full_stream_is_small():
    """Ten thousand steps at alpha 0.9, and a shift seen at every second; nobody learns."""
    running = OsakaRun(tiny(steps=10_000, alpha=0.9, ways=6, shots=5, width=64), 0, made_up())
    running.correct, running.detected = [30] * 10_000, list(range(0, 10_000, 2))
    for running.step in range(100, 10_001, 100):
        running.losses = [1 / 3]
        for m in running.learner.slow.rule_params.values():
            m.fill_(running.step / 3e4)
        running._note()
    result = running.result()
    assert len(result["curves"]["rates"]["output.weight"]) == 100
    assert len(as_bytes(result)) < 100_000


@pytest.mark.parametrize("learner", ["online-sgd", "c-maml", "maml"])
def test_a_learner_that_diverges_is_reported(learner):
    settings = {"rate": 1e30} if learner == "online-sgd" else {"inner_rate": 1e30}
    if learner == "maml":
        settings["meta_rate"] = 0.0
    experiment = tiny(learner, settings=settings)
    if learner == "maml":  # pretraining has no say
        experiment = replace(experiment, epochs=1, updates=1)
    running = OsakaRun(experiment, 0, made_up())
    result = running.finish()
    assert result["status"] == "diverged"
    (where,) = result["diverged_at"]
    assert where in ("step", "update")
    if where == "step":
        assert len(unpack(result["correct"])) == result["diverged_at"]["step"] >= 1
    assert all(value is None for value in result["final"].values())
    as_bytes(result)  # valid JSON
    with pytest.raises(ValueError, match="the run is over"):
        running.advance()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learner": "maml", "alpha": 1.5}, "in \\[0, 1\\]"),
        ({"steps": 0}, "steps=0"),
        ({"ways": 1}, "ways=1"),
        ({"width": 0}, "width=0"),
        ({"ways": 16, "shots": 16}, "at most 255"),
    ],
)
def test_experiments_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)
    with pytest.raises(ValueError, match="unknown learner"):
        OsakaExperiment("x", "y", learner="xyz")


def test_data_that_do_not_fit():
    with pytest.raises(ValueError, match="contexts of 7 classes, but it has 6"):
        OsakaRun(tiny(ways=7), 0, made_up())
    few = replace(made_up().pretraining, splits={"train": (0, 1), "val": (2, 3, 4), "test": ()})
    with pytest.raises(ValueError, match="3-way episodes need 3 classes"):
        OsakaRun(tiny("maml"), 0, made_up(pretraining=few))
    OsakaRun(tiny("c-maml"), 0, made_up(pretraining=few))  # which it does not need
    small = (source("a", side=15),)
    with pytest.raises(ValueError, match="15 pixels are too few"):
        OsakaRun(tiny(), 0, made_up(sources=small))


# Pretraining


class Scripted:
    """A trainee with given validation accuracies."""

    def __init__(self, accuracies, loss=1.0):
        self.accuracies, self.loss = accuracies, loss
        self.steps = 0

    def step(self, drawn):
        self.steps += 1
        return Score([self.loss], [0.5])

    def evaluate(self, tasks):
        list(tasks)
        return Score([1.0], [self.accuracies[self.steps // 3 - 1]])

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


class Drawn:
    def batch(self, update, size):
        return update

    def __getitem__(self, index):
        return index


def pretraining(trainee, **changes):
    numbers = {"size": 1, "updates": 3, "epochs": 9, "patience": 1, "val_tasks": 2} | changes
    return Pretraining(trainee, Drawn(), Drawn(), **numbers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("accuracies", "patience", "epochs", "ran", "best"),
    [
        ([0.5, 0.6, 0.4, 0.4, 0.9], 1, 9, 4, 2),  # one more than the patience
        ([0.5, 0.6, 0.6, 0.6], 1, 9, 4, 2),  # as good is no better
        ([0.5, 0.4, 0.6, 0.5, 0.7], 1, 5, 5, 5),  # the end
        ([0.5, 0.6], 0, 2, 2, 2),
        ([0.5, 0.4], 0, 9, 2, 1),
    ],
)
def test_early_stopping(accuracies, patience, epochs, ran, best):
    trainee = Scripted(accuracies)
    training = pretraining(trainee, patience=patience, epochs=epochs)
    while not training.over:
        training.advance()
    assert training.result() == {
        "updates": 3 * ran,
        "best_epoch": best,
        "train_loss": [1.0] * ran,
        "val_accuracy": accuracies[:ran],
    }
    assert trainee.steps == 3 * best  # the best is what is left
    with pytest.raises(ValueError, match="pretraining is over"):
        training.advance()


def test_pretraining_goes_on_where_it_was():
    accuracies = [0.5, 0.4, 0.6, 0.5, 0.4, 0.9]
    whole = pretraining(Scripted(accuracies))
    while not whole.over:
        whole.advance()
    assert whole.result()["updates"] == 15
    for stop in range(15):
        first = pretraining(Scripted(accuracies))
        for _ in range(stop):
            first.advance()
        second = pretraining(Scripted(accuracies))
        second.load_state_dict(through_a_file(first.state_dict()))
        while not second.over:
            second.advance()
        assert second.state_dict() == whole.state_dict(), stop


def test_pretraining_moves_what_enters_the_stream():
    for learner, moved in (("maml", True), ("fine-tuning", True), ("c-maml", False)):
        running = OsakaRun(tiny(learner), 0, made_up())
        fresh = {n: p.clone() for n, p in running.learner.slow.params.items()}
        while running.pretraining is not None and not running.pretraining.over:
            running.advance()
        now = running.learner.slow.params
        assert torch.equal(now["layer1.conv.weight"], fresh["layer1.conv.weight"]) is not moved
        # of a classifier of other classes only the body is of use
        assert torch.equal(now["output.weight"], fresh["output.weight"]) is (learner != "maml")


def test_supervised_pretraining_learns_the_classes():
    images = replace(image_set((6, 4, 0), per_class=20, size=16, noise=20), mean=(0.0,), std=(1.0,))
    draws = LabelledImages(images, "train", seed=0)
    batch = draws.batch(3, 50)
    assert torch.equal(draws.batch(3, 50).inputs, batch.inputs)
    assert not torch.equal(draws.batch(4, 50).inputs, batch.inputs)
    assert batch.inputs.shape == (50, 1, 16, 16)
    assert 0 <= batch.inputs.min() < batch.inputs.max() <= 1
    for x, y in zip(batch.inputs[:10], batch.targets, strict=False):
        c = images.splits["train"][y]
        own = torch.from_numpy(images.images[images.offsets[c] : images.offsets[c + 1], ..., 0])
        assert (own == (x * 255).round()).all((1, 2)).any()
    trainee = Supervised(new_network(6, 16, 6, seed=0), rate=0.01)
    scores = [trainee.step(draws.batch(u, 60)).accuracy for u in range(40)]
    assert scores[0] < 0.5
    assert scores[-1] > 0.9
    assert not [n for n in trainee.body() if n.startswith("output")]
    assert trainee.body()["layer4.conv.weight"].shape == (6, 6, 3, 3)


@pytest.mark.parametrize(("alpha", "late"), [(0.7, False), (0.7, True), (1.0, False)])
def test_tensors_without_a_rate_are_skipped_and_nothing_else_changes(alpha, late, monkeypatch):
    """The record is the same to the bit, also where slow weights learn while fast ones go on.

    By autograd throughout: by hand only gradients with the first block among them are taken, which
    are the same up to rounding.
    """
    monkeypatch.setattr(inner_loop.seam, "fast", lambda _: None)
    frozen = {"layer1.conv.weight", "layer1.conv.bias", "layer3.conv.weight"}
    given = []

    def spy(forward, criterion, start, rates, *others):
        given.append(set(rates))
        return adapt(forward, criterion, start, rates, *others)

    monkeypatch.setattr(osaka_learner, "adapt", spy)
    experiment = tiny(alpha=alpha, steps=30, settings={"margin": 0.2, "late": late})
    records, weights = [], []
    for every in (False, True):
        monkeypatch.setattr(ProlongedCMAML, "uses_sums", every)
        running = OsakaRun(experiment, 0, made_up())
        before = {n: p.clone() for n, p in running.learner.slow.params.items()}
        for name in frozen:
            running.learner.slow.rule_params[name].fill_(-1.0)
        given.clear()
        records.append(as_bytes(running.finish()))
        weights.append({n: p.numpy().tobytes() for n, p in running.learner.weights.items()})
        assert len(given) >= 30
        assert all(frozen.isdisjoint(names) is not every for names in given)
        name = "layer1.conv.weight"
        assert not torch.equal(running.learner.slow.params[name], before[name])  # learned
    assert records[0] == records[1]
    assert weights[0] == weights[1]
