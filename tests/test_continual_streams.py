"""Streams hand out what they say, the same every time, and refuse what makes no sense."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from reproduction.runs.streams import ContinualExperiment, open_stream
from wheretolearn.continual.streams import cifar100
from wheretolearn.continual.streams import pixels as pixel_streams
from wheretolearn.continual.streams.cifar100 import SplitCIFAR100
from wheretolearn.continual.streams.pixels import (
    RECIPES,
    Images,
    PixelStream,
    Recipe,
    glyph_digits,
    make_stream,
    mnist,
    permutation,
    rotation,
)
from wheretolearn.continual.streams.stream import TensorStream
from wheretolearn.data import DataError, archives
from wheretolearn.types import Batch


def images(count=40, side=9, classes=4):
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 256, (count, side, side), dtype=np.uint8)
    labels = np.arange(count) % classes
    return Images((pixels, labels), (pixels[:20], labels[:20]), "made up")


@pytest.mark.parametrize("task", [0, 7, 19])
def test_rotation_is_that_of_pillow(task):
    angle = 180 * (task + np.random.default_rng(3).random()) / 20
    source = rotation(task, 20, 28, np.random.default_rng(3))
    picture = np.random.default_rng(0).integers(1, 256, (28, 28), dtype=np.uint8)
    want = np.asarray(Image.fromarray(picture).rotate(angle))
    got = np.concatenate([[0], picture.ravel()])[source].reshape(28, 28)
    assert np.array_equal(got, want)


def test_a_task_is_a_function_of_seed_and_number():
    first = PixelStream("a", images(), Recipe(3, 10, permutation), seed=1)
    again = PixelStream("a", images(), Recipe(3, 10, permutation), seed=1)
    other = PixelStream("a", images(), Recipe(3, 10, permutation), seed=2)
    again.test(0)  # what was asked before does not matter
    for a, b in ((first.train(2), again.train(2)), (first.test(2), again.test(2))):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.targets, b.targets)
    assert not torch.equal(first.train(2).inputs, other.train(2).inputs)
    assert not torch.equal(first.train(2).inputs, first.train(1).inputs)


def test_samples_are_moved_pixels_of_different_images():
    source = images()
    stream = PixelStream("a", source, Recipe(2, 40, permutation), seed=0)
    batch = stream.train(1)
    assert batch.inputs.shape == (40, 81)
    assert batch.inputs.max() <= 1
    # sorted pixels do not notice a permutation
    got = {
        (tuple(x), int(y))
        for x, y in zip(
            (255 * batch.inputs).sort(1)[0].round().tolist(), batch.targets, strict=True
        )
    }
    flat = np.sort(source.train[0].reshape(40, -1), 1)
    assert got == {
        (tuple(map(float, x)), int(y)) for x, y in zip(flat, source.train[1], strict=True)
    }
    assert len(stream.test(0, 7).targets) == 7
    assert torch.equal(stream.test(0, 7).inputs, stream.test(0).inputs[:7])


def test_embedded_stream():
    stream = make_stream("glyph-rotations", 0)
    assert len(stream) == 5
    assert stream.classes == 10
    batch = stream.train(4)
    assert batch.inputs.shape == (200, 784)
    assert set(batch.targets.tolist()) == set(range(10))
    study, held = glyph_digits(False), glyph_digits(True)
    seen = {x.tobytes() for x in study.train[0]}
    assert len(seen) == 2000
    for others in (study.test, held.train, held.test):
        assert not any(x.tobytes() in seen for x in others[0])


def test_mnist_streams(data_root):
    stream = make_stream("rotations", 0, root=data_root)
    assert (len(stream), stream.classes, stream.shape) == (20, 10, (784,))
    assert stream.train(3).inputs.shape == (1000, 784)
    assert stream.test(3).inputs.shape == (10_000, 784)
    many = make_stream("many-permutations", 0, root=data_root)
    assert (len(many), len(many.train(99).targets)) == (100, 200)


def test_validation_streams_use_other_images(data_root):
    study, held = mnist(data_root, False), mnist(data_root, True)
    used = {x.tobytes() for part in (study.train, study.test) for x in part[0]}
    assert [len(x[0]) for x in (study.train, study.test, held.train, held.test)] == [
        *(45_000, 10_000, 10_000, 5_000)
    ]
    assert not any(x.tobytes() in used for part in (held.train, held.test) for x in part[0])
    a, b = (make_stream("rotations", 0, validation=v, root=data_root) for v in (False, True))
    moves = [s._recipe.move(0, 20, 28, s._rng(0, 0)) for s in (a, b)]
    assert not np.array_equal(moves[0], moves[1])


# --- bad input


def batch(count, classes, shape=(6,)):
    return Batch(torch.rand(count, *shape), torch.arange(count) % classes)


@pytest.mark.parametrize(
    ("tasks", "classes", "ways", "message"),
    [
        ([], 2, None, "at least one task"),
        ([(batch(0, 2), batch(4, 2))], 2, None, "task 0, training samples: there are none"),
        (
            [(batch(4, 2), batch(4, 2)), (batch(4, 2), batch(0, 2))],
            2,
            None,
            "task 1, test samples: there are none",
        ),
        ([(batch(4, 1), batch(4, 1))], 1, None, "one class only"),
        ([(batch(4, 2), batch(4, 2, (7,)))], 2, None, r"shape \(7,\), but the stream's .*\(6,\)"),
        ([(batch(4, 3), batch(4, 2))], 2, None, "integers from 0 to 1"),
        ([(batch(4, 2), batch(4, 2))] * 2, 4, 2, "task 1, .* integers from 2 to 3"),
        ([(batch(4, 2), batch(4, 2))] * 2, 5, 2, "2 heads of 2 classes are not 5"),
        (
            [(Batch(torch.rand(3, 6), torch.arange(2)), batch(4, 2))],
            2,
            None,
            "3 inputs, but 2 targets",
        ),
        ([(Batch(torch.rand(2, 6), torch.rand(2)), batch(4, 2))], 2, None, "must be integers"),
    ],
)
def test_streams_that_cannot_be(tasks, classes, ways, message):
    with pytest.raises(ValueError, match=message):
        TensorStream("mine", tasks, classes=classes, ways=ways)


def test_images_of_a_wrong_shape():
    good = images()
    for pixels in (good.train[0][:, :, :5], good.train[0][..., None], good.train[0] / 255):
        with pytest.raises(ValueError, match="square grey images of bytes"):
            PixelStream(
                "mine", good._replace(train=(pixels, good.train[1])), RECIPES["rotations"], 0
            )
    with pytest.raises(ValueError, match="1000 training samples a task asked for, 40 images"):
        PixelStream("mine", good, RECIPES["rotations"], 0)
    with pytest.raises(ValueError, match="one class only"):
        PixelStream("mine", images(classes=1), Recipe(2, 5, rotation), 0)
    with pytest.raises(ValueError, match="40 images, but 3 labels"):
        PixelStream(
            "mine",
            good._replace(train=(good.train[0], good.train[1][:3])),
            Recipe(2, 5, rotation),
            0,
        )


# --- Split CIFAR-100


def write_cifar(folder, each=6, tests=6):
    """Write both files: the first pixel of an image is its class, the next two its number."""
    (folder / "cifar100").mkdir(parents=True)
    for name, count in (("train.bin", each), ("test.bin", tests)):
        rows = np.zeros((100 * count, 3074), np.uint8)
        rows[:, 1] = rows[:, 2] = np.tile(np.arange(100), count)
        rows[:, 4], rows[:, 3] = np.divmod(np.repeat(np.arange(count), 100), 256)
        rows.tofile(folder / "cifar100" / name)


def numbers(samples):
    """How often each number of an image within its class is there."""
    low, high = (255 * samples.inputs[:, 0, 0, 1:3]).round().int().unbind(1)
    return Counter((256 * high + low).tolist())


def test_split_cifar(tmp_path):
    write_cifar(tmp_path)
    stream = SplitCIFAR100(0, tmp_path, samples=20)
    assert (len(stream), stream.classes, stream.ways) == (20, 100, 5)
    of_class: dict[int, int] = {}
    for task in range(20):
        train, test = stream.train(task), stream.test(task)
        assert train.inputs.shape == (20, 3, 32, 32)
        assert len(test.targets) == 30
        assert set(test.targets.tolist()) == set(range(5 * task, 5 * task + 5))
        for x, y in zip(train.inputs, train.targets.tolist(), strict=True):
            original = round(255 * float(x[0, 0, 0]))
            assert of_class.setdefault(y, original) == original
    assert sorted(of_class.values()) == list(range(100))
    assert of_class != {i: i for i in range(100)}  # in random order


def test_split_cifar_holds_out_for_validation(tmp_path):
    """A task has five classes, so each number of an image is there five times."""
    write_cifar(tmp_path, each=500)
    for validation, learned, judged in (
        (False, range(500), range(6)),  # all of train.bin, all of test.bin
        (True, range(450), range(450, 500)),  # both of train.bin
    ):
        experiment = ContinualExperiment(
            name="split", figure="none", stream="split-cifar100", validation=validation
        )
        stream = open_stream(experiment, 0, tmp_path)
        assert numbers(stream.train(0)) == dict.fromkeys(learned, 5)
        assert numbers(stream.test(0)) == dict.fromkeys(judged, 5)


def test_split_cifar_refuses_other_files(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="binary version of CIFAR-100"):
        SplitCIFAR100(0, tmp_path)
    write_cifar(tmp_path)
    path = tmp_path / "cifar100" / "train.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match="truncated"):
        SplitCIFAR100(0, tmp_path)
    path.write_bytes(content[:1] + b"\xc8" + content[2:])
    with pytest.raises(DataError, match="a class 200"):
        SplitCIFAR100(0, tmp_path)
    monkeypatch.setattr(archives, "MAX_MEMBER_BYTES", len(content) - 1)
    with pytest.raises(DataError, match=r"train\.bin has .* bytes"):
        SplitCIFAR100(0, tmp_path)
    monkeypatch.undo()
    path.write_bytes(content)
    with pytest.raises(ValueError, match="task 0: 2500 training samples"):
        SplitCIFAR100(0, tmp_path).train(0)
    with pytest.raises(ValueError, match="task 0: 31 training samples asked for, 30 images"):
        SplitCIFAR100(0, tmp_path, samples=31).train(0)
    assert cifar100.WAYS * 20 == cifar100.CLASSES
    assert set(pixel_streams.RECIPES) & {"split-cifar100"} == set()
