"""Each learner of OSAKA's stream does what its equations say."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wheretolearn.continual.osaka.c_maml import CMAML, ProlongedCMAML
from wheretolearn.continual.osaka.fast_slow import Adapter, FastSlowLearner, Online
from wheretolearn.continual.osaka.methods import make_learner, make_rule, settings
from wheretolearn.continual.osaka.rules import TensorRule
from wheretolearn.inner_loop import adapt
from wheretolearn.meta import MetaLearner
from wheretolearn.networks import MLP
from wheretolearn.rules import Rule, count_frozen
from wheretolearn.types import Batch

SIZES = (4, 5, 3)
RATE = 0.02  # of Adam


def slow_learner(rule=None, steps=3, rate=RATE, seed=0, network=None):
    torch.manual_seed(seed)
    network = MLP(*SIZES).double() if network is None else network
    rule = TensorRule(gate="relu", inner_rate=0.3) if rule is None else rule
    generator = torch.Generator().manual_seed(seed)
    return MetaLearner(
        network, rule, inner_steps=steps, meta_rate=rate, rule_rate=rate, device="cpu",
        generator=generator,
    )  # fmt: skip


def stream(count=30, size=6, every=5):
    """Batches of clusters whose labels change with each context."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for t in range(count):
        if t % every == 0:
            centres = 2 * torch.randn(3, 4, generator=generator, dtype=torch.float64)
        targets = torch.randint(3, (size,), generator=generator)
        noise = torch.randn(size, 4, generator=generator, dtype=torch.float64)
        batches.append(Batch(centres[targets] + 0.3 * noise, targets))
    return batches


def close(a, b):
    torch.testing.assert_close(a, b.detach(), rtol=0, atol=1e-12)


class Reference:
    """C-MAML by plain autograd, from the formulas alone."""

    def __init__(self, slow):
        self.network, self.rule, self.steps = slow.module, slow.rule, slow.inner_steps
        self.theta = {n: p.clone().requires_grad_() for n, p in slow.params.items()}
        self.m = {n: m.clone().requires_grad_() for n, m in slow.rule_params.items()}
        leaves = [*self.theta.values(), *self.m.values()]
        self.adam = torch.optim.Adam(leaves, lr=RATE)
        self.fast = {}

    def rate(self, n):
        if n not in self.m:
            return self.rule.inner_rate
        m = self.m[n]
        through = m - m.detach()
        if self.rule.gate == "relu":
            return m.detach().clamp_min(0) + through
        if self.rule.gate == "mask":
            return self.rule.inner_rate * ((m.detach() >= 0).to(m) + through)
        return m

    def loss(self, fast, batch):
        weights = self.theta | fast
        outputs = torch.func.functional_call(self.network, weights, (batch.inputs,))
        return F.cross_entropy(outputs, batch.targets)

    def adapt(self, batch, fast=None):
        moving = self.rule.moves(self.theta)
        start = {n: self.theta[n] for n in moving} if fast is None else fast
        fast = {n: p if p.requires_grad else p.clone().requires_grad_() for n, p in start.items()}
        for _ in range(self.steps):
            grads = torch.autograd.grad(self.loss(fast, batch), list(fast.values()))
            for n, g in zip(list(fast), grads, strict=True):
                fast[n] = fast[n] - self.rate(n) * g.detach()
        return fast

    def learn(self, loss):
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()

    def same(self, learner):
        for n, p in learner.slow.params.items():
            close(p, self.theta[n])
        for n, m in learner.slow.rule_params.items():
            close(m, self.m[n])
        assert learner.fast.keys() == self.fast.keys()
        for n, p in learner.fast.items():
            close(p, self.fast[n])


RULES = [
    TensorRule(gate="relu", inner_rate=0.3),
    TensorRule(gate="mask", inner_rate=0.3),
    TensorRule(gate="linear", inner_rate=0.3),
    TensorRule(gate="relu", inner_rate=0.3, scope="head"),
    Rule(gate="mask", inner_rate=0.3, init_sparsity=0.5),
    Rule(inner_rate=0.3),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: f"{type(r).__name__}-{r.gate}-{r.scope}")
