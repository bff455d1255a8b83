"""What holds of every learner, whatever it learns from."""

import copy
import itertools
import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from learners import (
    FEW_SHOT,
    KINDS,
    ON_STREAMS,
    OSAKA,
    SIZES,
    Blind,
    Tracked,
    assert_same,
    batch,
    mlp,
    tasks,
)  # fmt: skip
from textbook import assert_close
from wheretolearn.continual.baselines import EWC
from wheretolearn.continual.interference import Interference

every = pytest.mark.parametrize("name", KINDS)
STEPS = 9


@every
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_what_requires_no_gradient_or_is_not_used_stays(name, layer):
    """Also a parameter of whole numbers, and a head that is registered last and not used."""
    kind, network = KINDS[name], mlp(lambda n: n.layers[layer].requires_grad_(False))
    network.number = nn.Parameter(torch.tensor(7), requires_grad=False)
    network.auxiliary = nn.Linear(3, 5).double()
    learner = kind.lived(kind.make(network))
    for n, p in network.named_parameters():
        stays = not p.requires_grad or n.startswith("auxiliary")
        assert torch.equal(kind.params(learner)[n], p) == stays, n
    counts = kind.counts(learner)
    for n, p in network.named_parameters():
        assert p.requires_grad or n not in counts or counts[n].frozen == p.numel()
    assert all(torch.isfinite(p).all() for p in kind.params(learner).values())


@every
def test_nothing_may_move(name):
    kind, network = KINDS[name], mlp().requires_grad_(False)
    if kind.family != "stream":
        with pytest.raises(ValueError, match="no parameters that require"):
            kind.make(network)
        return
    learner, measure = kind.lived(kind.make(network)), Interference()
    assert_same(learner.params, dict(network.named_parameters()))
    for i in range(2):
        measure.measure(learner, batch(4, i))
        measure.end_task(batch(4, i))
    assert measure.cosines["gradient"] == [None, None]


@every
@pytest.mark.filterwarnings("ignore:tasks cannot adapt side by side")
def test_it_goes_on_where_it_was_and_looks_change_nothing(name):
    """From any step, with buffers; without gradients around, too."""
    kind = KINDS[name]
    whole, states = kind.make(Tracked()), []
    for k in range(STEPS):
        states.append(whole.state_dict())
        kind.look(whole)
        compare = Interference()
        if kind.family == "stream":
            compare.end_task(batch(5, 1))
            compare.measure(whole, batch(5, 2))
        if isinstance(whole, EWC):
            whole.fisher(batch(5, 3))
        assert_same(whole.state_dict(), states[-1])
        kind.learn(whole, k)
    assert whole.state_dict().keys() == states[0].keys()
    for stop in (0, 1, 5, 8):
        other = kind.make(Tracked(1), seed=1)
        other.load_state_dict(states[stop])
        with torch.no_grad():
            kind.lived(other, range(stop, STEPS))
        assert_same(other.state_dict(), whole.state_dict())


@every
def test_inference_mode(name):
    """Few-shot learners learn in it as elsewhere; others, which learn from it nothing, say so."""
    kind = KINDS[name]
    learner, other = kind.make(mlp()), kind.make(mlp())
    with torch.inference_mode():
        if kind.family == "few-shot":
            got = kind.learn(learner, 0), kind.look(learner), kind.learn(learner, 1)
            assert torch.is_inference_mode_enabled()
        else:
            with pytest.raises(ValueError, match="inference mode"):
                kind.lived(learner)
    if kind.family == "few-shot":
        assert got == (kind.learn(other, 0), kind.look(other), kind.learn(other, 1))
    assert_same(kind.params(learner), kind.params(other))


@pytest.mark.parametrize("name", KINDS.keys() - {"adapter", "prolonged", "prolonged, late"})
def test_a_loss_without_a_gradient_is_refused(name):
    """By all whose outer loop learns in the first five steps."""
    kind = KINDS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor is it said that tasks cannot adapt side by side
        with pytest.raises(ValueError, match="no gradient"):
            kind.lived(kind.make(Blind(*SIZES).double()))


CHANGED = {
    "another layer": lambda n: n.layers.__setitem__(1, nn.Linear(8, 7).double()),
    "one more layer": lambda n: n.layers.append(nn.Linear(3, 3).double()),
    "another tensor": lambda n: setattr(n.layers[1], "weight", nn.Parameter(n.layers[1].weight)),
    "a parametrisation": lambda n: parametrize.register_parametrization(
        n.layers[1], "weight", nn.Tanh()
    ),
}


