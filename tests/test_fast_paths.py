"""What is computed by hand, in one pass, or once a task, is what the network itself computes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from reproduction.runs import probes
from wheretolearn.inner_loop import FunctionalModule, adapt
from wheretolearn.meta import MetaLearner
from wheretolearn.networks import ConvNet4, Head, ResidualBlock, ResNet12, Staged
from wheretolearn.rules import make_rule
from wheretolearn.types import Batch, Rates


def convnet(channels=1):
    torch.manual_seed(1)
    return ConvNet4(3, channels, 32, 4).double()


def batch(channels=1):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(6, channels, 32, 32, generator=generator, dtype=torch.float64)
    return Batch(x, torch.arange(6) % 3)


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


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, p in theirs.items():
        torch.testing.assert_close(ours[name], p, rtol=0, atol=1e-10, msg=name)


class TanhConv(nn.Conv2d):
    def forward(self, x):
        return torch.tanh(super().forward(x))


class HalvedNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) / 2


class Tanh(nn.Module):
    def forward(self, x):
        return torch.tanh(x)


def hook_on_conv(net):
    net.layer2.conv.register_forward_hook(lambda module, args, out: torch.tanh(out))


def hook_before_conv(net):
    net.layer1.conv.register_forward_pre_hook(lambda module, args: (torch.tanh(args[0]),))


def hook_on_norm(net):
    net.layer1.norm.register_forward_hook(lambda module, args, out: out / 2)


def hook_on_gradients(net):
    net.layer2.norm.register_full_backward_hook(lambda module, grads, outs: (grads[0] / 2,))


def other_conv(net):
    net.layer1.conv = TanhConv(net.layer1.conv.in_channels, 4, 3, padding=1)


def other_norm(net):
    net.layer3.norm = HalvedNorm(4, track_running_stats=False)


def group_norm(net):
    net.layer1.norm = nn.GroupNorm(2, 4)


def own_forward(net):
    net.layer1.norm.forward = torch.tanh


def parametrised(net):
    parametrize.register_parametrization(net.layer2.conv, "weight", Tanh())


def other_eps(net):
    net.layer1.norm.eps = 0.3
    net.layer3.norm.eps = 0.1


def no_affine(net):
    net.layer1.norm = nn.BatchNorm2d(4, affine=False, track_running_stats=False)


def running_statistics(net):
    net.layer2.norm = nn.BatchNorm2d(4)
    net.eval()


def no_bias(net):
    net.layer1.conv = nn.Conv2d(net.layer1.conv.in_channels, 4, 3, padding=1, bias=False)


def dilated(net):
    net.layer2.conv = nn.Conv2d(4, 4, 3, padding=2, dilation=2)


def reflected(net):
    net.layer1.conv.padding_mode = "reflect"
    net.layer1.conv._reversed_padding_repeated_twice = [1, 1, 1, 1]


def strided(net):
    net.layer1.conv.stride = (2, 2)
    net.output = Head(4, 3)


def unpadded(net):
    net.layer4.conv.padding = (0, 0)
    net.output = Head(4, 3)


def wider(net):
    net.layer2.conv = nn.Conv2d(4, 4, 5, padding=2)


CHANGES = [
    hook_on_conv,
    hook_before_conv,
    hook_on_norm,
    hook_on_gradients,
    other_conv,
    other_norm,
    group_norm,
    own_forward,
    parametrised,
    other_eps,
    no_affine,
    running_statistics,
    no_bias,
    dilated,
    reflected,
    strided,
    unpadded,
    wider,
]


@pytest.mark.parametrize("change", [None, *CHANGES])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_changed_layer_is_honoured(channels, change):
    net = convnet(channels)
    if change:
        change(net)
    net.double()
    ours = adapted(net, batch(channels))
    theirs = plainly(CallsEverything(copy.deepcopy(net)), batch(channels))
    assert_same(ours, theirs)


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


def doubled(net):
    net.__class__ = Doubled


def hook_on_all(net):
    net.register_forward_hook(lambda module, args, out: 2 * out)


def hook_before_all(net):
    net.register_forward_pre_hook(lambda module, args: (args[0] ** 3, *args[1:]))


def hook_on_stage(net):
    net.layer1.register_forward_hook(lambda module, args, out: out**2)


def noise_on_stage(net):
    net.layer1.register_forward_hook(lambda module, args, out: out + torch.randn_like(out))


def hook_on_inputs(net):
    net.inputs.register_forward_hook(lambda module, args, out: out**3)


def hook_on_output(net):
    net.output.register_forward_hook(lambda module, args, out: 2 * out)


def noise_as_stage(net):
    net.inputs = nn.Sequential(Noise(), net.inputs)


def dropout_as_stage(net):
    net.layer3 = nn.Sequential(net.layer3, nn.Dropout2d(0.5))


def reordered(net):
    net._modules = {n: net._modules[n] for n in ORDER}


ORDER = ("inputs", "layer1", "layer3", "layer2", "layer4", "output")


def called_otherwise(net):
    net.__class__ = CalledOtherwise


class CalledOtherwise(ConvNet4):
    def __call__(self, *args):
        return torch.tanh(super().__call__(*args))


def no_norm(net):
    net.layer3.norm = nn.Identity()


def norm_without_bias(net):
    net.layer2.norm.bias = None


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


@pytest.mark.parametrize(
    "change",
    [
        doubled,
        hook_on_all,
        hook_before_all,
        hook_on_stage,
        noise_on_stage,
        hook_on_inputs,
        hook_on_output,
        noise_as_stage,
        dropout_as_stage,
        reordered,
        called_otherwise,
        norm_without_bias,
        no_norm,
    ],
)
@pytest.mark.parametrize("moving", ["layer1", "layer2", "output"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_changed_chain_is_honoured(channels, moving, change):
    net = convnet(channels)
    change(net)
    ours = adapted(net, batch(channels), moving, steps=3)
    theirs = plainly(Itself(copy.deepcopy(net)), batch(channels), moving, steps=3)
    assert_same(ours, theirs)


def test_a_hook_runs_once_for_each_call():
    net, calls = convnet(2), []
    net.register_forward_hook(lambda module, args, out: calls.append(1))
    adapted(net, batch(2), "output", steps=3)
    assert len(calls) == 3


def test_stages_before_the_first_that_moves_are_computed_once():
    """For the networks of the library, at least."""
    for net in (convnet(1), convnet(3), ResNet12(3, 2, 2)):
        names = [n for n, _ in net.named_children()]
        assert names[net.first_stage(["output.weight"])] == "output"
        assert names[net.first_stage(["layer3.conv.weight", "output.bias"])] == "layer3"
        assert net.first_stage([]) == len(names)


def test_statistics_of_a_frozen_stage_run_at_every_step():
    class Tracking(Staged):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(4)
            self.output = Head(4, 3)

    torch.manual_seed(0)
    net = Tracking().double()
    x = torch.randn(6, 4, 1, 1, dtype=torch.float64)
    adapted(net, Batch(x, torch.arange(6) % 3), "output", steps=3)
    assert net.state_dict()["norm.num_batches_tracked"] == 3


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


def test_features_of_a_network_that_is_not_a_chain_of_stages():
    torch.manual_seed(0)
    learner = MetaLearner(Doubled(3, 1, 16, 4), make_rule("maml"), inner_steps=1, device="cpu")
    x = torch.randn(6, 1, 16, 16)
    features = probes._features(learner, learner.params, x)
    assert list(features) == ["output"]
    assert torch.equal(features["output"], learner.module(x))
