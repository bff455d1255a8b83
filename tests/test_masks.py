"""Masks in records, and what is made of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reproduction.runs import records
from reproduction.runs.few_shot import FewShotRun
from reproduction.runs.mask_codec import ARRANGEMENTS, of_rates, pack, rearrange, unpack
from reproduction.runs.run_or_resume import run
from synthetic import TINY, image_set
from wheretolearn.rules import make_rule


def make_masks(seed=0):
    generator = np.random.default_rng(seed)
    shapes = {"a.weight": (5, 7), "a.bias": (5,), "b.weight": (3, 5), "b.bias": (3,)}
    density = {"a.weight": 0.2, "a.bias": 1.0, "b.weight": 0.9, "b.bias": 0.0}
    return {n: generator.random(s) < density[n] for n, s in shapes.items()}


@given(seed=st.integers(0, 1000))
def test_packing_loses_nothing(seed):
    masks = make_masks(seed)
    again = unpack(pack(masks), {n: m.shape for n, m in masks.items()})
    assert all(np.array_equal(again[n], m) for n, m in masks.items())


def test_unpacking_refuses_other_sizes():
    packed = pack(make_masks())
    with pytest.raises(ValueError, match=r"mask of a\.weight is missing or has another size"):
        unpack(packed, {"a.weight": (50, 7)})
    with pytest.raises(ValueError, match="mask of c is missing"):
        unpack(packed, {"c": (5,)})


@pytest.mark.parametrize("how", ARRANGEMENTS)
def test_arrangements_keep_what_they_say(how):
    masks = make_masks()
    got = rearrange(masks, how, np.random.default_rng(1))
    assert {n: m.shape for n, m in got.items()} == {n: m.shape for n, m in masks.items()}
    same_tensor = {n: int(m.sum()) == int(masks[n].sum()) for n, m in got.items()}
    same_places = all(np.array_equal(m, masks[n]) for n, m in got.items())
    total = sum(int(m.sum()) for m in got.values())
    assert same_places == (how == "own")
    assert all(same_tensor.values()) == (how in ("own", "shuffled"))
    everything = sum(m.size for m in masks.values())
    kept = sum(int(m.sum()) for m in masks.values())
    assert total == (everything if how == "all" else kept)


def test_an_unknown_arrangement_is_refused():
    with pytest.raises(ValueError, match="did you mean 'shuffled'"):
        rearrange(make_masks(), "shufled", np.random.default_rng(0))
    with pytest.raises(ValueError, match="did you mean 'random'"):
        TINY.replace(masks_as="randon")


def test_masks_are_those_of_the_rates():
    params = {"w": torch.zeros(2, 3), "b": torch.zeros(2)}
    rule = make_rule("sparse-maml")
    m = {"w": torch.tensor([[-1.0, 0.0, 1.0], [2.0, -2.0, -3.0]]), "b": torch.tensor([-1.0, 1.0])}
    masks = of_rates(rule.rates(m, params), params)
    assert masks["w"].tolist() == [[False, True, True], [True, False, False]]
    assert masks["b"].tolist() == [False, True]
    assert of_rates({"b": 0.1}, params)["w"].sum() == 0


SPARSE = TINY.replace(name="sparse", method="sparse-maml", init_sparsity=0.5)


def test_learned_masks_stand_in_the_record_and_can_be_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr("reproduction.runs.few_shot.load", lambda *_, **__: image_set())
    monkeypatch.setattr(records, "commit", lambda: None)

    def trained(experiment):
        return run(experiment, 3, results=tmp_path, device="cpu", progress=False)

    borrower = SPARSE.replace(name="borrower", masks_from="sparse", masks_as="own")
    with pytest.raises(ValueError, match="run sparse with seed 3 first"):
        trained(borrower)
    first = trained(SPARSE)
    frozen = sum(first["tensors"].values()) * first["final"]["best_sparsity"]
    shapes = {n: tuple(p.shape) for n, p in SPARSE.build_network().named_parameters()}
    learned = unpack(first["final"]["masks"], shapes)
    assert sum((~m).sum() for m in learned.values()) == pytest.approx(frozen)
    second = trained(borrower)
    assert second["final"]["masks"] == first["final"]["masks"]
    assert len(set(second["curves"]["sparsity"])) == 1, "the masks were learned on"
    third = trained(borrower.replace(name="shuffled", masks_as="shuffled"))
    assert third["final"]["masks"] != first["final"]["masks"]
    assert third["final"]["best_sparsity"] == second["final"]["best_sparsity"]


def test_only_rules_that_freeze_single_weights_have_masks():
    def final(method):
        experiment = TINY.replace(method=method, init_sparsity=0.0)
        return FewShotRun(experiment, 0, image_set(), device="cpu").finish()["final"]

    assert final("maml")["masks"] == final("anil")["masks"] == final("meta-sgd")["masks"] == {}
    relu = final("sparse-relu-maml")
    assert relu["masks"].keys() == relu["rate_quantiles"].keys()
    assert final("maml")["rate_quantiles"] == {}
    quantiles = np.array(list(final("meta-sgd")["rate_quantiles"].values()))
    assert quantiles.shape[1] == 21
    assert (np.diff(quantiles) >= 0).all()