@pytest.mark.parametrize(
    ("margin", "threshold", "modulation"), [(None, 0.0, None), (0.3, 0.8, None), (0.3, 0.0, 0.5)]
)
def test_c_maml_is_its_equations(rule, margin, threshold, modulation):
    learner = CMAML(slow_learner(rule), margin=margin, threshold=threshold, modulation=modulation)
    want = Reference(learner.slow)
    shifts, learned = [], []
    for t, batch in enumerate(stream()):
        before = want.loss(want.fast, batch)
        height = float(before.detach())
        fast = want.adapt(batch)
        with torch.no_grad():
            after = want.loss(fast, batch)
        shift = t > 0 and margin is not None and bool(after + margin <= height)
        learns = t > 0 and not shift and height > threshold
        if learns:
            weight = 1 if modulation is None else 1 - math.exp(-modulation * height)
            want.learn(weight * before)
        want.fast = fast

        torch.testing.assert_close(
            learner.predict(batch.inputs),
            torch.func.functional_call(learner.slow.module, learner.weights, (batch.inputs,)),
        )
        learner.observe(batch)
        assert learner.shifted == shift, t
        want.same(learner)
        shifts.append(shift)
        learned.append(learns)
    assert any(learned)  # the settings try all branches
    if margin is not None:
        assert any(shifts)
    if threshold:
        assert not all(a or b for a, b in zip(shifts[1:], learned[1:], strict=True))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("rule", [RULES[0], RULES[4]], ids=["tensors", "weights"])
@pytest.mark.parametrize(("threshold", "modulation"), [(0.0, None), (0.9, None), (0.0, 0.5)])
def test_prolonged_adaptation_is_its_equations(rule, late, threshold, modulation):
    margin = 0.8
    learner = ProlongedCMAML(
        slow_learner(rule), margin=margin, threshold=threshold, modulation=modulation, late=late
    )
    want = Reference(learner.slow)
    kept: list[Batch] = []
    shifts, full, restart, skipped = 0, 0, False, 0
    # short contexts, then a long one that overflows
    for t, batch in enumerate(stream(60, size=4, every=5)[:40] + stream(30, 4, every=30)):
        before = want.loss(want.fast, batch).detach()
        fast = want.adapt(batch, None if t == 0 or restart else want.fast)
        want.fast = {n: p.detach() for n, p in fast.items()}
        restart = False
        shift = t > 0 and bool(want.loss(want.fast, batch) + margin <= before)
        if shift or len(kept) > 8:
            half = (len(kept) + 1) // 2
            pairs = list(zip(kept[:half], kept[half:] or kept, strict=False))
            losses = [want.loss(want.adapt(a), b) for a, b in pairs]
            loss = torch.stack(losses).mean()
            height = float(loss.detach())
            if height > threshold:
                want.learn((1 if modulation is None else 1 - math.exp(-modulation * height)) * loss)
            else:
                skipped += 1
            kept = []
            full += not shift
        if shift and late:
            restart = True
        elif shift:
            want.fast = {n: p.detach() for n, p in want.adapt(batch).items()}
        kept.append(batch)
        shifts += shift

        learner.observe(batch)
        assert learner.shifted == shift, t
        want.same(learner)
    assert shifts > 2
    assert full > 0
    assert bool(skipped) == bool(threshold)


@pytest.mark.parametrize("prolonged", [False, True])
def test_a_tensor_without_a_rate_stays_and_can_come_back(prolonged):
    """Straight-through: the rate is zero, its gradient is not."""
    make = ProlongedCMAML if prolonged else CMAML
    learner = make(slow_learner(), margin=0.8)
    name = "layers.0.weight"
    learner.slow.rule_params[name].fill_(-0.01)
    assert learner.frozen()[name] == (20, 20)
    assert learner.rates()[name] == 0
    start = learner.slow.params[name].clone()
    batches = stream(40)
    learner.observe(batches[0])
    assert torch.equal(learner.fast[name], start)  # frozen in the inner loop
    assert not torch.equal(learner.fast["layers.1.weight"], learner.slow.params["layers.1.weight"])
    for batch in batches[1:]:
        learner.observe(batch)
    assert not torch.equal(learner.slow.params[name], start)  # not in the outer one
    assert learner.slow.rule_params[name] != -0.01


def test_one_number_for_each_tensor():
    params = dict(MLP(*SIZES).double().named_parameters())
    rule = TensorRule(gate="relu", inner_rate=0.3)
    m = rule.init(params)
    assert all(number.shape == () and number == 0.3 for number in m.values())
    assert all(number.dtype == torch.float64 for number in m.values())
    m["layers.0.bias"].fill_(-1.0)
    torch.manual_seed(0)
    grads = {n: torch.randn(p.shape, dtype=torch.float64) for n, p in params.items()}
    single = Rule(gate="relu", inner_rate=0.3)
    wide = {n: m[n].expand(p.shape) for n, p in params.items()}
    want = single.pull_back(wide, grads)
    for n, g in rule.pull_back(m, grads).items():
        torch.testing.assert_close(g, want[n].sum())
        assert g.shape == ()
    assert [c.frozen for c in count_frozen(rule.rates(m, params), params).values()] == [0, 5, 0, 0]
    assert TensorRule().init(params) == {}
    gate = TensorRule(gate="mask", inner_rate=0.3)
    assert all(
        float(r) == pytest.approx(0.3) for r in gate.rates(gate.init(params), params).values()
    )


