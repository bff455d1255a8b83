"""What is computed by hand, in one pass, or once a task, is what the network itself computes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from textbook import assert_close, episodes
from wheretolearn.inner_loop import FunctionalModule, adapt
from wheretolearn.networks import ConvNet4, Head, ResidualBlock, ResNet12
from wheretolearn.types import Rates


def convnet(channels=1, side=32):
    torch.manual_seed(1)
    return ConvNet4(3, channels, side, 4).double()


def batch(channels=1, side=32):
    return episodes(1, 6, 3, channels, side, side)[0].support


class CallsEverything(nn.Module):
    """ConvNet-4 in which each layer is called as a module, whatever it is."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        for name in ("layer1", "layer2", "layer3", "layer4"):
            block = getattr(self.network, name)
            x = F.max_pool2d(F.relu(block.norm(block.conv(x))), 2)
        return self.network.output(x)


class Itself(nn.Module):
    """A module that calls another one."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)


def adapted(network, support, moving=None, steps=2, seed=0):
    """The parameters after the library's inner loop."""
    params = {n: p.detach() for n, p in network.named_parameters()}
    rates: Rates = {n: 0.2 for n in params if moving is None or n.startswith(moving)}
    torch.manual_seed(seed)
    return adapt(FunctionalModule(network), F.cross_entropy, params, rates, support, steps).params


def plainly(network, support, moving=None, steps=2, seed=0):
    """The same by autograd through the module as it is called."""
    params = {n: p.detach() for n, p in network.named_parameters()}
    moves = [n for n in params if moving is None or n.startswith(f"network.{moving}")]
    torch.manual_seed(seed)
    for _ in range(steps):
        leaves = {n: p.detach().requires_grad_(n in moves) for n, p in params.items()}
        outputs = torch.func.functional_call(network, leaves, (support.inputs,))
        loss = F.cross_entropy(outputs, support.targets)
        grads = torch.autograd.grad(loss, [leaves[n] for n in moves], materialize_grads=True)
        params |= {n: params[n] - 0.2 * g for n, g in zip(moves, grads, strict=True)}
    return {n.removeprefix("network."): p for n, p in params.items()}


@pytest.mark.parametrize("moving", [None, "layer3", "output"])
@pytest.mark.parametrize(("channels", "side"), [(1, 28), (1, 21), (3, 84), (3, 35)])
def test_the_network_is_that_of_the_paper(channels, side, moving):
    """With scales of either sign: the largest pixel is then the smallest before."""
    net, support = convnet(channels, side), batch(channels, side)
    for name, p in net.named_parameters():
        p.data[::2] *= -1 if name.endswith("norm.weight") else 1
    theirs = plainly(CallsEverything(copy.deepcopy(net)), support, moving, steps=3)
    assert_close(adapted(net, support, moving, steps=3), theirs)


class TanhConv(nn.Conv2d):
    def forward(self, x):
        return torch.tanh(super().forward(x))


class HalvedNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) / 2


class Tanh(nn.Module):
    def forward(self, x):
        return torch.tanh(x)


def hook(path, kind="forward"):
    """Return a change that puts a hook on a module."""
    hooks = {
        "forward": lambda module, args, out: torch.tanh(out),
        "forward_pre": lambda module, args: (torch.tanh(args[0]), *args[1:]),
        "full_backward": lambda module, grads, outs: (grads[0] / 2,),
        "noise": lambda module, args, out: out + torch.randn_like(out),
    }
    register = f"register_{kind.replace('noise', 'forward')}_hook"
    return lambda net: getattr(net.get_submodule(path), register)(hooks[kind])


def put(path, make, output=False):
    """A change that puts another module in a place; `output`, where images get smaller."""

    def change(net):
        net.set_submodule(path, make(net.get_submodule(path)))
        if output:
            net.output = Head(4, 3)

    return change


def norm(**settings):
    return lambda old: nn.BatchNorm2d(4, **settings)


