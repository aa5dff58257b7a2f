from __future__ import annotations

import importlib
import math
from types import ModuleType

import numpy as np
import pytest
import torch

from stages.data.augment import Augmentation, Drawn, to_unit
from stages.errors import UsageError
from stages.randomness import torch_generator


def pictures(count: int, height: int = 9, width: int = 9, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def drawn(top: int = 0, left: int = 0, flip: bool = False, degrees: float = 0.0) -> Drawn:
    return Drawn(torch.tensor([top]), torch.tensor([left]), torch.tensor([flip]), torch.tensor([degrees], dtype=torch.float64))


def by_hand(image: np.ndarray, padding: int, one: Drawn) -> np.ndarray:
    """Pad, crop, mirror and turn one image pixel by pixel, with the sine and cosine of plane geometry."""
    _, height, width = image.shape
    top, left = int(one.top), int(one.left)
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    cropped = padded[:, top : top + height, left : left + width]
    mirrored = cropped[:, :, ::-1] if bool(one.flip) else cropped
    turned = np.zeros_like(mirrored)
    radians = math.radians(float(one.degrees))
    for row in range(height):
        for column in range(width):
            down, right = row - (height - 1) / 2, column - (width - 1) / 2
            from_row = math.sin(radians) * right + math.cos(radians) * down + (height - 1) / 2
            from_column = math.cos(radians) * right - math.sin(radians) * down + (width - 1) / 2
            y, x = math.floor(from_row + 0.5), math.floor(from_column + 0.5)
            if 0 <= y < height and 0 <= x < width:
                turned[:, row, column] = mirrored[:, y, x]
    return turned


def torchvision_functional() -> ModuleType:
    try:
        return importlib.import_module("torchvision.transforms.functional")
    except Exception as error:  # torchvision of another build fails in many ways
        pytest.skip(f"torchvision does not import here: {error}")


@pytest.mark.parametrize(("height", "width"), [(9, 9), (8, 8), (7, 10)])
def test_drawn_parameters_do_what_they_say(height: int, width: int) -> None:
    images, augmentation = pictures(24, height, width), Augmentation(2, True, 40.0)
    parameters = augmentation.draw(24, torch_generator(3, "augmentation"))
    result = augmentation.apply_drawn(images, parameters)
    assert result.dtype == torch.float32
    for at in range(24):
        one = Drawn(
            *(getattr(parameters, name)[at : at + 1] for name in ("top", "left", "flip", "degrees")),
        )
        expected = by_hand(images[at].numpy(), 2, one).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(result[at].numpy(), expected)


def test_agrees_with_torchvision_on_cifar_sized_images() -> None:
    functional = torchvision_functional()
    images, augmentation = pictures(64, 32, 32), Augmentation()
    parameters = augmentation.draw(64, torch_generator(0, "augmentation"))
    result = augmentation.apply_drawn(images, parameters)
    for at in range(64):
        image = functional.pad(images[at], [4, 4, 4, 4])
        image = functional.crop(image, int(parameters.top[at]), int(parameters.left[at]), 32, 32)
        image = functional.hflip(image) if parameters.flip[at] else image
        image = functional.rotate(image, float(parameters.degrees[at]))
        assert torch.equal(result[at], image.to(torch.float32) / 255)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    images = pictures(1)
    result = Augmentation(0, False, 180.0).apply_drawn(images, drawn(degrees=90.0))
    assert torch.equal(result, to_unit(torch.rot90(images, 1, dims=(2, 3))))


def test_flip_alone_mirrors_left_and_right() -> None:
    images = pictures(1)
    assert torch.equal(Augmentation(0, True, 0.0).apply_drawn(images, drawn(flip=True)), to_unit(images.flip(3)))


def test_the_corner_crop_shows_the_padding() -> None:
    images = pictures(1)
    result = Augmentation(2, False, 0.0).apply_drawn(images, drawn(top=0, left=4))
    assert torch.equal(result[:, :, 2:, :-2], to_unit(images[:, :, :-2, 2:]))
    assert result[:, :, :2].count_nonzero() == 0
    assert result[:, :, :, -2:].count_nonzero() == 0


def test_off_only_scales() -> None:
    images = pictures(4)
    assert torch.equal(Augmentation.off().apply(images, torch_generator(0, "a")), images.to(torch.float32) / 255)


def test_input_is_left_as_it_was() -> None:
    images = pictures(4)
    before = images.clone()
    Augmentation().apply(images, torch_generator(0, "a"))
    assert torch.equal(images, before)


def test_layout_of_the_input_does_not_matter() -> None:
    images = pictures(4)
    first = Augmentation(2).apply(images, torch_generator(0, "a"))
    second = Augmentation(2).apply(images.to(memory_format=torch.channels_last), torch_generator(0, "a"))
    assert torch.equal(first, second)


def test_distribution_of_the_draws() -> None:
    parameters = Augmentation(4, True, 15.0).draw(40_000, torch_generator(0, "augmentation"))
    for shift in (parameters.top, parameters.left):
        share = torch.bincount(shift, minlength=9) / 40_000
        assert len(share) == 9
        assert (share - 1 / 9).abs().max() < 0.008
    assert abs(parameters.flip.double().mean() - 0.5) < 0.0125
    assert parameters.degrees.abs().max() <= 15
    assert abs(parameters.degrees.mean()) < 0.22
    assert abs(parameters.degrees.std() - 15 / math.sqrt(3)) < 0.15
    together = torch.stack([parameters.top.double(), parameters.left.double(), parameters.flip, parameters.degrees])
    assert (torch.corrcoef(together) - torch.eye(4)).abs().max() < 0.025


def test_the_seed_alone_decides() -> None:
    images = pictures(8)
    first, again, other = (Augmentation().apply(images, torch_generator(seed, "a")) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_switching_one_off_leaves_the_other_draws() -> None:
    with_flip = Augmentation(4, True, 15.0).draw(50, torch_generator(0, "a"))
    without = Augmentation(4, False, 15.0).draw(50, torch_generator(0, "a"))
    assert not without.flip.any()
    assert with_flip.flip.any()
    assert torch.equal(with_flip.degrees, without.degrees)
    assert torch.equal(with_flip.top, without.top)


def test_global_stream_is_not_touched() -> None:
    state = torch.get_rng_state()
    Augmentation().apply(pictures(4), torch_generator(0, "a"))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("padding", "degrees"), [(-1, 0.0), (0, -1.0), (0, 181.0), (0, math.nan)])
def test_impossible_settings_are_refused(padding: int, degrees: float) -> None:
    with pytest.raises(UsageError, match=r"padding|rotation"):
        Augmentation(crop_padding=padding, rotation_degrees=degrees)


def test_record() -> None:
    assert Augmentation().to_record() == {"crop_padding": 4, "flip": True, "rotation_degrees": 15.0}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_another_device_gives_the_same_images() -> None:
    images = pictures(32, 32, 32)
    on_cpu = Augmentation().apply(images, torch_generator(0, "a"))
    on_gpu = Augmentation().apply(images.cuda(), torch_generator(0, "a"))
    assert torch.equal(on_cpu, on_gpu.cpu())
