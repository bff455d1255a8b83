"""Rules: what is drawn, what moves, and what is refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from wheretolearn import METHODS, MetaLearner, Rule, make_rule, rules
from wheretolearn.networks import MLP, ConvNet4
from wheretolearn.rules import Gate, count_frozen
from wheretolearn.types import Batch, Rates, Task

SHAPES = st.sampled_from([(1,), (7,), (300,), (20, 31), (8, 3, 3, 3), (16, 16, 3, 3)])
DTYPES = st.sampled_from([torch.float32, torch.float64])
CAN_FREEZE = ["sparse-maml", "sparse-relu-maml", "relu-maml"]


def share_frozen(rule, params, seed=0):
    """Frozen and total number of weights of a freshly drawn rule."""
    m = rule.init(params, torch.Generator().manual_seed(seed))
    counts = count_frozen(rule.rates(m, params), params).values()
    return sum(c.frozen for c in counts), sum(c.size for c in counts)


@given(
    shape=SHAPES,
    dtype=DTYPES,
    sparsity=st.floats(0, 1),
    mask_init=st.sampled_from(["uniform", "kaiming"]),
    method=st.sampled_from(CAN_FREEZE),
    seed=st.integers(0, 2**32),
)
def test_initial_sparsity_is_exact_within_sampling(shape, dtype, sparsity, mask_init, method, seed):
    rule = make_rule(method, init_sparsity=sparsity, mask_init=mask_init, inner_rate=0.1)
    params = {"w": torch.zeros(shape, dtype=dtype)}
    frozen, size = share_frozen(rule, params, seed)
    # six standard deviations, and three weights for the skewed ends: chance is below 1e-7
    assert abs(frozen - sparsity * size) <= 6 * math.sqrt(sparsity * (1 - sparsity) * size) + 3
    if sparsity in (0, 1):
        assert frozen == sparsity * size


@pytest.mark.parametrize("mask_init", ["uniform", "kaiming"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("method", CAN_FREEZE)
def test_none_and_all_are_exact(method, dtype, mask_init):
    """Rounding to the type of the weights carries nothing across the threshold."""
    params = {"w": torch.zeros(400, 500, dtype=dtype)}
    for sparsity in (0.0, 1.0):
        rule = make_rule(method, init_sparsity=sparsity, mask_init=mask_init)
        frozen, size = share_frozen(rule, params)
        assert frozen == sparsity * size
    # a large sample, so that a bias of half a percent shows
    rule = make_rule(method, init_sparsity=0.25, mask_init=mask_init)
    frozen, size = share_frozen(rule, params)
    assert frozen / size == pytest.approx(0.25, abs=6 * math.sqrt(0.25 * 0.75 / size))


def test_mask_values_have_the_stated_spread():
    params = {"w": torch.zeros(64, 25, 3, 3), "b": torch.zeros(20_000)}
    drawn = nn.init.kaiming_uniform_(torch.empty(64, 25, 3, 3))  # what the spread is named after
    for mask_init, bounds in (
        ("uniform", {"w": 0.5, "b": 0.5}),
        ("kaiming", {"w": float(drawn.abs().max()), "b": 0.5}),
    ):
        rule = make_rule("sparse-maml", init_sparsity=0.3, mask_init=mask_init)
        m = rule.init(params, torch.Generator().manual_seed(0))
        for n, b in bounds.items():
            low, high = float(m[n].min()), float(m[n].max())
            assert low == pytest.approx(-b + b * (1 - 0.6), abs=0.002 * b)
            assert high == pytest.approx(b + b * (1 - 0.6), abs=0.002 * b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_numbers_have_shape_type_and_layout_of_the_weights(method, dtype):
    params = dict(ConvNet4(5, 3, 16, 4).to(dtype).named_parameters())
    rule = make_rule(method)
    m = rule.init(params)
    rates = rule.rates(m, params)
    if not rule.learned:
        assert m == {}
        assert set(rates.values()) == {0.1}
        return
    assert [n for n in m if "@" not in n] == list(params)
    for n, p in params.items():
        assert m[n].shape == p.shape == torch.as_tensor(rates[n]).shape
        assert m[n].dtype == p.dtype == torch.as_tensor(rates[n]).dtype
        assert m[n].stride() == p.stride()


def test_the_mask_is_reproducible_and_does_not_touch_the_global_state():
    params = {"w": torch.zeros(50)}
    rule = make_rule("sparse-maml")
    before = torch.get_rng_state()
    a, b, c = (rule.init(params, torch.Generator().manual_seed(s))["w"] for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)


class Nested(nn.Module):
    """A reader's network: blocks in blocks, and a head that is no ``output``."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Linear(5, 6), nn.Tanh()))
        self.scale = nn.Parameter(torch.ones(1))
        self.top = nn.ModuleDict({"norm": nn.LayerNorm(6), "decide": nn.Linear(6, 2)})

    def forward(self, x):
        return self.top["decide"](self.top["norm"](self.stem(x) * self.scale))


