"""Random starts of attacks. They belong to the sample: neither the batch size nor the other samples change them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from stages.randomness import derive_seed, torch_generator

BLOCK = 64
LIBRARY_BLOCK = 250


class StartNoise:
    """Uniform noise on [0, 1) for any row, a function of (seed, purpose, row, shape) alone.

    Rows are sampled in blocks of 64, each with its own generator, on the CPU: the same on every device.

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
        """The noise of `rows` ((n,) int64 on the CPU), (n, 3, H, W) float32. Fastest for ascending rows."""
        out = torch.empty((len(rows), *self._shape))
        blocks = rows // BLOCK
        for at in blocks.unique().tolist():
            mine = blocks == at
            out[mine] = self._sampled(at)[rows[mine] % BLOCK]
        return out

    def _sampled(self, at: int) -> Tensor:
        if at != self._at:
            generator = torch_generator(self._seed, f"{self._purpose}/start/{at}")
            self._block = torch.rand((BLOCK, *self._shape), generator=generator)
            self._at = at
        return self._block


class LibraryStarts:
    """pyautoattack's random starts for any rows, sampled in blocks of 250.

    Block 0 uses `seed` itself: its rows start as the library would start them in a batch from row 0.
    """

    def __init__(self, seed: int, norm: str, shape: tuple[int, ...]) -> None:
        self._seed, self._shape, self._uniform = seed, shape, norm == "Linf"
        self._block = self._next = -1
        self._generator = torch.Generator()

    def rows(self, rows: Tensor) -> Tensor:
        """The starts of `rows` ((n,) int64 on the CPU), (n, 3, H, W): uniform on [-1, 1) for Linf, normal for L2."""
        sampled = torch.stack([self._row(row) for row in rows.tolist()])
        return 2 * sampled - 1 if self._uniform else sampled

    def _row(self, row: int) -> Tensor:
        block, at = divmod(row, LIBRARY_BLOCK)
        if block != self._block or at < self._next:
            self._generator.manual_seed(derive_seed(self._seed, f"block {block}") if block else self._seed)
            self._block, self._next = block, 0
        for _ in range(at - self._next):
            self._sample()
        self._next = at + 1
        return self._sample()

    def _sample(self) -> Tensor:
        return (torch.rand if self._uniform else torch.randn)(self._shape, generator=self._generator)


@contextmanager
def seeded_library(seed: int) -> Iterator[None]:
    """Seed the CPU's global generator, the only one that pyautoattack uses; restore its state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
