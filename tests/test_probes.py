"""Probes: what they measure, on networks where the answer is known."""

import math

import pytest
import torch
from torch import nn

from reproduction.runs.few_shot import FewShotRun
from reproduction.runs.probes import EPISODES, PROBES, ask, cka
from synthetic import TINY, image_set
from wheretolearn.meta import MetaLearner
from wheretolearn.networks import make_network
from wheretolearn.rules import METHODS, Method, Rule, make_rule
from wheretolearn.tasks import EpisodeSampler

IMAGES = image_set()
EPISODE = EpisodeSampler(IMAGES, "test", ways=3, shots=2, queries=3, seed=0)


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch):
    monkeypatch.setattr("reproduction.runs.probes.EPISODES", 12)


def learner(method="sparse-maml", **changes):
    torch.manual_seed(0)
    side = IMAGES.images.shape[1]
    network = make_network("mlp", ways=3, channels=1, image_size=side, width=12)
    rule = make_rule(method, inner_rate=0.2, **changes)
    generator = torch.Generator().manual_seed(0)
    return MetaLearner(network, rule, inner_steps=2, device="cpu", generator=generator)


def test_cka_of_known_features():
    torch.manual_seed(0)
    x = torch.randn(40, 6)
    turned = 3 * x @ torch.linalg.qr(torch.randn(6, 6)).Q + 1
    assert cka(x, turned) == pytest.approx(1, abs=1e-6)
    a, b = torch.zeros(4, 1), torch.zeros(4, 1)
    a[:, 0] = torch.tensor([1.0, 1, -1, -1])
    b[:, 0] = torch.tensor([1.0, -1, 1, -1])
    assert cka(a, b) == pytest.approx(0, abs=1e-12)
    assert cka(a, torch.cat([a, b], 1)) == pytest.approx(1 / math.sqrt(2))
    assert math.isnan(cka(x, torch.ones(40, 2)))


def test_steps_are_those_of_one_long_inner_loop():
    model = learner()
    answers = ask("steps", model, EPISODE)
    assert list(answers) == ["steps/0", "steps/2", "steps/4", "steps/8", "steps/20"]
    for steps in (0, 2, 20):
        model.inner_steps = steps
        want = model.evaluate(EPISODE[i] for i in range(12)).accuracy
        assert answers[f"steps/{steps}"].mean == pytest.approx(want)
    assert {i.n for i in answers.values()} == {12}


def test_masks_by_arrangement():
    model = learner(init_sparsity=0.5)
    answers = {n: i.mean for n, i in ask("masks", model, EPISODE).items()}
    own = model.evaluate(EPISODE[i] for i in range(12)).accuracy
    assert answers["masks/own"] == pytest.approx(own)
    dense = learner(init_sparsity=0.0)
    every = dense.evaluate(EPISODE[i] for i in range(12)).accuracy
    assert answers["masks/all"] == pytest.approx(every)
    frozen = ask("masks", learner(init_sparsity=1.0), EPISODE)
    untouched = ask("steps", model, EPISODE)["steps/0"].mean
    for how in ("own", "shuffled", "random", "head", "body"):
        assert frozen[f"masks/{how}"].mean == pytest.approx(untouched)
    assert len(set(answers.values())) > 2


def test_masks_of_the_head_and_of_the_body_are_anil_and_boil():
    answers = ask("masks", learner(init_sparsity=0.0), EPISODE)
    for how, method in (("head", "anil"), ("body", "boil")):
        want = learner(method).evaluate(EPISODE[i] for i in range(12)).accuracy
        assert answers[f"masks/{how}"].mean == pytest.approx(want)
    assert answers["masks/head"].mean != answers["masks/body"].mean


def test_movement_is_of_the_queries_after_adaptation_to_the_support():
    model = learner()
    want = []
    for i in range(12):
        support, query = EPISODE[i]
        before = model.forward(model.params, query.inputs)
        after = model.forward(model.adapt(support), query.inputs)
        want.append(cka(before.detach(), after.detach()))
    got = ask("movement", model, EPISODE)["movement/output"]
    assert got.mean == pytest.approx(sum(want) / 12)


