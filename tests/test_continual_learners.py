"""Each continual learner does what its paper says."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from wheretolearn.continual.base import in_heads
from wheretolearn.continual.baselines import EWC, GEM, turn
from wheretolearn.continual.la_maml import LaMAML
from wheretolearn.continual.methods import LEARNERS, make_learner, settings
from wheretolearn.continual.streams.pixels import make_stream
from wheretolearn.continual.streams.stream import TensorStream
from wheretolearn.continual.task_gradients import Factored, Stacked
from wheretolearn.networks import MLP
from wheretolearn.rules import make_rule
from wheretolearn.types import Batch

SIZES = (6, 8, 7, 3)
FAMILY = [name for name in LEARNERS if "maml" in name or name == "sync"]


def batch(count, seed, classes=3):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return Batch(inputs, torch.randint(classes, (count,), generator=generator))


def base(seed=0):
    torch.manual_seed(seed)
    return {
        "network": MLP(*SIZES).double(),
        "generator": torch.Generator().manual_seed(seed),
    }


def member(name, **settings):
    """Return one of the family of La-MAML."""
    learner = LEARNERS[name].make(**settings, **base())
    assert isinstance(learner, LaMAML)
    return learner


def clusters(tasks=2, classes=3, each=60):
    """Tasks that are easy apart: clusters, elsewhere in each task."""
    generator = torch.Generator().manual_seed(0)

    def draw(centres):
        targets = torch.arange(each) % classes
        noise = 0.3 * torch.randn(each, 6, generator=generator)
        return Batch(centres[targets] + noise, targets)

    data = []
    for _ in range(tasks):
        centres = torch.randn(classes, 6, generator=generator) * 2
        data.append((draw(centres), draw(centres)))
    return TensorStream("clusters", data, classes=classes)


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_learn(name):
    stream = clusters()
    changes = {
        "online": {"rate": 0.1},
        "ewc": {"rate": 0.1, "strength": 1.0},
        "gem": {"rate": 0.1},
        "mer": {"rate": 0.1, "trajectories": 1, "beta": 0.2, "replay": 3},
    }
    learner = make_learner(name, stream, 0, changes.get(name, {}), width=16)
    train, test = stream.train(0), stream.test(0)
    before = learner.accuracy(test, (0, 3))
    for _ in range(2):
        for start in range(0, 60, 10):
            part = slice(start, start + 10)
            learner.observe(Batch(train.inputs[part], train.targets[part]))
    assert learner.accuracy(test, (0, 3)) > max(before, 0.8)


# --- EWC


@pytest.mark.parametrize(("fisher", "kept"), [("samples", slice(-4, None)), ("mean", slice(4))])
def test_springs_add_up(fisher, kept):
    """After two tasks a step follows the gradient of the loss and both quadratic springs."""
    learner = EWC(rate=1e-3, strength=2.0, fisher=fisher, fisher_samples=4, **base())
    ends, fishers = [], []
    for task in range(2):
        learner.observe(batch(3, 10 * task))
        learner.observe(batch(3, 10 * task + 1))
        seen = zip(batch(3, 10 * task), batch(3, 10 * task + 1), strict=True)
        ends.append(learner.params)
        fishers.append(learner.fisher(Batch(*(torch.cat(pair)[kept] for pair in seen))))
        learner.end_task()
    samples = batch(5, 99)
    start = {n: p + 0.01 for n, p in learner.params.items()}
    learner.params = start
    leaves = {n: p.clone().requires_grad_() for n, p in start.items()}
    loss = F.cross_entropy(learner.forward(leaves, samples.inputs), samples.targets)
    for end, f in zip(ends, fishers, strict=True):
        loss = loss + sum((f[n] * (p - end[n]) ** 2).sum() for n, p in leaves.items())
    grads = torch.autograd.grad(loss, list(leaves.values()))
    learner.observe(samples)
    for (n, p), g in zip(start.items(), grads, strict=True):
        torch.testing.assert_close(learner.params[n], p - 1e-3 * g, rtol=0, atol=1e-12)


# --- GEM


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([0.0, 0.5]))
def test_the_nearest_gradient_that_harms_none(seed, tasks, margin):
    """With weights of at least the margin (checked by another solver)."""
    rng = np.random.default_rng(seed)
    gradient, memories = rng.normal(size=12), rng.normal(size=(tasks, 12))
    rows = np.stack([gradient, *memories])
    weights = turn(rows @ rows.T, margin)
    if (memories @ gradient >= 0).all():
        assert not weights.any()
        return
    found = gradient + weights @ memories
    assert (memories @ found >= -1e-6).all()

    def size(v):
        return 0.5 * ((gradient + v @ memories) ** 2).sum()

    best = minimize(size, np.full(tasks, margin + 0.1), bounds=[(margin, None)] * tasks)
    assert size(weights) <= best.fun + 1e-5
    assert (weights >= margin).all()


@given(st.integers(0, 10_000), st.integers(2, 30), st.sampled_from([0.0, 0.1]))
def test_a_memory_that_was_fitted_long_ago_counts_as_much(seed, tasks, margin):
    """Its gradient is short, and what is left must not point against its direction either."""
    rng = np.random.default_rng(seed)
    gradient, directions = rng.normal(size=40), rng.normal(size=(tasks, 40))
    memories = directions * 10 ** rng.uniform(-5, 1, size=(tasks, 1))
    memories[0] *= -np.sign(memories[0] @ gradient)  # one is violated
    rows = np.stack([gradient, *memories])
    weights = turn(rows @ rows.T, margin)
    found = gradient + weights @ memories
    assert (weights >= margin).all()
    lengths = np.linalg.norm(memories, axis=1)
    assert (memories @ found >= -1e-5 * lengths * np.linalg.norm(gradient)).all()


@pytest.mark.parametrize("sizes", [[1], [1, 3, 3], [4, 1, 5, 2]])
def test_gradients_as_factors_are_those_written_out(sizes):
    learner = GEM(rate=0.1, memory=9, tasks=3, **base())
    batches = [batch(n, i) for i, n in enumerate(sizes)]
    factored = Factored(learner.params, batches)
    written = Stacked([learner.gradient(b)[1] for b in batches])
    np.testing.assert_allclose(factored.gram(), written.gram(), rtol=1e-12, atol=1e-14)
    weights = np.linspace(-1, 2, len(sizes))
    found, wanted = factored.mixture(weights), written.mixture(weights)
    assert found.keys() == wanted.keys() == learner.params.keys()
    for n, g in wanted.items():
        torch.testing.assert_close(found[n], g, rtol=0, atol=1e-14)


def far(gap, classes=3, dtype=torch.float32):
    """Return weights of a linear network that is sure of class 0, by a gap between logits."""
    weight = torch.zeros(classes, 2, dtype=dtype)
    weight[0, 0] = gap
    return {"0.weight": weight, "0.bias": torch.zeros(classes, dtype=dtype)}


@pytest.mark.parametrize("gap", [20.0, 95.0, 300.0])
def test_gradient_of_a_memory_that_is_fitted(gap):
    """It is as short as exp(-gap), far below what single precision resolves beside 1."""
    memory = Batch(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    found = Factored(far(gap), [memory], exact=True).gram()[0, 0]
    one = math.exp(-gap) / (1 + 2 * math.exp(-gap))  # of each other class
    squared = (4 + 1 + 1) * one**2 * 2  # 2 for the input and the bias
    assert found == pytest.approx(squared, rel=1e-9, abs=0)


def test_a_fitted_memory_is_not_harmed():
    """Its weight is beyond single precision, and what is learned is finite all the same."""
    params = far(95.0)
    memory = Batch(torch.tensor([[1.0, 0.1]]), torch.tensor([0]))
    against = Batch(torch.tensor([[1.0, -0.2]]), torch.tensor([1]))
    found = Factored(params, [against, memory], exact=True)
    weights = turn(found.gram(), 0.0)
    assert weights.max() > torch.finfo(torch.float32).max
    turned = found.mixture(np.concatenate([[1.0], weights]))
    assert all(g.isfinite().all() for g in turned.values())
    own = Factored({n: p.double() for n, p in params.items()}, [memory], exact=True).mixture(
        np.ones(1)
    )
    along = sum((turned[n].double() * g).sum() for n, g in own.items())
    lengths = [
        math.sqrt(sum(float((g.double() ** 2).sum()) for g in d.values())) for d in (own, turned)
    ]
    assert along >= -1e-6 * math.prod(lengths)


def test_a_memory_whose_gradients_cancel_asks_for_nothing():
    """One image under every label, and no opinion on it: what is left of the sum is rounding."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        image = torch.randn(1, 2, generator=generator)
        memory = Batch(image.expand(3, 2), torch.arange(3))
        other = Batch(torch.randn(2, 2, generator=generator), torch.tensor([0, 1]))
        found = Factored(far(0.0), [other, memory, other])
        products = found.gram()
        assert not products[1].any()
        products[0, 2] = products[2, 0] = -products[0, 2]  # as if that one were violated
        weights = turn(products, 0.0)
        assert np.isfinite(weights).all()
        assert weights[0] == 0