@pytest.mark.parametrize(
    ("network", "head"),
    [
        (ConvNet4(5, 1, 16, 2), ["output.weight", "output.bias"]),
        (MLP(3, 4, 4, 2), ["layers.2.weight", "layers.2.bias"]),
        (Nested(), ["top.decide.weight", "top.decide.bias"]),
    ],
)
def test_scopes(network, head):
    params = dict(network.named_parameters())
    body = [n for n in params if n not in head]
    assert make_rule("anil").moves(params) == head
    assert make_rule("boil").moves(params) == body
    assert make_rule("maml").moves(params) == list(params)
    assert list(make_rule("anil").rates({}, params)) == head
    assert list(make_rule("sparse-maml", scope="body").init(params)) == body
    counts = count_frozen(make_rule("anil").rates({}, params), params)
    assert [n for n, c in counts.items() if c.frozen == c.size] == body
    assert [n for n, c in counts.items() if c.frozen == 0] == head


def test_count_frozen():
    params = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(5)}
    rates: Rates = {"a": torch.tensor([[0.1, 0.0, -0.0], [0.0, 1e-30, -0.2]]), "b": 0.3}
    assert count_frozen(rates, params) == {"a": (3, 6), "b": (0, 4), "c": (5, 5)}
    assert count_frozen({"b": 0.0}, {"b": params["b"]}) == {"b": (4, 4)}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_rule("sparse-mamml"), "did you mean 'sparse-maml'"),
        (lambda: make_rule("Meta_SGD"), "did you mean 'meta-sgd'"),
        (lambda: make_rule("zzz"), "known are 'maml', 'anil'"),
        (lambda: make_rule("maml", inner_rat=0.1), "did you mean 'inner_rate'"),
        (lambda: make_rule("maml", sparsity=0.1), "did you mean 'init_sparsity'"),
        (lambda: Rule(gate="maks"), "did you mean 'mask'"),
        (lambda: Rule(scope="haed"), "did you mean 'head'"),
        (lambda: Rule(mask_init="kaimin"), "'uniform' or 'kaiming'"),  # type: ignore[arg-type]
        (lambda: make_rule("maml", init_sparsity=0.5), "init_sparsity must be 0"),
        (lambda: make_rule("meta-sgd", init_sparsity=0.5), "init_sparsity must be 0"),
        (lambda: make_rule("exp-maml", init_sparsity=0.5), "init_sparsity must be 0"),
    ],
)
def test_names_and_combinations_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("value", [0.0, -0.1, math.inf, -math.inf, math.nan])
def test_inner_rate_must_be_positive_and_finite(value):
    with pytest.raises(ValueError, match="inner_rate must be positive and finite"):
        make_rule("maml", inner_rate=value)


@pytest.mark.parametrize("value", [-1e-9, 1 + 1e-9, math.nan, math.inf])
def test_init_sparsity_must_be_a_share(value):
    with pytest.raises(ValueError, match=r"init_sparsity must lie in \[0, 1\]"):
        make_rule("sparse-maml", init_sparsity=value)


EXTREME = [-1e30, -3e4, -1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, 3e4, 1e30]


