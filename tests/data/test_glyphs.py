from __future__ import annotations

import itertools

import glyph_choice
import numpy as np
import pytest

from wheretolearn.data import ImageSet, glyphs, load

CHARACTERS = "".join(glyphs.CHARACTERS.values())


@pytest.fixture(scope="module")
def glyph_set(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load("glyphs", 28, cache=tmp_path_factory.mktemp("cache"))


def test_enough_classes_in_disjoint_splits(glyph_set: ImageSet) -> None:
    assert len(glyph_set.classes) >= 500
    assert set(np.diff(glyph_set.offsets)) == {20}
    assert {s: len(c) for s, c in glyph_set.splits.items()} == {
        s: len(c) for s, c in glyphs.CHARACTERS.items()
    }
    assert min(map(len, glyph_set.splits.values())) >= 50
    indices = list(itertools.chain.from_iterable(glyph_set.splits.values()))
    assert sorted(indices) == list(range(len(glyph_set.classes)))


def test_no_two_classes_look_alike() -> None:
    shapes = glyphs.renderings(CHARACTERS, glyphs.fonts(), side=28)
    bank = np.concatenate([glyph_choice.features(styles) for styles in shapes])
    owner = np.repeat(np.arange(len(shapes)), [len(styles) for styles in shapes])
    alike = bank @ bank.T
    alike[owner[:, None] == owner] = 0
    worst = np.unravel_index(alike.argmax(), alike.shape)
    pair = [CHARACTERS[owner[i]] for i in worst]
    # The margin is for other versions of FreeType; look-alikes are above 0.97.
    assert alike.max() <= glyph_choice.MAX_RESEMBLANCE + 0.02, pair


@pytest.mark.parametrize("pair", ["AΑ", "cC", "oO", "AА"])
def test_look_alikes_resemble_one_another(pair: str) -> None:
    one, two = (glyph_choice.features(s) for s in glyphs.renderings(pair, glyphs.fonts(), 28))
    assert (one @ two.T).max() > 0.97


def test_images_of_a_class_belong_together(glyph_set: ImageSet) -> None:
    images = np.asarray(glyph_set.images, np.float32).reshape(len(glyph_set.classes), 20, -1)
    images /= np.linalg.norm(images, axis=2, keepdims=True)
    means = images[:, :10].mean(1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    guess = (images[:, 10:].reshape(-1, 28 * 28) @ means.T).argmax(1).reshape(-1, 10)
    hits = guess == np.arange(len(images))[:, None]
    assert hits.mean() > 0.5  # nearest class mean among all classes; chance is 0.002


def test_ink_is_bright_and_not_clipped(glyph_set: ImageSet) -> None:
    pixels = glyph_set.images[..., 0]
    assert pixels.reshape(len(pixels), -1).max(1).min() > 200
    assert 10 < pixels.mean() < 60
    edges = [pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]]
    assert max(edge.max() for edge in edges) < 64


def test_drawing_again_gives_the_same(glyph_set: ImageSet) -> None:
    again = itertools.islice(glyphs.draw(28), 100)
    first = {(p.label, p.name): p.pixels for p in again}
    rows = {label: i for i, label in enumerate(glyph_set.classes)}
    for number, ((label, _), pixels) in enumerate(sorted(first.items())):
        row = glyph_set.offsets[rows[label]] + number % 20
        assert (glyph_set.images[row] == pixels).all()


def test_every_font_has_what_it_is_asked_for() -> None:
    # A missing character would be drawn as a box, the same for all classes.
    opened = glyphs.fonts()
    for character in CHARACTERS:
        known = [f for f in opened if ord(character) in f.get_charmap()]
        assert len(known) >= glyph_choice.MIN_STYLES
        assert all(f.get_char_index(ord(character)) != 0 for f in known)
