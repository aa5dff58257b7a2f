from __future__ import annotations

import importlib
import math
from itertools import permutations
from types import ModuleType

import pytest
import torch
from torch import Tensor

from stages.data.batches.colour import (
    BRIGHTNESS,
    CONTRAST,
    SATURATION,
    ColourParameters,
    blend_weights,
    jitter_,
    sample_colours,
)
from stages.randomness import torch_generator


def pictures(count: int, height: int, width: int) -> Tensor:
    """Noise of every contrast and tint, and images that are black, white and a ramp, uint8."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (count, 3, height, width), generator=generator)
    scaled = (noise * torch.rand((count, 3, 1, 1), generator=generator)).to(torch.uint8)
    ramp = (torch.arange(3 * height * width) % 256).view(1, 3, height, width).to(torch.uint8)
    black, white = torch.zeros_like(ramp), torch.full_like(ramp, 255)
    return torch.cat([scaled, ramp, black, white])


def jittered(images: Tensor, drawn: ColourParameters) -> Tensor:
    return jitter_(images.to(torch.float32), blend_weights(drawn)).to(torch.uint8)


def torchvision_transforms() -> ModuleType:
    try:
        return importlib.import_module("torchvision.transforms")
    except Exception as error:  # torchvision of another build fails in many ways
        pytest.skip(f"torchvision does not import here: {error}")


@pytest.mark.parametrize(("height", "width", "strength"), [(32, 32, 0.4), (80, 80, 0.4), (7, 10, 1.0), (256, 255, 3.0)])
def test_agrees_with_torchvision_to_the_last_grey_level(height: int, width: int, strength: float) -> None:
    functional = torchvision_transforms().functional
    adjust = {
        BRIGHTNESS: functional.adjust_brightness,
        CONTRAST: functional.adjust_contrast,
        SATURATION: functional.adjust_saturation,
    }
    images = pictures(21, height, width)
    drawn = sample_colours(24, strength, torch_generator(0, "colours"))
    drawn.order[:6] = torch.tensor(list(permutations(range(3))))
    found = jittered(images, drawn)
    for at in range(24):
        image = images[at]
        for which in drawn.order[at].tolist():
            image = adjust[which](image, float(drawn.factors[at, which]))
        assert torch.equal(found[at], image), f"image {at}, order {drawn.order[at].tolist()}"
    assert not torch.equal(found, images)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_factors_of_one_change_nothing(order: tuple[int, ...]) -> None:
    images = pictures(2, 8, 8)
    drawn = ColourParameters(torch.ones(5, 3, dtype=torch.float64), torch.tensor([order] * 5))
    assert torch.equal(jittered(images, drawn), images)


@pytest.mark.parametrize(
    ("which", "factor", "expected"),
    [
        # grey = 0.2989 * 200 + 0.587 * 100 + 0.114 * 20 = 120.8, cut to 120; the second pixel's is 0, their mean 60
        (BRIGHTNESS, 0.5, [100, 50, 10]),
        (BRIGHTNESS, 2.0, [255, 200, 40]),
        (CONTRAST, 0.0, [60, 60, 60]),
        (CONTRAST, 0.5, [130, 80, 40]),
        (SATURATION, 0.0, [120, 120, 120]),
        (SATURATION, 2.0, [255, 80, 0]),
    ],
)
def test_one_pixel_by_hand(which: int, factor: float, expected: list[int]) -> None:
    image = torch.tensor([[200, 0], [100, 0], [20, 0]], dtype=torch.uint8).view(1, 3, 1, 2)
    factors = torch.ones(1, 3, dtype=torch.float64)
    factors[0, which] = factor
    drawn = ColourParameters(factors, torch.tensor([[0, 1, 2]]))
    assert jittered(image, drawn)[0, :, 0, 0].tolist() == expected


def test_the_order_matters() -> None:
    image = pictures(1, 8, 8)[:1]
    factors = torch.tensor([[1.4, 1.4, 0.6]], dtype=torch.float64)
    found = [jittered(image, ColourParameters(factors, torch.tensor([order]))) for order in permutations(range(3))]
    assert len({one.numpy().tobytes() for one in found}) > 3


@pytest.mark.parametrize(("strength", "lowest"), [(0.4, 0.6), (1.0, 0.0), (1.5, 0.0)])
def test_distribution_of_the_draws(strength: float, lowest: float) -> None:
    drawn = sample_colours(40_000, strength, torch_generator(0, "colours"))
    width = 1 + strength - lowest
    assert drawn.factors.shape == drawn.order.shape == (40_000, 3)
    assert lowest <= float(drawn.factors.min()) < lowest + 0.001 * width
    assert 1 + strength - 0.001 * width < float(drawn.factors.max()) <= 1 + strength
    assert (drawn.factors.mean(0) - (lowest + 1 + strength) / 2).abs().max() < 0.0075 * width
    assert (drawn.factors.std(0) - width / math.sqrt(12)).abs().max() < 0.005 * width
    assert (torch.corrcoef(drawn.factors.T) - torch.eye(3)).abs().max() < 0.025
    orders, counts = drawn.order.unique(dim=0, return_counts=True)
    assert sorted(map(tuple, orders.tolist())) == list(permutations(range(3)))
    assert (counts / 40_000 - 1 / 6).abs().max() < 0.01


def test_draws_have_the_moments_of_torchvision() -> None:
    transform = torchvision_transforms().ColorJitter(0.4, 0.4, 0.4)
    drawn = sample_colours(10_000, 0.4, torch_generator(0, "colours"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        taken = [
            transform.get_params(transform.brightness, transform.contrast, transform.saturation, None) for _ in range(10_000)
        ]
    theirs = torch.tensor([params[1:4] for params in taken], dtype=torch.float64)
    # five standard errors of a difference of two means of 10,000
    assert (drawn.factors.mean(0) - theirs.mean(0)).abs().max() < 5 * 0.8 / math.sqrt(12) * math.sqrt(2 / 10_000)
    assert (drawn.factors.std(0) - theirs.std(0)).abs().max() < 0.01
    # the fourth is the hue, which is off
    orders = torch.stack([params[0][params[0] < 3] for params in taken])
    for mine, of_theirs in zip(drawn.order.T, orders.T, strict=True):
        assert (torch.bincount(mine) - torch.bincount(of_theirs)).abs().max() < 5 * math.sqrt(2 * 10_000 * 2 / 9)


def test_a_part_is_what_the_whole_has_there() -> None:
    drawn = sample_colours(9, 0.4, torch_generator(0, "colours"))
    part = drawn.part(slice(4, 7))
    assert torch.equal(part.factors, drawn.factors[4:7])
    assert torch.equal(part.order, drawn.order[4:7])


def test_an_empty_batch() -> None:
    drawn = sample_colours(0, 0.4, torch_generator(0, "colours"))
    assert jittered(torch.zeros(0, 3, 4, 4, dtype=torch.uint8), drawn).shape == (0, 3, 4, 4)
