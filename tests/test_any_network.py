"""Networks, losses and targets as users bring them, in any mode of autograd."""

import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from reproduction.runs.probes import PROBES, ask
from synthetic import image_set
from wheretolearn import METHODS, Batch, MetaLearner, Task, make_rule
from wheretolearn.networks import MLP, make_network
from wheretolearn.tasks import EpisodeSampler

STATISTICS = pytest.mark.filterwarnings("ignore:the network keeps running statistics")


def tasks(count=3, size=6, dtype=torch.float32, targets=None):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count, 2 * size, 4, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.arange(size) % 3 if targets is None else targets
    return [Task(Batch(a[:size], y), Batch(a[size:], y)) for a in x]


def images(count=2, channels=1):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(count, 12, channels, 16, 16, generator=generator)
    y = torch.arange(6) % 3
    return [Task(Batch(a[:6], y), Batch(a[6:], y)) for a in x]


def learner(network, method="maml", **settings):
    generator = torch.Generator().manual_seed(0)
    rule = make_rule(method)
    return MetaLearner(network, rule, generator=generator, inner_steps=2, device="cpu", **settings)


# Parameters that do not require a gradient


def mlp():
    torch.manual_seed(0)
    return MLP(4, 6, 5, 3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("order", "stacked"), [(1, False), (1, True), (2, False)])
def test_what_requires_no_gradient_stays_in_both_loops(method, order, stacked):
    net = mlp()
    net.layers[0].requires_grad_(False)
    net.layers[2].bias.requires_grad_(False)
    still = {n for n, p in net.named_parameters() if not p.requires_grad}
    mine = learner(net, method, order=order, stacked=stacked)
    before = {n: p.clone() for n, p in mine.params.items()}
    for _ in range(2):
        mine.step(tasks())
    adapted = mine.adapt(tasks()[0].support)
    assert list(adapted) == list(mine.params) == list(before)
    for n, p in before.items():
        assert torch.equal(mine.params[n], p) == (n in still), n
        if n in still:
            assert torch.equal(adapted[n], p)
            count = mine.frozen()[n]
            assert count.frozen == count.size
    assert not still & {n.partition("@")[0] for n in mine.rule_params}
    assert mine.sparsity() > 0
    assert still < mine.state_dict()["params"].keys()
    for p in adapted.values():  # the reader's own
        p.zero_()
    assert all(p.any() for p in mine.params.values())


@pytest.mark.parametrize("method", ["anil", "sparse-maml", "sparse-maml-plus"])
def test_a_frozen_head_is_still_the_head(method):
    net = mlp()
    net.layers[2].requires_grad_(False)
    mine = MetaLearner(net, make_rule(method, scope="head"), inner_steps=2, device="cpu")
    mine.step(tasks())
    assert mine.sparsity() == 1
    adapted = mine.adapt(tasks()[0].support)
    assert all(torch.equal(adapted[n], p) for n, p in mine.params.items())
    with pytest.raises(ValueError, match="no parameters that require"):
        learner(net.requires_grad_(False))


def test_whole_numbers_may_be_parameters():
    class Permuted(nn.Module):
        def __init__(self):
            super().__init__()
            self.order = nn.Parameter(torch.tensor([2, 0, 3, 1]), requires_grad=False)
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return self.layer(x[:, self.order])

    for order in (1, 2):
        mine = learner(Permuted(), "sparse-maml", order=order)
        mine.step(tasks())
        assert math.isfinite(mine.evaluate(tasks()).loss)
        mine.load_state_dict(mine.state_dict())


# Parameters that have no part in the loss


