"""The random numbers of pyautoattack's attacks: which the library draws from torch's global stream, as one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from stages.randomness import derive_seed

# the first so many rows start where the library would start them as one batch with the same seed
BLOCK = 250


class LibraryStarts:
    """The library's random starts, for any rows: those of a block are drawn in turn from one generator.

    A row's start depends neither on the batch size nor on which other rows are attacked. Block 0 has the stream of the
    seed itself, which is the library's own when the rows from 0 on are its batch.
    """

    def __init__(self, seed: int, norm: str, shape: tuple[int, ...]) -> None:
        self._seed, self._shape = seed, shape
        self._draw: Callable[..., Tensor] = torch.rand if norm == "Linf" else torch.randn
        self._scale = norm == "Linf"
        self._block = self._next = -1
        self._generator = torch.Generator()

    def rows(self, rows: Tensor) -> Tensor:
        """The starts of `rows` ((n,) int64 on the CPU), (n, 3, H, W): uniform on [-1, 1) for Linf, normal for L2."""
        drawn = torch.stack([self._row(row) for row in rows.tolist()])
        return 2 * drawn - 1 if self._scale else drawn

    def _row(self, row: int) -> Tensor:
        block, at = divmod(row, BLOCK)
        if block != self._block or at < self._next:
            seed = derive_seed(self._seed, f"block {block}") if block else self._seed
            self._generator.manual_seed(seed)
            self._block, self._next = block, 0
        for _ in range(at - self._next):
            self._draw(self._shape, generator=self._generator)
        self._next = at + 1
        return self._draw(self._shape, generator=self._generator)


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Within: the CPU's global stream, the only one from which the library draws, starts at `seed`. After: as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