# --- the weights at the start


def test_weights_at_the_start():
    """Those of Gupta et al. are normal, those of MER's script uniform, biases zero in both."""
    stream = clusters()

    def start(**changes):
        return make_learner("online", stream, 0, changes, 400).params

    kaiming, xavier = start(), start(init="xavier")
    for n, p in kaiming.items():
        if n.endswith("bias"):
            assert not p.any()
            assert not xavier[n].any()
            continue
        fan_out, fan_in = p.shape
        assert p.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
        bound = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.9 * bound < xavier[n].abs().max() <= bound
    same = make_learner("ewc", stream, 0, {}, 400).params
    assert all(torch.equal(p, same[n]) for n, p in kaiming.items())
    with pytest.raises(ValueError, match="init must be one of kaiming, xavier, got 'zeros'"):
        start(init="zeros")


# --- MER


# --- La-MAML


def transcribed(learner, replayed, samples):
    """One glance as the paper's algorithm says it, by autograd through everything."""
    rule = learner.rule
    w = {n: p.clone().requires_grad_() for n, p in learner.params.items()}
    m = {n: p.clone().requires_grad_() for n, p in learner.rule_params.items()}

    def loss(params, x, y):
        return F.cross_entropy(torch.func.functional_call(learner.network, params, (x,)), y)

    rates = rule.rates(m, w)
    fast, total = dict(w), torch.zeros(())
    rows = [torch.cat(pair) for pair in zip(replayed, samples, strict=True)]
    for i in range(len(samples.targets)):
        one = loss(fast, samples.inputs[i : i + 1], samples.targets[i : i + 1])
        grads = torch.autograd.grad(one, list(fast.values()), retain_graph=True)
        fast = {n: fast[n] - rates[n] * g for n, g in zip(fast, grads, strict=True)}
        total = total + loss(fast, *rows) / len(samples.targets)
    total.backward()
    norms = [torch.nn.utils.clip_grad_norm_(w.values(), 2.0)]
    if m:
        norms.append(torch.nn.utils.clip_grad_norm_(m.values(), 2.0))
    with torch.no_grad():
        m = {n: p - learner.rule_rate * p.grad for n, p in m.items()}
        rates = rule.rates(m, w)  # the new ones
        step = rates if learner.outer_rate is None else dict.fromkeys(w, learner.outer_rate)
        return {n: p - step[n] * p.grad for n, p in w.items()}, m, norms


