"""The plan of the study, and what it is estimated to cost."""

import re

import numpy as np
import pytest
import torch

from reproduction.plan import few_shot, study
from reproduction.plan import streams as plan
from reproduction.runs.experiment import CPU_FLOPS, Experiment
from wheretolearn.rules import count_frozen

EVERY = [e for profile in study.PROFILES for e in study.few_shot(profile)]
_NETWORK = ("network", "width", "image_size", "channels", "ways")
_RULE = ("method", "init_sparsity", "mask_init", "noise", "adapt_norm")
BUILT = {tuple(getattr(e, name) for name in (*_NETWORK, *_RULE)): e for e in EVERY}
"""One experiment for each network and rule."""


@pytest.mark.parametrize("profile", study.PROFILES)
def test_the_plan(profile):
    plan = study.plan(profile)
    experiments = study.experiments(profile)
    assert len({e.name for e in experiments}) == len(experiments)
    assert len({r.record for r in plan}) == len(plan)
    assert {(r.experiment, r.seed) for r in plan} == {
        (e.name, s) for e in experiments if not study.waits(e) for s in study.seeds(e)
    }
    assert [r.seed for r in plan] == sorted(r.seed for r in plan)
    for run in plan:
        assert run.profile == profile
        assert run.seconds > 0
        assert re.fullmatch(
            rf"results/{profile}/[a-z0-9][a-z0-9.+-]*/seed{run.seed}\.json", run.record
        )
        assert study.find(profile, run.experiment).profile == profile


def test_the_study_has_five_seeds():
    trained_long = study.experiments("study", "trained_long")  # states its own numbers of seeds
    rest = [e for e in study.experiments("study") if e not in trained_long]
    assert all(len(study.seeds(e)) >= 5 for e in rest)


@pytest.mark.parametrize("experiment", BUILT.values(), ids=lambda e: f"{e.profile}-{e.name}")
def test_every_experiment_can_be_built(experiment):
    with torch.device("meta"):
        params = dict(experiment.build_network().named_parameters())
    image = torch.empty(2, experiment.channels, experiment.image_size, experiment.image_size)
    with torch.device("meta"):
        outputs = experiment.build_network()(image.to("meta"))
    assert outputs.shape == (2, experiment.ways)
    small = {n: torch.zeros(p.shape) for n, p in params.items()}
    rates = experiment.rule.rates(
        experiment.rule.init(small, torch.Generator().manual_seed(0)), small
    )
    assert rates
    counts = count_frozen(rates, {n: small[n] for n in rates}).values()  # of what may move
    sparsity = sum(c.frozen for c in counts) / sum(c.size for c in counts)
    # smallest network: 700 weights, 6 standard deviations
    assert sparsity == pytest.approx(experiment.init_sparsity, abs=0.12)
    assert experiment.init_sparsity not in (0, 1) or sparsity == experiment.init_sparsity


def test_what_is_dear_is_said_to_be():
    base = study.find_few_shot("study", "convnet4-5shot-maml").replace(probes=())
    assert base.replace(order=2).seconds() > 4 * base.seconds()
    for probe in ("steps", "masks", "on:cub"):
        method = base.replace(method="sparse-maml", probes=(probe,))
        assert method.seconds() > 1.05 * base.seconds(), probe
    assert base.replace(probes=("interference",)).seconds() == base.seconds()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks_from": "x"}, "plain mask on every weight"),
        ({"method": "sparse-relu-maml", "masks_from": "x"}, "plain mask on every weight"),
        ({"method": "meta-sgd", "probes": ("masks",)}, "plain mask on every weight"),
        (
            {"method": "sparse-maml", "probes": ("masks",), "adapt_norm": False},
            "plain mask on every weight",
        ),
        ({"method": "sparse-maml", "noise": 5}, "noise is for sparse-maml-plus"),
        ({"outer_clamp": -1.0}, "outer_clamp must be 0 or more"),
    ],
)
def test_experiments_that_mean_nothing_are_refused(changes, message):
    base = study.find_few_shot("study", "convnet4-5shot-maml")
    with pytest.raises(ValueError, match=message):
        base.replace(**changes)


