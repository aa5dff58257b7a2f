from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.image_set import LabelledImages
from stages.data.load import open_images
from stages.data.normalization import FLOOR, normalization_of
from stages.data.request import ImageRequest
from tests.stages.data.pictures import noise


def opened(root: Path, images: list[np.ndarray], cache: str) -> LabelledImages:
    (root / "cat").mkdir(parents=True)
    for at, pixels in enumerate(images):
        Image.fromarray(pixels).save(root / f"cat/{at}.png")
    return open_images(ImageRequest(str(root), split="train"), side="train", cache=cache)[0]


@pytest.mark.parametrize("cache", ["ram", "none"])
@pytest.mark.parametrize("odd", [None, 13, 100], ids=["constant", "one level off", "one pixel brighter"])
def test_a_channel_that_hardly_varies_is_not_blown_up(tmp_path: Path, cache: str, odd: int | None) -> None:
    pixels = [np.asarray(noise(at)).copy() for at in range(20)]
    for image in pixels:
        image[..., 2] = 12
    if odd is not None:
        pixels[7][3, 3, 2] = odd
    images = opened(tmp_path, pixels, cache)
    found = normalization_of(images)
    mean, std = images.mean_std()
    assert found.mean == mean
    assert found.std == (*std[:2], FLOOR)
    how = "is 12 of 255 everywhere" if odd is None else "hardly varies"
    assert len(found.notes) == 1
    assert found.notes[0].startswith(f"the blue channel of the training images {how}")
    farthest = max(abs(value / 255 - found.mean[2]) / found.std[2] for value in (12, odd or 12))
    assert farthest < 1 / FLOOR


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_other_channels_keep_their_deviation(tmp_path: Path, cache: str) -> None:
    images = opened(tmp_path, [np.asarray(noise(at)) for at in range(3)], cache)
    found = normalization_of(images)
    assert ((found.mean, found.std), found.notes) == (images.mean_std(), ())


def test_a_faint_image_set_is_above_the_floor(tmp_path: Path) -> None:
    faint = [(120 + np.asarray(noise(at)) // 12).astype(np.uint8) for at in range(3)]  # 21 levels
    assert normalization_of(opened(tmp_path, faint, "ram")).notes == ()
