"""Sparsity by layer and learned rates, on records that are made up."""

import html
import math

import numpy as np
import pytest
import torch

from reproduction.plan import study
from reproduction.report import sparsity_profiles as profiles
from reproduction.report.curves import frozen_share
from synthetic import cells, planned_record, texts

CONVNETS = study.few_shot("study", "learned_rates")
RESNETS = study.few_shot("study", "resnet12_sparsity")
UNLIKE = 0.01


def made_up(e, seed, diverged=False):
    """A record of a run: final shares of frozen weights by kernel, rates from -0.1 to 0.3."""
    record = planned_record(e, seed, diverged=diverged)
    with torch.device("meta"):
        sizes = {n: p.numel() for n, p in e.build_network().named_parameters()}
    kernels = profiles.kernels(sizes)
    last = dict(zip(kernels, np.linspace(0.9, 0.1, len(kernels)) + UNLIKE * seed, strict=True))
    updates = [0, 200, 400, 600]
    record["final"]["best_update"] = updates[-1]
    record["tensors"] = sizes
    record["curves"] |= {
        "update": updates,
        "frozen": {
            n: [round(size * last.get(n, 1.0) * u / 600) for u in updates]
            for n, size in sizes.items()
        },
    }
    if e.rule.learned and e.rule.gate != "mask" and not diverged:
        rates = np.linspace(-0.1, 0.3, 21) + UNLIKE * seed
        rates = np.maximum(rates, 0) if e.rule.can_freeze else rates
        record["final"]["rate_quantiles"] = {n: rates.tolist() for n in sizes}
    return record


def all_of(experiments, seeds=(0, 1, 2)):
    return [made_up(e, s) for e in experiments for s in seeds]


def lines_of(markdown):
    """The lines of a table, by their first cell."""
    return {line[0]: line for line in cells(html.unescape(markdown))}


def test_kernels_are_convolutions_and_the_last_layer():
    convnet, resnet = (made_up(e[0], 0)["tensors"] for e in (CONVNETS, RESNETS))
    assert profiles.kernels(convnet) == [f"layer{i}.conv.weight" for i in (1, 2, 3, 4)] + [
        "output.weight"
    ]
    found = profiles.kernels(resnet)
    assert found[4:8] == [f"layer2.{n}.weight" for n in ("conv1", "conv2", "conv3", "shortcut")]
    assert len(found) == 17


def test_the_share_of_a_block_counts_weights_and_no_normalisation():
    record = made_up(RESNETS[0], 0)
    record["tensors"] = {"layer1.conv1.weight": 100, "layer1.shortcut.weight": 300}
    record["curves"]["frozen"] = {
        "layer1.conv1.weight": [0, 100],
        "layer1.shortcut.weight": [30, 0],
        "layer1.norm1.weight": [8, 8],
    }
    share = frozen_share(record, ["layer1.conv1.weight", "layer1.shortcut.weight"])
    assert share == pytest.approx([100 * 30 / 400, 100 * 100 / 400])


def test_noise_makes_of_rates_a_random_walk():
    noise = profiles.noise_rates(0.1, 100, rule_rate=0.01)
    # Adam's steps under noise are independent and of the size of its rate, late ones included
    spread = 0.01 * math.sqrt(100)
    expected = 100 * 0.5 * math.erfc(0.1 / spread / math.sqrt(2))
    assert noise.zero.mean[0] == 0
    assert noise.zero.mean[-1] == pytest.approx(expected, abs=3)
    assert noise.quantiles[10] == pytest.approx(0.1, abs=0.01)
    assert noise.quantiles[1] < 0 < noise.quantiles[-1]
    assert (np.diff(noise.quantiles) > 0).all()
    assert profiles.noise_rates(0.5, 100, rule_rate=0.01).zero.mean[-1] == 0


def test_noise_beside_rates_had_as_many_updates_as_they():
    e = next(e for e in CONVNETS if e.name == "convnet4-5shot-meta-sgd")
    records = all_of([e], seeds=(0, 1))
    for r, best in zip(records, (50, 600), strict=True):
        r["final"]["best_update"] = best
    noise = lines_of(profiles.rates_table([e], records))["pure noise"]
    walks = [profiles.noise_rates(e.inner_rate, n, e.rule_rate).quantiles for n in (50, 600)]
    low, high = (np.mean([w[i] for w in walks]) for i in (1, 19))
    assert noise[2] == f"{low:.3f} to {high:.3f}"
    (ax,) = profiles.draw_rates([e], records).axes[-1:]
    (dotted,) = (line for line in ax.lines if line.get_linestyle() == ":")
    assert dotted.get_ydata() == pytest.approx(np.mean(walks, axis=0)[1:-1])


