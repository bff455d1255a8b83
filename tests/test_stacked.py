"""Tasks that adapt side by side get the meta-gradients of tasks one by one."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from textbook import assert_close, episodes, rates_of
from wheretolearn.fast.vmap import first_order_all, stack
from wheretolearn.inner_loop import FunctionalModule, first_order
from wheretolearn.meta import MetaLearner
from wheretolearn.networks import make_network
from wheretolearn.rules import METHODS, make_rule
from wheretolearn.types import Task

NETWORKS = [("convnet4", 1), ("convnet4", 3), ("resnet12", 3), ("mlp", 1)]


def make_tasks(count, channels=1, queries=6, dtype=torch.float64):
    made = episodes(count, 3, queries, channels, 16, 16)
    return [Task(*(b._replace(inputs=b.inputs.to(dtype)) for b in task)) for task in made]


def make(name, channels, dtype=torch.float64):
    torch.manual_seed(0)
    network = make_network(name, ways=3, channels=channels, image_size=16, width=4)
    return network.to(dtype)


@pytest.mark.parametrize(("name", "channels"), NETWORKS)
@pytest.mark.parametrize("method", ["maml", "anil", "boil", "sparse-maml"])
@pytest.mark.parametrize("steps", [0, 3])
def test_stacked_equals_one_by_one(name, channels, method, steps):
    network = make(name, channels)
    params, rates = rates_of(method, network)
    tasks = make_tasks(3, channels)
    start = (FunctionalModule(network), F.cross_entropy, params, rates)
    stacked = stack(tasks)
    assert stacked is not None
    together = first_order_all(*start, stacked, steps)
    for i, task in enumerate(tasks):
        alone = first_order(*start, task, steps)
        torch.testing.assert_close(together.loss[i], alone.loss, rtol=0, atol=1e-10)
        torch.testing.assert_close(together.outputs[i], alone.outputs, rtol=0, atol=1e-10)
        assert_close({n: g[i] for n, g in together.params.items()}, alone.params)
        assert_close({n: g[i] for n, g in together.rates.items()}, alone.rates)


@pytest.mark.parametrize("method", METHODS)
def test_learner_takes_the_same_steps(method):
    learners = [
        MetaLearner(
            make("convnet4", 1),
            make_rule(method),
            inner_steps=2,
            device="cpu",
            stacked=stacked,
            generator=torch.Generator().manual_seed(0),
        )
        for stacked in (False, True)
    ]
    scores = []
    for learner in learners:
        torch.manual_seed(0)  # for masks that are made from noise
        scores.append([learner.step(make_tasks(3)) for _ in range(3)])
        scores[-1].append(learner.evaluate(make_tasks(9)))
    for one, two in zip(*scores, strict=True):
        assert one.accuracies == two.accuracies
        assert one.losses == pytest.approx(two.losses, abs=1e-9)
    for n, p in learners[0].params.items():
        torch.testing.assert_close(learners[1].params[n], p, rtol=0, atol=1e-9)


def test_outer_clamp_bounds_the_meta_gradient():
    learner = MetaLearner(make("mlp", 1), make_rule("maml"), device="cpu", outer_clamp=1e-3)
    learner.step(make_tasks(2))
    grads = torch.cat([p.grad.flatten() for p in learner.params.values() if p.grad is not None])
    assert grads.abs().max() == 1e-3
    assert (grads.abs() < 1e-3).any()
    with pytest.raises(ValueError, match="outer_clamp must be positive"):
        MetaLearner(make("mlp", 1), make_rule("maml"), outer_clamp=0.0)


@pytest.mark.parametrize("stacked", [False, True])
def test_bfloat16_is_close_and_leaves_the_weights_in_float32(stacked):
    scores = {}
    for precision in ("float32", "tf32", "bf16"):
        learner = MetaLearner(
            make("convnet4", 1, torch.float32),
            make_rule("sparse-maml"),
            device="cpu",
            precision=precision,
            stacked=stacked,
            generator=torch.Generator().manual_seed(0),
        )
        scores[precision] = learner.step(make_tasks(2, dtype=torch.float32)).loss
        assert {p.dtype for p in learner.params.values()} == {torch.float32}
        assert math.isfinite(learner.evaluate(make_tasks(2, dtype=torch.float32)).loss)
    assert scores["tf32"] == scores["float32"]  # a CPU has none
    assert scores["bf16"] != scores["float32"]
    assert scores["bf16"] == pytest.approx(scores["float32"], rel=0.05)


def test_bfloat16_keeps_no_rounded_weights(monkeypatch):
    """Every inner step has weights of its own; a cache of them would grow with the steps."""
    asked = []
    autocast = torch.autocast

    def spy(device_type, dtype, *, cache_enabled=None):
        asked.append(cache_enabled)
        return autocast(device_type, dtype, cache_enabled=cache_enabled)

    monkeypatch.setattr(torch, "autocast", spy)
    learner = MetaLearner(
        make("mlp", 1, torch.float32), make_rule("maml"), device="cpu", precision="bf16"
    )
    learner.step(make_tasks(1, dtype=torch.float32))
    assert asked == [False]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "channels"), NETWORKS)
@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_gpu_equals_cpu(name, channels, precision):
    network = make(name, channels, torch.float32)
    before = torch.backends.cudnn.allow_tf32
    losses = []
    for device in ("cpu", "cuda"):
        learner = MetaLearner(
            copy.deepcopy(network),
            make_rule("maml"),
            device=device,
            precision=precision if device == "cuda" else "float32",
        )
        losses.append(learner.step(make_tasks(2, channels, dtype=torch.float32)).loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4 if precision == "float32" else 0.05)
    assert torch.backends.cudnn.allow_tf32 == before
