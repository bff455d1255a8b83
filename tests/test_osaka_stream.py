"""The stream of OSAKA follows its law, is a function of seed and step, and refuses nonsense."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from synthetic import image_set
from wheretolearn.continual.osaka import data as osaka_data
from wheretolearn.continual.osaka.data import OsakaData, open_data
from wheretolearn.continual.osaka.stream import ContextStream, Source

SHARES = (0.5, 0.25, 0.25)


def source(name, share=1.0, classes=6, each=7, side=16, seed=0):
    """Return classes that differ in their mean brightness and in where they are bright."""
    rng = np.random.default_rng(seed)
    places = rng.random((classes, side, side)) < 0.5
    pixels = (
        60 + 120 * np.repeat(places, each, 0) + rng.integers(0, 60, (classes * each, side, side))
    )
    rows = tuple(np.arange(c * each, (c + 1) * each) for c in range(classes))
    return Source(name, share, pixels.astype(np.uint8), rows, f"{name} {seed}")


def three(classes=(9, 6, 6)):
    parts = zip("abc", SHARES, classes, strict=True)
    return tuple(source(n, s, c, seed=i) for i, (n, s, c) in enumerate(parts))


def made_up(**changes):
    """Return data of a stream, with classes to pretrain on."""
    images = image_set((8, 5, 0), per_class=9, size=16)
    images = replace(images, mean=(0.0,), std=(1.0,))
    return OsakaData("made-up", three(), images)._replace(**changes)


def stream(alpha=0.9, steps=4000, ways=3, shots=2, seed=0, sources=None):
    return ContextStream(
        "made-up",
        three() if sources is None else sources,
        alpha=alpha,
        steps=steps,
        ways=ways,
        shots=shots,
        seed=seed,
    )


@pytest.mark.parametrize("alpha", [0.98, 0.9, 0.3])
def test_contexts_switch_with_probability_one_minus_alpha(alpha):
    steps = 10_000
    starts = stream(alpha, steps).starts
    assert starts[0] == 0
    switches = len(starts) - 1
    assert stats.binomtest(switches, steps - 1, 1 - alpha).pvalue > 0.01
    # independent of the last one: lengths of contexts are geometric
    lengths = np.diff(starts)
    bins = np.array([1, 2, 4, 8, 16, 32, 64, np.inf])
    shares = np.diff(1 - alpha ** (bins - 1))
    seen = np.histogram(lengths, bins)[0]
    keep = shares * len(lengths) > 5
    tail = (seen[~keep].sum(), shares[~keep].sum() * len(lengths))
    observed = [*seen[keep], *([tail[0]] if tail[1] else [])]
    expected = [*(shares[keep] * len(lengths)), *([tail[1]] if tail[1] else [])]
    assert stats.chisquare(observed, expected).pvalue > 0.01


def test_data_sets_have_their_shares_and_classes_are_drawn_alike():
    s = stream(alpha=0.0, steps=3000)
    contexts = [s.context(t) for t in range(3000)]
    counts = np.bincount([c.source for c in contexts], minlength=3)
    assert stats.chisquare(counts, 3000 * np.array(SHARES)).pvalue > 0.01
    of_a = np.concatenate([c.classes for c in contexts if c.source == 0])
    assert stats.chisquare(np.bincount(of_a, minlength=9)).pvalue > 0.01
    first = [c.classes[0] for c in contexts if c.source == 0]  # any class can have any label
    assert stats.chisquare(np.bincount(first, minlength=9)).pvalue > 0.01
    assert all(len(set(c.classes)) == 3 for c in contexts)


def test_a_context_keeps_classes_and_labels_and_brings_new_images():
    sources = three()
    s = stream(alpha=0.9, steps=300, sources=sources)
    seen = set()
    for t in range(300):
        context, batch = s.context(t), s[t]
        pixels = sources[context.source].pixels
        assert np.bincount(batch.targets).tolist() == [2, 2, 2]
        for x, y in zip(batch.inputs, batch.targets, strict=True):
            row = np.flatnonzero((np.round(x.numpy()[0] * 255) == pixels).all((1, 2)))
            assert row[0] in sources[context.source].rows[context.classes[y]]
            seen.add((context.source, int(row[0])))
        assert context.start == s.context(context.start).start
        assert (context.classes == s.context(context.start).classes).all()
    assert len(seen) == 21 * 7  # all images of all classes


def test_a_step_is_a_function_of_seed_and_step():
    a, b, longer = stream(seed=4), stream(seed=4), stream(seed=4, steps=5000)
    for t in (3999, 0, 17, 18, 17):  # in any order
        x, y = a[t]
        for other in (b, longer):
            assert torch.equal(x, other[t].inputs)
            assert torch.equal(y, other[t].targets)
    assert not torch.equal(stream(seed=5)[17].inputs, a[17].inputs)
    assert not torch.equal(a[17].inputs, a[18].inputs)
    assert not np.array_equal(stream(seed=5).starts, a.starts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 1.1}, r"in \[0, 1\]; got 1.1"),
        ({"alpha": -0.1}, r"in \[0, 1\]"),
        ({"alpha": float("nan")}, r"in \[0, 1\]"),
        ({"steps": 0}, "steps=0"),
        ({"ways": 1}, "ways=1"),
        ({"shots": 0}, "shots=0"),
        ({"seed": -1}, "seed=-1"),
        ({"ways": 7}, "b: contexts of 7 classes, but it has 6"),
        ({"sources": three()[:2]}, "sum to 1"),
        ({"sources": [source("a", 1.5), source("b", -0.5)]}, "sum to 1"),
        ({"sources": [source("a", 0.5), source("b", 0.5, side=17)]}, r"b: images of \(17, 17\)"),
        ({"sources": [source("a")._replace(pixels=np.zeros((42, 16, 12), np.uint8))]}, "square"),
        ({"sources": [source("a")._replace(pixels=np.zeros((42, 16, 16)))]}, "of bytes"),
        (
            {"sources": [source("a")._replace(rows=(*source("a").rows[1:], np.array([], int)))]},
            "a: class 5 has no images",
        ),
    ],
)
def test_nonsense_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        stream(**changes)


def test_the_embedded_stream_needs_no_download(monkeypatch, tmp_path):
    monkeypatch.setenv("WHERETOLEARN_DATA", str(tmp_path / "nothing"))
    data = open_data("glyph-scripts")
    assert [s.share for s in data.sources] == list(SHARES)
    assert sum(len(s.rows) for s in data.sources) == len(data.pretraining.classes)
    splits = data.pretraining.splits
    assert not set(splits["train"]) & set(splits["val"])
    assert len(splits["val"]) >= 10  # enough for ten classes at a time
    s = stream(sources=data.sources, ways=10, shots=5, steps=3)
    assert s[0].inputs.shape == (50, 1, 28, 28)
    with pytest.raises(ValueError, match="no validation stream"):
        open_data("glyph-scripts", validation=True)


@pytest.fixture
def _large(monkeypatch):
    """Stand-ins for Omniglot, MNIST and FashionMNIST with the right numbers of classes."""
    omniglot = replace(image_set((1200, 200, 223), per_class=1, size=16), rotations=True)
    names = []

    def arrays(root, name):
        names.append(name)
        labels = np.arange(40, dtype=np.uint8) % 10
        pixels = np.zeros((40, 16, 16), np.uint8)
        return pixels, labels, pixels + 1, labels[::-1]

    monkeypatch.setattr(osaka_data, "load", lambda name, size, root: omniglot)
    monkeypatch.setattr(osaka_data, "mnist_arrays", arrays)
    osaka_data._omniglot_mnist_fashion.cache_clear()
    yield
    osaka_data._omniglot_mnist_fashion.cache_clear()


@pytest.mark.usefixtures("_large")
def test_streams_for_validation_have_other_images():
    data = open_data("omniglot-mnist-fashion", validation=True)
    assert [len(s.rows) for s in data.sources] == [100, 10, 10]
    assert data.sources[0].rows[0].tolist() == [900]
    assert (data.sources[1].pixels == 1).all()
    assert data.sources[1].rows[3].tolist() == [6, 16, 26, 36]
    fingerprints = {s.fingerprint for s in data.sources}
    assert not fingerprints & {
        s.fingerprint for s in open_data("omniglot-mnist-fashion").sources[1:]
    }
