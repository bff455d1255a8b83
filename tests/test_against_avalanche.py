"""The baselines end where those of Avalanche end.

``tests/reference/avalanche_baselines.py`` says how its numbers were made.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency

from wheretolearn.continual import baselines, replay
from wheretolearn.continual.base import Learner
from wheretolearn.continual.baselines import EWC, GEM, MER, Online
from wheretolearn.continual.replay import ExperienceReplay, Reservoir
from wheretolearn.networks import MLP
from wheretolearn.types import Batch

FOUND = json.loads((Path(__file__).parent / "reference" / "avalanche_baselines.json").read_text())

EXACT = 1e-11
"""What rounding may do; the file has twelve decimals."""


def tasks(part: str) -> list[Batch]:
    data = FOUND["data"][part]
    return [Batch(torch.tensor(x, dtype=torch.float64), torch.tensor(y)) for x, y in data]


TRAIN, TEST = tasks("train"), tasks("test")
EACH = len(TRAIN[0].targets)
ALL = Batch(*(torch.cat(parts) for parts in zip(*TRAIN, strict=True)))


def base() -> dict[str, Any]:
    network = MLP(*FOUND["sizes"]).double()
    with torch.no_grad():
        for p, given in zip(network.parameters(), FOUND["start"], strict=True):
            p.copy_(torch.tensor(given, dtype=torch.float64))
    return {"network": network, "generator": torch.Generator().manual_seed(0)}


def check(ours: Learner, found: dict[str, Any], batch: int, tolerance: float) -> None:
    """Learn the stream; compare accuracies after each task, and the parameters in the end."""
    start = ours.params
    accuracies = []
    for train in TRAIN:
        for parts in zip(*(t.split(batch) for t in train), strict=True):
            ours.observe(Batch(*parts))
        ours.end_task()
        accuracies.append([ours.accuracy(test, (0, FOUND["sizes"][-1])) for test in TEST])
    np.testing.assert_allclose(accuracies, found["accuracies"], rtol=0, atol=1e-4)
    for (n, p), want in zip(ours.params.items(), found["params"], strict=True):
        np.testing.assert_allclose(p.numpy(), want, rtol=0, atol=tolerance, err_msg=n)
        assert not torch.allclose(p, start[n], rtol=0, atol=0.01)


class Noted(Reservoir):
    """A memory that replays samples with given numbers."""

    def __init__(self, numbers: list[list[int]], *args: Any) -> None:
        super().__init__(*args)
        self.numbers: Iterator[list[int]] = iter(numbers)

    def sample(self, count: int, like: Batch) -> Batch:
        rows = torch.tensor(next(self.numbers), dtype=torch.long)
        assert len(rows) <= count
        return Batch(ALL.inputs[rows], ALL.targets[rows])


def test_online():
    found = FOUND["naive"]
    check(Online(rate=found["rate"], **base()), found, found["batch"], EXACT)


@pytest.mark.parametrize("fisher", ["samples", "mean"])
def test_ewc(fisher):
    found = FOUND[f"ewc of {'the ' * (fisher == 'mean')}{fisher}"]
    settings = {"rate": found["rate"], "strength": 2 * found["lambda"], "fisher": fisher}
    # all of a task in one batch: epochs are glances
    settings |= {"fisher_samples": EACH, "glances": found["epochs"]}
    check(EWC(**settings, **base()), found, found["batch"], EXACT)


@pytest.mark.parametrize("name", ["gem", "gem without margin"])
def test_gem(name, monkeypatch):
    """To the digits of float32, in which Avalanche returns turned gradients."""
    found, turned, turn = FOUND[name], [], baselines.turn

    def noted(products: np.ndarray, margin: float) -> np.ndarray:
        weights = turn(products, margin)
        turned.append(bool(weights.any()))
        return weights

    monkeypatch.setattr(baselines, "turn", noted)
    settings = {"rate": found["rate"], "margin": found["margin"], "memory": 3 * EACH, "tasks": 3}
    check(GEM(**settings, **base()), found, found["batch"], 1e-7)
    assert sum(turned) == found["turned"]
    assert 0 < sum(turned) < len(turned)


def test_replay(monkeypatch):
    """With the samples that Avalanche replayed, and without clipping, as there."""
    monkeypatch.setattr(replay, "CLIP", math.inf)
    found = FOUND["replay"]
    ours = ExperienceReplay(rate=found["rate"], memory=20, replay=5, **base())
    ours.memory = Noted(found["replayed"], 20, ours.generator)
    check(ours, found, found["batch"], EXACT)
    assert next(ours.memory.numbers, None) is None


def test_mer():
    """With the samples that Avalanche replayed."""
    found = FOUND["mer"]
    shares = {name: found[name] for name in ("trajectories", "beta", "gamma")}
    ours = MER(rate=found["rate"], memory=20, replay=3, **shares, **base())
    ours.memory = Noted(found["replayed"], 20, ours.generator)
    check(ours, found, 1, EXACT)
    assert next(ours.memory.numbers, None) is None


@pytest.mark.parametrize("off_by_one", [False, True])
def test_reservoir(off_by_one):
    """It holds each sample as often, and as many of the first task; with the slip it does not."""
    found = FOUND["reservoir"]
    seen = len(found["kept"])
    numbers = torch.arange(seen)
    kept, of_first = np.zeros(seen, int), np.zeros(found["capacity"] + 1, int)
    generator = torch.Generator().manual_seed(0)
    for _ in range(found["runs"]):
        memory = Reservoir(found["capacity"], generator, off_by_one=off_by_one)
        memory.add(Batch(numbers, numbers))
        held = memory.state_dict()["held"][1].numpy()
        kept[held] += 1
        of_first[(held < seen // found["tasks"]).sum()] += 1
    for ours, theirs in ((kept, found["kept"]), (of_first, found["of_first"])):
        assert ours.sum() == sum(theirs)
        same = chi2_contingency([ours, theirs]).pvalue
        assert same < 1e-4 if off_by_one else same > 0.001
