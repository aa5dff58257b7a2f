"""A labelled set of images that stay on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stages.data.decoding import cache
from stages.data.decoding.levels import range_notes
from stages.data.image_set import DataProvenance, ImageSet, LabelledImages
from stages.data.scan import Scan, cache_scan, cached_scan, scan_images
from stages.data.source_rows import SourceRows
from stages.data.subset import Subset

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class StreamingImageSet(LabelledImages):
    """As `ImageSet`, but only the labels are in memory; images are decoded whenever they are needed.

    Attributes:
        subset: the images, readable in any order.
        scan: the result of one pass over all of them that can be decoded.
        rows: int64 (N,), which images of the scan these are.
        labels, classes, provenance: see `LabelledImages`.
        digest: what `sha256` returns; None before it is computed.
    """

    subset: Subset
    scan: Scan
    rows: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    provenance: DataProvenance
    digest: str | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.scan.size

    def take(self, indices: torch.Tensor | Sequence[int]) -> StreamingImageSet:
        """The images at `indices` (int64, may repeat), with the same classes."""
        import torch

        at = torch.as_tensor(indices, dtype=torch.int64)
        return StreamingImageSet(self.subset, self.scan, self.rows[at], self.labels[at], self.classes, self.provenance)

    def sha256(self) -> str:
        """As `ImageSet.sha256`, and the same digest. For a part of the scanned images it costs a pass over them."""
        return self.digest or scan_images(self.subset, self.positions(), self.labels.numpy(), self.classes).sha256

    @property
    def source_rows(self) -> SourceRows:  # type: ignore[override]  # computed
        """Which rows of their source the images are."""
        return self.subset.source_rows.take(self.positions())

    def positions(self) -> np.ndarray:
        """Where these images are in `subset`, int64 (N,)."""
        return self.scan.kept[self.rows.numpy()]

    def loaded(self) -> ImageSet:
        """The same set with its images in memory."""
        import torch

        pixels = torch.from_numpy(self.subset.decode(self.positions()).pixels)
        shaped = pixels.reshape(len(self), 3, *self.size)
        return ImageSet(shaped, self.labels, self.classes, self.provenance, self.source_rows)

    def channel_ranges(self) -> list[tuple[int, int]]:
        """See `LabelledImages`."""
        if not len(self):
            return []
        lowest, highest = self.scan.ranges[:, self.rows.numpy()]
        return list(zip(lowest.min(axis=0).tolist(), highest.max(axis=0).tolist(), strict=True))

    def hashes(self) -> np.ndarray:
        """See `LabelledImages`."""
        return self.scan.hashes[self.rows.numpy()]

    def _channel_sums(self) -> list[list[int]]:
        return self.scan.sums[:, self.rows.numpy()].sum(axis=1).tolist()


def stream_subset(subset: Subset, on_progress: Callable[[int, int], None] | None = None) -> StreamingImageSet:
    """The images of a subset, left on disk.

    Every image is decoded once first (see `Scan`); the result is cached for later runs. Raises as `load_images` does, and
    MissingError when there is no disk space to unpack parquet files.
    """
    import torch

    subset = subset.random_access()
    labels = np.ascontiguousarray(subset.labels, dtype=np.int64)
    group = subset.entry_group("scan", labels=cache.arrays_digest(labels), classes=list(subset.names))
    with cache.locked(group):
        scan = cached_scan(subset.entry_name(group))
        if scan is None:
            everything, content = np.arange(len(subset)), hashlib.sha256()
            skip = subset.request.skip_corrupt
            scan = scan_images(
                subset, everything, labels, subset.names, skip_corrupt=skip, on_progress=on_progress, content=content
            )
            cache_scan(cache.entry_name(group, content.hexdigest()), scan)
    notes = range_notes(scan.ranges[1][scan.undeclared].max(axis=1))
    labels, provenance = subset.kept(scan.kept, notes, resized=bool(scan.resized.any()))
    rows = torch.arange(len(labels))
    return StreamingImageSet(subset, scan, rows, torch.from_numpy(labels), subset.names, provenance, scan.sha256)
