"""How images reach the training loop: parts of a set, in any order, as uint8 on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from stages.data.memory import processes_here
from stages.data.streamed import StreamedSet
from stages.devices import send

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stages.data.image_set import ImageSet


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


def open_feed(images: ImageSet | StreamedSet, cache: str, device: str) -> Feed:
    """A feed of `images`.

    Args:
        images: the set; one that is streamed is read by worker processes whatever `cache` says.
        cache: 'device' holds images in memory on the device; anything else leaves them where they are.
        device: torch device.
    """
    if isinstance(images, StreamedSet):
        from stages.data.stream import StreamFeed, worker_count

        return StreamFeed(images, device, workers=worker_count(device, processes_here()))
    if cache == "device" or not device.startswith("cuda"):
        return _ThereFeed(images, device)
    return _SentFeed(images, device)


class _ThereFeed(Feed):
    """All images are on the device."""

    def __init__(self, images: ImageSet, device: str) -> None:
        self._images = images.to(device)
        self._device = device

    def batches(self, parts: Sequence[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """As `Feed.batches`. The rows of all parts travel to the device at once."""
        for rows in _sent_together(parts, self._device):
            yield self._images.images[rows], self._images.labels[rows]


class _SentFeed(Feed):
    """Images are in memory, and each part is sent to the device."""

    def __init__(self, images: ImageSet, device: str) -> None:
        self._images = images.images.cpu()
        self._labels = images.labels.to(device)
        self._device = device

    def batches(self, parts: Sequence[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """As `Feed.batches`."""
        for part, rows in zip(parts, _sent_together(parts, self._device), strict=True):
            yield send(self._images[part], self._device), self._labels[rows]


def _sent_together(parts: Sequence[Tensor], device: str) -> Sequence[torch.Tensor]:
    """The parts on the device, sent as one message."""
    import torch

    if not parts:
        return []
    return send(torch.cat(list(parts)), device).split([len(part) for part in parts])
