"""The processes that train one model together: who takes which part of a batch, and sums over all of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """This process among those that train together.

    Attributes:
        rank: of this process, from 0; rank 0 writes.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, count: int) -> slice:
        """This process's part of a global batch of `count` images; parts differ by at most one image."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)
