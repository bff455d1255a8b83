"""sparse-MAML+ and masked weights as the authors' code has them, written out once more.

There a mask is (sign(m) + 1) / 2, whose straight-through derivative is 1/2, and the loss of an
update is a sum over tasks.  Adam does not mind; the momentum of sparse-MAML+ does.
"""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from reproduction.plan import study
from textbook import episodes, gradients, leaves, outer_loss
from wheretolearn import MetaLearner, make_rule
from wheretolearn.inner_loop import FunctionalModule
from wheretolearn.networks import ConvNet4, ResNet12
from wheretolearn.rules import count_frozen

NOISE, RATE, STEPS = 5, 0.3, 3


class Sign(torch.autograd.Function):
    """The sign, with the derivative of the identity."""

    @staticmethod
    def forward(ctx, m):
        return torch.sign(m)

    @staticmethod
    def backward(ctx, grad):
        return grad


def close(got, want):
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def half_mask(m):
    return (Sign.apply(m) + 1) / 2


def learner_and_tasks(rule, tasks=2, **settings):
    torch.manual_seed(4)
    net = ConvNet4(ways=3, channels=2, image_size=16, width=6).double()
    chosen: dict[str, Any] = {"inner_steps": STEPS, "device": "cpu"} | settings
    generator = torch.Generator().manual_seed(0)
    learner = MetaLearner(net, rule, generator=generator, **chosen)
    return learner, episodes(tasks, 6, 15, 2, 16, 16)


@pytest.mark.parametrize("order", [1, 2])
def test_updates_of_sparse_maml_plus(monkeypatch, order):
    """Three updates with the paper profile's optimizer are those of the released settings."""
    paper = study.find_few_shot("paper", "convnet4-5shot-sparse-maml-plus")
    rule = make_rule(
        "sparse-maml-plus", noise=NOISE, inner_rate=RATE, as_released=paper.rule.as_released
    )
    learner, tasks = learner_and_tasks(
        rule,
        tasks=6,
        order=order,
        outer=paper.outer,
        meta_rate=paper.meta_rate,
        rule_rate=paper.rule_rate,
    )
    noises = [torch.randn(NOISE, dtype=torch.float64) for _ in tasks]
    queue = list(noises)
    monkeypatch.setattr(type(rule), "draw", lambda self: queue.pop(0))

    ours = {n: p.clone() for n, p in learner.rule_params.items()}
    theta = leaves(learner.params)
    kernels = [n for n, p in theta.items() if p.ndim == 4]
    plain = {n: ours[n].requires_grad_() for n in theta if n not in kernels}
    linear = nn.Linear(NOISE, sum(theta[n].numel() for n in kernels)).double()
    with torch.no_grad():
        linear.weight.copy_(torch.cat([ours[f"{n}@map"] for n in kernels]))
        linear.bias.copy_(torch.cat([ours[n].flatten() for n in kernels]))
    scale = torch.ones(NOISE, dtype=torch.float64, requires_grad=True)
    mean = torch.zeros(NOISE, dtype=torch.float64, requires_grad=True)
    rules = [*plain.values(), *linear.parameters(), scale, mean]
    optimizers = [
        torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True)
        for parameters, rate in ((list(theta.values()), 0.001), (rules, 0.0075))
    ]
    forward = FunctionalModule(learner.module)
    for pair in range(0, 6, 2):
        learner.step(tasks[pair : pair + 2])
        total = torch.zeros((), dtype=torch.float64)
        for task, noise in zip(tasks[pair : pair + 2], noises[pair : pair + 2], strict=True):
            flat = linear(noise * scale + mean).split([theta[n].numel() for n in kernels])
            numbers = plain | {
                n: part.view(theta[n].shape) for n, part in zip(kernels, flat, strict=True)
            }
            masks = {n: half_mask(m) for n, m in numbers.items()}

            def step(n, p, g, k, masks=masks):
                return p - RATE * (g * masks[n])

            total = total + outer_loss(forward, theta, step, task, STEPS, order == 2)
        for optimizer in optimizers:
            optimizer.zero_grad()
        total.backward()
        for optimizer in optimizers:
            optimizer.step()

    for n, p in theta.items():
        close(learner.params[n], p.detach())
    for n, m in plain.items():
        close(learner.rule_params[n], m.detach())
    mine = learner.rule_params
    got = torch.cat([mine[f"{n}@map"] for n in kernels])
    close(got, linear.weight.detach())
    got = torch.cat([mine[n].flatten() for n in kernels])
    close(got, linear.bias.detach())
    close(mine["@scale"], scale.detach())
    close(mine["@mean"], mean.detach())
    assert (mine["@mean"].abs() > 1e-9).all(), "the mean was learned"
    assert not torch.allclose(mine[kernels[0]], ours[kernels[0]], atol=1e-9, rtol=0)


