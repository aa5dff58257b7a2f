"""DropBlock: zeroes squares of feature maps in training (Ghiasi, Lin & Le, NeurIPS 2018)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DropBlock(nn.Module):
    """In training mode sets squares of each channel to zero and scales the rest up; otherwise the identity.

    A pixel is the corner of a square with probability gamma = rate / size² · (H · W) / ((H - size + 1) · (W - size + 1)), so
    that about `rate` of the features are dropped. The rate is constant over training (the published program raises it over
    its first 40,000 batches); the scale is that of the global batch.

    Args:
        rate: of features to drop, in [0, 1); at 0 no random numbers are used.
        size: side of the squares, at most the map's.
    """

    def __init__(self, rate: float, size: int) -> None:
        super().__init__()
        self.rate, self.size = rate, size
        self._masks: tuple[torch.Generator | None, slice, int] = (None, slice(0, 0), 0)

    def draw_masks_from(self, generator: torch.Generator | None, rows: slice, total: int) -> None:
        """See the function `draw_masks_from`."""
        self._masks = (generator, rows, total)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        if not self.training or self.rate == 0:
            return x
        channels, height, width = x.shape[1:]
        size = min(self.size, height, width)
        corners = (height - size + 1, width - size + 1)
        gamma = self.rate / size**2 * height * width / (corners[0] * corners[1])
        uniform, rows = self._uniform(len(x), (channels, *corners))
        seeds = (uniform < gamma).to(x.device, non_blocking=True).to(x.dtype)
        keep = 1 - F.max_pool2d(F.pad(seeds, (size - 1,) * 4), size, stride=1)
        # counted in float32 at least, so that the count is exact under bfloat16 too
        scale = keep.numel() / keep.sum(dtype=torch.promote_types(x.dtype, torch.float32)).clamp(min=1)
        return x * (keep[rows] * scale.to(x.dtype))

    def _uniform(self, count: int, shape: tuple[int, ...]) -> tuple[Tensor, slice]:
        """Uniform on [0, 1), (total, *shape) on the CPU, and which of its rows belong to the `count` images here."""
        generator, rows, total = self._masks
        first, last, step = rows.indices(total)
        if generator is None or step != 1 or max(last - first, 0) != count:
            raise RuntimeError(
                f"DropBlock has no masks for {count} images: call draw_masks_from(model, generator, rows, total) first"
            )
        return torch.rand(total, *shape, generator=generator), slice(first, last)

    def __getstate__(self) -> dict[str, Any]:
        """A copied model has no generator: two models must not share one."""
        return {**self.__dict__, "_masks": (None, slice(0, 0), 0)}


def draw_masks_from(model: nn.Module, generator: torch.Generator | None, rows: slice, total: int) -> None:
    """Set the generator of every DropBlock of `model` for the next forward passes in training mode.

    Each pass samples masks for the whole global batch on the CPU and uses its own rows of them. With the same state of the
    generator, several processes or micro-batches together get the masks of one large batch. Call it before every micro-batch;
    a model without DropBlock needs no call.

    Args:
        model: any module.
        generator: on the CPU; None removes it.
        rows: which images of the global batch the passes get.
        total: number of images in the global batch.
    """
    for module in model.modules():
        if isinstance(module, DropBlock):
            module.draw_masks_from(generator, rows, total)