@pytest.mark.parametrize("clamp", [None, 1e6])  # by hand, and by autograd
@pytest.mark.parametrize("scale", [0.3, 30.0])  # gradients as they are, and clipped ones
@pytest.mark.parametrize("name", FAMILY)
def test_one_glance_is_the_algorithm(name, clamp, scale):
    changes = settings(name, "rotations") | {"glances": 1, "memory": 20, "clamp": clamp}
    learner = member(name, **changes)
    learner.observe(batch(10, 1))  # fills the memory
    inputs, targets = batch(10, 2)
    samples = Batch(scale * inputs, targets)
    state = learner.generator.get_state()
    order = torch.randperm(10, generator=learner.generator)
    shuffled = Batch(samples.inputs[order], samples.targets[order])
    replayed = learner.memory.sample(10, samples)
    learner.generator.set_state(state)
    params, rule_params, norms = transcribed(learner, replayed, shuffled)
    assert all((norm > 2) == (scale > 1) for norm in norms)
    learner.observe(samples)
    for got, want in ((learner.params, params), (learner.rule_params, rule_params)):
        assert got.keys() == want.keys()
        for n in want:
            # torch adds 1e-6 to the norm by which it divides
            torch.testing.assert_close(got[n], want[n], rtol=0, atol=1e-6, msg=n)
    assert len(learner.memory) == 20


def test_masked_steps_leave_frozen_weights_alone():
    settings_ = {"inner_rate": 0.1, "rule_rate": 0.0, "memory": 20, "init_sparsity": 0.5}
    for name, still in (("sparse-la-maml", True), ("sparse-la-maml-plain", False)):
        outer = {"outer_rate": 0.1} if name.endswith("plain") else {}
        learner = member(name, **settings_, **outer)
        frozen = {n: torch.as_tensor(r) == 0 for n, r in learner.rates().items()}
        assert 0.3 < torch.cat([f.flatten() for f in frozen.values()]).double().mean() < 0.7
        start = learner.params
        learner.observe(batch(10, 1))
        moved = {n: learner.params[n] != start[n] for n in start}
        assert any(bool((moved[n] & ~frozen[n]).any()) for n in start)
        assert any(bool((moved[n] & frozen[n]).any()) for n in start) != still