def test_numbers_of_sparse_maml_plus_start_as_a_linear_layer():
    params = dict(ConvNet4(5, 3, 16, 16).named_parameters())
    rule = make_rule("sparse-maml-plus", noise=16, as_released=True)
    m = rule.init(params, torch.Generator().manual_seed(0))
    assert m["@scale"].tolist() == [1] * 16
    assert m["@mean"].tolist() == [0] * 16
    for n, p in params.items():
        if p.ndim == 4:
            assert m[n].shape == p.shape
            assert m[n].stride() == p.stride()
            for drawn in (m[n], m[f"{n}@map"]):
                assert 0.23 < float(drawn.max()) <= 0.25
                assert -0.25 <= float(drawn.min()) < -0.23


def test_masks_of_sparse_maml_plus_without_noise_are_those_of_its_mean():
    params = dict(ConvNet4(5, 3, 16, 4).named_parameters())
    rule = make_rule("sparse-maml-plus", noise=4, as_released=True)
    m = rule.init(params, torch.Generator().manual_seed(0))
    m["@mean"] += torch.tensor([3.0, -2.0, 1.0, 5.0])
    silent = {n: v.clone() for n, v in m.items()}
    silent["@scale"].zero_()
    mean, still = rule.rates(m, params), rule.rates(silent, params, rule.draw())
    assert all(torch.equal(torch.as_tensor(mean[n]), torch.as_tensor(still[n])) for n in params)
    name = "layer2.conv.weight"
    assert not torch.equal(torch.as_tensor(mean[name]) > 0, m[name] >= 0)


MASKED = make_rule("masked-weights", inner_rate=RATE, init_sparsity=0.1, as_released=True)


@pytest.mark.parametrize(("order", "steps"), itertools.product([1, 2], [0, 1, 3]))
def test_gradients_of_masked_weights(order, steps):
    learner, tasks = learner_and_tasks(MASKED, order=order, inner_steps=steps, stacked=order == 1)
    theta = leaves(learner.params)
    m = leaves(learner.rule_params)
    forward = FunctionalModule(learner.module)
    total = torch.zeros((), dtype=torch.float64)
    for task in tasks:
        masks = {n: half_mask(number) for n, number in m.items()}
        start = {n: p * masks[n] for n, p in theta.items()}

        def step(n, p, g, k, masks=masks):
            return (p - RATE * g) * masks[n]

        total = total + outer_loss(forward, start, step, task, steps, order == 2)
    outer, inner = gradients(total, theta, m)
    score = learner.step(tasks)
    assert score.loss == pytest.approx(float(total.detach()) / 2, rel=1e-12)
    for n, p in learner.params.items():
        close(p.grad, outer[n] / 2)
    for n, p in learner.rule_params.items():
        close(p.grad, inner[n])  # half the sum, twice the derivative
    frozen = m["output.weight"] < 0
    assert (inner["output.weight"][frozen] != 0).any(), "what is frozen can come back"


@pytest.mark.parametrize("stacked", [False, True])
def test_masked_weights_adapt_and_stay_masked(stacked):
    learner, tasks = learner_and_tasks(MASKED, stacked=stacked)
    masks = {n: (m >= 0).double() for n, m in learner.rule_params.items()}
    assert any((mask == 0).any() for n, mask in masks.items() if mask.ndim == 1)
    start = {n: (p * masks[n]).requires_grad_() for n, p in learner.params.items()}

    def step(n, p, g, k):
        return (p - RATE * g) * masks[n]

    loss = outer_loss(FunctionalModule(learner.module), start, step, tasks[0], STEPS, False)
    assert learner.evaluate(tasks[:1]).loss == pytest.approx(float(loss.detach()), rel=1e-9)
    adapted = learner.adapt(tasks[0].support)
    assert all((p[masks[n] == 0] == 0).all() for n, p in adapted.items())
    counts = count_frozen(learner.begin()[-1], learner.params)
    assert all(c.frozen == (masks[n] == 0).sum() for n, c in counts.items())


def test_other_rules_have_no_released_form():
    with pytest.raises(ValueError, match="as_released"):
        make_rule("sparse-maml", as_released=True)


def resnet12(net, x):
    """The released ResNet-12 on the weights of ours, layer by layer."""
    active, pool = nn.LeakyReLU(), nn.MaxPool2d(2)  # torch's own slope

    def normed(layer, norm, x):
        return F.batch_norm(layer(x), None, None, norm.weight, norm.bias, training=True)

    for block in (net.layer1, net.layer2, net.layer3, net.layer4):
        y = active(normed(block.conv1, block.norm1, x))
        y = active(normed(block.conv2, block.norm2, y))
        y = normed(block.conv3, block.norm3, y)
        x = pool(active(y + normed(block.shortcut, block.norm_shortcut, x)))
    return net.output(x.mean((2, 3)))


def test_resnet12_is_the_released_one():
    torch.manual_seed(0)
    net = ResNet12(ways=5, channels=3, width=4).double()
    assert net.output.bias.tolist() == [0] * 5
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    close(net(x), resnet12(net, x))
