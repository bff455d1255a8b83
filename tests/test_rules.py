"""Rules: what is drawn, what moves, and what is refused."""

import math

import pytest
import torch
from torch import nn

from reproduction.runs.mask_codec import of_rates
from textbook import assert_close, episodes, gradients, grads, leaves, outer_loss
from wheretolearn import METHODS, MetaLearner, Rule, make_rule, rules
from wheretolearn.inner_loop import FunctionalModule
from wheretolearn.networks import MLP, ConvNet4
from wheretolearn.rules import Gate, count_frozen
from wheretolearn.types import Batch, Rates

CAN_FREEZE = ["sparse-maml", "sparse-relu-maml", "relu-maml"]


def share_frozen(rule, params, seed=0):
    """Frozen and total number of weights of a freshly drawn rule."""
    m = rule.init(params, torch.Generator().manual_seed(seed))
    counts = count_frozen(rule.rates(m, params), params).values()
    return sum(c.frozen for c in counts), sum(c.size for c in counts)


@pytest.mark.parametrize("mask_init", ["uniform", "kaiming"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("method", CAN_FREEZE)
@pytest.mark.parametrize("share", [0.0, 0.25, 0.9, 1.0])
def test_initial_sparsity(method, dtype, mask_init, share):
    """None and all are exact: rounding to the type carries nothing across the threshold."""
    params = {"w": torch.zeros(400, 500, dtype=dtype), "b": torch.zeros(300, dtype=dtype)}
    rule = make_rule(method, init_sparsity=share, mask_init=mask_init)
    frozen, size = share_frozen(rule, params)
    # six standard deviations of a sample so large that a bias of half a percent shows
    assert frozen / size == pytest.approx(share, abs=6 * math.sqrt(share * (1 - share) / size))


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


HEADS = [
    (ConvNet4(5, 1, 16, 2), "output"),
    (MLP(3, 4, 4, 2), "layers.2"),
    (nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6)), nn.Linear(6, 2)), "1"),
]


@pytest.mark.parametrize(("network", "head"), HEADS)
def test_scopes(network, head):
    params = dict(network.named_parameters())
    head = [f"{head}.weight", f"{head}.bias"]
    body = [n for n in params if n not in head]
    assert make_rule("anil").moves(params) == head
    assert make_rule("boil").moves(params) == body
    assert make_rule("maml").moves(params) == list(params)
    assert list(make_rule("anil").rates({}, params)) == head
    assert list(make_rule("sparse-maml", scope="body").init(params)) == body
    without = make_rule("maml", adapt_norm=False).moves(params)
    assert without == [n for n in params if ".norm." not in n]


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
        (lambda: Rule(steps=2), "2 steps"),
        *(
            (lambda x=x: make_rule("maml", inner_rate=x), "inner_rate must be positive and finite")
            for x in (0.0, -0.1, math.inf, math.nan)
        ),
        *(
            (lambda x=x: make_rule("sparse-maml", init_sparsity=x), r"must lie in \[0, 1\]")
            for x in (-1e-9, 1 + 1e-9, math.nan, math.inf)
        ),
    ],
)
def test_names_and_combinations_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def mask(m, rate):
    return rate * (m >= 0), rate


TABLE = {  # rate and derivative of a number, in plain Python: the table of the module
    "sparse-maml": mask,
    "sparse-maml-plus": mask,
    "masked-weights": mask,
    "sparse-relu-maml": lambda m, rate: (max(m, 0.0), 1.0),
    "relu-maml": lambda m, rate: (max(m, 0.0), float(m > 0)),
    "meta-sgd": lambda m, rate: (m, 1.0),
    "exp-maml": lambda m, rate: (math.exp(m), math.exp(m)),
}
EXTREME = [-1e30, -3e4, -1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, 3e4, 1e30]


@pytest.mark.parametrize("method", [m for m, method in METHODS.items() if method.rule.learned])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rates_and_their_derivatives_are_those_of_the_table(method, dtype):
    """The rates exactly: no rounding beside that of the number."""
    values = [x for x in EXTREME if method != "exp-maml" or abs(x) <= 1]
    rule, m = make_rule(method, inner_rate=0.3), torch.tensor(values, dtype=dtype)
    grads = torch.linspace(-2, 3, len(values), dtype=dtype)
    rates, slopes = (
        torch.tensor(column, dtype=dtype)
        for column in zip(*(TABLE[method](x, 0.3) for x in m.tolist()), strict=True)
    )
    rtol = 1e-6 if method == "exp-maml" else 0.0
    torch.testing.assert_close(
        torch.as_tensor(rule.rates({"w": m}, ["w"])["w"]), rates, rtol=rtol, atol=0
    )
    got = rule.pull_back({"w": m}, {"w": grads})["w"]
    torch.testing.assert_close(got, grads * slopes, rtol=2 * torch.finfo(dtype).eps, atol=0)


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


SOFT = Gate(lambda m, rate: rate * torch.sigmoid(m), lambda rate: 0.0, False)
LEARNED = Gate(lambda m, rate: m, lambda rate: rate, False)
OWN = {
    "soft mask": (SOFT, 0),
    "one rate a tensor": (LEARNED._replace(per_tensor=True), 0),
    "one rate a step": (LEARNED, 3),
    "one rate a tensor and step": (LEARNED._replace(per_tensor=True), 3),
}


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("order", [1, 2])
def test_a_gate_of_ones_own_has_the_meta_gradient_of_autograd(monkeypatch, own, order):
    """One line in the table of gates, and nothing else."""
    gate, steps = OWN[own]
    monkeypatch.setitem(rules.GATES, "own", gate)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    monkeypatch.setitem(rules.METHODS, "own", rules.Method(Rule(gate="own"), "my own"))
    rule = make_rule("own", inner_rate=0.3, steps=steps)
    learner = MetaLearner(network, rule, inner_steps=3, order=order, device="cpu")
    for m in learner.rule_params.values():
        m.add_(0.1 * torch.randn_like(m))
    (task,) = episodes(1, 5, 5, 3)
    theta, numbers = leaves(learner.params), leaves(learner.rule_params)

    def step(n, p, g, k):
        return p - gate.rate(numbers[n][k] if steps else numbers[n], 0.3) * g

    loss = outer_loss(FunctionalModule(network), theta, step, task, 3, order == 2)
    outer, inner = gradients(loss, theta, numbers)
    learner.step([task])
    assert_close(grads(learner.params), outer)
    assert_close(grads(learner.rule_params), inner)
    assert learner.sparsity() == 0
    if steps:
        with pytest.raises(ValueError, match="2 inner steps"):
            MetaLearner(network, rule, inner_steps=2, order=order, device="cpu").step([task])


def test_masks_by_step_freeze_what_no_step_moves():
    network = nn.Linear(40, 300)
    rule = Rule(gate="mask", steps=2, init_sparsity=0.5, mask_init="kaiming")
    learner = MetaLearner(network, rule, inner_steps=2, device="cpu")
    assert learner.sparsity() == pytest.approx(0.25, abs=0.03)
    assert learner.rule_params["weight"].abs().max() <= math.sqrt(6 / 40)
    masks = of_rates(learner.begin()[-1], learner.params)
    assert sum(m.sum() for m in masks.values()) == (1 - learner.sparsity()) * 41 * 300
    for m in learner.rule_params.values():
        m.fill_(-1)
    adapted = learner.adapt(Batch(torch.randn(5, 40), torch.arange(5)))
    assert all(torch.equal(p, learner.params[n]) for n, p in adapted.items())
