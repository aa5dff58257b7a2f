"""Image loaders: how images reach the training loop, batch by batch in any order, as uint8 on the device."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from stages.data.batches.image_loader import ImageLoader
from stages.data.memory import processes_here
from stages.data.streaming_set import StreamingImageSet
from stages.devices import send

if TYPE_CHECKING:
    from torch import Tensor

    from stages.data.image_set import ImageSet


def open_loader(images: ImageSet | StreamingImageSet, cache: str, device: str) -> ImageLoader:
    """A loader of `images`.

    Args:
        images: the set; a streaming set is read by worker processes, whatever `cache` says.
        cache: 'device' moves images in memory to the device; anything else leaves them where they are.
        device: torch device.
    """
    if isinstance(images, StreamingImageSet):
        from stages.data.batches.worker_loader import WorkerLoader, worker_count  # torch's loaders, which few runs need

        return WorkerLoader(images, device, workers=worker_count(device, processes_here()))
    return MemoryLoader(images, device, on_device=cache == "device" or not device.startswith("cuda"))


class MemoryLoader(ImageLoader):
    """Images are in memory: on the device, or on the CPU and sent to the device batch by batch."""

    def __init__(self, images: ImageSet, device: str, *, on_device: bool) -> None:
        self._images = images.images.to(device) if on_device else images.images.cpu()
        self._labels = images.labels.to(device)
        self._device, self._on_device = device, on_device

    def batches(self, indices: Sequence[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """As `ImageLoader.batches`."""
        import torch

        if not indices:
            return
        sent = send(torch.cat(list(indices)), self._device).split([len(part) for part in indices])  # all in one transfer
        for on_cpu, on_device in zip(indices, sent, strict=True):
            images = self._images[on_device] if self._on_device else send(self._images[on_cpu], self._device)
            yield images, self._labels[on_device]
