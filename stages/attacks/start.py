"""Noise for random starts that belongs to the sample, not to the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.randomness import torch_generator

BLOCK = 64


class StartNoise:
    """Uniform noise on [0, 1) for any row, a function of (seed, purpose, row, shape) alone.

    Rows are drawn in blocks of 64, each from its own generator, so a row's noise depends neither on the batch size nor
    on which other rows are attacked. It is drawn on the CPU: the same on every device.

    Args:
        seed: the seed of the run.
        purpose: for example 'attack/pgd-20'.
        shape: of one image, (3, H, W).
    """

    def __init__(self, seed: int, purpose: str, shape: tuple[int, ...]) -> None:
        self._seed, self._purpose, self._shape = seed, purpose, shape
        self._at = -1
        self._block = torch.empty(0)

    def rows(self, rows: Tensor) -> Tensor:
        """The noise of `rows` ((n,) int64 on the CPU), (n, 3, H, W) float32. Quickest when rows ascend."""
        out = torch.empty((len(rows), *self._shape))
        blocks = rows // BLOCK
        for at in blocks.unique().tolist():
            mine = blocks == at
            out[mine] = self._drawn(at)[rows[mine] % BLOCK]
        return out

    def _drawn(self, at: int) -> Tensor:
        if at != self._at:
            generator = torch_generator(self._seed, f"{self._purpose}/start/{at}")
            self._block = torch.rand((BLOCK, *self._shape), generator=generator)
            self._at = at
        return self._block