@given(
    m=st.lists(
        st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([float(0), -0.0]),
        min_size=1,
        max_size=20,
    ),
    rate=st.sampled_from([0.1, 0.4, 0.01, 1e-4, 3.0]),
    dtype=DTYPES,
)
def test_a_masked_rate_is_exactly_zero_or_the_inner_rate(m, rate, dtype):
    rule = make_rule("sparse-maml", inner_rate=rate)
    numbers = torch.tensor(m, dtype=dtype)
    rates = rule.rates({"w": numbers}, ["w"])["w"]
    want = [rate if x >= 0 else 0.0 for x in numbers.tolist()]
    assert torch.equal(torch.as_tensor(rates), torch.tensor(want, dtype=dtype))


@given(m=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20))
def test_a_relu_rate_is_exactly_its_number_or_zero(m):
    numbers = torch.tensor(m, dtype=torch.float32)
    for method in ("sparse-relu-maml", "relu-maml"):
        rates = make_rule(method).rates({"w": numbers}, ["w"])["w"]
        assert torch.equal(torch.as_tensor(rates), numbers.clamp_min(0))


def derivative(method, m, alpha):
    """The derivative of a rate by its number, in plain Python: the table of the module."""
    return {
        "sparse-maml": lambda: alpha,
        "sparse-maml-plus": lambda: alpha,
        "masked-weights": lambda: alpha,
        "sparse-relu-maml": lambda: 1.0,
        "relu-maml": lambda: float(m > 0),
        "meta-sgd": lambda: 1.0,
        "exp-maml": lambda: math.exp(m),
    }[method]()


@pytest.mark.parametrize("method", [m for m, method in METHODS.items() if method.rule.learned])
def test_pull_back_is_the_table_of_derivatives(method):
    values = [x for x in EXTREME if method != "exp-maml" or abs(x) <= 1]
    m = torch.tensor(values, dtype=torch.float64)
    grads = torch.linspace(-2, 3, len(values), dtype=torch.float64)
    got = make_rule(method, inner_rate=0.3).pull_back({"w": m}, {"w": grads})["w"]
    want = [g * derivative(method, x, 0.3) for g, x in zip(grads.tolist(), values, strict=True)]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-15, atol=0)


def test_pull_back_leaves_its_arguments_alone():
    m, g = torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 1.0])
    make_rule("sparse-maml").pull_back({"w": m}, {"w": g})
    assert not m.requires_grad
    assert m.tolist() == [-1.0, 2.0]
    assert make_rule("maml").pull_back({}, {}) == {}


@pytest.mark.parametrize(
    ("method", "revives"), [("sparse-maml", True), ("sparse-relu-maml", True), ("relu-maml", False)]
)
def test_a_frozen_weight_can_come_back_only_straight_through(method, revives):
    """Follow the gradient that asks for a higher rate, from a frozen start."""
    rule = make_rule(method, inner_rate=0.5)
    m = {"w": torch.full((3,), -0.2)}
    for _ in range(20):
        grads = rule.pull_back(m, {"w": torch.full((3,), -1.0)})
        m = {"w": m["w"] - 0.1 * grads["w"]}
    alive = count_frozen(rule.rates(m, m), m)["w"].frozen == 0
    assert alive == revives
    if not revives:
        assert m["w"].tolist() == torch.full((3,), -0.2).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("mask_init", ["uniform", "kaiming"])
def test_rounding_frees_no_weight(monkeypatch, dtype, mask_init):
    """The draw next to the threshold, on either side: its value is too small for float16."""
    rule = make_rule("sparse-maml", init_sparsity=0.25, mask_init=mask_init)
    for draw, frozen in ((math.nextafter(0.25, 0), 6), (0.25, 0), (math.nextafter(0.25, 1), 0)):
        drawn = torch.full((2, 3), draw, dtype=torch.float64)
        monkeypatch.setattr(torch, "rand", lambda *args, drawn=drawn, **kwargs: drawn)
        assert share_frozen(rule, {"w": torch.zeros(2, 3, dtype=dtype)}) == (frozen, 6)


