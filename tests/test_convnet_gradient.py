"""The gradient by hand is autograd's, and is taken only where it can be had."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from textbook import assert_close
from wheretolearn.fast.convnet import ByHand
from wheretolearn.fast.convnet import gradient as gradient_by_hand
from wheretolearn.fast.first_block import survey
from wheretolearn.inner_loop import FunctionalModule, adapt
from wheretolearn.networks import ConvNet4, make_network
from wheretolearn.seam import reference_only
from wheretolearn.types import Batch, Rates


def problem(side=28, width=5, ways=3, dtype=torch.float64, images=7):
    """A network with scales of either sign, one of them zero, and a batch."""
    torch.manual_seed(side)
    network = ConvNet4(ways, 1, side, width).to(dtype)
    params = {n: p.detach().clone() for n, p in network.named_parameters()}
    for n, p in params.items():
        if "norm" in n:
            p.add_(torch.randn_like(p), alpha=0.3)
        if n.endswith("norm.weight"):
            p[::2] *= -1
    if width > 1:
        params["layer1.norm.weight"][-1] = 0
    return network, params, torch.rand(images, 1, side, side, dtype=dtype), torch.arange(images) % 3


def autograd(network, params, images, targets):
    leaves = {n: p.detach().requires_grad_() for n, p in params.items()}
    with reference_only():
        loss = F.cross_entropy(torch.func.functional_call(network, leaves, (images,)), targets)
    return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))


@pytest.mark.parametrize("width", [1, 5, 16, 33])
@pytest.mark.parametrize("side", [16, 21, 28, 33])
def test_it_is_autograds(side, width):
    network, params, images, targets = problem(side, width)
    found = ByHand(network, images, targets, list(params))(params)
    want = autograd(network, params, images, targets)
    assert list(found) == list(want)
    assert_close(found, want, 1e-11)


@pytest.mark.parametrize(("bright", "atol"), [(0, 2e-6), (100, 2e-5)])
def test_single_precision(bright, atol):
    """The mean of a bright image must not eat the variance of its patches."""
    network, params, images, targets = problem(width=16, dtype=torch.float32)
    params["layer1.norm.weight"] += 0.5  # a scale of zero decides by rounding alone
    images = images + bright
    doubles = {n: p.double() for n, p in params.items()}
    exact = autograd(network.double(), doubles, images.double(), targets)
    found = ByHand(network.float(), images, targets, list(params))(params)
    for name, gradient in exact.items():
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name].double(), gradient, rtol=1e-4, atol=atol, msg=name)


def test_patches_far_from_zero():
    """Of images that are the same everywhere but for noise, without the border."""
    rng = np.random.default_rng(0)
    inside = (1000 + rng.standard_normal((3, 40, 40))).astype(np.float32)
    padded = np.pad(inside, ((0, 0), (1, 1), (1, 1)))
    rows = np.stack([padded[:, i : i + 40, j : j + 40].ravel() for i in range(3) for j in range(3)])
    found = survey(inside)
    np.testing.assert_allclose(found.covariance, np.cov(rows, bias=True), rtol=1e-9)
    np.testing.assert_allclose(found.mean, rows.mean(1, dtype=np.float64), rtol=1e-12)


def test_nan_stays_nan():
    network, params, images, targets = problem()
    params["layer1.conv.weight"][2] = torch.nan
    found = ByHand(network, images, targets, list(params))(params)
    assert found["output.weight"].isnan().all()
    assert found["layer1.conv.weight"][2].isnan().all()


def test_nothing_given_is_changed():
    network, params, images, targets = problem()
    before = {n: p.clone() for n, p in params.items()}, images.clone()
    for p in params.values():
        p.requires_grad_()
    ByHand(network, images, targets, list(params))(params)
    assert all(torch.equal(p, params[n]) for n, p in before[0].items())
    assert torch.equal(before[1], images)


def test_when_it_can_be_had():
    network, params, images, targets = problem()
    chosen = ["layer1.conv.weight", "output.weight"]

    def had(module=network, loss=F.cross_entropy, at=params, x=images, y=targets, wanted=chosen):
        return gradient_by_hand(module, loss, at, x, y, wanted) is not None

    assert had()
    assert not had(wanted=["layer2.conv.weight"])
    assert not had(loss=F.nll_loss)
    assert not had(x=images.float())
    assert not had(x=images.expand(-1, 3, -1, -1))
    assert not had(y=F.one_hot(targets).double())
    assert not had(at={n: p for n, p in params.items() if n in chosen})
    assert not had(module=make_network("mlp", ways=3, channels=1, image_size=28, width=5))
    with torch.autocast("cpu", torch.bfloat16):
        assert not had()
    assert not had(y=targets - 1)
    assert not had(y=targets[:1])
    for register in ("register_forward_pre_hook", "register_full_backward_hook"):
        hook = getattr(network.layer2, register)(lambda *_: None)
        assert not had()
        hook.remove()
        assert had()

    class Other(ConvNet4):
        pass

    assert not had(module=Other(3, 1, 28, 5).double())
    network.add_module("more", torch.nn.Identity())
    assert not had()


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_inner_loop_takes_it(steps, monkeypatch):
    network, params, images, targets = problem()
    rates: Rates = {n: 0.1 for n in params if "conv.weight" in n}
    task = Batch(images, targets)
    calls: list[int] = []
    original = ByHand.__call__

    def counted(self, params):
        calls.append(1)
        return original(self, params)

    monkeypatch.setattr(ByHand, "__call__", counted)
    ours = adapt(FunctionalModule(network), F.cross_entropy, params, rates, task, steps)
    assert len(calls) == steps
    with reference_only():
        plain = adapt(FunctionalModule(network), F.cross_entropy, params, rates, task, steps)
    assert len(calls) == steps
    assert_close(ours.params, plain.params, 1e-11)
    assert_close(ours.gradient_sum, plain.gradient_sum, 1e-11)