@pytest.mark.parametrize(
    "bad", [{"gate": "exp"}, {"gate": "mask", "init_sparsity": 0.5}, {"gate": "mask", "noise": 4}]
)
def test_rules_for_tensors_that_make_no_sense(bad):
    with pytest.raises(ValueError, match=r"one number for each|need one number"):
        TensorRule(**bad)


@pytest.mark.parametrize("more", [{"noise": 4}, {"masks_start": True}])
@pytest.mark.parametrize("make", [Adapter, CMAML, ProlongedCMAML])
def test_rules_that_need_tasks_are_refused(make, more):
    with pytest.raises(ValueError, match="noise nor"):
        make(slow_learner(Rule(gate="mask", **more)))


def test_fast_weights_that_stay_do_not_follow_the_slow_ones():
    """Also those of a tensor with a rate of zero."""
    learner = ProlongedCMAML(slow_learner())
    learner.slow.rule_params["layers.0.weight"].fill_(-0.1)
    batch = stream(1)[0]
    learner.observe(batch)
    before = learner.predict(batch.inputs)
    learner.slow.params["layers.0.weight"].add_(1)  # as an optimizer does
    assert torch.equal(learner.predict(batch.inputs), before)


@pytest.mark.parametrize("rule", [Rule(inner_rate=0.3), Rule(inner_rate=0.3, scope="head")])
def test_adapters_adapt_to_the_last_batch_alone(rule):
    slow = slow_learner(rule)
    learner, before = Adapter(slow), slow.state_dict()["params"]
    batches = stream(4)
    for batch in batches:
        learner.observe(batch)
    want = adapt(slow.forward, F.cross_entropy, before, slow.begin()[-1], batches[-1], 3)
    assert list(learner.fast) == rule.moves(before)
    for n, p in learner.weights.items():
        torch.testing.assert_close(p, want.params[n])
        assert torch.equal(slow.params[n], before[n])
    assert not learner.shifted
    assert learner.gradients == 4 * 3 * 6


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_online_is_an_optimizer(optimizer):
    learner = Online(slow_learner(), rate=0.05, optimizer=optimizer)
    torch.manual_seed(0)
    network = MLP(*SIZES).double()
    kind = torch.optim.Adam if optimizer == "adam" else torch.optim.SGD
    want = kind(network.parameters(), lr=0.05)
    for batch in stream(6):
        torch.testing.assert_close(learner.predict(batch.inputs), network(batch.inputs))
        learner.observe(batch)
        want.zero_grad()
        F.cross_entropy(network(batch.inputs), batch.targets).backward()
        want.step()
    assert learner.gradients == 36
    with pytest.raises(ValueError, match="'adam' or 'sgd'"):
        Online(slow_learner(), rate=0.05, optimizer="adm")  # type: ignore[arg-type]


def test_gradients_are_counted():
    """Three inner steps on 6 images, and one outer gradient from the second batch on."""
    learner = CMAML(slow_learner())
    for batch in stream(4):
        learner.observe(batch)
    assert learner.gradients == 4 * 18 + 3 * 6
    prolonged = ProlongedCMAML(slow_learner(), margin=0.0)  # any gain is a shift
    for batch in stream(2):
        prolonged.observe(batch)
    # the second batch: adapt, learn from the one batch that is kept, adapt again
    assert prolonged.gradients == 18 + 18 + (18 + 6) + 18


def test_learners_that_cannot_be():
    with pytest.raises(ValueError, match="did you mean 'sparse-c-maml'"):
        settings("sparse-cmaml", 0.9, 5)
    chosen = settings("c-maml", 0.9, 5)
    make = partial(make_learner, "c-maml", ways=5, width=2, seed=0)
    with pytest.raises(ValueError, match=r"c-maml: .*'marign'"):
        make(chosen | {"marign": 1.0}, side=16)
    for bad in ({"margin": -0.1}, {"threshold": -1.0}, {"modulation": -1.0}, {"margin": math.nan}):
        with pytest.raises(ValueError, match=f"{next(iter(bad))} must be at least 0"):
            CMAML(slow_learner(), **bad)
    with pytest.raises(ValueError, match="'tensor' or 'weight'"):
        make_rule(gate="mask", each="wieght", scope="all")
    with pytest.raises(ValueError, match="15 pixels are too few"):
        make(chosen, side=15)


# --- networks of other kinds, and states


