"""The mathematics, in float64 and without data."""

import copy
import gc
import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from textbook import assert_close, episodes, gradients, grads, leaves, outer_loss
from wheretolearn import METHODS, Batch, MetaLearner, Task, make_rule
from wheretolearn.inner_loop import FunctionalModule, adapt, first_order, second_order
from wheretolearn.networks import MLP, ConvNet4

STEPS = [0, 1, 2, 5]
NOT_PLAIN = ("sparse-maml-plus", "masked-weights")  # more than a rate for each weight
PLAIN = [m for m in METHODS if m not in NOT_PLAIN]


@pytest.fixture(params=["mlp", "convnet"])
def problem(request):
    """A network as a function, its parameters, and a task, in float64."""
    torch.manual_seed(3)
    shape = (6,) if request.param == "mlp" else (2, 16, 16)
    net = MLP(6, 7, 5, 3) if len(shape) == 1 else ConvNet4(3, 2, 16, width=3)
    net, (task,) = net.double(), episodes(1, 12, 18, *shape)
    return FunctionalModule(net), dict(net.named_parameters()), task


def rule_and_numbers(method, params):
    """A rule whose numbers are spread over both sides of its threshold."""
    rule = make_rule(method, inner_rate=0.3)
    m = rule.init(params, torch.Generator().manual_seed(1))
    if method == "sparse-maml":
        assert sum(int((x < 0).sum()) for x in m.values()) > 0
    elif rule.learned:
        gen = torch.Generator().manual_seed(2)
        spread = {"sparse-relu-maml": 0.6, "relu-maml": 0.6, "meta-sgd": 0.2, "exp-maml": 0.5}
        for x in m.values():
            x.add_(spread[method] * (torch.rand(x.shape, generator=gen, dtype=x.dtype) - 0.5))
    return rule, m


class StepStraightThrough(torch.autograd.Function):
    """1[m >= 0] with the derivative of the identity: written apart from the library."""

    @staticmethod
    def forward(ctx, m):
        return (m >= 0).to(m.dtype)

    @staticmethod
    def backward(ctx, grad):
        return grad


class ReluStraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, m):
        return torch.relu(m)

    @staticmethod
    def backward(ctx, grad):
        return grad


TEXTBOOK_RATE = {
    "sparse-maml": lambda m, a: a * StepStraightThrough.apply(m),
    "sparse-relu-maml": lambda m, a: ReluStraightThrough.apply(m),
    "relu-maml": lambda m, a: torch.relu(m),
    "meta-sgd": lambda m, a: m,
    "exp-maml": lambda m, a: torch.exp(m),
}


def rate_of(method, name, number, head, alpha=0.3):
    """Return the rate of a tensor, written apart from the library."""
    if method in TEXTBOOK_RATE:
        return TEXTBOOK_RATE[method](number, alpha)
    still = {"maml": False, "anil": not name.startswith(head), "boil": name.startswith(head)}
    return 0.0 if still[method] else alpha


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("method", PLAIN)
@pytest.mark.parametrize("order", [1, 2])
def test_meta_gradient_is_that_of_the_usual_graph(problem, method, steps, order):
    forward, params, task = problem
    rule, m = rule_and_numbers(method, params)
    rates = rule.rates(m, params)
    library = first_order if order == 1 else second_order
    got = library(forward, F.cross_entropy, params, rates, task, steps)
    theta, numbers = leaves(params), leaves(m)
    head = list(params)[-1].rpartition(".")[0] + "."

    def step(n, p, g, k):
        return p - rate_of(method, n, numbers.get(n), head) * g

    loss = outer_loss(forward, theta, step, task, steps, order == 2)
    outer, rule_grads = gradients(loss, theta, numbers)
    torch.testing.assert_close(got.loss, loss.detach())
    assert_close(got.params, outer, 1e-12)
    if rule.learned:
        assert_close(rule.pull_back(m, got.rates), rule_grads, 1e-12)
        if steps:
            assert any(g.abs().max() > 1e-6 for g in rule_grads.values()), "the test is empty"


