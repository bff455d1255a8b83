"""La-MAML's meta-gradient by hand is that of autograd, and that of the definition."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from wheretolearn.continual.la_maml import by_autograd
from wheretolearn.fast import mlp_steps
from wheretolearn.fast.mlp import meta_gradient as by_hand
from wheretolearn.inner_loop import FunctionalModule
from wheretolearn.networks import MLP
from wheretolearn.types import Batch

SIZES = [(784, 100, 100, 10), (7, 5, 3), (6, 8, 4, 9, 2), (5, 1, 3)]


def batch(rows, sizes, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.rand(rows, sizes[0], generator=generator, dtype=dtype)
    targets = torch.randint(sizes[-1], (rows,), generator=generator)
    return Batch(inputs * (inputs > 0.4), targets)  # many black pixels


def problem(sizes, dtype=torch.float64):
    """A network, and rates large enough that every step matters."""
    torch.manual_seed(0)
    network = MLP(*sizes).to(dtype)
    params = {n: p.detach() for n, p in network.named_parameters()}
    rates = {n: 0.5 * torch.rand_like(p) for n, p in params.items()}
    return network, params, rates


def both(network, *args, **options):
    forward = FunctionalModule(network)
    return by_hand(*args, **options), by_autograd(forward, F.cross_entropy, *args, **options)


def assert_same(ours, theirs, atol=1e-10):
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=0, atol=atol)
    for got, want in ((ours.params, theirs.params), (ours.rates, theirs.rates)):
        assert got.keys() == want.keys()
        for name in want:
            torch.testing.assert_close(got[name], want[name], rtol=0, atol=atol, msg=name)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("current", "replayed"), [(10, 10), (10, 0), (1, 4), (3, 17)])
def test_by_hand_equals_autograd(sizes, current, replayed):
    network, params, rates = problem(sizes)
    numbers = (params, rates, batch(current, sizes, 1), batch(replayed, sizes, 2))
    ours, theirs = both(network, *numbers)
    assert_same(ours, theirs)
    assert max(g.abs().max() for g in theirs.rates.values()) > 1e-3  # something to compare


def test_definition():
    """The sums of the module's first page, term by term."""
    sizes = (7, 5, 3)
    network, params, rates = problem(sizes)
    current, replay = batch(4, sizes, 1), batch(3, sizes, 2)
    rows = Batch(*(torch.cat(pair) for pair in zip(replay, current, strict=True)))

    def gradient(at, inputs, targets):
        leaves = {n: p.clone().requires_grad_() for n, p in at.items()}
        loss = F.cross_entropy(torch.func.functional_call(network, leaves, (inputs,)), targets)
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    fast, moved = dict(params), {n: torch.zeros_like(p) for n, p in params.items()}
    outer, on_rates = ({n: torch.zeros_like(p) for n, p in params.items()} for _ in range(2))
    for k in range(4):
        inner = gradient(fast, current.inputs[k : k + 1], current.targets[k : k + 1])
        fast = {n: fast[n] - rates[n] * g for n, g in inner.items()}
        moved = {n: moved[n] + g for n, g in inner.items()}
        for n, g in gradient(fast, *rows).items():
            outer[n] += g / 4
            on_rates[n] -= g * moved[n] / 4
    for found in both(network, params, rates, current, replay):
        for n in params:
            torch.testing.assert_close(found.params[n], outer[n], rtol=0, atol=1e-12)
            torch.testing.assert_close(found.rates[n], on_rates[n], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["mask", "number", "scalar tensor", "frozen body", "none"])
def test_any_rate(kind):
    sizes = SIZES[2]
    network, params, rates = problem(sizes)
    rates = {
        "mask": {n: 0.3 * (r > 0.25) for n, r in rates.items()},
        "number": dict.fromkeys(params, 0.3),
        "scalar tensor": dict.fromkeys(params, torch.tensor(0.3, dtype=torch.float64)),
        "frozen body": {n: rates[n] for n in list(params)[-2:]},
        "none": {},
    }[kind]
    current, replay = batch(10, sizes, 1), batch(10, sizes, 2)
    assert_same(*both(network, params, rates, current, replay))
    fixed = both(network, params, rates, current, replay, learn_rates=False)
    assert_same(*fixed)
    assert fixed[0].rates == {}


def test_refuses_other_networks():
    _, params, _ = problem(SIZES[1])
    some, none = batch(3, SIZES[1], 1), batch(0, SIZES[1], 2)
    for wrong in (
        dict(list(params.items())[:3]),
        dict(list(params.items())[:2]),
        dict(reversed(params.items())),
        {n: p for n, p in params.items() if n.endswith("weight")},
    ):
        with pytest.raises(ValueError, match="weight and bias of two or more layers"):
            by_hand(wrong, {}, some, none)


@pytest.mark.parametrize("sizes", [(5, 4, 3), (6, 7, 5, 4)])
def test_steps_by_hand_are_those_of_autograd(sizes):
    """One by one; the weights given stay as they are."""
    torch.manual_seed(0)
    network = MLP(*sizes).double()
    params = {n: p.detach() for n, p in network.named_parameters()}
    before = {n: p.clone() for n, p in params.items()}
    samples = Batch(2 * torch.randn(9, sizes[0]).double(), torch.randint(sizes[-1], (9,)))
    found, losses = mlp_steps.descend(params, samples, 0.2)
    for x, y, said in zip(samples.inputs, samples.targets, losses, strict=True):
        leaves = {n: p.requires_grad_() for n, p in params.items()}
        loss = F.cross_entropy(functional_call(network, leaves, (x[None],)), y[None])
        grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        params = {n: (p - 0.2 * grads[n]).detach() for n, p in leaves.items()}
        assert said == pytest.approx(loss.item(), rel=1e-12)
    for n, p in params.items():
        torch.testing.assert_close(found[n], p, rtol=1e-12, atol=1e-14)
    initial = {n: p.detach() for n, p in network.named_parameters()}
    for n, p in before.items():
        assert torch.equal(initial[n], p)