def test_the_table_of_the_end_is_what_a_hand_would_compute():
    e = next(e for e in CONVNETS if e.name == "convnet4-5shot-sparse-relu-maml")
    records = all_of([e], seeds=(0, 1))
    found = lines_of(profiles.end_table(CONVNETS, records))
    column = found["ConvNet-4"].index("sparse-ReLU-MAML, 5 shots")
    # of 864 kernel weights round(0.9 * 864) = 778 and round(0.91 * 864) = 786 are at zero
    a, b = 100 * 778 / 864, 100 * 786 / 864
    half = 12.706 * abs(a - b) / math.sqrt(2) / math.sqrt(2)
    mean = (a + b) / 2
    assert found["layer1.conv"][column] == f"{mean:.1f} [{mean - half:.1f}, {mean + half:.1f}]"
    sizes = records[0]["tensors"]
    frozen = sum(records[0]["curves"]["frozen"][n][-1] for n in profiles.kernels(sizes))
    whole = 100 * frozen / sum(sizes[n] for n in profiles.kernels(sizes))
    assert float(found["all of these"][column].split()[0]) == pytest.approx(whole + 0.5, abs=0.1)
    noise = profiles.noise_rates(e.inner_rate, e.updates, e.rule_rate).zero.mean[-1]
    assert float(found["pure noise"][column]) == pytest.approx(noise, abs=0.06)
    assert found["runs"][column] == "2 seeds"
    others = [i for i in range(1, len(found["ConvNet-4"])) if i != column]
    assert {found["output"][i] for i in others} == {"not run yet"}


def test_diverged_runs_are_counted_and_left_out():
    e = RESNETS[0]
    records = [made_up(e, 0), made_up(e, 1, diverged=True)]
    found = lines_of(profiles.end_table([e], records))
    assert found["runs"][1] == "2 seeds, 1 diverged"
    assert found["layer1.conv1"][1] == f"{100 * round(216 * 0.9) / 216:.1f}"  # no interval
    assert lines_of(profiles.end_table([e], records[1:]))["layer1.conv1"][1] == "diverged"
    for figure in (profiles.draw_training([e], records[1:]), profiles.draw_end([e], records[1:])):
        assert any("diverged" in t for t in texts(figure))


def test_training_is_drawn_by_block_for_each_method_and_number_of_shots():
    figure = profiles.draw_training(RESNETS, all_of(RESNETS))
    assert len(figure.axes) == 4
    for ax in figure.axes:
        lines = {line.get_label(): line for line in ax.get_lines()}
        assert list(lines) == ["noise", "layer1", "layer2", "layer3", "layer4", "output"]
        first, last = (np.asarray(lines[name].get_xydata()) for name in ("layer1", "output"))
        assert list(first[:, 0]) == [0, 200, 400, 600]
        assert first[-1, 1] > last[-1, 1]
        assert ax.collections  # intervals
    assert any("3 seeds" in t for t in texts(figure))
    assert any("profile study" in t for t in texts(figure))


def test_the_table_of_rates():
    e = next(e for e in CONVNETS if e.method == "meta-sgd")
    found = profiles.rates_table([e], all_of([e], seeds=(0, 1)))
    line, noise = (lines_of(found)[name] for name in ("layer1", "pure noise"))
    half = 12.706 * UNLIKE / 2
    assert line[1] == f"{0.105:.3f} [{0.105 - half:.3f}, {0.105 + half:.3f}]"
    assert line[2] == "-0.075 to 0.285"
    # seed 0: zero lies at a quarter of -0.1 to 0.3; seed 1: at 0.09 / 0.4
    assert line[3] == f"{100 * (0.25 + 0.09 / 0.4) / 2:.0f}"
    assert float(noise[1]) == pytest.approx(e.inner_rate, abs=0.01)
    assert profiles.rates_table([e], []).endswith(": not run yet.")
    assert profiles.rates_table([e], [made_up(e, 0, diverged=True)]).endswith(": diverged.")


def test_negative_share_is_read_between_quantiles():
    some = np.linspace(-1, 3, 21)
    shares = {0: np.linspace(0, 1, 21), 100: np.linspace(-2, -1, 21), 25: some}
    for share, rates in shares.items():
        assert profiles._below_zero(rates) == pytest.approx(share)
    assert profiles._below_zero(np.maximum(some, 0)) == 0
