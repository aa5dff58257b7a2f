"""The bundled shapes: which classes, and which pixels."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from stages.data.request import BUNDLED_DATA
from stages.data.shapes import COLOURS, LOOKS, SEEN, SHAPES, render, render_split, shape_classes
from stages.errors import UsageError
from stages.randomness import numpy_generator

GOLDEN = {
    "train": "7659534452b2e6c9f6a3db6edc8ad965dc84c6d69e9f27cc6b0d569a3b2a2bc4",
    "test": "ad200ca3c8fce10481fa26d152754bf1187ae2607967a2398e7688811415a12b",
}
VARIANTS = {
    "train": {"shapes:textured": "c97e97d300b8eb10", "shapes:small": "4c3738f0e95d36cb"},
    "test": {"shapes:textured": "b71324f693039b54", "shapes:small": "6e9f4bada4d04d27"},
}


def test_every_colour_and_shape_is_one_class_once() -> None:
    assert sorted(shape_classes()) == sorted(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)


def test_every_colour_and_every_shape_is_seen_six_times_and_novel_twice() -> None:
    for position, words in enumerate((COLOURS, SHAPES)):
        seen = Counter(name.split()[position] for name in shape_classes()[:SEEN])
        novel = Counter(name.split()[position] for name in shape_classes()[SEEN:])
        assert seen == dict.fromkeys(words, 6)
        assert novel == dict.fromkeys(words, 2)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_pixels_are_the_same_everywhere(split: str) -> None:
    images, _ = render_split(split, per_class=1)
    assert hashlib.sha256(images.tobytes()).hexdigest() == GOLDEN[split]


def test_a_split_has_its_size_and_types() -> None:
    images, labels = render_split("test")
    assert images.shape == (64 * 50, 3, 32, 32)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert np.bincount(labels).tolist() == [50] * 64


def test_fewer_images_are_the_beginning_of_more() -> None:
    few, few_labels = render_split("train", per_class=1)
    more, more_labels = render_split("train", per_class=4)
    assert np.array_equal(few, more[:64])
    assert np.array_equal(few_labels, more_labels[:64])


def test_splits_and_seeds_share_no_image() -> None:
    sets = [render_split("train", per_class=2)[0], render_split("test", per_class=2)[0], render_split("train", 1, 2)[0]]
    digests = [hashlib.sha256(image.tobytes()).digest() for images in sets for image in images]
    assert len(set(digests)) == len(digests)


def test_the_colour_of_an_image_is_its_class_colour() -> None:
    directions = {"red": (1, -1, -1), "cyan": (-1, 1, 1), "white": (1, 1, 1), "black": (-1, -1, -1)}
    for name, direction in directions.items():
        image = render(np.array([COLOURS.index(name)]), np.array([SHAPES.index("square")]), numpy_generator(0, "test"))[0]
        middle = image[:, 12:20, 12:20].mean((1, 2)) - 127.5
        assert np.all(middle * direction > 16), name


def test_each_shape_covers_other_pixels() -> None:
    shapes = np.arange(8)
    white = np.stack([render(np.array([6]), np.array([s]), numpy_generator(0, "test"))[0] for s in shapes]).astype(int)
    black = np.stack([render(np.array([7]), np.array([s]), numpy_generator(0, "test"))[0] for s in shapes]).astype(int)
    masks = (np.abs(white - black).sum(1) > 60).reshape(8, -1)
    shares = masks.mean(1)
    assert shares.min() > 0.1
    assert shares.max() < 0.7
    for first in range(8):
        for second in range(first):
            assert (masks[first] ^ masks[second]).sum() > 60, (SHAPES[first], SHAPES[second])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: render_split("val"), "no split 'val'"),
        (lambda: render_split("train", name="shapes:big"), "no bundled data 'shapes:big'"),
        (lambda: render_split("train", per_class=0), "per_class is 0"),
        (lambda: render(np.array([8]), np.array([0]), numpy_generator(0, "test")), r"outside 0\.\.7"),
        (lambda: render(np.array([1, 2]), np.array([0]), numpy_generator(0, "test")), "one length"),
    ],
)
def test_wrong_arguments_are_refused(call, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()


def test_nothing_to_draw_is_no_images() -> None:
    nothing = np.array([], dtype=np.int64)
    assert render(nothing, nothing, numpy_generator(0, "test")).shape == (0, 3, 32, 32)


def test_the_variants_have_the_same_classes_and_other_images() -> None:
    assert tuple(LOOKS) == BUNDLED_DATA
    for split in ("train", "test"):
        images = {name: render_split(split, per_class=1, name=name)[0] for name in LOOKS}
        digests = {name: hashlib.sha256(found.tobytes()).hexdigest() for name, found in images.items()}
        assert digests.pop("shapes") == GOLDEN[split]
        assert {name: digest[:16] for name, digest in digests.items()} == VARIANTS[split]


def test_small_shapes_cover_about_a_quarter_of_the_pixels() -> None:
    shares = {}
    for name, look in LOOKS.items():
        colours = np.arange(8)
        pair = [render(np.full(8, c), colours, numpy_generator(0, "test"), look).astype(int) for c in (6, 7)]
        shares[name] = float((np.abs(pair[0] - pair[1]).sum(1) > 60).mean())
    assert 0.2 < shares["shapes:small"] / shares["shapes"] < 0.45
    assert abs(shares["shapes:textured"] - shares["shapes"]) < 0.05


def test_the_weave_of_a_textured_image_says_nothing_about_its_shape() -> None:
    """The weave of rows or columns is found by its alternating sum; it is that of the class in 'shapes' alone."""
    rows = np.where(np.arange(32) % 2, -1.0, 1.0)
    weave = {}
    for name, look in LOOKS.items():
        circles = render(np.zeros(64, dtype=int), np.zeros(64, dtype=int), numpy_generator(0, "test"), look).mean(1) - 127.5
        weave[name] = np.abs((circles * rows[:, None]).mean((1, 2))) > 1.5
    assert weave["shapes"].mean() > 0.95
    assert weave["shapes:textured"].mean() < 0.3
