"""Networks, losses and targets as users bring them to a meta-learner, in any mode of autograd."""

import copy
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from learners import FORMS, assert_same, few_shot, mlp, tasks
from reproduction.runs.probes import PROBES, ask
from synthetic import image_set
from textbook import episodes
from wheretolearn import Batch, Task, make_rule
from wheretolearn.networks import MLP, make_network
from wheretolearn.tasks import EpisodeSampler

MODES = pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])


@pytest.mark.parametrize("method", ["anil", "sparse-maml", "sparse-maml-plus"])
def test_a_frozen_head_is_still_the_head(method):
    mine = few_shot(
        mlp(lambda n: n.layers[2].requires_grad_(False)), rule=make_rule(method, scope="head")
    )
    mine.step(tasks())
    assert mine.sparsity() == 1
    assert_same(mine.adapt(tasks()[0].support), mine.params)


class Permuted(nn.Module):
    """Whole numbers among its parameters."""

    def __init__(self):
        super().__init__()
        self.order = nn.Parameter(torch.tensor([2, 0, 3, 1, 5, 4]), requires_grad=False)
        self.body = mlp()

    def forward(self, x):
        return self.body(x[:, self.order])


@pytest.mark.parametrize("form", FORMS)
def test_whole_numbers_may_be_parameters(form):
    mine = few_shot(Permuted(), method="sparse-maml", **FORMS[form])
    mine.step(tasks())
    assert math.isfinite(mine.evaluate(tasks()).loss)
    mine.load_state_dict(mine.state_dict())


def multi_label(outputs, targets):
    return F.binary_cross_entropy_with_logits(outputs, targets.double())


def counts(outputs, targets):
    return F.poisson_nll_loss(outputs, targets.double().view(outputs.shape))


@pytest.mark.parametrize(
    ("criterion", "targets", "dtype"),
    [
        (multi_label, torch.arange(18).view(6, 3) % 2, torch.int64),
        (multi_label, torch.arange(18).view(6, 3) % 2, torch.float64),
        (multi_label, torch.arange(9).view(3, 3) % 2, torch.bool),  # as many samples as labels
        (counts, torch.tensor([0, 3, 1, 0, 7, 2]), torch.int64),
        (counts, torch.zeros(6, 1), torch.int64),
    ],
)
def test_labels_that_are_no_classes_have_no_accuracy(criterion, targets, dtype):
    x = torch.randn(len(targets), 6, dtype=torch.float64)
    made = [Task(Batch(x, targets.to(dtype)), Batch(-x, targets.to(dtype)))] * 2
    mine = few_shot(mlp(sizes=(6, 5, 1 if criterion is counts else 3)), criterion=criterion)
    for score in (mine.step(made), mine.evaluate(made)):
        assert all(map(math.isnan, score.accuracies))
        assert all(map(math.isfinite, score.losses))


def errors(outputs, targets):
    return (outputs.argmax(1) != targets).float().mean()


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_loss_that_only_counts_is_refused(released, form):
    rule = make_rule("masked-weights", as_released=released)
    with pytest.raises(ValueError, match="no gradient"):
        few_shot(mlp(), rule=rule, criterion=errors, **FORMS[form]).step(tasks())


@MODES
@pytest.mark.parametrize("name", ["convnet4", "resnet12"])
@pytest.mark.parametrize("form", FORMS)
def test_everything_works_without_gradients_around(mode, name, form):
    channels = 3 if name == "resnet12" else 1
    torch.manual_seed(0)
    network = make_network(name, ways=3, channels=channels, image_size=16, width=2).double()
    made = episodes(2, 6, 6, channels, 16, 16)

    def use(mine):
        scores = mine.evaluate(iter(made)), mine.step(made), mine.evaluate(iter(made))
        return scores, mine.adapt(made[0].support)

    one, two = (
        few_shot(copy.deepcopy(network), method="sparse-maml", **FORMS[form]) for _ in range(2)
    )
    want = use(two)
    with mode():
        got = use(one)
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        assert not torch.is_grad_enabled()
    assert got[0] == want[0]
    assert_same(got[1], want[1])


@MODES
@pytest.mark.parametrize("probe", PROBES)
def test_probes_work_without_gradients_around(mode, probe):
    sampler = EpisodeSampler(image_set(size=8), "test", ways=3, shots=2, queries=3, seed=0)
    torch.manual_seed(0)
    mine = few_shot(MLP(8 * 8, 6, 3), method="sparse-maml")
    want = ask(probe, mine, sampler, 4)
    with mode():
        assert ask(probe, mine, sampler, 4) == want


# --- networks that cannot adapt side by side


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


class Running(Base):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(5)

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


@pytest.mark.filterwarnings("ignore:the network keeps running statistics")
@pytest.mark.parametrize("network", [Running, Choosing, Listing, Spectral])
@pytest.mark.parametrize("order", [1, 2])
def test_what_cannot_be_stacked_adapts_one_by_one(network, order):
    """It is said once, where the learner is used; and no task learns from another's buffers."""
    torch.manual_seed(0)
    net = network().double()
    one, two = (few_shot(copy.deepcopy(net), order=order, stacked=s) for s in (False, True))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(2):
            assert two.step(tasks(count=5)) == one.step(tasks(count=5))
            score = two.evaluate(tasks(count=11))
            assert score == one.evaluate(tasks(count=11))
            assert score.losses == [one.evaluate([task]).loss for task in tasks(count=11)]
    assert [w.category for w in said] == [UserWarning]
    assert "stacked=False" in str(said[0].message)
    assert said[0].filename == __file__
    assert_same(two.state_dict(), one.state_dict())


class Counting(Base):
    """Changes in place, which vmap allows where nothing is differentiated."""

    calls: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls


class Replacing(Base):
    """Puts others in place of its buffers, one of which is none at first."""

    calls: torch.Tensor
    last_input: torch.Tensor | None

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last_input", None)

    def forward(self, x):
        self.calls = self.calls + 1
        self.last_input = x.detach().mean(0)
        return super().forward(x) * self.calls


@pytest.mark.parametrize("network", [Counting, Replacing])
def test_an_evaluation_leaves_buffers_alone(network):
    torch.manual_seed(0)
    net = network().double()
    one, two = (few_shot(copy.deepcopy(net), inner_steps=0, stacked=s) for s in (False, True))
    with pytest.warns(UserWarning, match="changes its buffers|stacked=False"):
        assert two.evaluate(tasks()) == one.evaluate(tasks())
    for learner in (one, two):
        assert learner.module.calls == 0
        assert getattr(learner.module, "last_input", None) is None
        learner.step(tasks())
        assert learner.module.calls == 3