def conv(size=3, kind=nn.Conv2d, **settings):
    return lambda old: kind(old.in_channels, 4, size, **{"padding": size // 2} | settings)


def own_forward(net):
    net.layer1.norm.forward = torch.tanh


def parametrised(net):
    parametrize.register_parametrization(net.layer2.conv, "weight", Tanh())


def other_eps(net):
    net.layer1.norm.eps = 0.3
    net.layer3.norm.eps = 0.1


def running_statistics(net):
    net.layer2.norm = nn.BatchNorm2d(4)
    net.eval()


CHANGES = {
    "none": lambda net: None,
    "hook on conv": hook("layer2.conv"),
    "hook before conv": hook("layer1.conv", "forward_pre"),
    "hook on norm": hook("layer1.norm"),
    "hook on gradients": hook("layer2.norm", "full_backward"),
    "other conv": put("layer1.conv", conv(kind=TanhConv)),
    "other norm": put("layer3.norm", lambda old: HalvedNorm(4, track_running_stats=False)),
    "group norm": put("layer1.norm", lambda old: nn.GroupNorm(2, 4)),
    "own forward": own_forward,
    "parametrised": parametrised,
    "other eps": other_eps,
    "no affine": put("layer1.norm", norm(affine=False, track_running_stats=False)),
    "running statistics": running_statistics,
    "no bias": put("layer1.conv", conv(bias=False)),
    "dilated": put("layer2.conv", conv(padding=2, dilation=2)),
    "reflected": put("layer1.conv", conv(padding_mode="reflect")),
    "strided": put("layer1.conv", conv(stride=2), output=True),
    "unpadded": put("layer4.conv", conv(padding=0), output=True),
    "wider": put("layer2.conv", conv(5)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_changed_layer_is_honoured(channels, change):
    net = convnet(channels)
    CHANGES[change](net)
    net.double()
    ours = adapted(net, batch(channels))
    theirs = plainly(CallsEverything(copy.deepcopy(net)), batch(channels))
    assert_close(ours, theirs)


def test_hooks_on_every_module_are_honoured():
    net, calls = convnet(), []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, args, out: calls.append(type(module))
    )
    try:
        adapted(net, batch(), steps=1)
    finally:
        handle.remove()
    assert calls.count(nn.Conv2d) == calls.count(nn.BatchNorm2d) == 4
    assert calls.count(ConvNet4) == 1


class Doubled(ConvNet4):
    """A subclass with a forward of its own, without the arguments of stages."""

    def forward(self, x):  # type: ignore[override]
        return 2 * super().forward(x)


class CalledOtherwise(ConvNet4):
    def __call__(self, *args):
        return torch.tanh(super().__call__(*args))


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def of_class(other):
    def change(net):
        net.__class__ = other

    return change


def reordered(net):
    order = ("inputs", "layer1", "layer3", "layer2", "layer4", "output")
    net._modules = {n: net._modules[n] for n in order}


def norm_without_bias(net):
    net.layer2.norm.bias = None


CHAINS = {
    "doubled": of_class(Doubled),
    "called otherwise": of_class(CalledOtherwise),
    "hook on all": hook(""),
    "hook before all": hook("", "forward_pre"),
    "hook on stage": hook("layer1"),
    "noise on stage": hook("layer1", "noise"),
    "hook on inputs": hook("inputs"),
    "hook on output": hook("output"),
    "noise as stage": put("inputs", lambda old: nn.Sequential(Noise(), old)),
    "dropout as stage": put("layer3", lambda old: nn.Sequential(old, nn.Dropout2d(0.5))),
    "reordered": reordered,
    "no norm": put("layer3.norm", lambda old: nn.Identity()),
    "norm without bias": norm_without_bias,
}


@pytest.mark.parametrize("change", CHAINS)
@pytest.mark.parametrize("moving", ["layer1", "layer2", "output"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_changed_chain_is_honoured(channels, moving, change):
    net = convnet(channels)
    CHAINS[change](net)
    ours = adapted(net, batch(channels), moving, steps=3)
    theirs = plainly(Itself(copy.deepcopy(net)), batch(channels), moving, steps=3)
    assert_close(ours, theirs)


def test_stages_before_the_first_that_moves_are_computed_once():
    """For the networks of the library, at least."""
    for net in (convnet(1), convnet(3), ResNet12(3, 2, 2)):
        names = [n for n, _ in net.named_children()]
        assert names[net.first_stage(["output.weight"])] == "output"
        assert names[net.first_stage(["layer3.conv.weight", "output.bias"])] == "layer3"
        assert net.first_stage([]) == len(names)


@pytest.mark.parametrize("norm", ["norm1", "norm2", "norm3", "norm_shortcut"])
def test_a_changed_normalisation_of_a_residual_block(norm):
    torch.manual_seed(0)
    block = ResidualBlock(2, 4).double()
    x = torch.randn(5, 2, 6, 6, dtype=torch.float64)
    negated = copy.deepcopy(block)
    for p in getattr(negated, norm).parameters():
        p.data.neg_()
    assert not torch.allclose(block(x), negated(x))
    getattr(block, norm).register_forward_hook(lambda module, args, out: -out)
    torch.testing.assert_close(block(x), negated(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("network", ["convnet4", "resnet12"])
def test_running_statistics_serve_in_evaluation(network):
    """Then the output of an image does not depend on the others of its batch."""
    net = convnet(2) if network == "convnet4" else ResNet12(3, 2, 2).double()
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.BatchNorm2d(child.num_features).double())
    x = batch(2).inputs
    net(x)
    net.eval()
    torch.testing.assert_close(net(x)[:1], net(x[:1]), rtol=0, atol=1e-10)