@pytest.mark.parametrize("method", ["maml", "anil", "boil", "meta-sgd", "exp-maml", "relu-maml"])
def test_second_order_is_the_finite_difference(method):
    """For rules without straight-through, the exact gradient is the slope of the loss."""
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()  # no kinks
    (task,) = episodes(1, 10, 10, 4)
    forward, params = FunctionalModule(net), dict(net.named_parameters())
    rule, m = rule_and_numbers(method, params)

    def loss(params, m):
        rates = rule.rates(m, params)
        fast = adapt(forward, F.cross_entropy, params, rates, task.support, 3).params
        return float(F.cross_entropy(forward(fast, task.query.inputs), task.query.targets))

    got = second_order(forward, F.cross_entropy, params, rule.rates(m, params), task, 3)
    start, h = {"theta": params, "m": m}, 1e-6
    for of, slopes in (("theta", got.params), ("m", rule.pull_back(m, got.rates))):
        along = {n: torch.randn_like(g) for n, g in slopes.items()}
        up, down = (
            loss(*(start | {of: {n: v + s * along[n] for n, v in start[of].items()}}).values())
            for s in (h, -h)
        )
        slope = sum(float((slopes[n] * d).sum()) for n, d in along.items())
        assert slope == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-8), of


@pytest.mark.parametrize("method", PLAIN)
def test_frozen_coordinates_are_bit_identical(problem, method):
    forward, params, task = problem
    rule, m = rule_and_numbers(method, params)
    rates = rule.rates(m, params)
    adapted = adapt(forward, F.cross_entropy, params, rates, task.support, 5).params
    moved = 0
    for n, p in params.items():
        rate = torch.as_tensor(rates.get(n, 0.0)).expand(p.shape)
        assert torch.equal(adapted[n][rate == 0], p[rate == 0])
        moved += int((adapted[n] != p).sum())
    assert moved > 0
    assert list(adapted) == list(params)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [1, 4, 9])
def test_quadratic_loss_against_the_matrix_power(steps, order):
    """L = (phi - c)' A (phi - c) / 2: phi_K - c = (I - R A)^K (theta - c), R = diag(r)."""
    gen = torch.Generator().manual_seed(8)
    root = torch.randn(5, 5, generator=gen, dtype=torch.float64)
    A = root @ root.T / 5
    c, theta = torch.randn(2, 5, generator=gen, dtype=torch.float64)
    d = torch.randn(5, generator=gen, dtype=torch.float64)
    r = torch.tensor([0.0, 0.1, 0.2, 0.0, 0.3], dtype=torch.float64)

    def forward(params, x):
        return params["phi"] - x[0]

    def criterion(outputs, targets):
        return outputs @ A @ outputs / 2

    task = Task(Batch(c[None], c), Batch(d[None], d))
    M = torch.matrix_power(torch.eye(5, dtype=torch.float64) - torch.diag(r) @ A, steps)
    phi = c + M @ (theta - c)
    library = first_order if order == 1 else second_order
    got = library(forward, criterion, {"phi": theta}, {"phi": r}, task, steps)
    outer = A @ (phi - d)
    torch.testing.assert_close(got.loss, (phi - d) @ A @ (phi - d) / 2)
    if order == 2:
        torch.testing.assert_close(got.params["phi"], M.T @ outer)
    else:
        torch.testing.assert_close(got.params["phi"], outer)
        powers = [
            torch.matrix_power(torch.eye(5, dtype=torch.float64) - torch.diag(r) @ A, k)
            for k in range(steps)
        ]
        total = sum(A @ P @ (theta - c) for P in powers)
        torch.testing.assert_close(got.rates["phi"], -outer * total)


