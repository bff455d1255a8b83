"""The fast path equals the readable one: values, gradients, and gradients of gradients."""

import pytest
import torch
import torch.nn.functional as F

from textbook import assert_close, episodes, rates_of
from wheretolearn.fast.kernels import reference
from wheretolearn.inner_loop import FunctionalModule, adapt, first_order, second_order
from wheretolearn.networks import ConvBlock, make_network, norm_act
from wheretolearn.seam import reference_only


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


@pytest.mark.parametrize("library", [first_order, second_order])
@pytest.mark.parametrize(
    ("name", "channels", "steps"), [("convnet4", 1, 3), ("resnet12", 1, 1), ("resnet12", 3, 1)]
)
def test_meta_gradients_through_the_kernels(name, channels, steps, library):
    torch.manual_seed(0)
    network = make_network(name, ways=3, channels=channels, image_size=16, width=4).double()
    params, rates = rates_of("sparse-maml", network)
    (task,) = episodes(1, 6, 6, channels, 16, 16)
    start = (FunctionalModule(network), F.cross_entropy, params, rates, task, steps)
    ours = library(*start)
    with reference_only():
        theirs = library(*start)
    assert_close(ours.params, theirs.params, 1e-9)
    assert_close(ours.rates, theirs.rates, 1e-9)


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
    network = make_network("convnet4", ways=3, channels=3, image_size=16, width=4).double()
    calls, forward = [], ConvBlock.forward

    def counted(block, x):
        calls.append(1)
        return forward(block, x)

    monkeypatch.setattr(ConvBlock, "forward", counted)
    params, rates = rates_of(method, network)
    (task,) = episodes(1, 3, 3, 3, 16, 16)
    adapt(FunctionalModule(network), F.cross_entropy, params, rates, task.support, 5)
    assert len(calls) == 4 * evaluations
