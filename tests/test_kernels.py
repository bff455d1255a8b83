"""The fast path equals the readable one: values, gradients, and gradients of gradients."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wheretolearn.fast.kernels import reference
from wheretolearn.inner_loop import FunctionalModule, adapt, first_order, second_order
from wheretolearn.networks import ConvBlock, ConvNet4, Patches, make_network, norm_act
from wheretolearn.rules import make_rule
from wheretolearn.seam import reference_only
from wheretolearn.types import Batch, Task

CASES = [
    (shape, pool, slope)
    for shape, pool, slope in itertools.product(
        [(3, 5, 6, 6), (2, 33, 7, 9), (1, 4, 2, 3), (4, 64, 5, 4), (7, 1, 3, 3)], (1, 2), (0.0, 0.1)
    )
]


def make_inputs(shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(shape, generator=generator, dtype=torch.float64) + 1
    weight = torch.randn(shape[1], generator=generator, dtype=torch.float64)  # half are negative
    bias = torch.randn(shape[1], generator=generator, dtype=torch.float64)
    z = z.contiguous(memory_format=torch.channels_last)
    return [t.to(dtype).requires_grad_() for t in (z, weight, bias)]


def value_and_gradients(function, inputs, **settings):
    y = function(*inputs, **settings)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return y, *torch.autograd.grad(y, inputs, dy.to(y.dtype))


@pytest.mark.parametrize(("shape", "pool", "slope"), CASES)
def test_kernel_equals_torch(shape, pool, slope):
    inputs = make_inputs(shape)
    fast = value_and_gradients(norm_act, inputs, pool=pool, slope=slope)
    plain = value_and_gradients(reference, inputs, pool=pool, slope=slope)
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("shape", "pool", "slope"), CASES)
def test_kernel_in_single_precision_is_as_exact_as_torch(shape, pool, slope):
    exact = value_and_gradients(reference, make_inputs(shape), pool=pool, slope=slope)
    single = make_inputs(shape, torch.float32)
    for function in (norm_act, reference):
        for got, want in zip(
            value_and_gradients(function, single, pool=pool, slope=slope), exact, strict=True
        ):
            torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)


def test_kernel_keeps_precision_far_from_zero():
    """A mean that is large beside the spread must not eat the variance."""
    z, weight, bias = make_inputs((4, 8, 12, 12), torch.float32)
    z = (z.detach() + 1000).requires_grad_()
    y = norm_act(z, weight, bias, slope=1.0)
    want = reference(*(t.detach().double() for t in (z, weight, bias)), slope=1.0)
    torch.testing.assert_close(y.double(), want, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("pool", [1, 2])
def test_gradient_of_gradient(pool, layout):
    z, weight, bias = make_inputs((2, 3, 4, 4))
    inputs = (z.detach().contiguous(memory_format=layout).requires_grad_(), weight, bias)

    def f(*tensors):
        return norm_act(*tensors, pool=pool, slope=0.1)

    assert torch.autograd.gradgradcheck(f, inputs)


def test_nan_stays_nan():
    z, weight, bias = make_inputs((2, 3, 4, 4))
    with torch.no_grad():
        z[0, 1, 0, 0] = torch.nan
    y = norm_act(z, weight, bias, pool=2)
    assert y[:, 1].isnan().all()
    assert y[:, [0, 2]].isfinite().all()


@pytest.mark.parametrize("pool", [1, 2])
def test_a_scale_of_zero(pool):
    """All pixels are equal then; the gradient of the scale depends on which one is taken."""
    z, weight, bias = make_inputs((2, 4, 6, 6))
    with torch.no_grad():
        weight[1] = 0
    inputs = [z, weight, bias]
    fast = value_and_gradients(norm_act, inputs, pool=pool, slope=0.1)
    plain = value_and_gradients(reference, inputs, pool=pool, slope=0.1)
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_any_memory_layout_is_accepted():
    z, weight, bias = make_inputs((2, 4, 6, 6))
    plain = z.detach().contiguous()
    strided = torch.stack([plain, plain], dim=-1)[..., 0]
    want = norm_act(z, weight, bias, pool=2)
    for other in (plain, strided):
        torch.testing.assert_close(norm_act(other, weight, bias, pool=2), want, rtol=0, atol=0)


def test_patches_make_a_convolution():
    images = torch.randn(3, 1, 7, 5, dtype=torch.float64)
    kernel = torch.randn(4, 1, 3, 3, dtype=torch.float64)
    want = F.conv2d(images, kernel, padding=1)
    got = torch.einsum("bphw,cp->bchw", Patches()(images), kernel.flatten(1))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


class UsualConvNet4(nn.Module):
    """ConvNet-4 as it is usually written: the readable reference."""

    def __init__(self, ways, channels, image_size, width):
        super().__init__()
        for i in range(4):
            block = nn.ModuleDict(
                {
                    "conv": nn.Conv2d(channels if i == 0 else width, width, 3, padding=1),
                    "norm": nn.BatchNorm2d(width, track_running_stats=False),
                }
            )
            self.add_module(f"layer{i + 1}", block)
        self.output = nn.Linear(width * (image_size // 16) ** 2, ways)

    def forward(self, x):
        for block in list(self.children())[:-1]:
            conv, norm = block.children()
            x = F.max_pool2d(F.relu(norm(conv(x))), 2)
        return self.output(x.flatten(1))


def make_problem(channels, image_size, dtype, width=8, ways=3):
    """A task, a network written in both ways, and a start with negative BatchNorm scales."""
    torch.manual_seed(0)
    fast = ConvNet4(ways, channels, image_size, width).to(dtype)
    usual = UsualConvNet4(ways, channels, image_size, width).to(dtype)
    params = {n: p.detach().clone() for n, p in fast.named_parameters()}
    assert params.keys() == dict(usual.named_parameters()).keys()
    for name, p in params.items():
        if name.endswith("norm.weight"):
            p[::2] *= -1
    targets = torch.arange(ways).repeat(2)
    support, query = (
        Batch(torch.randn(2 * ways, channels, image_size, image_size, dtype=dtype), targets)
        for _ in range(2)
    )
    return fast, usual, params, Task(support, query)


def rates_of(params, method):
    rule = make_rule(method, inner_rate=0.1)
    rule_params = rule.init(params, torch.Generator().manual_seed(0))
    return {
        n: r.detach() if isinstance(r, torch.Tensor) else r
        for n, r in rule.rates(rule_params, params).items()
    }


@pytest.mark.parametrize("method", ["maml", "anil", "boil", "sparse-maml"])
@pytest.mark.parametrize(("channels", "image_size"), [(1, 28), (1, 21), (3, 84), (3, 35)])
def test_meta_gradient_equals_that_of_the_usual_network(method, channels, image_size):
    fast, usual, params, task = make_problem(channels, image_size, torch.float64)
    rates = rates_of(params, method)
    ours = first_order(FunctionalModule(fast), F.cross_entropy, params, rates, task, 5)

    def plain(p, x):  # no shortcut of FunctionalModule either
        return torch.func.functional_call(usual, dict(p), (x,))

    theirs = first_order(plain, F.cross_entropy, params, rates, task, 5)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=0, atol=1e-10)
    torch.testing.assert_close(ours.outputs, theirs.outputs, rtol=0, atol=1e-10)
    for got, want in ((ours.params, theirs.params), (ours.rates, theirs.rates)):
        assert got.keys() == want.keys()
        for name in want:
            torch.testing.assert_close(got[name], want[name], rtol=0, atol=1e-10, msg=name)


def test_exact_meta_gradient_through_the_kernels():
    fast, usual, params, task = make_problem(1, 16, torch.float64, width=4)
    rates = rates_of(params, "sparse-maml")
    ours = second_order(FunctionalModule(fast), F.cross_entropy, params, rates, task, 3)
    theirs = second_order(FunctionalModule(usual), F.cross_entropy, params, rates, task, 3)
    for name in params:
        torch.testing.assert_close(ours.params[name], theirs.params[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_exact_meta_gradient_of_resnet12(channels):
    torch.manual_seed(0)
    network = make_network("resnet12", ways=3, channels=channels, image_size=16, width=4).double()
    params = {n: p.detach() for n, p in network.named_parameters()}
    batch = Batch(torch.randn(6, channels, 16, 16).double(), torch.arange(3).repeat(2))
    start = (FunctionalModule(network), F.cross_entropy, params, rates_of(params, "maml"))
    ours = second_order(*start, Task(batch, batch), 1)
    with reference_only():
        theirs = second_order(*start, Task(batch, batch), 1)
    for name in params:
        torch.testing.assert_close(ours.params[name], theirs.params[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("channels", "image_size"), [(1, 28), (3, 84)])
def test_meta_gradient_in_single_precision(channels, image_size):
    """One step only: later, one flipped choice of a maximum changes a gradient visibly."""
    fast, usual, params, task = make_problem(channels, image_size, torch.float32)
    rates = rates_of(params, "sparse-maml")
    ours = first_order(FunctionalModule(fast), F.cross_entropy, params, rates, task, 1)
    theirs = first_order(FunctionalModule(usual), F.cross_entropy, params, rates, task, 1)
    for name in params:
        size = theirs.params[name].norm() + 0.01
        assert (ours.params[name] - theirs.params[name]).norm() < 1e-3 * size, name


def test_reference_only_uses_no_kernel(monkeypatch):
    def fail(*_):
        raise AssertionError("a kernel ran")

    monkeypatch.setattr("wheretolearn.fast.kernels._NormAct.apply", fail)
    network = make_network("convnet4", ways=3, channels=1, image_size=16, width=4)
    with reference_only():
        network(torch.randn(2, 1, 16, 16))
    with pytest.raises(AssertionError, match="a kernel ran"):
        network(torch.randn(2, 1, 16, 16))


@pytest.mark.parametrize(("method", "evaluations"), [("anil", 1), ("boil", 5), ("maml", 5)])
def test_a_body_that_does_not_move_is_computed_once(method, evaluations, monkeypatch):
    network = make_network("convnet4", ways=3, channels=3, image_size=16, width=4)
    calls, forward = [], ConvBlock.forward

    def counted(block, x):
        calls.append(1)
        return forward(block, x)

    monkeypatch.setattr(ConvBlock, "forward", counted)
    params = {n: p.detach() for n, p in network.named_parameters()}
    support = Batch(torch.randn(3, 3, 16, 16), torch.arange(3))
    adapt(FunctionalModule(network), F.cross_entropy, params, rates_of(params, method), support, 5)
    assert len(calls) == 4 * evaluations