def test_constant_features_leave_an_episode_out():
    model = learner()
    for p in model.params.values():
        p.zero_()
    model.rule_params = {n: torch.full_like(m, -1) for n, m in model.rule_params.items()}
    answer = ask("movement", model, EPISODE)["movement/output"]
    assert answer.n == 0
    assert math.isnan(answer.mean)


SHAPE = {"ways": 3, "shots": 2, "queries": 3, "seed": 0}


def convnet(method):
    torch.manual_seed(0)
    network = make_network("convnet4", ways=3, channels=1, image_size=16, width=4)
    rule = make_rule(method, inner_rate=0.5)
    return MetaLearner(network, rule, inner_steps=3, device="cpu")


def test_movement_layer_by_layer():
    images = image_set(size=16)
    episodes = EpisodeSampler(images, "test", **SHAPE)
    anil = ask("movement", convnet("anil"), episodes)
    assert list(anil) == [
        f"movement/{n}" for n in ("layer1", "layer2", "layer3", "layer4", "output")
    ]
    assert all(anil[f"movement/layer{i}"].mean == pytest.approx(1) for i in range(1, 5))
    assert anil["movement/output"].mean < 0.9999
    boil = ask("movement", convnet("boil"), episodes)
    assert boil["movement/layer4"].mean < 0.9999


def test_interference_is_a_cosine_of_gradients_and_of_steps():
    dense = ask("interference", learner("maml"), EPISODE)
    assert dense["interference/gradient"].mean == pytest.approx(dense["interference/step"].mean)
    assert dense["interference/gradient"].n == 6, "pairs are disjoint"
    sparse = ask("interference", learner(init_sparsity=0.5), EPISODE)
    assert sparse["interference/gradient"].mean == pytest.approx(
        dense["interference/gradient"].mean, abs=1e-6
    )
    assert sparse["interference/step"].mean != pytest.approx(sparse["interference/gradient"].mean)
    assert all(-1 <= i.mean <= 1 for i in sparse.values())


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_leaves_the_learner_as_it_was(probe):
    model = learner()
    before = model.state_dict()
    assert before["rule_params"]
    ask(probe, model, EPISODE)
    after = model.state_dict()
    for part in ("params", "rule_params"):
        assert after[part].keys() == before[part].keys()
        assert all(torch.equal(p, before[part][n]) for n, p in after[part].items())
        assert not any(p.requires_grad for p in getattr(model, part).values())


@pytest.mark.filterwarnings("ignore:the network keeps running statistics")
@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_leaves_buffers_as_they_were(probe):
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    network(EPISODE[0].support.inputs)
    model = MetaLearner(network, make_rule("sparse-maml"), inner_steps=2, device="cpu")
    before = {n: b.clone() for n, b in network.named_buffers()}
    ask(probe, model, EPISODE)
    assert all(torch.equal(b, before[n]) for n, b in network.named_buffers())


def test_a_run_answers_its_probes_and_leaves_out_absent_data():
    experiment = TINY.replace(probes=("interference", "on:cub", "on:omniglot"))
    others = {"omniglot": image_set(seed=5)}
    final = FewShotRun(experiment, 0, IMAGES, device="cpu", others=others).finish()["final"]
    answers = final["probes"]
    assert final["others"] == {"omniglot": image_set(seed=5).fingerprint}
    assert image_set(seed=5).fingerprint != IMAGES.fingerprint
    assert set(answers) == {"interference/gradient", "interference/step", "on:omniglot"}
    assert answers["on:omniglot"]["n"] == experiment.test_tasks  # the test has no more


def test_unknown_probes_are_refused():
    with pytest.raises(ValueError, match="did you mean 'steps'"):
        TINY.replace(probes=("step",))


def test_steps_beyond_those_that_have_rates_are_not_asked_for(monkeypatch):
    by_step = Method(Rule(gate="mask", steps=2), "by step")
    monkeypatch.setitem(METHODS, "by-step", by_step)
    experiment = TINY.replace(method="by-step", probes=("movement",))
    with pytest.raises(ValueError, match="'by-step' has rates for 2 only"):
        experiment.replace(probes=("movement", "steps"))


def test_a_hundred_episodes():
    assert EPISODES == 100