@every
def test_layers_or_parameters_put_in_later_are_refused(name):
    """They would never learn."""
    kind = KINDS[name]
    for change in CHANGED.values():
        network = mlp()
        learner = kind.lived(kind.make(network), (0,))
        change(network)
        for use in (kind.look, partial(kind.lived, steps=(1,)))[: 1 + (kind.family != "stream")]:
            with pytest.raises(ValueError, match="build the learner anew"):
                use(learner)


@every
@pytest.mark.parametrize("how", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_parameters_are_refused(name, how):
    """Learners move copies, so they would have no effect."""
    network = mlp()
    handle = getattr(network.layers[1].weight, how)(lambda p: None)
    with pytest.raises(ValueError, match=r"hooks.*layers\.1\.weight"):
        KINDS[name].make(network)
    handle.remove()
    KINDS[name].make(network)


INTEGERS = [torch.uint8, torch.int16, torch.int32]


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *itertools.product([*FEW_SHOT, *ON_STREAMS], INTEGERS),
        *itertools.product(FEW_SHOT, [torch.int8, torch.uint16]),
    ],
)
def test_classes_of_any_integer_type(name, dtype):
    kind = KINDS[name]
    heads = {"ways": 3} if kind.family == "stream" and dtype == torch.uint8 else {}
    whole, other = kind.make(mlp(), **heads), kind.make(mlp(), **heads)
    for k in range(4):
        want, got = kind.learn(whole, k), kind.learn(other, k, dtype)
        assert got == want or kind.family == "stream"
    assert kind.look(other, dtype) == kind.look(whole)
    assert_close(kind.params(other), kind.params(whole))  # one of them maybe by hand


# --- states


def entry(*path, change=lambda t: t[:1]):
    """Return what changes an entry of a state."""

    def spoil(state):
        *places, last = path
        for place in places:
            state = state[place]
        state[last] = change(state[last])

    return spoil


def gone(*path):
    def spoil(state):
        *places, last = path
        for place in places:
            state = state[place]
        del state[last]

    return spoil


def flattened(*path):
    def change(state):
        return {i: s | {"exp_avg": s["exp_avg"].flatten()} for i, s in state.items()}

    return entry(*path, "state", change=change)


def more(value):
    return value | {"other": torch.zeros(1)}


WEIGHT, BIAS = "layers.0.weight", "layers.1.bias"
_OSAKA_SLOW = ("slow", "params", BIAS)
SPOILT = [  # learners, what is done to their states, and what the message has to name
    ([*FEW_SHOT, *ON_STREAMS], entry("params", BIAS), BIAS),
    ([*FEW_SHOT, *ON_STREAMS], gone("params", BIAS), BIAS),
    ([*FEW_SHOT, *ON_STREAMS], entry("params", BIAS, change=lambda t: t.long()), BIAS),
    ([*FEW_SHOT, *ON_STREAMS], entry("params", BIAS, change=torch.Tensor.tolist), BIAS),
    ([*FEW_SHOT, *ON_STREAMS], entry("settings", change=lambda s: None), "settings"),
    ([*FEW_SHOT, *ON_STREAMS], entry("params", change=lambda s: None), "params"),
    (FEW_SHOT, gone("buffers", "mean"), "mean"),
    (FEW_SHOT, entry("rule_params", change=more), "other"),
    (FEW_SHOT, entry("optimizer", "state", change=lambda s: s | {99: {}}), "optimizer"),
    (FEW_SHOT, entry("optimizer", "param_groups", change=lambda g: []), "optimizer"),
    (FEW_SHOT, entry("optimizer", change=lambda s: 3), "optimizer"),
    (FEW_SHOT, flattened("optimizer"), rf"optimizer.*{WEIGHT}"),
    (ON_STREAMS, entry("generator"), "generator"),
    ([*ON_STREAMS, *OSAKA], lambda s: s.update(other=1), "other"),
    (["ewc"], entry("samples", change=str), "samples.*list"),
    (["ewc"], entry("tasks_ended", change=str), "tasks_ended.*int"),
    (["ewc"], entry("pull", BIAS), f"pull.*{BIAS}"),
    (["replay", "mer", "la-maml"], entry("memory", "held", change=lambda h: [t[:5] for t in h]),
     "memory of size 12"),
    (["la-maml", "sparse-la-maml"], entry("rule_params", WEIGHT), f"rule_params.*{WEIGHT}"),
    (OSAKA, gone("shifted"), "shifted"),
    (OSAKA, entry(*_OSAKA_SLOW), BIAS),
    (OSAKA, gone(*_OSAKA_SLOW), BIAS),
    (OSAKA, entry("fast", change=more), "fast.*other"),
    (OSAKA, entry("fast", change=lambda s: None), "fast"),
    (["adapter", "prolonged"], entry("fast", BIAS), f"fast.*{BIAS}"),
    (["c-maml of osaka"], entry("sums", BIAS), f"sums.*{BIAS}"),
    (["prolonged"], entry("collected", change=lambda c: "abc"), "collected"),
    (["fine-tuned"], lambda s: s["optimizer"]["param_groups"].clear(), "optimizer"),
    (["fine-tuned"], flattened("optimizer"), rf"optimizer.*{WEIGHT}"),
]  # fmt: skip


