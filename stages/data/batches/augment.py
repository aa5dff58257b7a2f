"""Random crop, flip, rotation and colour jitter of a whole batch on its device.

The parameters of each image are sampled on the CPU from a passed generator, and the source pixel of each output pixel is
computed in integers, so all devices and batch sizes give the same augmentation, and nothing synchronises with the device.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stages.data.batches.colour import ColourParameters, blend_weights, jitter_, sample_colours
from stages.devices import send
from stages.errors import UsageError

if TYPE_CHECKING:
    import torch

FRACTION_BITS = 32  # fixed-point precision of sine and cosine: errors below 1e-6 px for any usual image size


@dataclass(frozen=True)
class AugmentParameters:
    """Augmentation parameters of each image of a batch; all tensors (N,) on the CPU.

    Attributes:
        top: int64, first row of the crop in the zero-padded image, 0 to 2 * padding.
        left: int64, first column of it.
        flip: bool, flip horizontally.
        degrees: float64, rotation angle, counter-clockwise.
        colours: of the colour jitter; None without jitter.
    """

    top: torch.Tensor
    left: torch.Tensor
    flip: torch.Tensor
    degrees: torch.Tensor
    colours: ColourParameters | None = None

    def part(self, share: slice) -> AugmentParameters:
        """The parameters of the images in `share`, those of one process or micro-batch."""
        colours = None if self.colours is None else self.colours.part(share)
        return AugmentParameters(self.top[share], self.left[share], self.flip[share], self.degrees[share], colours)


@dataclass(frozen=True)
class Augmentation:
    """Random crop with zero padding, horizontal flip, rotation (nearest pixel, zeros outside), colour jitter, in this order.

    The defaults are the training augmentation of CIFAR-FS in Li et al., CVPR 2024.

    Attributes:
        crop_padding: zeros on each side before the crop back to the original size, pixels; 0 does not crop.
        flip: flip each image horizontally with probability 1/2.
        rotation_degrees: each image is rotated by an angle uniform in [-this, this]; 0 does not rotate.
        jitter: strength of the colour jitter, see `sample_colours`; 0 does not change colours.
    """

    crop_padding: int = 4
    flip: bool = True
    rotation_degrees: float = 15.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise UsageError(f"crop padding {self.crop_padding} is negative", "give 0 or more pixels")
        if not 0 <= self.rotation_degrees <= 180:
            raise UsageError(f"rotation of {self.rotation_degrees} degrees", "give an angle between 0 and 180")
        if not 0 <= self.jitter < math.inf:
            raise UsageError(f"colour jitter of strength {self.jitter}", "give 0 or more, 0.4 for example")

    @classmethod
    def off(cls) -> Augmentation:
        """No augmentation: `apply` only scales to [0, 1]."""
        return cls(crop_padding=0, flip=False, rotation_degrees=0.0)

    def to_record(self) -> dict[str, Any]:
        """The settings as a JSON-able dict."""
        return {**asdict(self), "rotation_degrees": float(self.rotation_degrees), "jitter": float(self.jitter)}

    def sample(self, count: int, generator: torch.Generator) -> AugmentParameters:
        """Sample parameters for `count` images from a CPU generator.

        Crop, flip and rotation are sampled whether used or not, then the colours, so that disabling one does not change the
        others.
        """
        import torch

        shift = torch.randint(2 * self.crop_padding + 1, (2, count), generator=generator)
        chance = torch.rand((2, count), generator=generator, dtype=torch.float64)
        return AugmentParameters(
            top=shift[0],
            left=shift[1],
            flip=(chance[0] < 0.5) & self.flip,
            degrees=(2 * chance[1] - 1) * self.rotation_degrees,
            colours=sample_colours(count, self.jitter, generator) if self.jitter else None,
        )

    def apply(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Augmented images, float32 (N, 3, H, W) in [0, 1], on the device of `images`.

        Args:
            images: uint8 (N, 3, H, W).
            generator: a CPU generator; it advances by the parameters of N images.
        """
        return self.apply_parameters(images, self.sample(images.shape[0], generator))

    def apply_parameters(self, images: torch.Tensor, parameters: AugmentParameters) -> torch.Tensor:
        """As `apply`, with parameters from `sample`."""
        import torch

        moved = self._moved(images, parameters) if self.crop_padding or self.flip or self.rotation_degrees else images
        pixels = moved.to(torch.float32)
        if parameters.colours is not None:
            jitter_(pixels, send(blend_weights(parameters.colours), str(images.device)))
        return _scaled(pixels)

    def _moved(self, images: torch.Tensor, parameters: AugmentParameters) -> torch.Tensor:
        """Cropped, flipped and rotated, uint8 (N, 3, H, W)."""
        import torch

        count, channels, height, width = images.shape
        padding = self.crop_padding
        padded = torch.nn.functional.pad(images, (padding,) * 4).flatten(2)
        source, inside = self._source_pixels(parameters, height, width, images.device)
        moved = padded.gather(2, source.view(count, 1, height * width).expand(count, channels, height * width))
        moved = moved.view(count, channels, height, width)
        return moved if inside is None else moved * inside.unsqueeze(1)

    def _source_pixels(
        self, parameters: AugmentParameters, height: int, width: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The source pixel of each output pixel.

        Returns the index into the flattened padded image, int64 (N, H, W), and where the rotated image has pixels, bool
        (N, H, W), or None without rotation.
        """
        import torch

        stride = width + 2 * self.crop_padding
        radians = parameters.degrees * (math.pi / 180)
        first = parameters.top * stride + parameters.left + parameters.flip * (width - 1)
        sign = 1 - 2 * parameters.flip.to(torch.int64)
        sent = send(torch.stack([first, sign, _fixed(radians.cos()), _fixed(radians.sin())]), str(device))
        start, direction, cosine, sine = sent[:, :, None, None].unbind()
        rows = torch.arange(height, device=device).view(1, height, 1)
        columns = torch.arange(width, device=device).view(1, 1, width)
        inside = None
        if self.rotation_degrees:
            rows, columns = _rotated(rows, columns, cosine, sine)
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        source = (rows * stride + start) + columns * direction
        return source if inside is None else source.mul_(inside), inside


def _scaled(pixels: torch.Tensor) -> torch.Tensor:
    """float32 pixels divided by 255 in place, the same on every device."""
    import torch

    # by a tensor: a GPU computes division by a Python number as a product, which rounds differently
    return pixels.div_(torch.full((), 255.0, device=pixels.device))


def _fixed(values: torch.Tensor) -> torch.Tensor:
    """float64 as fixed-point int64 with FRACTION_BITS bits after the point."""
    import torch

    return torch.round(values * (1 << FRACTION_BITS)).to(torch.int64)


def _rotated(
    rows: torch.Tensor, columns: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest source pixel of (row, column) when the image is rotated counter-clockwise about its centre.

    Coordinates are in half pixels from the centre, so they are integers for odd and even sides.
    """
    height, width = rows.numel(), columns.numel()
    down, right = 2 * rows - (height - 1), 2 * columns - (width - 1)
    half = 1 << FRACTION_BITS  # half a pixel in fixed point, added so that the shift rounds to nearest
    source_rows = sine * right + (cosine * down + height * half)
    source_columns = cosine * right - (sine * down - width * half)
    source_rows >>= FRACTION_BITS + 1
    source_columns >>= FRACTION_BITS + 1
    return source_rows, source_columns