class Auxiliary(nn.Module):
    """A head that is registered, and not used."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("order", "stacked"), [(1, False), (1, True), (2, False)])
def test_an_unused_head_has_a_gradient_of_zero(method, order, stacked):
    torch.manual_seed(0)
    mine = learner(Auxiliary(), method, order=order, stacked=stacked)
    before = {n: p.clone() for n, p in mine.params.items()}
    mine.step(tasks())
    assert math.isfinite(mine.evaluate(tasks()).loss)
    adapted = mine.adapt(tasks()[0].support)
    assert torch.equal(mine.params["head.weight"], before["head.weight"])
    if method != "masked-weights":  # its start is masked
        assert torch.equal(adapted["head.weight"], before["head.weight"])
    assert not torch.equal(mine.params["body.weight"], before["body.weight"])


# Accuracy


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.uint16, torch.int64]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("stacked", [False, True])
def test_classes_of_any_integer_type(dtype, stacked):
    same = tasks()
    other = tasks(targets=(torch.arange(6) % 3).to(dtype))
    for given in (F.cross_entropy, lambda outputs, y: F.cross_entropy(outputs, y.long())):
        one, two = (learner(mlp(), criterion=given, stacked=stacked) for _ in range(2))
        assert one.step(same) == two.step(other)
        score = two.evaluate(other)
        assert score == one.evaluate(same)
        assert all(0 <= a <= 1 for a in score.accuracies)


def multi_label(outputs, targets):
    return F.binary_cross_entropy_with_logits(outputs, targets.float())


def counts(outputs, targets):
    return F.poisson_nll_loss(outputs, targets.float().view(outputs.shape))


NO_CLASSES = [
    *((multi_label, torch.arange(18).view(6, 3) % 2, d) for d in (torch.int64, torch.float32)),
    (multi_label, torch.arange(9).view(3, 3) % 2, torch.bool),  # as many samples as labels
    (counts, torch.tensor([0, 3, 1, 0, 7, 2]), torch.int64),
    (counts, torch.zeros(6, 1), torch.int64),
]


@pytest.mark.parametrize(("criterion", "targets", "dtype"), NO_CLASSES)
def test_labels_that_are_no_classes_have_no_accuracy(criterion, targets, dtype):
    made = tasks(size=len(targets), targets=targets.to(dtype))
    mine = learner(MLP(4, 5, 1 if criterion is counts else 3), criterion=criterion)
    for score in (mine.step(made), mine.evaluate(made)):
        assert all(map(math.isnan, score.accuracies))
        assert all(map(math.isfinite, score.losses))


# Modes of autograd


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", ["mlp", "convnet4", "resnet12"])
@pytest.mark.parametrize(("order", "stacked"), [(1, False), (1, True), (2, False)])
def test_everything_works_without_gradients_around(mode, name, order, stacked):
    channels = 3 if name == "resnet12" else 1
    torch.manual_seed(0)
    net = make_network(name, ways=3, channels=channels, image_size=16, width=2)

    def use(mine):
        made = images(2, channels)
        scores = mine.evaluate(iter(made)), mine.step(made), mine.evaluate(iter(made))
        return scores, mine.adapt(made[0].support)

    one, two = (
        learner(copy.deepcopy(net), "sparse-maml", order=order, stacked=stacked) for _ in range(2)
    )
    want, expected = use(two)
    with mode():
        got, adapted = use(one)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        assert not torch.is_grad_enabled()
    assert got == want
    assert all(torch.equal(adapted[n], p) for n, p in expected.items())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("probe", PROBES)
def test_probes_work_without_gradients_around(mode, probe):
    episodes = EpisodeSampler(image_set(size=8), "test", ways=3, shots=2, queries=3, seed=0)
    torch.manual_seed(0)
    mine = learner(MLP(8 * 8, 6, 3), "sparse-maml")
    want = ask(probe, mine, episodes, 4)
    with mode():
        assert ask(probe, mine, episodes, 4) == want


# Losses without a gradient


class Blind(MLP):
    """A network that keeps no graph."""

    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


def errors(outputs, targets):
    return (outputs.argmax(1) != targets).float().mean()


@pytest.mark.parametrize(("network", "criterion"), [(Blind, F.cross_entropy), (MLP, errors)])
@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize(("order", "stacked"), [(1, False), (1, True), (2, False)])
def test_a_loss_without_a_gradient_is_refused(network, criterion, released, order, stacked):
    rule = make_rule("masked-weights", as_released=released)
    mine = MetaLearner(
        network(4, 5, 3), rule, criterion=criterion, order=order, stacked=stacked, device="cpu"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="no gradient"):
            mine.step(tasks())


# Networks that change behind a learner's back


def put(name, value):
    return lambda net: setattr(net.layers[1], name, value(net.layers[1].weight))


CHANGES = {
    "another layer": lambda net: net.layers.__setitem__(1, nn.Linear(6, 5)),
    "one more layer": lambda net: net.layers.append(nn.Linear(3, 3)),
    "another tensor": put("weight", lambda w: nn.Parameter(w.detach().clone())),
    "a parametrisation": lambda net: parametrize.register_parametrization(
        net.layers[1], "weight", nn.Tanh()
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stacked", [False, True])
def test_parameters_that_are_no_longer_those_of_the_network(change, stacked):
    """What takes their place would never learn."""
    mine, made = learner(mlp(), stacked=stacked), tasks()
    mine.step(made)
    CHANGES[change](mine.module)
    for use, given in ((mine.step, made), (mine.evaluate, made), (mine.adapt, made[0].support)):
        with pytest.raises(ValueError, match="build the learner anew"):
            use(given)


@pytest.mark.parametrize("how", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_parameters_are_refused(how):
    """Learners move copies, so they would have no effect."""
    net = mlp()
    handle = getattr(net.layers[1].weight, how)(lambda p: None)
    with pytest.raises(ValueError, match=r"hooks.*layers\.1\.weight"):
        learner(net)
    handle.remove()
    learner(net).step(tasks())


# Networks that cannot adapt side by side


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


class Running(Base):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


class Choosing(Base):
    def forward(self, x):
        h = self.first(x)
        return self.last(torch.relu(h) if h.mean() > 0 else torch.tanh(h))


class Listing(Base):
    def forward(self, x):
        self.seen = self.first(x).detach().cpu().numpy()
        return super().forward(x)


class Spectral(Base):
    def __init__(self):
        super().__init__()
        nn.utils.parametrizations.spectral_norm(self.first)


@STATISTICS
@pytest.mark.parametrize("network", [Running, Choosing, Listing, Spectral])
@pytest.mark.parametrize("order", [1, 2])
def test_what_cannot_be_stacked_adapts_one_by_one(network, order):
    torch.manual_seed(0)
    net = network()
    one, two = (
        learner(copy.deepcopy(net), order=order, stacked=stacked) for stacked in (False, True)
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            assert two.step(tasks(5)) == one.step(tasks(5))
            assert two.evaluate(tasks(11)) == one.evaluate(tasks(11))
    assert [w.category for w in said] == [UserWarning]
    assert "stacked=False" in str(said[0].message)
    assert said[0].filename == __file__
    ours, theirs = (dict(x.module.named_buffers()) for x in (two, one))
    assert all(torch.equal(b, theirs[n]) for n, b in ours.items())
    assert all(torch.equal(p, one.params[n]) for n, p in two.params.items())


class Counting(Base):
    """Changes in place, which vmap allows where nothing is differentiated."""

    calls: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


def test_a_network_that_counts_its_evaluations():
    net, rule = Counting(), make_rule("maml")
    one, two = (
        MetaLearner(copy.deepcopy(net), rule, inner_steps=0, device="cpu", stacked=stacked)
        for stacked in (False, True)
    )
    with pytest.warns(UserWarning, match="changes its buffers"):
        assert two.evaluate(tasks()) == one.evaluate(tasks())
