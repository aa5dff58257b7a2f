"""Feed: how images reach the training loop, parts of a set in any order, as uint8 on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Feed(ABC):
    """Hands out images with their labels. To be closed after use; also a context manager."""

    @abstractmethod
    def batches(self, parts: Sequence[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Uint8 images (n, 3, H, W) and int64 labels (n,) on the device, of each part in turn.

        Args:
            parts: int64 rows on the CPU, in the order that is wanted; a part may be empty.

        Raises InputError when an image cannot be read.
        """

    def close(self) -> None:  # noqa: B027  # most hold nothing that must be let go
        """Let go of what the feed holds; it can be asked again, at the cost of starting anew."""

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
