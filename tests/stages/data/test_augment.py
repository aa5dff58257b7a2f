from __future__ import annotations

import importlib
import math
from dataclasses import replace
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
import torch

from stages.data.batches.augment import Augmentation, AugmentParameters
from stages.data.batches.colour import blend_weights, jitter_
from stages.errors import UsageError
from stages.randomness import torch_generator
from tests.stages.data.plain_augment import augmented_by_hand


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 pixels as float32 in [0, 1]."""
    return images.to(torch.float32) / 255


def pictures(count: int, height: int = 9, width: int = 9, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def drawn(top: int = 0, left: int = 0, flip: bool = False, degrees: float = 0.0) -> AugmentParameters:
    return AugmentParameters(
        torch.tensor([top]), torch.tensor([left]), torch.tensor([flip]), torch.tensor([degrees], dtype=torch.float64)
    )


def torchvision_functional() -> ModuleType:
    try:
        return importlib.import_module("torchvision.transforms.functional")
    except Exception as error:  # torchvision of another build fails in many ways
        pytest.skip(f"torchvision does not import here: {error}")


@pytest.mark.parametrize("jitter", [0.0, 0.6])
@pytest.mark.parametrize(("height", "width"), [(9, 9), (8, 8), (7, 10)])
def test_drawn_parameters_do_what_they_say(height: int, width: int, jitter: float) -> None:
    images, augmentation = pictures(24, height, width), Augmentation(2, True, 40.0, jitter)
    parameters = augmentation.sample(24, torch_generator(3, "augmentation"))
    result = augmentation.apply_parameters(images, parameters)
    assert result.dtype == torch.float32
    for at in range(24):
        expected = augmented_by_hand(images[at].numpy(), 2, parameters.part(slice(at, at + 1))).astype(np.float32) / np.float32(
            255
        )
        np.testing.assert_array_equal(result[at].numpy(), expected)


def test_agrees_with_torchvision_on_cifar_sized_images() -> None:
    functional = torchvision_functional()
    images, augmentation = pictures(64, 32, 32), Augmentation()
    parameters = augmentation.sample(64, torch_generator(0, "augmentation"))
    result = augmentation.apply_parameters(images, parameters)
    for at in range(64):
        image = functional.pad(images[at], [4, 4, 4, 4])
        image = functional.crop(image, int(parameters.top[at]), int(parameters.left[at]), 32, 32)
        image = functional.hflip(image) if parameters.flip[at] else image
        image = functional.rotate(image, float(parameters.degrees[at]))
        assert torch.equal(result[at], image.to(torch.float32) / 255)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    images = pictures(1)
    result = Augmentation(0, False, 180.0).apply_parameters(images, drawn(degrees=90.0))
    assert torch.equal(result, to_unit(torch.rot90(images, 1, dims=(2, 3))))


def test_flip_alone_mirrors_left_and_right() -> None:
    images = pictures(1)
    assert torch.equal(Augmentation(0, True, 0.0).apply_parameters(images, drawn(flip=True)), to_unit(images.flip(3)))


def test_the_corner_crop_shows_the_padding() -> None:
    images = pictures(1)
    result = Augmentation(2, False, 0.0).apply_parameters(images, drawn(top=0, left=4))
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
    parameters = Augmentation(4, True, 15.0).sample(40_000, torch_generator(0, "augmentation"))
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


def test_draws_have_the_moments_of_torchvision() -> None:
    functional = torchvision_functional()
    transforms = importlib.import_module("torchvision.transforms")
    parameters = Augmentation(4, True, 15.0).sample(20_000, torch_generator(0, "augmentation"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        canvas, marked = torch.zeros(1, 40, 40), torch.tensor([[[0, 1]]])
        corners = [transforms.RandomCrop.get_params(canvas, (32, 32))[:2] for _ in range(20_000)]
        flip = transforms.RandomHorizontalFlip()
        flips = [bool(flip(marked)[0, 0, 0]) for _ in range(20_000)]
        degrees = [transforms.RandomRotation.get_params([-15.0, 15.0]) for _ in range(20_000)]
    assert functional.hflip(marked)[0, 0, 0] == 1
    top, left = torch.tensor(corners).unbind(1)
    for mine, theirs, spread in (
        (parameters.top, top, 2.6),
        (parameters.left, left, 2.6),
        (parameters.flip, torch.tensor(flips), 0.5),
        (parameters.degrees, torch.tensor(degrees), 8.7),
    ):
        # five standard errors of a difference of two means of 20,000
        assert abs(float(mine.double().mean() - theirs.double().mean())) < 5 * spread * math.sqrt(2 / 20_000)
        assert float(mine.double().std()) == pytest.approx(float(theirs.double().std()), rel=0.02)


def test_the_seed_alone_decides() -> None:
    images = pictures(8)
    first, again, other = (Augmentation().apply(images, torch_generator(seed, "a")) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_switching_one_off_leaves_the_other_draws() -> None:
    with_flip = Augmentation(4, True, 15.0).sample(50, torch_generator(0, "a"))
    without = Augmentation(4, False, 15.0).sample(50, torch_generator(0, "a"))
    assert not without.flip.any()
    assert with_flip.flip.any()
    assert torch.equal(with_flip.degrees, without.degrees)
    assert torch.equal(with_flip.top, without.top)


def test_global_stream_is_not_touched() -> None:
    state = torch.get_rng_state()
    Augmentation().apply(pictures(4), torch_generator(0, "a"))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("padding", "degrees", "jitter", "named"),
    [
        (-1, 0.0, 0.0, "crop padding -1"),
        (0, -1.0, 0.0, "rotation of -1.0"),
        (0, 181.0, 0.0, "rotation of 181.0"),
        (0, math.nan, 0.0, "rotation of nan"),
        (0, 0.0, -0.1, "colour jitter of strength -0.1"),
        (0, 0.0, math.nan, "colour jitter of strength nan"),
        (0, 0.0, math.inf, "colour jitter of strength inf"),
    ],
)
def test_impossible_settings_are_refused(padding: int, degrees: float, jitter: float, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Augmentation(crop_padding=padding, rotation_degrees=degrees, jitter=jitter)


def test_record() -> None:
    assert Augmentation().to_record() == {"crop_padding": 4, "flip": True, "rotation_degrees": 15.0, "jitter": 0.0}


def test_colours_are_drawn_after_the_rest_and_not_at_all_without_jitter() -> None:
    stream, untouched = torch_generator(0, "a"), torch_generator(0, "a")
    with_jitter = Augmentation(jitter=0.4).sample(50, torch_generator(0, "a"))
    without = Augmentation().sample(50, stream)
    assert without.colours is None
    for name in ("top", "left", "flip", "degrees"):
        assert torch.equal(getattr(with_jitter, name), getattr(without, name))
    torch.randint(9, (2, 50), generator=untouched)
    torch.rand((2, 50), generator=untouched, dtype=torch.float64)
    assert torch.equal(stream.get_state(), untouched.get_state())


def test_colours_change_after_the_image_has_moved() -> None:
    images, augmentation = pictures(16, 32, 32), Augmentation(jitter=0.4)
    parameters = augmentation.sample(16, torch_generator(0, "a"))
    assert parameters.colours is not None
    moved = Augmentation().apply_parameters(images, replace(parameters, colours=None)).mul(255).round()
    expected = to_unit(jitter_(moved, blend_weights(parameters.colours)).to(torch.uint8))
    assert torch.equal(augmentation.apply_parameters(images, parameters), expected)


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(jitter=0.4), Augmentation(0, False, 0.0, jitter=1.5)])
def test_parts_of_a_batch_are_those_of_the_whole(augmentation: Augmentation) -> None:
    images = pictures(23, 16, 16)
    parameters = augmentation.sample(23, torch_generator(0, "a"))
    whole = augmentation.apply_parameters(images, parameters)
    cuts = [0, 1, 8, 8, 15, 23]
    shares = [slice(start, stop) for start, stop in pairwise(cuts)]
    parts = [augmentation.apply_parameters(images[share], parameters.part(share)) for share in shares]
    assert [len(part) for part in parts] == [1, 7, 0, 7, 8]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.dtype == torch.float32
    assert 0 <= float(whole.min()) <= float(whole.max()) <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_another_device_gives_the_same_images(jitter: float) -> None:
    images, augmentation = pictures(32, 32, 32), Augmentation(jitter=jitter)
    on_cpu = augmentation.apply(images, torch_generator(0, "a"))
    on_gpu = augmentation.apply(images.cuda(), torch_generator(0, "a"))
    assert torch.equal(on_cpu, on_gpu.cpu())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nothing_waits_for_the_device() -> None:
    images, augmentation = pictures(32, 32, 32).cuda(), Augmentation(jitter=0.4)
    torch.cuda.set_sync_debug_mode("error")
    try:
        augmentation.apply(images, torch_generator(0, "a"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
