"""From what the user typed as DATA to images for training: in memory, or streamed where they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from stages.data.decode import UnreadableImageError, attempt
from stages.data.memory import CacheKind, check_cache_name, choose_cache, processes_here
from stages.data.sources import Selected, loaded, select_images
from stages.data.splits import Side

if TYPE_CHECKING:
    from stages.data.image_set import ImageSet
    from stages.data.streamed import StreamedSet


def open_images(
    data: str,
    *,
    split: str | None = None,
    side: Side,
    classes: Sequence[str] | None = None,
    classes_from: str = "the anchors",
    resize: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    skip_corrupt: bool = False,
    cache: str = "auto",
    device: str = "cpu",
    on_choice: Callable[[str], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[ImageSet | StreamedSet, CacheKind]:
    """Open images for training; the pixels, labels and order are those of `load_images`, and so are the errors.

    Args:
        data, split, side, classes, classes_from, resize, image_column, label_column, skip_corrupt: see `load_images`.
        cache: 'device' or 'ram' (in memory), 'none' (streamed from disk), or 'auto': by size, see `choose_cache`.
        device: torch device that trains.
        on_choice: called with a sentence on what 'auto' chose and why.
        on_progress: called with images done and in all, while every image is read once before streaming.

    Returns:
        the images, and where they are to live: 'device', 'ram' or 'none'.

    Raises also UsageError on an unknown cache, and MissingError when there is no room to unpack parquet files for streaming.
    """
    check_cache_name(cache)
    selected = select_images(
        data,
        split=split,
        side=side,
        classes=classes,
        classes_from=classes_from,
        resize=resize,
        image_column=image_column,
        label_column=label_column,
        skip_corrupt=skip_corrupt,
    )
    kind: CacheKind
    if cache == "auto":
        kind, reason = choose_cache(_decoded_bytes(selected), device, processes=processes_here())
        if on_choice is not None:
            on_choice(reason)
    else:
        kind = cache  # type: ignore[assignment]  # checked above
    if kind != "none":
        return loaded(selected), kind
    from stages.data.streamed import streamed

    return streamed(selected, on_progress), kind


def _decoded_bytes(selected: Selected) -> int:
    """Of all images, if they are as large as the first that can be decoded."""
    for split, rows in selected.rows.items():
        for image in selected.source.encoded(split, rows):
            found = attempt(image, selected.resize)
            if not isinstance(found, UnreadableImageError):
                return len(selected.labels) * int(np.prod(found.shape))
            if not selected.skip_corrupt:
                return 0  # loading will say so
    return 0
