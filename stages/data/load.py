"""From DATA to images: in memory, or streamed from disk where they do not fit."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stages.data.decoding import cache as disk_cache
from stages.data.decoding.decode import Decoded
from stages.data.decoding.levels import range_notes
from stages.data.folders.splits import Side
from stages.data.image_set import ImageSet
from stages.data.memory import CacheKind, check_cache_name, choose_cache, processes_here
from stages.data.request import ImageRequest
from stages.data.subset import Subset, select_images

if TYPE_CHECKING:
    from stages.data.streaming_set import StreamingImageSet


def load_images(
    request: ImageRequest,
    *,
    side: Side,
    classes: Sequence[str] | None = None,
    classes_from: str = "the anchors",
    divided: Sequence[str] | None = None,
) -> ImageSet:
    """Read images into memory.

    Args:
        request: which images.
        side: 'train' or 'test', the split to take when the request names none (test: validation where there is no test).
            A source with a single split is then divided 90/10 by class (`stages.data.folders.splits.part_of_division`).
        divided: the classes that are divided, those trained on; all images of the others are read. None divides all classes.
        classes: only these classes are decoded; labels are positions in this list. None takes all classes of the data.
        classes_from: what `classes` are, for messages.

    Raises UsageError, InputError (images that cannot be decoded, of different sizes, classes without an image or not in
    the data) and MissingError (the hub cannot be reached).
    """
    return load_subset(select_images(request, side=side, classes=classes, classes_from=classes_from, divided=divided))


def open_images(
    request: ImageRequest,
    *,
    side: Side,
    classes: Sequence[str] | None = None,
    classes_from: str = "the anchors",
    cache: str = "auto",
    device: str = "cpu",
    on_choice: Callable[[str], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[ImageSet | StreamingImageSet, CacheKind]:
    """Open images for training, in memory or streamed from disk; same pixels, labels, order and errors as `load_images`.

    Args:
        request, side, classes, classes_from: see `load_images`.
        cache: 'device' or 'ram' (in memory), 'none' (streamed), or 'auto' (by size, see `choose_cache`).
        device: torch device of the training.
        on_choice: called with a sentence on what 'auto' chose and why.
        on_progress: called with the numbers of images done and in all, while every image is read once before streaming.

    Returns the images, and where to keep them: 'device', 'ram' or 'none'.

    Also raises UsageError for an unknown cache, and MissingError without disk space to unpack parquet files for streaming.
    """
    check_cache_name(cache)
    subset = select_images(request, side=side, classes=classes, classes_from=classes_from)
    kind: CacheKind
    if cache == "auto":
        kind, reason = choose_cache(_decoded_bytes(subset), device, processes=processes_here())
        if on_choice is not None:
            on_choice(reason)
    else:
        kind = cache  # type: ignore[assignment]  # checked above
    if kind != "none":
        return load_subset(subset), kind
    from stages.data.streaming_set import stream_subset

    return stream_subset(subset, on_progress), kind


def load_subset(subset: Subset) -> ImageSet:
    """Load the images into memory, from the disk cache where an earlier run decoded them. Raises as `load_images` does."""
    import torch

    group = subset.entry_group("pixels")
    found = disk_cache.load_tensors(subset.entry_name(group), set(Decoded._fields))
    if found is None:
        start, content = time.monotonic(), hashlib.sha256() if group else None
        found = subset.decode(skip_corrupt=subset.request.skip_corrupt, content=content)._asdict()
        slow = time.monotonic() - start >= disk_cache.MIN_SECONDS
        if content and slow and found["pixels"].nbytes <= disk_cache.PIXEL_BYTES:
            disk_cache.save_tensors(disk_cache.entry_name(group, content.hexdigest()), found)
    highest = np.array([found["pixels"][at].max() for at in np.flatnonzero(found["undeclared"])], dtype=np.uint8)
    labels, provenance = subset.kept(found["kept"], range_notes(highest), resized=bool(found["resized"].any()))
    rows = subset.source_rows.take(found["kept"])
    return ImageSet(torch.from_numpy(found["pixels"]), torch.from_numpy(labels), subset.names, provenance, rows)


def _decoded_bytes(subset: Subset) -> int:
    """The size of all decoded images, estimated from the first."""
    images = subset.decode_each(None, lambda image: image.pixels.size, skip_corrupt=subset.request.skip_corrupt, parallel=False)
    return len(subset) * next(images, (0, 0))[1]
