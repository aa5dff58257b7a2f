"""Opening a feed of images: from the device, from memory, or streamed from disk."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from stages.data.feed import Feed
from stages.data.memory import processes_here
from stages.data.streamed import StreamedSet
from stages.devices import send

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stages.data.image_set import ImageSet


def open_feed(images: ImageSet | StreamedSet, cache: str, device: str) -> Feed:
    """A feed of `images`.

    Args:
        images: the set; one that is streamed is read by worker processes whatever `cache` says.
        cache: 'device' holds images in memory on the device; anything else leaves them where they are.
        device: torch device.
    """
    if isinstance(images, StreamedSet):
        from stages.data.stream import StreamFeed, worker_count  # torch's loaders, which few runs need

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