@every
@pytest.mark.filterwarnings("ignore:tasks cannot adapt side by side")
def test_a_state_that_is_refused_changes_nothing(name):
    kind = KINDS[name]
    network = mlp()
    network.register_buffer("mean", torch.zeros(2))
    state = kind.lived(kind.make(network)).state_dict()
    learner = kind.lived(kind.make(copy.deepcopy(network), seed=1), (0, 1))
    before = learner.state_dict()
    for kinds, spoil, message in SPOILT:
        if name in kinds:
            spoilt = copy.deepcopy(state)
            spoil(spoilt)
            with pytest.raises(ValueError, match=message):
                learner.load_state_dict(spoilt)
            assert_same(learner.state_dict(), before)
    learner.load_state_dict(state)


@every
def test_a_state_of_another_learner_is_refused(name):
    """Most have the same parts."""
    kind = KINDS[name]
    learner = kind.make(mlp())
    before = learner.state_dict()
    for other, its in KINDS.items():
        if its.family == kind.family and other.split(", side")[0] != name.split(", side")[0]:
            with pytest.raises(ValueError, match=r"belongs to another|learner: see"):
                learner.load_state_dict(its.make(mlp()).state_dict())
    assert_same(learner.state_dict(), before)


def _few_shot(method="sparse-maml", **changes):
    return FEW_SHOT[method].make(mlp(), **changes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"inner_steps": 3}, "inner_steps"),
        ({"order": 2}, "order"),
        ({"outer": "nesterov"}, "outer"),
        ({"outer_clamp": 1.0}, "outer_clamp"),
        ({"method": "meta-sgd"}, "gate"),
    ],
)
def test_a_state_of_other_settings_names_them(changes, named):
    with pytest.raises(ValueError, match=named):
        _few_shot(**changes).load_state_dict(_few_shot().state_dict())


@pytest.mark.parametrize("field", ["as_released", "mask_init", "noise"])
def test_what_the_rule_of_an_older_state_lacks_has_its_default(field):
    state = _few_shot().state_dict()
    assert state["settings"].pop(field) in (False, "uniform", 0)
    _few_shot().load_state_dict(state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_state_of_any_precision_goes_through_a_file_and_training_goes_on(dtype, tmp_path):
    kind = FEW_SHOT["sparse-maml"]
    mine, other = kind.lived(_few_shot(), (0,)), _few_shot(seed=1)
    state = mine.state_dict()
    state["params"] = {n: p.float().to(dtype) for n, p in state["params"].items()}
    torch.save(state, tmp_path / "state")
    for learner in (mine, other):
        learner.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert_same(kind.lived(other, (1, 2)).state_dict(), kind.lived(mine, (1, 2)).state_dict())
    assert {p.dtype for p in other.params.values()} == {torch.float64}


def test_weights_alone_and_states_that_do_not_say_what_they_are():
    state = FEW_SHOT["sparse-maml"].lived(_few_shot()).state_dict()
    mine = _few_shot(seed=1, inner_steps=7)
    optimizer = mine.state_dict()["optimizer"]
    older = {part: state[part] for part in ("params", "rule_params", "optimizer")}
    for parts, its in ((older.keys() - {"optimizer"}, optimizer), (older, state["optimizer"])):
        mine.load_state_dict({part: older[part] for part in parts})
        assert_same(mine.state_dict()["params"], state["params"])
        assert_same(mine.state_dict()["optimizer"], its)


def test_what_is_adapted_belongs_to_the_reader():
    for kind in FEW_SHOT.values():
        learner = kind.make(mlp(lambda n: n.layers[0].requires_grad_(False)))
        before = learner.state_dict()
        adapted = learner.adapt(tasks()[0].support)
        assert list(adapted) == list(learner.params)
        assert torch.equal(adapted[WEIGHT], before["params"][WEIGHT])
        for p in adapted.values():
            p.zero_()
        assert_same(learner.state_dict(), before)
