"""Continual learners with networks that a reader brings along, and their states."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from wheretolearn.continual.baselines import EWC
from wheretolearn.continual.interference import Interference
from wheretolearn.continual.la_maml import LaMAML
from wheretolearn.continual.methods import LEARNERS, settings
from wheretolearn.networks import MLP
from wheretolearn.rules import count_frozen, make_rule
from wheretolearn.types import Batch

SIZES = (6, 8, 7, 3)
_CHANGES: dict[str, dict] = {
    "gem": {"tasks": 3, "rate": 0.05},
    "mer": {"trajectories": 2, "replay": 3},
    "la-maml": {"glances": 2},
    "sparse-la-maml": {"glances": 2},
}
KINDS = [name for name in LEARNERS if name != "sync" and not name.startswith("la-maml-")]
"""Learners, without some that differ in their settings alone."""

BY_HAND = ["gem", "mer", "la-maml", "sparse-la-maml"]
"""Learners that know the gradient of an MLP."""


def batch(count, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=generator, dtype=torch.float64)
    return Batch(inputs, torch.randint(3, (count,), generator=generator))


def mlp(modify=None, sizes=SIZES, seed=0):
    torch.manual_seed(seed)
    network = MLP(*sizes).double()
    if modify is not None:
        modify(network)
    return network


def learner_of(name, network, seed=0, ways=None):
    chosen = settings(name, "rotations")
    if "memory" in chosen:
        chosen["memory"] = 12
    chosen |= _CHANGES.get(name, {})
    generator = torch.Generator().manual_seed(seed)
    return LEARNERS[name].make(network=network, generator=generator, ways=ways, **chosen)


def lived(learner):
    """Let a learner live through two tasks and the beginning of a third."""
    for task in range(3):
        for i in range(2):
            learner.observe(batch(4, 10 * task + i))
        if task < 2:
            learner.end_task()
    return learner


def assert_same(learner, other, atol=1e-10):
    """Compare the parameters that both have; of a network within another they are ``0.*``."""
    both = (learner.params, other.params)
    found, wanted = ({n.removeprefix("0."): p for n, p in params.items()} for params in both)
    assert len(found.keys() & wanted.keys()) >= 2
    for n in found.keys() & wanted.keys():
        torch.testing.assert_close(found[n], wanted[n], rtol=0, atol=atol, msg=n)


def assert_same_state(found, wanted):
    assert found["settings"] == wanted["settings"]
    torch.testing.assert_close(found | {"settings": 0}, wanted | {"settings": 0}, rtol=0, atol=0)


def assert_stays(learner, *names):
    initial = dict(learner.network.named_parameters())
    for n in names or initial:
        assert torch.equal(learner.params[n], initial[n]), n


# --- parameters that do not move, and those without a part in the loss


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("name", LEARNERS)
def test_what_requires_no_gradient_stays(name, layer):
    network = mlp(lambda n: n.layers[layer].requires_grad_(False))
    network.number = nn.Parameter(torch.tensor(7), requires_grad=False)  # an integer
    learner = lived(learner_of(name, network))
    rates = learner.rates()
    for n, p in network.named_parameters():
        assert torch.equal(learner.params[n], p) != p.requires_grad, n
        if rates is not None and not p.requires_grad:
            assert count_frozen(rates, learner.params)[n].frozen == p.numel()


def with_another_head(network):
    """Add a head that is not used; it would fit behind the last layer."""
    network.auxiliary = nn.Linear(3, 5).double()


@pytest.mark.parametrize("name", KINDS)
def test_a_head_that_is_not_used(name):
    learner = lived(learner_of(name, mlp(with_another_head)))
    assert_same(learner, lived(learner_of(name, mlp())))
    assert_stays(learner, "auxiliary.weight", "auxiliary.bias")


@pytest.mark.parametrize("name", KINDS)
def test_nothing_may_move(name):
    learner = lived(learner_of(name, mlp().requires_grad_(False)))
    assert_stays(learner)
    measure = Interference()
    for i in range(2):
        measure.measure(learner, batch(4, i))
        measure.end_task(batch(4, i))
    assert measure.cosines["gradient"] == [None, None]


# --- networks that are not quite MLPs


class Tanh(MLP):
    def forward(self, x):
        *hidden, last = self.layers
        for layer in hidden:
            x = torch.tanh(layer(x))
        return last(x)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2


LATE = {  # what can be done to a network that has a learner already
    "subclass": lambda n: setattr(n, "__class__", Tanh),
    "layer of another class": lambda n: setattr(n.layers[1], "__class__", Doubled),
    "own forward": lambda n: setattr(n, "forward", lambda x: 3 * MLP.forward(n, x)),
    "hook": lambda n: n.layers[1].register_forward_hook(lambda module, args, out: 2 * out),
    "hook before": lambda n: n.register_forward_pre_hook(lambda module, args: (args[0] / 2,)),
    "hook on the way back": lambda n: n.layers[2].register_full_backward_hook(
        lambda module, into, out: (2 * into[0],)
    ),
    "dropout": lambda n: setattr(n, "dropout", 0.5),
}
MODIFIED = LATE | {
    "parametrised": lambda n: parametrize.register_parametrization(n.layers[1], "weight", Half()),
    "no bias": lambda n: setattr(n.layers[1], "bias", None),
    "tied": lambda n: setattr(n.layers[1], "weight", n.layers[0].weight),
    "one layer": lambda n: n,
}
MODIFIED_SIZES = {"tied": (6, 6, 6, 3), "one layer": (6, 3)}


@pytest.mark.parametrize("kind", MODIFIED)
@pytest.mark.parametrize("name", BY_HAND)
def test_a_network_learns_as_what_it_is(name, kind):
    """As within another module, where no gradient is computed by hand."""
    modify, sizes = MODIFIED[kind], MODIFIED_SIZES.get(kind, SIZES)
    inside = lived(learner_of(name, nn.Sequential(mlp(modify, sizes))))
    assert_same(lived(learner_of(name, mlp(modify, sizes))), inside)
    if kind in LATE:  # also when there is a learner already
        learner = learner_of(name, mlp())
        modify(learner.network)
        assert_same(lived(learner), inside)


@pytest.mark.parametrize("name", BY_HAND)
def test_autocast_is_honoured(name):
    learners = []
    for network in (mlp(), nn.Sequential(mlp())):
        learners.append(learner_of(name, network.float()))
        with torch.autocast("cpu", torch.bfloat16):
            for i in range(3):
                inputs, targets = batch(4, i)
                learners[-1].observe(Batch(inputs.float(), targets))
                learners[-1].end_task()
    assert_same(learners[0], learners[1], atol=0)


@pytest.mark.parametrize(
    ("ways", "dtype"), [(None, torch.int16), (None, torch.int32), (3, torch.uint8)]
)
@pytest.mark.parametrize("name", KINDS)
def test_classes_of_any_integer_type(name, ways, dtype):
    learners = [learner_of(name, mlp(), ways=ways) for _ in range(2)]
    for learner, kind in zip(learners, (torch.int64, dtype), strict=True):
        for i in range(3):
            inputs, targets = batch(4, i)
            learner.observe(Batch(inputs, targets.to(kind)))
            learner.end_task()
    assert_same(*learners)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_criterion_of_ones_own(name):
    learners = [learner_of(name, network) for network in (mlp(), nn.Sequential(mlp()))]
    for learner in learners:
        learner.criterion = partial(F.cross_entropy, label_smoothing=0.5)
    assert_same(*map(lived, learners))


@pytest.mark.parametrize("name", ["mer", "la-maml", "sparse-la-maml"])
def test_batches_that_do_not_fit_are_refused(name):
    """By torch, where gradients by hand would be computed from whatever lies there."""
    inputs, targets = batch(4, 0)
    learner = learner_of(name, mlp())
    for wrong in (inputs.float(), (255 * inputs).byte(), inputs[:, :5]):
        with pytest.raises(RuntimeError):
            learner.observe(Batch(wrong, targets))
    with pytest.raises(IndexError):
        learner.observe(Batch(inputs, targets + 3))
    if "la-maml" in name:
        with pytest.raises(ValueError, match="no sample to learn"):
            learner.observe(Batch(inputs[:0], targets[:0]))


def test_gradient_for_the_rates_is_a_finite_difference():
    """Of La-MAML, with a subclass of MLP; exact to first order after one step on one sample."""
    network, sample, start = mlp(LATE["subclass"]), batch(1, 3), 0.1
    learner = LaMAML(
        rule=make_rule("relu-maml", inner_rate=start),
        memory=5,
        rule_rate=1.0,
        replay=0,
        glances=1,
        network=network,
        generator=torch.Generator(),
    )
    weights = dict(network.named_parameters())
    inner = F.cross_entropy(network(sample.inputs), sample.targets)
    grads = dict(zip(weights, torch.autograd.grad(inner, list(weights.values())), strict=True))
    learner.observe(sample)
    for n, m in learner.rule_params.items():

        def loss(change, n=n):
            moved = {k: p - start * grads[k] for k, p in weights.items()}
            moved[n] = moved[n] - change * grads[n]
            outputs = torch.func.functional_call(network, moved, (sample.inputs,))
            return F.cross_entropy(outputs, sample.targets).item()

        difference = (loss(1e-5) - loss(-1e-5)) / 2e-5  # of all rates of a tensor together
        assert (start - m).sum().item() == pytest.approx(difference, rel=1e-6)


# --- states, and looks that change nothing


class Tracked(nn.Module):
    """A network that subtracts a running mean, and counts."""

    mean: torch.Tensor
    count: torch.Tensor

    def __init__(self, seed=0):
        super().__init__()
        self.body = mlp(seed=seed)
        self.register_buffer("mean", torch.full((6,), float(seed)).double())
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.1)
            self.count = self.count + 1
        return self.body(x - self.mean)


@pytest.mark.parametrize("name", KINDS)
def test_looks_change_no_buffers(name):
    learner = lived(learner_of(name, Tracked()))
    before = copy.deepcopy(dict(learner.network.named_buffers()))
    assert before["count"] > 0
    learner.accuracy(batch(5, 0), (0, 3))
    compare = Interference()
    compare.end_task(batch(5, 1))
    compare.measure(learner, batch(5, 2))
    if isinstance(learner, EWC):
        learner.fisher(batch(5, 3))
    torch.testing.assert_close(dict(learner.network.named_buffers()), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_learners_go_on_where_they_were(name):
    one = lived(learner_of(name, Tracked()))
    other = learner_of(name, Tracked(1), seed=1)
    other.load_state_dict(one.state_dict())
    lived(one)
    with torch.no_grad():  # which makes no difference
        lived(other)
    assert_same(one, other, atol=0)
    assert_same_state(other.state_dict(), one.state_dict())


@pytest.mark.parametrize("name", KINDS)
def test_inference_mode_and_other_layers_are_refused(name):
    """Nothing would be learned there, or by some learners alone."""
    learner = learner_of(name, mlp())
    learner.network.layers[1] = nn.Linear(8, 7).double()
    with pytest.raises(ValueError, match="build the learner anew"):
        lived(learner).accuracy(batch(5, 0), (0, 3))
    for network in (mlp(), nn.Sequential(mlp())):
        learner = learner_of(name, network)
        with torch.inference_mode(), pytest.raises(ValueError, match="inference mode"):
            learner.observe(batch(4, 0))
        assert_stays(learner)


def _put(*path, change=lambda t: t[:1]):
    """Return what changes an entry of a state."""

    def spoil(state):
        *places, last = path
        for place in places:
            state = state[place]
        state[last] = change(state[last])

    return spoil


SPOILT = {  # what a message has to name: what is done to a state
    "layers.1.bias": _put("params", "layers.1.bias"),
    "layers.2.bias": lambda state: state["params"].pop("layers.2.bias"),
    "other": lambda state: state.update(other=1),
    "generator": _put("generator"),
    "pull.*layers.0.bias": _put("pull", "layers.0.bias"),
    "rule_params.*layers.0.weight": _put("rule_params", "layers.0.weight"),
    "samples.*list": _put("samples", change=str),
    "tasks_ended.*int": _put("tasks_ended", change=str),
    "settings": _put("settings", change=lambda settings: None),
    "memory of size 12": _put("memory", "held", change=lambda held: [t[:5] for t in held]),
}


@pytest.mark.parametrize(
    ("name", "named"),
    [
        *((name, named) for name in KINDS for named in list(SPOILT)[:4]),
        *(("ewc", named) for named in ("samples.*list", "tasks_ended.*int", "settings")),
        ("ewc", "pull.*layers.0.bias"),
        *((name, "memory of size 12") for name in ("replay", "mer", "la-maml")),
        *((name, "rule_params.*layers.0.weight") for name in ("la-maml", "sparse-la-maml")),
    ],
)
def test_a_state_that_is_refused_changes_nothing(name, named):
    learner = lived(learner_of(name, mlp(seed=1), seed=1))
    before, state = learner.state_dict(), lived(learner_of(name, mlp())).state_dict()
    SPOILT[named](state)
    with pytest.raises(ValueError, match=named):
        learner.load_state_dict(state)
    assert_same_state(learner.state_dict(), before)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_state_of_another_learner_is_refused(name):
    """Most have the same parts."""
    learner = learner_of(name, mlp())
    before = learner.state_dict()
    for other in LEARNERS:
        if other != name:
            with pytest.raises(ValueError, match=r"another (network or )?learner"):
                learner.load_state_dict(learner_of(other, mlp()).state_dict())
    assert_same_state(learner.state_dict(), before)
