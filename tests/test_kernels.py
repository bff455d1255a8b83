"""The fast path equals the readable one: values, gradients, and gradients of gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wheretolearn.fast.kernels import reference
from wheretolearn.inner_loop import FunctionalModule, adapt, first_order, second_order
from wheretolearn.networks import ConvBlock, ConvNet4, make_network, norm_act
from wheretolearn.rules import make_rule
from wheretolearn.seam import reference_only
from wheretolearn.types import Batch, Task


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


@pytest.mark.parametrize("shape", [(3, 5, 6, 6), (2, 33, 7, 9), (1, 4, 2, 3), (7, 1, 3, 3)])
@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("slope", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1, 0])
def test_kernel_equals_torch(shape, pool, slope, scale):
    """Also where a scale is zero: all pixels are equal then, and one of them is taken."""
    inputs = make_inputs(shape)
    inputs[1].data[-1] *= scale
    fast = value_and_gradients(norm_act, inputs, pool=pool, slope=slope)
    plain = value_and_gradients(reference, inputs, pool=pool, slope=slope)
    single = [t.detach().float().requires_grad_() for t in inputs]
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
    if scale:  # else rounding chooses among equal pixels
        rounded = value_and_gradients(norm_act, single, pool=pool, slope=slope)
        for ours, theirs in zip(rounded, plain, strict=True):
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


def test_nan_stays_nan():
    z, weight, bias = make_inputs((2, 3, 4, 4))
    z.data[0, 1, 0, 0] = torch.nan
    y = norm_act(z, weight, bias, pool=2)
    assert y[:, 1].isnan().all()
    assert y[:, [0, 2]].isfinite().all()


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


def test_any_memory_layout_is_accepted():
    z, weight, bias = make_inputs((2, 4, 6, 6))
    plain = z.detach().contiguous()
    strided = torch.stack([plain, plain], dim=-1)[..., 0]
    want = norm_act(z, weight, bias, pool=2)
    for other in (plain, strided):
        torch.testing.assert_close(norm_act(other, weight, bias, pool=2), want, rtol=0, atol=0)


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


def make_problem(channels, image_size, width=8, ways=3):
    """A task, a network written in both ways, and a start with negative BatchNorm scales."""
    torch.manual_seed(0)
    fast = ConvNet4(ways, channels, image_size, width).double()
    usual = UsualConvNet4(ways, channels, image_size, width).double()
    params = {n: p.detach().clone() for n, p in fast.named_parameters()}
    assert params.keys() == dict(usual.named_parameters()).keys()
    for name, p in params.items():
        if name.endswith("norm.weight"):
            p[::2] *= -1
    targets = torch.arange(ways).repeat(2)
    support, query = (
        Batch(torch.randn(2 * ways, channels, image_size, image_size).double(), targets)
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
    fast, usual, params, task = make_problem(channels, image_size)
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


@pytest.mark.parametrize(
    ("name", "channels", "steps"), [("convnet4", 1, 3), ("resnet12", 1, 1), ("resnet12", 3, 1)]
)
def test_exact_meta_gradient_through_the_kernels(name, channels, steps):
    torch.manual_seed(0)
    network = make_network(name, ways=3, channels=channels, image_size=16, width=4).double()
    params = {n: p.detach() for n, p in network.named_parameters()}
    batch = Batch(torch.randn(6, channels, 16, 16).double(), torch.arange(3).repeat(2))
    start = (FunctionalModule(network), F.cross_entropy, params, rates_of(params, "sparse-maml"))
    ours = second_order(*start, Task(batch, batch), steps)
    with reference_only():
        theirs = second_order(*start, Task(batch, batch), steps)
    for n in params:
        torch.testing.assert_close(ours.params[n], theirs.params[n], rtol=0, atol=1e-9)


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