def test_the_search_asks_every_run_of_table_1_the_same():
    """Each run with its own inner rate, on a seed of its own, without a test class."""
    table = {
        e.name: e
        for e in study.few_shot("study", study.TABLE1)
        if e.order == 1 and not e.name.startswith("longer-")
    }
    tried: dict[str, set[float]] = {}
    for run in study.few_shot("search", study.TABLE1):
        name, _, rate = run.name.rpartition("-rate")
        tried.setdefault(name, set()).add(run.inner_rate)
        assert run.inner_rate == float(rate)
        assert run.test_tasks == 0
        assert run.updates == table[name].updates / 2
        own = {"name", "profile", "inner_rate", "updates", "eval_every", "val_tasks", "test_tasks"}
        different = {k for k, v in run.parameters().items() if v != table[name].parameters()[k]}
        assert different <= own | {"probes"}
        assert not set(study.seeds(run)) & set(study.seeds(table[name]))
    varied = {n for n, e in table.items() if e.method in few_shot.SAME_RATE}
    assert tried.keys() == table.keys() - varied
    for name in varied:
        method = table[name].method
        other = table[name.replace(method, few_shot.SAME_RATE[method])]
        assert table[name].inner_rate == other.inner_rate
    grids = {"convnet4": {0.02, 0.05, 0.1, 0.2, 0.5, 1.0}, "resnet12": {0.01, 0.05, 0.2, 0.5}}
    for name, rates in tried.items():
        assert rates == grids[table[name].network]


def test_operations_against_a_count_by_hand():
    """MLP 4-3-3-2: 12 + 9 + 6 products of two operations for each image."""
    tiny = Experiment(
        name="tiny",
        figure="f",
        data="glyphs",
        image_size=2,
        network="mlp",
        width=3,
        ways=2,
        shots=3,
        queries=4,
        inner_steps=5,
        meta_batch=2,
        updates=10,
        eval_every=4,
        val_tasks=7,
        test_tasks=11,
        method="maml",
    )
    image = 2 * (4 * 3 + 3 * 3 + 3 * 2)
    support, query = 2 * 3, 2 * 4
    adaptation = 5 * support * 3 * image  # forward, and backward at twice its cost
    training = 10 * 2 * (adaptation + 3 * query * image)
    evaluations = 4 * 7 + 11  # at updates 0, 4, 8 and 10; the test
    assert tiny.flops() == training + evaluations * (adaptation + query * image)
    assert tiny.seconds() == tiny.flops() / CPU_FLOPS
    assert tiny.replace(updates=20).flops() > 1.9 * training


def test_operations_of_the_convolutions():
    """One block of 3x3 kernels by hand: 16x16, 8x8, 4x4, 2x2 pixels, then 1x1."""
    tiny = Experiment(
        name="tiny",
        figure="f",
        data="glyphs",
        image_size=16,
        width=2,
        ways=3,
        shots=1,
        queries=1,
        inner_steps=1,
        meta_batch=1,
        updates=1,
        eval_every=1,
        val_tasks=1,
        test_tasks=1,
        method="maml",
    )
    image = 2 * (9 * 1 * 2 * 256 + 9 * 2 * 2 * (64 + 16 + 4) + 2 * 3)
    assert tiny.flops() == image * ((9 + 9) + 3 * (9 + 3))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: study.experiments("studdy"), "did you mean 'study'"),
        (lambda: study.experiments("zzz"), "known are 'quick', 'study', 'search', 'paper',"),
        (lambda: study.plan("quick", "fig1_sparsity"), f"did you mean '{study.FIG1}'"),
        (lambda: study.plan("quikc"), "did you mean 'quick'"),
        (lambda: study.find("quick", "fig1-glyphs-mamml"), "did you mean 'fig1-glyphs-maml'"),
        (lambda: study.find("quick", "fig1-omniglot-maml"), "profile 'quick' has no experiment"),
        (lambda: EVERY[0].replace(widht=3), "no parameter 'widht'; did you mean 'width'"),
    ],
)
def test_unknown_names_suggest_the_nearest(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"updates": 0}, "updates must be positive"),
        ({"width": -4}, "width must be positive"),
        ({"width": 8.5}, "width must be of type int"),
        ({"width": "8"}, "width must be of type int"),
        ({"width": True}, "width must be of type int"),
        ({"width": 10**11}, "width must be at most 1,000,000,000"),
        ({"probes": "steps"}, "probes must be of type tuple"),
        ({"probes": [3]}, "probes must hold texts"),
        ({"inner_rate": "fast"}, "inner_rate must be of type float"),
        ({"inner_rate": float("nan")}, "inner_rate must be finite"),
        ({"meta_rate": float("inf")}, "meta_rate must be finite"),
        ({"method": 3}, "method must be of type str"),
        ({"method": "sparse-mamml"}, "did you mean 'sparse-maml'"),
        ({"mask_init": "kaimin"}, "mask_init must be"),
        ({"init_sparsity": 1.5}, "init_sparsity must lie in"),
        ({"method": "maml", "init_sparsity": 0.5}, "init_sparsity must be 0"),
    ],
)
def test_parameters_without_meaning_are_refused(change, message):
    experiment = study.find_few_shot("smoke", "fig1-glyphs-sparse50")
    with pytest.raises(ValueError, match=message):
        experiment.replace(**change)