def test_masks_from_noise_differ_from_task_to_task_in_the_kernels_only():
    params = dict(ConvNet4(5, 1, 16, 8).named_parameters())
    rule = make_rule("sparse-maml-plus", noise=30)
    m = rule.init(params, torch.Generator().manual_seed(0))
    one, two = (rule.rates(m, params, rule.draw()) for _ in range(2))
    for n, p in params.items():
        differ = not torch.equal(torch.as_tensor(one[n]), torch.as_tensor(two[n]))
        assert differ == (p.ndim == 4), n
    plain = rule.rates(m, params)
    assert torch.equal(
        torch.as_tensor(plain["layer1.conv.weight"]) > 0, m["layer1.conv.weight"] >= 0
    )


def test_normalisation_layers_can_be_left_out():
    params = dict(ConvNet4(5, 1, 16, 4).named_parameters())
    moves = make_rule("maml", adapt_norm=False).moves(params)
    assert moves == [n for n in params if ".norm." not in n]
    assert len(moves) == 10


# Gates of a reader's own


def soft(m, rate):
    return rate * torch.sigmoid(m)


OWN = {
    "soft mask": (Gate(soft, lambda rate: 0.0, False), 0),
    "one rate a tensor": (Gate(lambda m, rate: m, lambda rate: rate, False, per_tensor=True), 0),
    "one rate a step": (Gate(lambda m, rate: m, lambda rate: rate, False), 3),
    "one rate a tensor and step": (
        Gate(lambda m, rate: m, lambda rate: rate, False, per_tensor=True),
        3,
    ),
}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("order", [1, 2])
def test_a_gate_of_ones_own_has_the_meta_gradient_of_autograd(monkeypatch, own, order):
    """One line in the table of gates, and nothing else."""
    gate, steps = OWN[own]
    monkeypatch.setitem(rules.GATES, "own", gate)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    rule = Rule(gate="own", inner_rate=0.3, steps=steps)
    learner = MetaLearner(
        network, rule, criterion=F.mse_loss, inner_steps=3, order=order, device="cpu"
    )
    for m in learner.rule_params.values():
        m.add_(0.1 * torch.randn_like(m))
    batches = [Batch(torch.randn(5, 3).double(), torch.randn(5, 2).double()) for _ in range(2)]
    theta = {n: p.clone().requires_grad_() for n, p in learner.params.items()}
    numbers = {n: m.clone().requires_grad_() for n, m in learner.rule_params.items()}
    fast = dict(theta)
    for k in range(3):
        loss = F.mse_loss(functional_call(network, fast, (batches[0].inputs,)), batches[0].targets)
        grads = torch.autograd.grad(loss, list(fast.values()), create_graph=order == 2)
        rates = [gate.rate(m[k] if steps else m, 0.3) for m in numbers.values()]
        fast = {n: p - r * g for (n, p), r, g in zip(fast.items(), rates, grads, strict=True)}
    loss = F.mse_loss(functional_call(network, fast, (batches[1].inputs,)), batches[1].targets)
    wanted = torch.autograd.grad(loss, [*theta.values(), *numbers.values()])
    learner.step([Task(*batches)])
    result = [p.grad for p in (*learner.params.values(), *learner.rule_params.values())]
    for mine, theirs in zip(result, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)
    assert learner.sparsity() == 0


def test_a_rule_by_step_needs_as_many_steps(monkeypatch):
    monkeypatch.setitem(rules.GATES, "own", OWN["one rate a step"][0])
    learner = MetaLearner(nn.Linear(2, 2), Rule(gate="own", steps=3), inner_steps=2, device="cpu")
    batch = Batch(torch.ones(2, 2), torch.arange(2))
    with pytest.raises(ValueError, match="2 inner steps"):
        learner.step([Task(batch, batch)])


def test_a_method_of_ones_own_is_a_line_of_the_table(monkeypatch):
    monkeypatch.setitem(rules.GATES, "own", OWN["soft mask"][0])
    monkeypatch.setitem(rules.METHODS, "soft", rules.Method(Rule(gate="own"), "soft mask"))
    assert make_rule("soft", inner_rate=0.2) == Rule(gate="own", inner_rate=0.2)
