"""A run through a stream: its record, its interruptions, its failures."""

import io
import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from reproduction.runs.streams import ContinualExperiment, ContinualRun, open_stream
from test_continual_learners import clusters
from wheretolearn.continual.methods import BATCH, LEARNERS
from wheretolearn.continual.streams.stream import TensorStream
from wheretolearn.types import Batch

RATES = {
    "online": {"rate": 0.1},
    "ewc": {"rate": 0.1, "strength": 1.0},
    "gem": {"rate": 0.1},
    "mer": {"rate": 0.1, "trajectories": 2, "replay": 2},
}


def tiny(learner="la-maml", **changes):
    settings = RATES.get(learner, {}) | changes.pop("settings", {})
    experiment = ContinualExperiment(
        name="tiny", figure="none", profile="smoke", learner=learner, settings=settings, width=8
    )
    return replace(experiment, **changes)


def as_bytes(result):
    return json.dumps(result, sort_keys=True, allow_nan=False).encode()


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


FULL = {"memory": 7}  # overflows within the first task


@pytest.mark.parametrize(
    ("learner", "settings"),
    [
        *((name, {}) for name in LEARNERS),
        *((name, FULL) for name in ("replay", "mer", "la-maml")),
        ("la-maml", FULL | {"past_only": True}),
        ("ewc", {"fisher": "mean", "fisher_samples": 4}),
    ],
)
def test_an_interrupted_run_gives_the_same_record(learner, settings):
    stream, experiment = clusters(tasks=3, each=30), tiny(learner, settings=settings)
    whole = ContinualRun(experiment, 0, stream).finish()
    assert whole["status"] == "finished"
    steps = 3 * -(-30 // BATCH.get(learner, 10))
    for stop in {1, 2, steps // 2, steps // 2 + 1, steps - 1}:
        first = ContinualRun(experiment, 0, stream)
        for _ in range(stop):
            first.advance()
        state = through_a_file(first.state_dict())
        torch.manual_seed(stop)  # as in another process
        second = ContinualRun(experiment, 0, stream)
        second.load_state_dict(state)
        assert as_bytes(second.finish()) == as_bytes(whole), stop
        assert as_bytes(first.finish()) == as_bytes(whole), stop  # a state is a copy


def test_content_of_a_record():
    stream = clusters(tasks=3, each=25)
    result = ContinualRun(
        tiny("sparse-la-maml", settings={"init_sparsity": 0.5}), 0, stream
    ).finish()
    matrix = result["curves"]["accuracy"]
    assert [len(row) for row in matrix] == [3, 3, 3]
    assert result["final"]["ra"] == pytest.approx(sum(matrix[-1]) / 3)
    assert result["final"]["la"] == pytest.approx(sum(matrix[i][i] for i in range(3)) / 3)
    assert len(result["curves"]["train_loss"]) == 3
    frozen = result["curves"]["frozen"]
    assert frozen.keys() == result["tensors"].keys()
    share = sum(counts[-1] for counts in frozen.values()) / sum(result["tensors"].values())
    assert result["final"]["sparsity"] == pytest.approx(share)
    assert 0.2 < share < 0.8
    assert result["parameters"]["settings"]["rule_rate"] == 0.3
    assert result["parameters"]["batch"] == 10


def test_every_sample_arrives_once_and_in_order(monkeypatch):
    stream, seen = clusters(each=25), []
    running = ContinualRun(tiny("replay"), 0, stream)
    observe = running.learner.observe

    def spy(samples):
        seen.append(samples.inputs)
        return observe(samples)

    monkeypatch.setattr(running.learner, "observe", spy)
    running.finish()
    assert [len(x) for x in seen] == [10, 10, 5] * 2
    want = torch.cat([stream.train(t).inputs for t in range(2)])
    assert torch.equal(torch.cat(seen), want)


def test_probe_spares_only_what_no_metric_needs(monkeypatch):
    stream, asked = clusters(tasks=3, each=30), []
    test = stream.test

    def spy(task, limit=None):
        asked.append(limit)
        return test(task, limit)

    monkeypatch.setattr(stream, "test", spy)
    some = ContinualRun(tiny(probe=4), 0, stream).finish()
    assert asked == [4, 4, 4, None, 4, 4, 4, None, 4, None, None, None]  # first, before learning
    assert some["final"] == ContinualRun(tiny(), 0, stream).finish()["final"]


@pytest.mark.parametrize("learner", ["online", "mer", "la-maml", "c-maml"])
def test_a_learner_that_diverges_is_reported(learner):
    """The second task has inputs that no rate survives."""
    (train, test), later = clusters(each=30)._data
    huge = Batch(1e30 * later[0].inputs, later[0].targets)
    stream = TensorStream("explodes", [(train, test), (huge, later[1])], classes=3)
    result = ContinualRun(tiny(learner), 0, stream).finish()
    assert result["status"] == "diverged"
    assert result["diverged_at"]["task"] == 1
    assert result["diverged_at"]["samples"] >= 1
    assert len(result["curves"]["accuracy"]) == 1  # the first task is not lost
    assert all(value is None for value in result["final"].values())
    as_bytes(result)  # valid JSON


@pytest.mark.parametrize(("scale", "status"), [(1e3, "finished"), (1e9, "diverged")])
def test_a_loss_beyond_the_limit_ends_a_run(scale, status):
    """Finite as it is, and the weights too."""
    train, test = clusters(each=30)._data[0]
    stream = TensorStream("loud", [(Batch(scale * train.inputs, train.targets), test)], classes=3)
    running = ContinualRun(tiny("online", settings={"rate": 1e-9}, batch=30), 0, stream)
    assert running.finish()["status"] == status
    assert all(bool(p.isfinite().all()) for p in running.learner.params.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learner": "lamaml"}, "did you mean 'la-maml'"),
        ({"batch": -1}, "batch must not be negative"),
        ({"width": 0}, "width positive"),
        ({"probe": 0}, "probe must be positive"),
    ],
)
def test_experiments_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny(**changes)


def test_a_state_of_another_network():
    state = ContinualRun(tiny(), 0, clusters()).state_dict()
    state["learner"]["params"] = {"other": torch.zeros(1)}
    with pytest.raises(ValueError, match="another network"):
        ContinualRun(tiny(), 0, clusters()).load_state_dict(state)


@pytest.mark.parametrize("learner", ["replay", "ewc", "gem", "la-maml", "sparse-la-maml"])
def test_tasks_with_heads(learner):
    """Two classes a task and another head for each; the convolutional network as well."""
    data = []
    generator = torch.Generator().manual_seed(0)
    for task in range(2):
        targets = torch.arange(20) % 2
        pictures = 0.1 * torch.rand(20, 1, 8, 8, generator=generator)
        pictures[targets == 0, :, :4] += 1  # bright above, or below
        pictures[targets == 1, :, 4:] += 1
        data.append((Batch(pictures, targets + 2 * task),) * 2)
    stream = TensorStream("headed", data, classes=4, ways=2)
    settings: dict[str, float] = {} if learner == "ewc" else {"memory": 10}
    settings |= {"inner_rate": 0.02} if "maml" in learner else {"rate": 0.01}
    result = ContinualRun(tiny(learner, settings=settings), 0, stream).finish()
    assert result["final"]["ra"] > 0.9


def mask(run):
    """Return which weights may move."""
    return {n: torch.as_tensor(r) != 0 for n, r in run.learner.rates().items()}


def test_what_thawed_and_how_fast_weights_may_move():
    """Counts of weights that came back, and mean rates, are those of the masks after each task."""
    run = ContinualRun(
        tiny("sparse-la-maml", settings={"init_sparsity": 0.5, "rule_rate": 30.0}),
        0,
        clusters(tasks=3, each=30),
    )
    masks: list = []
    while not run.over:
        task = run.task
        run.advance()
        if run.task > task:
            masks.append(mask(run))
    curves = run.result()["curves"]
    alpha = run.experiment.parameters()["settings"]["inner_rate"]
    for name, counts in curves["thawed"].items():
        back = [int((~a[name] & b[name]).sum()) for a, b in pairwise(masks)]
        assert counts == [0, *back]
        means = [alpha * float(m[name].double().mean()) for m in masks]
        assert curves["rates"][name] == pytest.approx(means, rel=1e-4)
    assert sum(map(sum, curves["thawed"].values())) > 0


@pytest.mark.parametrize(
    ("batch", "wanted"),
    [(1, [0, 100]), (10, [0, 100]), (30, [0, 120]), (150, [0, 150])],
)
def test_gradients_are_compared_every_hundred_samples(batch, wanted, monkeypatch):
    """At the first batch that begins at a multiple of a hundred, or passed one."""
    experiment = tiny("online", stream="glyph-rotations", batch=batch)
    running = ContinualRun(experiment, 0, open_stream(experiment, 0))
    found = []
    monkeypatch.setattr(running.interference, "measure", lambda *_: found.append(running.position))
    while running.task == 0:
        running.advance()
    assert found == wanted
