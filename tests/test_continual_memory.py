"""The reservoir is fair; with the released code's slip it is not."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from wheretolearn.continual.replay import Reservoir
from wheretolearn.types import Batch


def samples(start, stop):
    numbers = torch.arange(start, stop)
    return Batch(numbers[:, None].float(), numbers)


def kept(capacity, seen, runs, *, off_by_one=False):
    """Count how often each of the samples is in memory in the end."""
    counts = np.zeros(seen)
    generator = torch.Generator().manual_seed(0)
    for _ in range(runs):
        memory = Reservoir(capacity, generator, off_by_one=off_by_one)
        memory.add(samples(0, seen))
        state = memory.state_dict()["held"]
        assert torch.equal(state[0][:, 0].long(), state[1])
        counts[state[1].numpy()] += 1
    return counts


def test_every_sample_stays_with_the_same_probability():
    counts = kept(4, 20, 4000)
    assert counts.sum() == 4 * 4000
    # a sum of indicators that exclude one another spreads a little less than chi-square says
    assert chisquare(counts).pvalue > 0.001


def test_sampling():
    memory = Reservoir(5, torch.Generator().manual_seed(0))
    nothing = memory.sample(3, samples(0, 2))
    assert nothing.inputs.shape == (0, 1)
    memory.add(samples(0, 2))
    assert len(memory.sample(3, samples(0, 1)).targets) == 2  # no more than there are
    memory.add(samples(2, 50))
    held = set(memory.state_dict()["held"][1].tolist())
    drawn = torch.cat([memory.sample(3, samples(0, 1)).targets for _ in range(2000)])
    counts = torch.bincount(drawn, minlength=50)
    assert set(counts.nonzero()[:, 0].tolist()) == held
    assert chisquare(counts[sorted(held)].numpy()).pvalue > 0.001


def test_a_copy_stays_as_it_is():
    memory = Reservoir(3, torch.Generator().manual_seed(0))
    memory.add(samples(0, 3))
    copy = memory.copy()
    memory.add(samples(3, 100))
    assert sorted(copy.state_dict()["held"][1].tolist()) == [0, 1, 2]
    assert sorted(memory.state_dict()["held"][1].tolist()) != [0, 1, 2]


def test_state_carries_everything():
    one = Reservoir(3, torch.Generator().manual_seed(0))
    one.add(samples(0, 9))
    other = Reservoir(3, torch.Generator())
    other.load_state_dict(one.state_dict())
    other.generator.set_state(one.generator.get_state())
    for memory in (one, other):
        memory.add(samples(9, 30))
    assert torch.equal(one.state_dict()["held"][1], other.state_dict()["held"][1])
    empty = Reservoir(3, torch.Generator())
    empty.load_state_dict(Reservoir(3, torch.Generator()).state_dict())
    assert len(empty) == 0


@pytest.mark.parametrize("size", [0, -1])
def test_no_memory(size):
    with pytest.raises(ValueError, match=f"at least one sample, got size {size}"):
        Reservoir(size, torch.Generator())
