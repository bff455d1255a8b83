"""Profiles by problem and overlap of masks, on records that are made up."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from reproduction.plan import study
from reproduction.report import mask_overlap
from reproduction.report.curves import LAYERS
from reproduction.report.mask_overlap import agreement, pairs, start_of
from reproduction.runs import mask_codec
from synthetic import cells, made_up_record
from wheretolearn.meta import MetaLearner

STUDY = {e.name: e for e in study.few_shot("study", "sparsity_by_problem")}
MINI_5, MINI_1, OMNIGLOT, GLYPHS, CUB = STUDY


def run_of(name, seed, moves=None, shares=(0.5, 0.4, 0.3, 0.2, 0.1), diverged=False, **change):
    """A record of the study; `moves` are masks by tensor, those of the start by default."""
    experiment = STUDY[name].replace(**change)
    record = made_up_record(name, seed, layers=list(shares), diverged=diverged)
    record["parameters"] = experiment.parameters()
    if not diverged:
        drawn = {n: m >= 0 for n, m in start_of(experiment, seed).items()}
        record["final"]["masks"] = mask_codec.pack(drawn | (moves or {}))
    return record


def kernels_of(name, seed=0):
    return {n: m for n, m in start_of(STUDY[name], seed).items() if m.ndim > 1}


def scattered(name, seed, shares=(0.5,) * 5):
    """Masks of kernels at random: a share of each layer moves."""
    rng = np.random.default_rng([seed, list(STUDY).index(name)])
    kernels = kernels_of(name).items()
    return {n: rng.random(m.shape) < share for (n, m), share in zip(kernels, shares, strict=True)}


def test_agreement_by_hand():
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 0, 0], bool)
    # observed 3/4, by chance 1/2 * 1/4 + 1/2 * 3/4 = 1/2
    assert agreement(a, b, np.zeros(4, int)) == pytest.approx(0.5)
    # in the first half chance is 1/2, in the second, where both freeze all, it is 1
    given = np.array([0, 0, 7, 7])
    assert agreement(a[[0, 2, 2, 3]], b[[0, 2, 2, 3]], given) == pytest.approx(1)
    # 1/2 of (1 * 1/2 + 0 * 1/2) and 1/2 of 1: 3/4 by chance, and 3/4 is seen
    assert agreement(a, b, given) == pytest.approx(0)
    assert agreement(a, ~a, np.zeros(4, int)) == -1
    assert np.isnan(agreement(np.ones(9, bool), np.ones(9, bool), np.zeros(9, int)))


def test_start_is_the_one_that_training_drew():
    e, generator = STUDY[CUB], torch.Generator().manual_seed(3)
    learner = MetaLearner(e.build_network(), e.rule, device="cpu", generator=generator)
    again = start_of(e, 3)
    assert again.keys() == learner.rule_params.keys()
    for name, m in learner.rule_params.items():
        np.testing.assert_array_equal(again[name], m.numpy())


def test_masks_are_read_where_there_are_any():
    runs = [run_of(CUB, 0), run_of(CUB, 1, diverged=True), run_of(CUB, 2)]
    runs[2]["final"]["masks"] = {}
    (mask,) = mask_overlap.read_masks(runs)
    assert (mask.experiment, mask.seed) == (CUB, 0)
    assert list(mask.moves) == list(LAYERS)
    for layer in LAYERS:
        np.testing.assert_array_equal(mask.moves[layer], mask.start[layer] >= 0)


def test_masks_of_a_changed_run_have_its_shapes():
    run = run_of(CUB, 0, width=12)  # a reader's: it stands under the name that was planned
    run["parameters"]["name"] = f"{CUB}+width=12"
    (mask,) = mask_overlap.read_masks([run])
    assert mask.moves["layer1"].shape == mask.start["layer1"].shape == (12, 3, 3, 3)


def test_pairs_know_who_started_alike():
    found = pairs([run_of(MINI_5, 0), run_of(MINI_1, 0), run_of(OMNIGLOT, 0), run_of(MINI_5, 1)])
    starts = found[found["layer"] == "all"]["start"]
    # Omniglot has one channel: fewer numbers in the first layer
    assert list(starts) == ["same", "shifted", "other", "shifted", "other", "other"]
    layers = found[(found["a"] == MINI_5) & (found["b"] == OMNIGLOT)]["layer"]
    assert list(layers) == ["layer2", "layer3", "layer4", "output", "all"]
    alike, others = found[found["start"] == "same"], found[found["start"] != "same"]
    assert (alike["kappa"] == 1).all()
    assert others["beyond"].isna().all()
    # whose numbers do not fall on the same weights agree by chance only
    assert others["kappa"].abs().max() < 0.15


def test_kappa_of_a_layer_and_of_all():
    first = scattered(MINI_5, 0, (0.1, 0.3, 0.5, 0.7, 0.9))
    second = scattered(CUB, 0, (0.2, 0.3, 0.4, 0.5, 0.6))
    second["layer2.conv.weight"] = first["layer2.conv.weight"]
    kappa = pairs([run_of(MINI_5, 0, first), run_of(CUB, 1, second)]).set_index("layer")["kappa"]
    assert kappa["layer2"] == 1
    seen = chance = total = 0.0
    for a, b in ((first[n], second[n]) for n in first):
        seen += (a == b).sum()
        chance += a.size * (a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
        total += a.size
    assert kappa["all"] == pytest.approx((seen - chance) / (total - chance))


def test_a_common_start_is_taken_out():
    kernels = kernels_of(MINI_5)
    masks = [{n: m >= np.quantile(m, q) for n, m in kernels.items()} for q in (0.4, 0.6)]

    def compared():
        early, late = masks
        table = mask_overlap.overlap_table([run_of(MINI_5, 0, early), run_of(CUB, 0, late)])
        return [float(c) for c in cells(table)[-1][3:5]]

    kappa, beyond = compared()
    assert kappa > 0.5
    assert abs(beyond) <= 0.01
    rng = np.random.default_rng(0)
    flips = {n: rng.random(m.shape) < 0.3 for n, m in kernels.items()}
    masks = [{n: m[n] ^ flips[n] for n in m} for m in masks]  # what the problems share
    assert compared()[1] > 0.3


def test_what_is_left_of_the_start():
    turned = {n: m < 0 for n, m in start_of(STUDY[MINI_5], 0).items()}
    found = mask_overlap.with_start([run_of(MINI_5, 0, turned), run_of(CUB, 0)])
    kappa = found.set_index(["a", "layer"])["kappa"]
    assert kappa[MINI_5, "layer3"] == pytest.approx(-1, abs=0.01)
    assert kappa[CUB, "layer3"] == kappa[CUB, "all"] == 1


def over_seeds(values):
    rows = [(*seeds, value) for seeds, value in values.items()]
    return mask_overlap.over_seeds(pd.DataFrame(rows, columns=["seed_a", "seed_b", "k"]), "k")


def test_interval_of_pairs_leaves_seeds_out():
    # without seed 0, 1 and 2: 0.6, 0, 0.3, whose squared distances from 0.3 sum to 0.18
    half = stats.t.ppf(0.975, 2) * (2 / 3 * 0.18) ** 0.5
    found = over_seeds({(0, 1): 0.3, (0, 2): 0.0, (1, 2): 0.6})
    assert found == pytest.approx((0.3, 0.3 - half, 0.3 + half, 3))
    assert over_seeds({(0, 1): 0.3}) == pytest.approx((0.3, np.nan, np.nan, 2), nan_ok=True)
    assert over_seeds({}) is None
    assert over_seeds({(0, 0): np.nan}) is None


def full():
    """Runs of all problems with three seeds; each layer of a problem has its own sparsity."""
    shares = np.add.outer(0.05 * np.arange(5), 0.1 * np.arange(1, 6))  # by problem and layer
    return [
        run_of(name, seed, scattered(name, seed), its + 0.02 * (seed - 1))
        for name, its in zip(STUDY, shares, strict=True)
        for seed in range(3)
    ]


def test_profile_table_by_hand():
    runs = [r for r in full() if r["experiment"] not in (MINI_1, GLYPHS)]
    runs += [run_of(name, 3, diverged=True) for name in (GLYPHS, CUB)]
    rows = {name: rest for name, *rest in cells(mask_overlap.profile_table(runs, "study"))}
    half = stats.t.ppf(0.975, 2) * 2 / 3**0.5
    assert rows["miniImageNet, 5-way 5-shot"][1] == f"20.0 [{20 - half:.1f}, {20 + half:.1f}]"
    assert rows["miniImageNet, 5-way 1-shot"] == ["–"] * 5 + ["not run yet"]
    assert rows["glyphs, 5-way 5-shot"] == ["–"] * 5 + ["0 (1 diverged)"]
    assert rows["CUB (2010), 5-way 5-shot"][-1] == "3 (1 diverged)"


def test_overlap_table():
    table = mask_overlap.overlap_table(full())
    rows = {r[0]: r[1:] for r in cells(table)}
    assert list(rows) == ["kappa", "---", *(f"`{n}`" for n in LAYERS), "all"]
    for column in rows["all"]:  # masks at random agree with nothing
        assert abs(float(column.partition(" ")[0])) <= 0.01, rows["all"]
    assert "-0.00" not in table
    same = scattered(MINI_5, 0)["layer2.conv.weight"]
    alike = [run_of(n, s, {"layer2.conv.weight": same}) for n in (MINI_5, CUB) for s in (0, 1)]
    rows = {r[0]: r[1:] for r in cells(mask_overlap.overlap_table(alike))}
    assert rows["`layer2`"][:4] == ["1.00"] * 2 + ["1.00 [1.00, 1.00]"] * 2
    assert [c.partition(" ")[0] for c in rows["`layer3`"][2:]] == ["1.00"] * 3  # as it started
    assert all(abs(float(c)) < 0.1 for c in rows["`layer3`"][:2])
    assert all(c == "–" for row in cells(mask_overlap.overlap_table([]))[2:] for c in row[1:])


# with all: 25 pairs of problems; with one seed the three of three channels and the two of one
@pytest.mark.parametrize(
    ("runs", "numbers", "without"),
    [(0, [0, 0, 0], 5), (1, [0, 0, 0], 4), (4, [3, 2, 2], 3), (15, [25, 8, 8], 0)],
)
def test_overlap_is_drawn(runs, numbers, without):
    panels = mask_overlap.draw_overlap("", full()[:runs], "study").subfigs[0].axes
    assert [sum(t.get_text() != "–" for t in ax.texts) for ax in panels] == numbers
    assert all(len(ax.texts) == 25 for ax in panels)
    labels = [t.get_text() for t in panels[0].get_yticklabels()]
    assert sum("no masks yet" in t for t in labels) == without
