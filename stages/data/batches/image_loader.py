"""The image loader: what all ways of feeding the training loop have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class ImageLoader(ABC):
    """Yields images with their labels. Close it after use; it is also a context manager."""

    @abstractmethod
    def batches(self, indices: Sequence[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield uint8 images (n, 3, H, W) and int64 labels (n,) on the device, one batch for each element of `indices`.

        Args:
            indices: int64 (n,) on the CPU for each batch, in the order that is wanted; a batch may be empty.

        Raises InputError when an image cannot be read.
        """

    def close(self) -> None:  # noqa: B027  # most loaders hold nothing to free
        """Free worker processes; a later call of `batches` starts new ones."""

    def __enter__(self) -> ImageLoader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
