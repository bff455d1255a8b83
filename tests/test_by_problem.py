"""Profiles by problem and overlap of masks, on records that are made up."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from reproduction.plan import study
from reproduction.report import mask_overlap as by_problem
from reproduction.report.curves import LAYERS
from reproduction.runs import mask_codec as masks
from synthetic import cells, made_up_record
from wheretolearn.meta import MetaLearner

STUDY = {e.name: e for e in study.few_shot("study", "sparsity_by_problem")}
MINI_5, MINI_1, OMNIGLOT, GLYPHS, CUB = STUDY


def run_of(name, seed, moves=None, sparsity=(0.5, 0.4, 0.3, 0.2, 0.1), diverged=False):
    """A record of the study; `moves` are masks by tensor, those of the start by default."""
    experiment = STUDY[name]
    record = made_up_record(name, seed, diverged=diverged)
    start = by_problem.start_of(experiment, seed)
    drawn = {n: m >= 0 for n, m in start.items()}
    shares = dict(zip(LAYERS, sparsity, strict=True))
    record["parameters"] = json.loads(json.dumps(experiment.parameters()))
    record["tensors"] = {n: m.size for n, m in drawn.items()}
    record["curves"]["frozen"] = {
        n: [(~m).sum(), shares[n.partition(".")[0]] * m.size] for n, m in drawn.items()
    }
    if not diverged:
        record["final"]["masks"] = masks.pack(drawn | (moves or {}))
    return record


def scattered(name, seed, shares=(0.5,) * 5):
    """Masks of kernels at random: a share of each layer moves."""
    rng = np.random.default_rng([seed, list(STUDY).index(name)])
    start = by_problem.start_of(STUDY[name], 0)
    kernels = [n for n, m in start.items() if m.ndim > 1]
    return {n: rng.random(start[n].shape) < share for n, share in zip(kernels, shares, strict=True)}


def test_agreement_by_hand():
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 0, 0], bool)
    # observed 3/4, by chance 1/2 * 1/4 + 1/2 * 3/4 = 1/2
    assert by_problem.agreement(a, b, np.zeros(4, int)) == pytest.approx(0.5)
    # in the first half chance is 1/2, in the second, where both freeze all, it is 1
    given = np.array([0, 0, 7, 7])
    assert by_problem.agreement(a[[0, 2, 2, 3]], b[[0, 2, 2, 3]], given) == pytest.approx(1)
    # 1/2 of (1 * 1/2 + 0 * 1/2) and 1/2 of 1: 3/4 by chance, and 3/4 is seen
    assert by_problem.agreement(a, b, given) == pytest.approx(0)


def test_agreement_at_its_ends():
    rng = np.random.default_rng(0)
    a, one = rng.random(1000) < 0.5, np.zeros(1000, int)
    assert by_problem.agreement(a, a, one) == 1
    assert by_problem.agreement(a, ~a, one) == pytest.approx(-1, abs=0.01)
    assert np.isnan(by_problem.agreement(np.ones(9, bool), np.ones(9, bool), np.zeros(9, int)))


def test_densities_of_layers_alone_are_no_agreement():
    rng = np.random.default_rng(0)
    layer = np.repeat([0, 1], 20_000)
    a, b = (rng.random(40_000) < np.where(layer, 0.9, 0.1) for _ in "ab")
    assert by_problem.agreement(a, b, 0 * layer) == pytest.approx(0.64, abs=0.02)
    assert by_problem.agreement(a, b, layer) == pytest.approx(0, abs=0.02)


def test_start_is_the_one_that_training_drew():
    experiment = STUDY[CUB]
    learner = MetaLearner(
        experiment.build_network(),
        experiment.rule,
        device="cpu",
        generator=torch.Generator().manual_seed(3),
    )
    again = by_problem.start_of(experiment, 3)
    assert again.keys() == learner.rule_params.keys()
    for name, m in learner.rule_params.items():
        np.testing.assert_array_equal(again[name], m.numpy())


def test_masks_are_read_where_there_are_any():
    runs = [run_of(CUB, 0), run_of(CUB, 1, diverged=True), run_of(CUB, 2)]
    runs[2]["final"]["masks"] = {}
    (mask,) = by_problem.read_masks(runs)
    assert (mask.experiment, mask.seed) == (CUB, 0)
    assert list(mask.moves) == list(LAYERS)
    for layer in LAYERS:
        np.testing.assert_array_equal(mask.moves[layer], mask.start[layer] >= 0)


def test_pairs_know_who_started_alike():
    runs = [run_of(MINI_5, 0), run_of(MINI_1, 0), run_of(OMNIGLOT, 0), run_of(MINI_5, 1)]
    found = by_problem.pairs(runs)
    start = {
        (r.a, r.seed_a, r.b, r.seed_b): r.start for r in found.itertuples() if r.layer == "all"
    }
    assert start == {
        (MINI_5, 0, MINI_1, 0): "same",
        (MINI_5, 0, OMNIGLOT, 0): "shifted",  # one channel: fewer numbers in the first layer
        (MINI_5, 0, MINI_5, 1): "other",
        (MINI_1, 0, OMNIGLOT, 0): "shifted",
        (MINI_1, 0, MINI_5, 1): "other",
        (OMNIGLOT, 0, MINI_5, 1): "other",
    }
    layers = found[(found["a"] == MINI_5) & (found["b"] == OMNIGLOT)]["layer"]
    assert list(layers) == ["layer2", "layer3", "layer4", "output", "all"]
    alike = found[found["start"] == "same"].set_index("layer")
    assert (alike["kappa"] == 1).all()
    assert found.loc[found["start"] != "same", "beyond"].isna().all()
    # whose numbers do not fall on the same weights agree by chance only
    assert found.loc[found["start"] != "same", "kappa"].abs().max() < 0.15


def test_kappa_of_a_layer_and_of_all():
    first, second = (
        scattered(n, 0, shares)
        for n, shares in ((MINI_5, (0.1, 0.3, 0.5, 0.7, 0.9)), (CUB, (0.2, 0.3, 0.4, 0.5, 0.6)))
    )
    second["layer2.conv.weight"] = first["layer2.conv.weight"]
    found = by_problem.pairs([run_of(MINI_5, 0, first), run_of(CUB, 1, second)])
    kappa = found.set_index("layer")["kappa"]
    assert kappa["layer2"] == 1
    a, b = (m["layer4.conv.weight"] for m in (first, second))
    chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
    assert kappa["layer4"] == pytest.approx(((a == b).mean() - chance) / (1 - chance))
    # kernels together: observed and by chance, weighted by their sizes
    seen = expected = 0.0
    for n in first:
        p, q = first[n].mean(), second[n].mean()
        seen += (first[n] == second[n]).sum()
        expected += first[n].size * (p * q + (1 - p) * (1 - q))
    total = sum(m.size for m in first.values())
    assert kappa["all"] == pytest.approx((seen - expected) / (total - expected))


def test_a_common_start_is_taken_out():
    start = by_problem.start_of(STUDY[MINI_5], 0)
    kernels = {n: m for n, m in start.items() if m.ndim > 1}
    early = {n: m >= np.quantile(m, 0.4) for n, m in kernels.items()}
    late = {n: m >= np.quantile(m, 0.6) for n, m in kernels.items()}
    found = by_problem.pairs([run_of(MINI_5, 0, early), run_of(CUB, 0, late)])
    every = found.set_index("layer").loc["all"]
    assert every["kappa"] > 0.5
    assert every["beyond"] == pytest.approx(0, abs=0.01)
    rng = np.random.default_rng(0)
    flips = {n: rng.random(m.shape) < 0.3 for n, m in kernels.items()}
    both = [{n: m[n] ^ flips[n] for n in m} for m in (early, late)]  # what the problems share
    found = by_problem.pairs([run_of(MINI_5, 0, both[0]), run_of(CUB, 0, both[1])])
    assert found.set_index("layer").loc["all", "beyond"] > 0.3


def test_what_is_kept_of_the_start():
    start = by_problem.start_of(STUDY[MINI_5], 0)
    turned = {n: m < 0 for n, m in start.items()}
    found = by_problem.kept([run_of(MINI_5, 0, turned), run_of(CUB, 0)])
    kappa = found.set_index(["a", "layer"])["kappa"]
    assert kappa[MINI_5, "layer3"] == pytest.approx(-1, abs=0.01)
    assert kappa[CUB, "layer3"] == kappa[CUB, "all"] == 1


def lines(values):
    rows = [("p", "q", s, t, v) for (s, t), v in values.items()]
    return pd.DataFrame(rows, columns=["a", "b", "seed_a", "seed_b", "kappa"])


def test_interval_of_pairs_with_two_seeds_leaves_seeds_out():
    found = by_problem.over_seeds(lines({(0, 1): 0.3, (0, 2): 0.0, (1, 2): 0.6}), "kappa")
    assert found is not None
    # without seed 0, 1 and 2: 0.6, 0, 0.3, whose squared distances from 0.3 sum to 0.18
    half = stats.t.ppf(0.975, 2) * (2 / 3 * 0.18) ** 0.5
    assert found == pytest.approx((0.3, 0.3 - half, 0.3 + half, 3))


def test_interval_needs_something_to_leave_out():
    found = by_problem.over_seeds(lines({(0, 1): 0.3}), "kappa")
    assert found is not None
    assert found.mean == pytest.approx(0.3)
    assert np.isnan(found.low)
    assert by_problem.over_seeds(lines({}), "kappa") is None
    assert by_problem.over_seeds(lines({(0, 0): np.nan}), "kappa") is None


def full():
    """Runs of all problems with three seeds; each layer of a problem has its own sparsity."""
    return [
        run_of(
            name,
            seed,
            scattered(name, seed),
            sparsity=[0.1 * (k + 1) + 0.02 * (seed - 1) + 0.05 * i for k in range(5)],
        )
        for i, name in enumerate(STUDY)
        for seed in range(3)
    ]


def test_profile_table_by_hand():
    runs = [*full(), run_of(CUB, 3, diverged=True)]
    runs = [r for r in runs if r["experiment"] not in (MINI_1, GLYPHS)]
    runs.append(run_of(GLYPHS, 0, diverged=True))
    header, _, mini, mini_1, _, glyphs, cub = cells(by_problem.profile_table(runs, "study"))
    assert header == ["final sparsity (%)", *LAYERS, "seeds"]
    half = stats.t.ppf(0.975, 2) * 2 / 3**0.5
    assert mini[0] == "miniImageNet, 5-way 5-shot"
    assert mini[2] == f"20.0 [{20 - half:.1f}, {20 + half:.1f}]"
    assert mini_1[1:] == ["–"] * 5 + ["not run yet"]
    assert glyphs[1:] == ["–"] * 5 + ["0 (1 diverged)"]
    assert cub[0] == "CUB (2010), 5-way 5-shot"
    assert cub[1].startswith("30.0 ")
    assert cub[-1] == "3 (1 diverged)"


def test_overlap_table():
    rows = {r[0]: r[1:] for r in cells(by_problem.overlap_table(full()))}
    assert list(rows) == ["kappa", "---", *(f"`{n}`" for n in LAYERS), "all"]
    for column in rows["all"]:  # masks at random agree with nothing
        assert abs(float(column.partition(" ")[0])) <= 0.01, rows["all"]
    assert "-0.00" not in by_problem.overlap_table(full())
    same = scattered(MINI_5, 0)["layer2.conv.weight"]
    alike = [run_of(n, s, {"layer2.conv.weight": same}) for n in (MINI_5, CUB) for s in (0, 1)]
    rows = {r[0]: r[1:] for r in cells(by_problem.overlap_table(alike))}
    assert rows["`layer2`"][:4] == ["1.00"] * 2 + ["1.00 [1.00, 1.00]"] * 2
    assert [c.partition(" ")[0] for c in rows["`layer3`"][2:]] == ["1.00"] * 3  # as it started
    assert all(abs(float(c)) < 0.1 for c in rows["`layer3`"][:2])
    empty = cells(by_problem.overlap_table([]))
    assert all(c == "–" for row in empty[2:] for c in row[1:])


@pytest.mark.parametrize("count", [0, 1, 4, 15])
def test_overlap_is_drawn(count):
    runs = full()[:count]
    figure = by_problem.draw_overlap("The study", runs, "study")
    panels = figure.subfigs[0].axes
    titles = [ax.get_title() for ax in panels]
    assert titles == ["two seeds", "one seed", "one seed, start taken out"]
    numbers = [sum(t.get_text() != "–" for t in ax.texts) for ax in panels]
    assert all(len(ax.texts) == 25 for ax in panels)
    # with all: 25 pairs of problems; with one seed the three of three channels and the two of one
    assert numbers == {0: [0, 0, 0], 1: [0, 0, 0], 4: [3, 2, 2], 15: [25, 8, 8]}[count]
    labels = [t.get_text() for t in panels[0].get_yticklabels()]
    assert sum("no masks yet" in t for t in labels) == {0: 5, 1: 4, 4: 3, 15: 0}[count]
