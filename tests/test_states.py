"""Saved states: all of a learner, nothing of another one, and never half of one."""

import copy
import io
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from wheretolearn import Batch, MetaLearner, Task, make_rule
from wheretolearn.networks import ConvNet4


class Spectral(nn.Module):
    """Spectral norm and a normalisation that keeps statistics: two kinds of buffers."""

    def __init__(self):
        super().__init__()
        self.first = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 6))
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


def tasks(count, *shape):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, 12, *shape, generator=generator)
    y = torch.arange(6) % 3
    return [Task(Batch(a[:6], y), Batch(a[6:], y)) for a in x]


def learner(channels=1, method="sparse-maml", width=4, seed=0, inner_steps=2, rule=(), **settings):
    torch.manual_seed(seed)
    return MetaLearner(
        ConvNet4(3, channels, 16, width),
        make_rule(method, **dict(rule)),
        generator=torch.Generator().manual_seed(seed),
        inner_steps=inner_steps,
        device="cpu",
        **settings,
    )


@pytest.mark.filterwarnings("ignore:the network keeps running statistics")
def with_buffers(seed=0, **settings):
    torch.manual_seed(seed)
    return MetaLearner(Spectral(), make_rule("maml"), inner_steps=2, device="cpu", **settings)


def flat(state):
    """All of a state: its tensors, and what is none, by path."""
    if isinstance(state, dict):
        return {f"{k}/{n}": v for k, s in state.items() for n, v in flat(s).items()}
    if isinstance(state, list):
        return flat(dict(enumerate(state)))
    return {"": state}


def assert_same(one, other):
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for n, a in one.items():
        assert torch.equal(a, other[n]) if isinstance(a, torch.Tensor) else a == other[n], n


def refused(mine, state, match):
    before = copy.deepcopy(mine.state_dict())
    with pytest.raises(ValueError, match=match):
        mine.load_state_dict(state)
    assert_same(mine.state_dict(), before)


def trained(**settings):
    made = learner(**settings)
    made.step(tasks(2, settings.get("channels", 1), 16, 16))
    return made.state_dict()


def flatten(state):
    for value in state["optimizer"]["state"].values():
        value["exp_avg"] = value["exp_avg"].flatten()


BIAS, KERNEL = "output.bias", r"layer1\.conv\.weight"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda s: s["params"].pop(BIAS), BIAS),
        (lambda s: s["params"].update({BIAS: torch.zeros(3).long()}), BIAS),
        (lambda s: s["params"].update({BIAS: [0.0, 0.0, 0.0]}), BIAS),
        (lambda s: s["rule_params"].update(more=torch.zeros(1)), "more"),
        (lambda s: s.pop("params"), "params"),
        (lambda s: s["optimizer"]["state"].update({99: {}}), "optimizer"),
        (lambda s: s["optimizer"]["param_groups"][0]["params"].pop(), "optimizer"),
        (lambda s: s.update(optimizer=trained(outer="nesterov")["optimizer"]), "optimizer"),
        (flatten, KERNEL),
    ],
)
def test_what_does_not_fit_is_refused_whole(change, match):
    state = trained()
    change(state)
    refused(learner(seed=1), state, match)


@pytest.mark.parametrize("weights_alone", [False, True])
@pytest.mark.parametrize("other", [{"channels": 3}, {"width": 6}])
def test_a_state_of_another_shape_is_refused_whole(weights_alone, other):
    """A kernel of one channel would spread over three."""
    state = trained()
    if weights_alone:
        state = {k: state[k] for k in ("params", "rule_params")}
    refused(learner(seed=1, **other), state, KERNEL)


@pytest.mark.parametrize("nothing", [None, {}, [], 3])
@pytest.mark.parametrize("part", ["settings", "optimizer", "params"])
def test_parts_that_are_none_are_refused(part, nothing):
    refused(learner(seed=1), trained() | {part: nothing}, "learner|optimizer|params")


