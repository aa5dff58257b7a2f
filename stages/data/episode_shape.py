"""The shape of an N-way K-shot episode and of batches of whole episodes, and the names of heads. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# the names of heads that are made from support images, see `stages.models.heads`
HEADS = PROTONET, RIDGE = "protonet", "r2d2"


@dataclass(frozen=True)
class EpisodeShape:
    """An episode of `ways` classes, each with `shots` support and then `queries` query images.

    A batch has the images of its episodes one after the other, each class by class.
    """

    ways: int
    shots: int
    queries: int

    @property
    def images(self) -> int:
        """Images of an episode."""
        return self.ways * (self.shots + self.queries)

    def query_count(self, images: int) -> int:
        """Query images in a batch of `images` images."""
        return images // self.images * self.ways * self.queries

    def support(self, batch: Tensor) -> Tensor:
        """Rows (E * images, …) of E episodes -> those of the support (E, N, K, …)."""
        return self._by_class(batch)[:, :, : self.shots]

    def query(self, batch: Tensor) -> Tensor:
        """Rows (E * images, …) of E episodes -> those of the queries (E, N * Q, …)."""
        return self._by_class(batch)[:, :, self.shots :].flatten(1, 2)

    def query_rows(self, images: int) -> Tensor:
        """The rows of the queries in a batch of `images` images, (E * N * Q,) int64 on the CPU."""
        import torch

        return self.query(torch.arange(images)).flatten()

    def labels(self, episodes: int) -> Tensor:
        """The class of each query within its episode, (E * N * Q,) int64 on the CPU."""
        import torch

        return torch.arange(self.ways).repeat_interleave(self.queries).repeat(episodes)

    def _by_class(self, batch: Tensor) -> Tensor:
        return batch.unflatten(0, (batch.shape[0] // self.images, self.ways, self.shots + self.queries))
