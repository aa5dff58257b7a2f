"""DropBlock: drops squares of feature maps in training (Ghiasi, Lin & Le, NeurIPS 2018)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MaskSource:
    """Where the masks of all DropBlocks of a model come from: the trainer's generator and this process's part of the batch.

    Masks are drawn on the CPU for the whole global batch, each forward pass going on in the stream where the last one
    stopped, so that processes and micro-batches that each take a slice see the masks that one large batch would see.
    """

    def __init__(self) -> None:
        self._generator: torch.Generator | None = None
        self._rows, self._total = slice(0, 0), 0

    def set(self, generator: torch.Generator | None, rows: slice, total: int) -> None:
        """See `draw_masks_from`."""
        self._generator, self._rows, self._total = generator, rows, total

    def draw(self, count: int, shape: tuple[int, ...]) -> tuple[Tensor, slice]:
        """Uniform on [0, 1), (total, *shape) on the CPU, and which rows of it are those of the `count` images here."""
        first, last, step = self._rows.indices(self._total)
        if self._generator is None or step != 1 or max(last - first, 0) != count:
            raise RuntimeError(
                f"DropBlock was given no masks for {count} images: call draw_masks_from(generator, rows, total) before the step"
            )
        return torch.rand(self._total, *shape, generator=self._generator), slice(first, last)

    def __deepcopy__(self, memo: dict[int, Any]) -> MaskSource:
        """A copied model gets a source of its own, unset: two models must not draw from one stream."""
        return MaskSource()


class DropBlock(nn.Module):
    """In training mode sets squares of each channel to zero and scales the rest up; otherwise the identity.

    A square's corner is drawn with gamma = rate / size² · (H · W) / ((H - size + 1) · (W - size + 1)), so that about `rate`
    of the features are dropped. The rate is constant over training (the published program raises it over its first 40,000
    batches); the scale is that of the global batch.

    Args:
        rate: of features to drop, in [0, 1); with 0 nothing is drawn.
        size: side of the squares, at most the map's.
        source: see `MaskSource`.
    """

    def __init__(self, rate: float, size: int, source: MaskSource) -> None:
        super().__init__()
        self.rate, self.size, self.source = rate, size, source

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape."""
        if not self.training or self.rate == 0:
            return x
        channels, height, width = x.shape[1:]
        size = min(self.size, height, width)
        corners = (height - size + 1, width - size + 1)
        gamma = self.rate / size**2 * height * width / (corners[0] * corners[1])
        drawn, rows = self.source.draw(len(x), (channels, *corners))
        seeds = (drawn < gamma).to(x.device, non_blocking=True).to(x.dtype)
        keep = 1 - F.max_pool2d(F.pad(seeds, (size - 1,) * 4), size, stride=1)
        # counted in float32 at least: exact in bfloat16 too
        scale = keep.numel() / keep.sum(dtype=torch.promote_types(x.dtype, torch.float32)).clamp(min=1)
        return x * (keep[rows] * scale.to(x.dtype))


def draw_masks_from(model: nn.Module, generator: torch.Generator | None, rows: slice, total: int) -> None:
    """Set where the DropBlocks of any model sample their masks in the forward passes in training mode to come.

    Each pass samples from the stream of `generator`, going on where the last one stopped, for the global batch, and uses its
    own rows: with the same generator state several processes or micro-batches see what one large batch would see. To be
    called for every step and micro-batch; a model without DropBlock needs no call.

    Args:
        model: any module.
        generator: on the CPU; None forgets the last one.
        rows: which images of the global batch the passes are given.
        total: how many images the global batch has.
    """
    for source in {id(m.source): m.source for m in model.modules() if isinstance(m, DropBlock)}.values():
        source.set(generator, rows, total)