@pytest.mark.parametrize("field", ["as_released", "mask_init", "noise"])
def test_what_an_older_rule_lacks_has_its_default(field):
    state = trained()
    assert state["settings"].pop(field) in (False, "uniform", 0)
    learner(seed=1).load_state_dict(state)
    if field == "mask_init":
        refused(learner(rule={"mask_init": "kaiming"}), state, field)


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "meta-sgd"},
        {"rule": {"inner_rate": 0.5}},
        {"inner_steps": 3},
        {"order": 2},
        {"outer": "nesterov"},
        {"outer_clamp": 1.0},
    ],
)
def test_a_state_of_another_method_is_refused(settings):
    name = {"method": "gate", "rule": "inner_rate"}.get(*[next(iter(settings))] * 2)
    refused(learner(seed=1, **settings), trained(), name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_of_any_precision_goes_through_a_file_and_training_goes_on(dtype):
    mine, other, file = learner(), learner(seed=1), io.BytesIO()
    mine.step(tasks(2, 1, 16, 16))
    state = mine.state_dict()
    torch.save(state | {"params": {n: p.to(dtype) for n, p in state["params"].items()}}, file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for one in (mine, other):
        one.step(tasks(3, 1, 16, 16))
    assert_same(mine.state_dict(), other.state_dict())
    assert other.params[BIAS].dtype == torch.float32


def test_weights_alone_and_states_that_do_not_say_what_they_are():
    state = trained()
    mine = learner(seed=1, inner_steps=7)
    optimizer = copy.deepcopy(mine.state_dict()["optimizer"])
    mine.load_state_dict({k: state[k] for k in ("params", "rule_params")})
    assert_same(mine.state_dict()["params"], state["params"])
    assert_same(mine.state_dict()["optimizer"], optimizer)
    older = {k: state[k] for k in ("params", "rule_params", "optimizer")}
    mine.load_state_dict(older)
    assert_same(mine.state_dict()["optimizer"], state["optimizer"])


@pytest.mark.filterwarnings("ignore:the network keeps running statistics")
@pytest.mark.parametrize("mode", [True, False])
def test_buffers_belong_to_a_state(mode):
    mine, other = with_buffers(0), with_buffers(1)
    for _ in range(3):
        mine.step(tasks(2, 4))
    mine.module.train(mode)
    other.module.train(mode)
    state = mine.state_dict()
    assert mine.evaluate(tasks(3, 4)).loss != other.evaluate(tasks(3, 4)).loss
    other.load_state_dict(state)
    assert other.evaluate(tasks(3, 4)) == mine.evaluate(tasks(3, 4))
    other.step(tasks(2, 4))
    assert_same(mine.state_dict(), state)  # a copy: what others learn is not seen here
    lacking = copy.deepcopy(state)
    del lacking["buffers"]["norm.running_mean"]
    refused(with_buffers(2), lacking, r"norm\.running_mean")


@pytest.mark.filterwarnings("ignore:the network keeps running statistics")
@pytest.mark.parametrize("stacked", [False, True])
def test_an_evaluation_learns_nothing(stacked):
    mine = with_buffers(stacked=stacked)
    before = {n: b.clone() for n, b in mine.module.named_buffers()}
    one = tasks(3, 4)
    scores = [mine.evaluate([task]).loss for task in one]
    together = mine.evaluate(one)
    mine.adapt(one[0].support)
    assert_same(dict(mine.module.named_buffers()), before)
    assert together.losses == scores  # nor from one task for the next


class Counts(nn.Module):
    """Buffers that are replaced, not changed in place."""

    seen: torch.Tensor
    last: torch.Tensor | None

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("last", None)

    def forward(self, x):
        self.seen = self.seen + len(x)
        self.last = x.detach().mean(0)
        return self.layer(x) * self.seen


@pytest.mark.parametrize("stacked", [False, True])
def test_replaced_buffers_come_back(stacked):
    net = Counts()
    mine = MetaLearner(net, make_rule("maml"), inner_steps=2, device="cpu", stacked=stacked)
    with pytest.warns(UserWarning, match="stacked=False") if stacked else nullcontext():
        mine.evaluate(tasks(2, 4))
    assert net.seen == 0
    assert net.last is None
    mine.step(tasks(2, 4))
    assert net.seen == 2 * 3 * 6