def test_what_the_search_has_not_chosen_waits(monkeypatch):
    """Variants and exact MAML wait with the method whose rate they take; other figures do not."""
    monkeypatch.setattr(study, "RATES", {"convnet4-5shot-maml": 0.1})
    monkeypatch.setattr(plan, "CHOSEN", {"rotations-la-maml": 2})
    waiting = {e.name for e in study.experiments("study") if study.waits(e)}
    assert {"convnet4-5shot-masked-weights", "resnet12-1shot-anil"} <= waiting
    assert {"convnet4-5shot-sparse-maml-own-masks", "permutations-la-maml-tuned"} <= waiting
    free = {"convnet4-5shot-maml", "convnet4-5shot-maml-second-order", "rotations-la-maml-tuned"}
    assert not waiting & (free | {"fig2-miniimagenet-maml", "rotations-la-maml", "rotations-gem"})
    assert not {r.experiment for r in study.plan("study")} & waiting
    assert not any(study.waits(e) for e in study.experiments("quick"))


def stream_experiment(learner):
    return next(e for e in study.experiments("smoke") if getattr(e, "learner", "") == learner)


@pytest.mark.parametrize(
    ("learner", "change", "message"),
    [
        ("sparse-c-maml", {"steps": True}, "steps must be of type int"),
        ("sparse-c-maml", {"width": "8"}, "width must be of type int"),
        ("sparse-c-maml", {"alpha": "high"}, "alpha must be of type float"),
        ("sparse-c-maml", {"settings": {"inner_rate": "high"}}, "inner_rate must be of type float"),
        ("sparse-c-maml", {"settings": {"inner_steps": True}}, "inner_steps must be of type int"),
        ("sparse-c-maml", {"settings": 3}, "settings must be of type dict"),
        ("la-maml", {"validation": 3}, "validation must be of type bool"),
        ("la-maml", {"width": 10**11}, "width must be at most 1,000,000,000"),
        ("la-maml", {"probe": "all"}, "probe must be of type int or NoneType"),
        ("la-maml", {"learner": 3}, "learner must be of type str"),
        ("la-maml", {"settings": {"memory": "large"}}, "memory must be of type int"),
    ],
)
def test_parameters_of_streams_have_their_types(learner, change, message):
    with pytest.raises(ValueError, match=message):
        stream_experiment(learner).replace(**change)


def test_what_means_the_same_is_accepted():
    learned = study.find_few_shot("smoke", "fig1-glyphs-sparse50")
    assert learned.replace(probes=["steps"]) == learned.replace(probes=("steps",))
    assert stream_experiment("la-maml").replace(probe=None).probe is None
    rate = {"inner_rate": np.float64(0.5)}
    assert stream_experiment("la-maml").replace(settings=rate).settings == rate
