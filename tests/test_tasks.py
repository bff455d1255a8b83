"""Episodes: no query image is in the support, classes and targets are right, all is seeded."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synthetic import image_set
from wheretolearn.tasks import Ahead, EpisodeSampler

SPLITS = ["train", "val", "test"]


def tagged(images):
    """Return the image set with each image's pixels replaced by its row number."""
    rows = np.arange(len(images.images))
    images.images[:] = 0
    images.images[:, 0, 0, 0], images.images[:, 0, 1, 0] = rows // 256, rows % 256
    return images


PLAIN = tagged(image_set((9, 5, 6), per_class=[8, 30, 9, 11] * 5, size=4))
TURNED = tagged(image_set((9, 5, 6), per_class=8, size=4, rotations=True))

SHAPE = {
    "split": st.sampled_from(SPLITS),
    "ways": st.integers(1, 5),
    "shots": st.integers(1, 4),
    "queries": st.integers(1, 4),
    "seed": st.integers(0, 2**40),
    "index": st.integers(0, 2**40),
}


def rows_of(inputs, images):
    """Read the row numbers off normalised pixels."""
    pixels = (inputs * images.std[0] + images.mean[0]) * 255
    return (256 * pixels[:, 0, 0, 0] + pixels[:, 0, 0, 1]).round().long()


@given(**SHAPE, images=st.sampled_from([PLAIN, TURNED]))
def test_an_episode_is_what_it_says(split, ways, shots, queries, seed, index, images):
    sampler = EpisodeSampler(images, split, ways=ways, shots=shots, queries=queries, seed=seed)
    support, query, turns = sampler.draw(index)
    assert (support.shape, query.shape) == ((ways, shots), (ways, queries))
    # one class of the split in each row of the episode, no two alike
    of_row = np.repeat(np.arange(len(images.classes)), np.diff(images.offsets))
    classes = of_row[support[:, 0]]
    assert (of_row[np.concatenate([support, query], 1)] == classes[:, None]).all()
    assert set(classes) <= set(images.splits[split])
    assert len(set(zip(classes.tolist(), turns.tolist(), strict=True))) == ways
    assert set(turns.tolist()) <= ({0, 1, 2, 3} if images.rotations else {0})
    # no image twice, in particular none in support and query
    for s, q in zip(support, query, strict=True):
        assert len({*s.tolist(), *q.tolist()}) == shots + queries
    # the same seen from outside: what the network gets, not what the sampler says
    for rows, batch in zip((support, query), sampler[index], strict=True):
        assert batch.inputs.shape == (rows.size, 1, 4, 4)
        assert (batch.inputs.dtype, batch.targets.dtype) == (torch.float32, torch.int64)
        assert batch.targets.tolist() == np.repeat(np.arange(ways), rows.shape[1]).tolist()
        if images is PLAIN:
            assert rows_of(batch.inputs, images).tolist() == rows.ravel().tolist()


def test_splits_share_no_class():
    drawn = {}
    for split in SPLITS:
        sampler = EpisodeSampler(PLAIN, split, ways=5, shots=2, queries=2, seed=0)
        rows = np.concatenate([np.concatenate(sampler.draw(i)[:2], 1).ravel() for i in range(60)])
        drawn[split] = set(np.searchsorted(PLAIN.offsets, rows, "right") - 1)
        assert drawn[split] == set(PLAIN.splits[split])  # and every class is drawn
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(drawn.values(), 2))