@pytest.mark.parametrize("method", PLAIN)
def test_a_meta_step_is_adam_on_the_mean_meta_gradient(method):
    torch.manual_seed(0)
    net = MLP(6, 4, 3).double()
    tasks = episodes(3, 8, 12, 6)
    rule = make_rule(method, inner_rate=0.3)
    learner = MetaLearner(net, rule, inner_steps=2, device="cpu")
    theta, masks = leaves(learner.params), leaves(learner.rule_params)
    parts = FunctionalModule(net), F.cross_entropy, theta, rule.rates(masks, theta)
    results = [first_order(*parts, task, 2) for task in tasks]
    for n, p in theta.items():
        p.grad = torch.stack([r.params[n] for r in results]).mean(0)
    rate_grads = {n: torch.stack([r.rates[n] for r in results]).mean(0) for n in masks}
    for n, g in rule.pull_back(masks, rate_grads).items():
        masks[n].grad = g
    groups = [{"params": list(theta.values()), "lr": 1e-3}]
    groups += [{"params": list(masks.values()), "lr": 7.5e-3}] if masks else []
    torch.optim.Adam(groups).step()
    start = {n: p.detach().clone() for n, p in net.named_parameters()}
    assert learner.step(tasks).losses == pytest.approx([float(r.loss) for r in results])
    assert_close(learner.params, {n: p.detach() for n, p in theta.items()})
    assert_close(learner.rule_params, {n: p.detach() for n, p in masks.items()})
    assert all(torch.equal(p, start[n]) for n, p in net.named_parameters()), "module was changed"


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("method", NOT_PLAIN)
def test_masks_from_noise_and_masked_weights(monkeypatch, method, order):
    """One meta-gradient over two tasks, by one autograd graph with textbook masks."""
    torch.manual_seed(4)
    net = ConvNet4(ways=3, channels=2, image_size=16, width=3).double()
    tasks = episodes(2, 6, 15, 2, 16, 16)
    rule = make_rule(method, inner_rate=0.3, noise=5 if method == "sparse-maml-plus" else 0)
    learner = MetaLearner(net, rule, inner_steps=3, order=order, device="cpu")
    noises = [torch.randn(5), torch.randn(5)]
    if rule.noise:
        left = iter(noises)
        monkeypatch.setattr(type(rule), "draw", lambda self: next(left))
    theta, m = leaves(learner.params), leaves(learner.rule_params)
    forward, total = FunctionalModule(net), torch.zeros((), dtype=torch.float64)
    for task, noise in zip(tasks, noises, strict=True):
        masks = {}
        for n in theta:
            number = m[n]
            if f"{n}@map" in m:
                made = m[f"{n}@map"] @ (m["@scale"] * noise.double())
                number = number + made.reshape(number.shape)
            masks[n] = StepStraightThrough.apply(number)
        start = dict(theta)
        if method == "masked-weights":  # vectors start as they are
            start = {n: masks[n] * p if p.ndim > 1 else p for n, p in theta.items()}

        def step(n, p, g, k, masks=masks):
            return p - 0.3 * masks[n] * g

        total = total + outer_loss(forward, start, step, task, 3, order == 2) / 2
    outer, inner = gradients(total, theta, m)
    learner.step(tasks)
    assert_close(grads(learner.params), outer)
    assert_close(grads(learner.rule_params), inner)
    empty = [n for n, g in (outer | inner).items() if not g.any() and "conv.b" not in n]
    assert not empty, "the test is empty"


def test_memory_does_not_grow_with_the_steps():
    """No tensor of step k is alive at step k + 1: count live tensors early and late."""
    net = MLP(6, 8, 3).double()
    params, (task,) = dict(net.named_parameters()), episodes(1, 12, 12, 6)
    alive, calls = {}, itertools.count(1)

    def criterion(outputs, targets):
        if (call := next(calls)) in (2, 20):
            gc.collect()
            alive[call] = sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())
        return F.cross_entropy(outputs, targets)

    rates = make_rule("maml").rates({}, params)
    first_order(FunctionalModule(net), criterion, params, rates, task, 20)
    assert alive[20] <= alive[2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_gpu_step_equals_cpu_step(method):
    torch.manual_seed(0)
    net = ConvNet4(ways=3, channels=1, image_size=16, width=4).double()
    (task,) = episodes(1, 9, 15, 1, 16, 16)
    learners = [
        MetaLearner(
            copy.deepcopy(net),
            make_rule(method),
            inner_steps=2,
            device=device,
            generator=torch.Generator().manual_seed(0),
        )
        for device in ("cpu", "cuda")
    ]
    for learner in learners:
        learner.step([task])
    assert_close({n: p.cpu() for n, p in learners[1].params.items()}, learners[0].params, 1e-9)


class Tied(torch.nn.Module):
    """Two layers that share their weights."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(3, 3)
        self.second = torch.nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        if len(x) == 0:
            raise RuntimeError("nothing")
        return self.second(self.first(x))


def test_a_module_as_a_function():
    module = Tied()
    own = dict(module.named_parameters())
    forward, x = FunctionalModule(module), torch.randn(4, 3)
    params = {n: torch.randn_like(p).requires_grad_() for n, p in own.items()}
    expected = torch.func.functional_call(module, params, (x,))
    assert torch.equal(forward(params, x), expected)
    with pytest.raises(RuntimeError, match="nothing"):
        forward(params, x[:0])
    assert all(p is own[n] for n, p in module.named_parameters())  # also after an error
    part = {"first.weight": params["first.weight"]}  # the others are the module's
    assert torch.equal(forward(part, x), torch.func.functional_call(module, part, (x,)))
