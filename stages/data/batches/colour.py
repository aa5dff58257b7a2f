"""Colour jitter of a whole batch on its device: brightness, contrast and saturation in a random order for each image.

All three are a blend, `factor * pixel + (1 - factor) * other`, where `other` is black, the mean grey of the image or the grey
of the pixel. So each image can have its own order within one batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BRIGHTNESS, CONTRAST, SATURATION = range(3)
_GREY = (0.2989, 0.587, 0.114)  # ITU-R BT.601 luma with the rounding of torchvision


@dataclass(frozen=True)
class ColourParameters:
    """Colour parameters of each image of a batch; both tensors on the CPU.

    Attributes:
        factors: float64 (N, 3), of brightness, contrast and saturation; 1 changes nothing.
        order: int64 (N, 3), a permutation of `BRIGHTNESS`, `CONTRAST` and `SATURATION`: which comes first, second, third.
    """

    factors: torch.Tensor
    order: torch.Tensor

    def part(self, share: slice) -> ColourParameters:
        """The parameters of the images in `share`."""
        return ColourParameters(self.factors[share], self.order[share])


def sample_colours(count: int, strength: float, generator: torch.Generator) -> ColourParameters:
    """Factors uniform in [max(0, 1 - strength), 1 + strength] and one of the six orders, for each of `count` images."""
    import torch

    lowest = max(0.0, 1 - strength)
    chance = torch.rand((count, 3), generator=generator, dtype=torch.float64)
    orders = torch.tensor(list(permutations((BRIGHTNESS, CONTRAST, SATURATION))))
    return ColourParameters(
        factors=lowest + (1 + strength - lowest) * chance,
        order=orders[torch.randint(len(orders), (count,), generator=generator)],
    )


def blend_weights(parameters: ColourParameters) -> torch.Tensor:
    """The input of `jitter_`, float32 (N, 3, 3): for each place in the order the weights of the pixel, of the mean grey of the
    image and of the grey of the pixel."""
    import torch

    factors = parameters.factors.gather(1, parameters.order)
    rest = 1 - factors
    weights = torch.stack([factors, rest * (parameters.order == CONTRAST), rest * (parameters.order == SATURATION)], 2)
    return weights.to(torch.float32)


def jitter_(pixels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Change the colours of a batch in place and return it.

    Equal to the adjust_* functions of torchvision on uint8 tensors, for images of up to 2^16 pixels (for larger ones its mean
    grey is a rounded float32 sum; here it is exact). Uses only single, correctly rounded float32 operations, so all devices
    and batch sizes give the same result.

    Args:
        pixels: float32 (N, 3, H, W), whole numbers from 0 to 255.
        weights: of `blend_weights`, on the device of `pixels`.
    """
    import torch

    # a tensor: a GPU computes division by a Python number as a product, which rounds differently
    count = torch.full((), float(pixels.shape[2] * pixels.shape[3]), device=pixels.device)
    for place in range(weights.shape[1]):
        of_pixel, of_mean, of_grey = weights[:, place, :, None, None, None].unbind(1)
        red, green, blue = pixels.split(1, 1)
        grey = (_GREY[0] * red + _GREY[1] * green + _GREY[2] * blue).trunc_()
        # summed as integers: exact in any order
        mean = grey.to(torch.int32).sum((1, 2, 3), keepdim=True).to(torch.float32).div_(count)
        pixels.mul_(of_pixel).add_(grey.mul_(of_grey).add_(mean.mul_(of_mean))).clamp_(0, 255).trunc_()
    return pixels