def equal(a, b):
    pairs = zip((*a.support, *a.query), (*b.support, *b.query), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@given(**SHAPE)
def test_an_episode_depends_on_seed_split_and_index_alone(split, ways, shots, queries, seed, index):
    args = {"ways": ways, "shots": shots, "queries": queries, "seed": seed}
    one, two = (EpisodeSampler(TURNED, split, **args) for _ in range(2))
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    first = one[index]
    one.batch(3, 2)  # another order of access, another state of the generators
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = torch.get_rng_state()
    assert equal(two[index], first)
    assert equal(one[index], first)
    assert torch.equal(torch.get_rng_state(), before)


def test_another_seed_split_or_index_is_another_episode():
    big = image_set((20, 20, 20), per_class=20, size=4)
    args = {"ways": 5, "shots": 5, "queries": 5}
    inside = set()  # where in its class each image lies, so that other classes are no difference
    for seed, split, index in itertools.product(range(4), SPLITS, range(4)):
        sampler = EpisodeSampler(big, split, **args, seed=seed)
        rows = np.concatenate(sampler.draw(index)[:2], 1)
        inside.add(tuple((rows - rows.min(1, keepdims=True)).ravel()))
    assert len(inside) == 4 * 3 * 4
    # (seed, index) must not be confused with (index, seed), nor update 1 with update 0
    sampler = EpisodeSampler(big, "train", **args, seed=3)
    flat = [*sampler.batch(0, 3), *sampler.batch(1, 3)]
    assert all(equal(task, sampler[i]) for i, task in enumerate(flat))
    assert not any(equal(a, b) for a, b in itertools.combinations(flat, 2))


def test_classes_and_images_are_drawn_evenly():
    sampler = EpisodeSampler(PLAIN, "train", ways=3, shots=1, queries=1, seed=0)
    n = 3000
    episodes = [sampler.draw(i) for i in range(n)]
    rows = np.concatenate([np.concatenate(e[:2], 1).ravel() for e in episodes])
    classes = np.searchsorted(PLAIN.offsets, rows, "right") - 1
    for c in PLAIN.splits["train"]:
        # expected 2 n / 3 draws of each of the nine classes; six standard deviations
        assert abs((classes == c).sum() - 2 * n / 3) < 6 * 2 * np.sqrt(n / 3 * 2 / 3)
        start, stop = PLAIN.offsets[c : c + 2]
        counts = np.bincount(rows[classes == c] - start, minlength=stop - start)
        mean = counts.sum() / len(counts)
        assert (np.abs(counts - mean) < 6 * np.sqrt(mean)).all()
    # a class is every target in turn
    first = np.array([np.searchsorted(PLAIN.offsets, e[0][:, 0], "right") - 1 for e in episodes])
    for target in range(3):
        assert set(first[:, target]) == set(PLAIN.splits["train"])


def test_rotations_make_four_classes_of_one_and_really_rotate():
    images = image_set((2, 1, 1), per_class=6, size=6, channels=2, rotations=True)
    images = dataclasses.replace(images, mean=(0.1, 0.3), std=(0.5, 2.0))
    sampler = EpisodeSampler(images, "val", ways=4, shots=2, queries=3, seed=0)
    support, query, turns = sampler.draw(0)
    assert sorted(turns) == [0, 1, 2, 3]
    for rows, batch in zip((support, query), sampler[0], strict=True):
        for row, turn, got in zip(
            rows.ravel(), np.repeat(turns, rows.shape[1]), batch.inputs, strict=True
        ):
            picture = images.images[row] / 255
            for _ in range(turn):  # by hand: the last column becomes the first row
                picture = picture.transpose(1, 0, 2)[::-1]
            want = ((picture - [0.1, 0.3]) / [0.5, 2.0]).transpose(2, 0, 1)
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"5-way .* split 'val' .* has 4"):
        EpisodeSampler(images, "val", ways=5, shots=1, queries=1, seed=0)
    still = image_set((2, 1, 1), per_class=6, size=6)
    with pytest.raises(ValueError, match=r"2-way .* split 'val' .* has 1"):
        EpisodeSampler(still, "val", ways=2, shots=1, queries=1, seed=0)


def test_classes_with_too_few_images_are_named():
    small = image_set((4, 3, 3), per_class=[9, 9, 3, 9, 9, 9, 9, 9, 9, 9])
    (split,) = (s for s, classes in small.splits.items() if 2 in classes)
    args = {"ways": 2, "shots": 2, "queries": 3, "seed": 0}
    with pytest.raises(ValueError, match=r"5 images a class.*class002 \(smallest has 3\)"):
        EpisodeSampler(small, split, **args)
    for other in {"train", "val", "test"} - {split}:
        EpisodeSampler(small, other, **args)  # only its own split matters
    EpisodeSampler(small, split, **args | {"queries": 1})  # exactly enough
    many = image_set((8, 2, 2), per_class=4)
    with pytest.raises(ValueError, match="and 3 more"):
        EpisodeSampler(many, "train", **args)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "tests"}, "no split 'tests'; did you mean 'test'"),
        *(({n: 0}, "must be positive and seed not negative") for n in ("ways", "shots", "queries")),
        ({"seed": -1}, "must be positive and seed not negative"),
    ],
)
def test_what_has_no_meaning_is_refused(change, message):
    wanted: dict[str, Any] = {"split": "train", "ways": 2, "shots": 1, "queries": 1, "seed": 0}
    with pytest.raises(ValueError, match=message):
        EpisodeSampler(PLAIN, **wanted | change)
    with pytest.raises(IndexError, match="numbered from 0, got -1"):
        EpisodeSampler(PLAIN, **wanted)[-1]


def test_ahead_keeps_the_order_and_stays_two_ahead():
    made = []

    def make(i):
        made.append(i)
        return i * i

    for position, value in enumerate(Ahead(make, range(5, 12))):
        assert value == (5 + position) ** 2
        assert len(made) <= position + 3
    assert made == list(range(5, 12))
    assert list(Ahead(make, [])) == []