def test_a_dead_rate_comes_back_only_straight_through():
    for name, returns in (("la-maml", False), ("la-maml-straight", True)):
        learner = member(name, inner_rate=0.1, rule_rate=1.0, memory=20, glances=3)
        learner.rule_params = {n: m - 0.1001 for n, m in learner.rule_params.items()}
        for seed in range(3):
            learner.observe(batch(10, seed))
        alive = any(bool((torch.as_tensor(r) > 0).any()) for r in learner.rates().values())
        assert alive == returns


def test_past_only_replays_what_was_there_before_the_task(monkeypatch):
    learner = LaMAML(
        rule=make_rule("maml", inner_rate=0.1), memory=100, past_only=True, outer_rate=0.1, **base()
    )
    old, new = batch(30, 1), batch(30, 2)
    drawn: list[tuple[float, ...]] = []
    meta_gradient = learner._meta_gradient

    def spy(current, replayed):
        drawn.extend(map(tuple, replayed.inputs.tolist()))
        return meta_gradient(current, replayed)

    monkeypatch.setattr(learner, "_meta_gradient", spy)
    for start in (0, 10, 20):
        learner.observe(Batch(old.inputs[start : start + 10], old.targets[start : start + 10]))
    assert drawn  # the first task replays itself
    learner.end_task()
    drawn.clear()
    for start in (0, 10, 20):
        learner.observe(Batch(new.inputs[start : start + 10], new.targets[start : start + 10]))
    assert set(drawn) <= set(map(tuple, old.inputs.tolist()))
    learner.end_task()
    drawn.clear()
    learner.observe(new)
    assert not set(drawn) <= set(map(tuple, old.inputs.tolist()))


# --- heads


def test_heads():
    outputs = torch.randn(5, 6, dtype=torch.float64)
    targets = torch.tensor([0, 2, 3, 5, 1])
    want = sum(
        F.cross_entropy(outputs[i : i + 1, 2 * (t // 2) : 2 * (t // 2) + 2], t[None] % 2)
        for i, t in enumerate(targets)
    )
    torch.testing.assert_close(in_heads(2)(outputs, targets), want / 5)
    torch.testing.assert_close(in_heads(None)(outputs, targets), F.cross_entropy(outputs, targets))


# --- by name


def test_unknown_names():
    with pytest.raises(ValueError, match="did you mean 'la-maml'"):
        settings("la_maml", "rotations")
    for name, changes, message in (
        ("ewc", {"fisher": "sample"}, "must be 'samples' or 'mean', got 'sample'"),
        ("ewc", {"fisher_samples": 0}, "fisher_samples must be at least 1, got 0"),
        ("gem", {"memory": 1}, "each of 2 tasks, got size 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make_learner(name, clusters(), 0, changes, 8)
    with pytest.raises(ValueError, match="a perceptron with one head"):
        GEM(rate=0.1, memory=9, tasks=3, exact=True, **(base() | {"ways": 3}))
    for name, changes, message in (
        ("ewc", {"fisher": "sample"}, "must be 'samples' or 'mean', got 'sample'"),
        ("ewc", {"fisher_samples": 0}, "fisher_samples must be at least 1, got 0"),
        ("gem", {"memory": 1}, "each of 2 tasks, got size 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make_learner(name, clusters(), 0, changes, 8)
    with pytest.raises(ValueError, match="a perceptron with one head"):
        GEM(rate=0.1, memory=9, tasks=3, exact=True, **(base() | {"ways": 3}))
    with pytest.raises(ValueError, match="did you mean 'rotations'"):
        make_stream("rotation", 0)
    with pytest.raises(ValueError, match=r"la-maml: .*rtae"):
        make_learner("la-maml", clusters(), 0, {"rtae": 1}, 8)
    for name in ("replay", "mer", "la-maml"):
        with pytest.raises(ValueError, match="at least one sample, got size 0"):
            make_learner(name, clusters(), 0, {"memory": 0}, 8)


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        (("online", "ewc", "gem", "replay", "la-maml"), {"glances": 0}),
        (("online", "ewc", "gem", "mer", "replay"), {"rate": -0.1}),
        (("online", "ewc", "gem", "mer", "replay"), {"rate": math.nan}),
        (("replay", "mer", "la-maml"), {"replay": -1}),
        (("mer",), {"trajectories": 0}),
        (("mer",), {"beta": -0.1}),
        (("gem",), {"margin": -1}),
        (("ewc",), {"strength": math.nan}),
        (("la-maml", "sparse-la-maml"), {"rule_rate": -0.1}),
        (("c-maml",), {"outer_rate": math.nan}),
        (("la-maml",), {"clamp": -2.0}),
    ],
)
def test_numbers_that_make_no_sense(names, changes):
    (setting, value), *_ = changes.items()
    for name in names:
        with pytest.raises(ValueError, match=rf"{setting} must be at least [01], got {value}"):
            make_learner(name, clusters(), 0, changes, 8)