MAKES: dict[str, Callable[..., FastSlowLearner]] = {
    "online": partial(Online, rate=0.05),
    "adapter": Adapter,
    "c-maml": partial(CMAML, margin=0.3),
    "prolonged": partial(ProlongedCMAML, margin=0.3),
}


class Tracked(nn.Module):
    """A network that subtracts a running mean, with a head that it does not use."""

    mean: torch.Tensor

    def __init__(self, seed=0, frozen=()):
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.auxiliary = MLP(*SIZES).double(), nn.Linear(3, 2).double()
        self.register_buffer("mean", torch.full((4,), float(seed)).double())
        for n in frozen:
            self.get_parameter(n).requires_grad_(False)

    def forward(self, x):
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.1)
        return self.body(x - self.mean)


def lived(learner, batches):
    for batch in batches:
        learner.observe(batch)
    return learner


FROZEN = ("body.layers.0.weight", "body.layers.1.bias")


@pytest.mark.parametrize("name", MAKES)
@pytest.mark.parametrize("rule", [RULES[0], RULES[4], RULES[5]], ids=["tensors", "weights", "maml"])
def test_what_requires_no_gradient_or_is_not_used_stays(name, rule):
    network = Tracked(frozen=FROZEN)
    learner = lived(MAKES[name](slow_learner(rule, network=network)), stream(20, every=4))
    moved = set()
    for n, p in network.named_parameters():
        if p.requires_grad and not n.startswith("auxiliary"):
            moved.add(not torch.equal(learner.weights[n], p))
        else:
            assert torch.equal(learner.weights[n], p), n
            assert torch.equal(learner.slow.params[n], p), n
    assert moved == {True}
    if rule.learned:
        assert all(learner.frozen()[n].frozen == learner.frozen()[n].size for n in FROZEN)
        assert not learner.rates().keys() & set(FROZEN)


@pytest.mark.parametrize("name", [*MAKES, "late"])
def test_learners_go_on_where_they_were(name):
    """From every step, with buffers; without grad mode, too; predictions change nothing."""
    batches, make = stream(14), OTHERS[name]
    whole, states = make(slow_learner(network=Tracked())), []
    for batch in batches:
        states.append(whole.state_dict())
        whole.predict(batch.inputs)
        whole.loss(batch)
        assert str(whole.state_dict()) == str(states[-1])
        whole.observe(batch)
    for stop in (0, 1, 5, 6, 11):
        learner = make(slow_learner(seed=1, network=Tracked(1)))
        learner.load_state_dict(states[stop])
        with torch.no_grad():
            lived(learner, batches[stop:])
        assert str(learner.state_dict()) == str(whole.state_dict()), stop


def flatten(optimizer):
    for value in optimizer["state"].values():
        value["exp_avg"] = value["exp_avg"].flatten()


def wrong_shape(part, name):
    def spoil(state):
        state[part][name] = state[part][name][:1]

    return spoil


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        *((name, lambda state: state.pop("shifted"), "shifted") for name in MAKES),
        *((name, lambda state: state.update(more=1), "more") for name in MAKES),
        ("adapter", wrong_shape("fast", "layers.1.bias"), "fast.*layers.1.bias"),
        ("c-maml", wrong_shape("sums", "layers.0.bias"), "sums.*layers.0.bias"),
        ("c-maml", lambda s: s["fast"].update(other=torch.zeros(1)), "fast.*other"),
        ("online", lambda s: s["slow"]["params"].pop("layers.0.bias"), "layers.0.bias"),
        ("online", lambda s: s["optimizer"]["param_groups"].clear(), "optimizer"),
        ("online", lambda s: flatten(s["optimizer"]), "optimizer.*layers.0.weight"),
        ("c-maml", lambda s: s.update(fast=None), "fast"),
        ("prolonged", lambda s: s.update(collected="abc"), "collected"),
    ],
)
def test_a_state_that_is_refused_changes_nothing(name, spoil, message):
    state = lived(MAKES[name](slow_learner()), stream(9)).state_dict()
    learner = lived(MAKES[name](slow_learner(seed=1)), stream(4))
    before = str(learner.state_dict())
    spoil(state)
    with pytest.raises(ValueError, match=message):
        learner.load_state_dict(state)
    assert str(learner.state_dict()) == before


OTHERS: dict[str, Callable[..., FastSlowLearner]] = MAKES | {
    "sgd": partial(Online, rate=0.05, optimizer="sgd"),
    "margin": partial(CMAML, margin=0.4),
    "modulation": partial(CMAML, margin=0.3, modulation=0.5),
    "late": partial(ProlongedCMAML, margin=0.3, late=True),
}
