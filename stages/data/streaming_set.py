"""A labelled set of images that stay on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stages.data.decode import decode_images
from stages.data.image_set import DataProvenance, ImageSet, class_counts, moments, no_image, restricted_labels
from stages.data.reader import Reader
from stages.data.scan import Scan, cache_scan, cached_scan, scan_images
from stages.data.subset import Subset

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class StreamingImageSet:
    """As `ImageSet`, but only the labels are in memory; images are decoded whenever they are needed.

    Attributes:
        reader: the images.
        scan: what one pass over all of those of the reader that can be decoded found.
        rows: int64 (N,), which images of the scan these are.
        labels: int64 (N,), positions in `classes`.
        classes: the class names; a class may have no image.
        provenance: where the images came from.
        whole: whether these are all images of the scan, with their classes.
    """

    reader: Reader
    scan: Scan
    rows: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    provenance: DataProvenance
    whole: bool = False

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.scan.size

    def counts(self) -> list[int]:
        """The number of images of each class, in the order of `classes`."""
        return class_counts(self.labels, self.classes)

    def take(self, indices: torch.Tensor | Sequence[int]) -> StreamingImageSet:
        """The images at `indices` (int64, may repeat), with the same classes."""
        import torch

        at = torch.as_tensor(indices, dtype=torch.int64)
        return StreamingImageSet(self.reader, self.scan, self.rows[at], self.labels[at], self.classes, self.provenance)

    def restricted_to(self, names: Sequence[str], *, names_from: str) -> StreamingImageSet:
        """As `ImageSet.restricted_to`."""
        kept, labels = restricted_labels(self.labels, self.classes, names, names_from=names_from, provenance=self.provenance)
        return StreamingImageSet(self.reader, self.scan, self.rows[kept], labels, tuple(names), self.provenance)

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """As `ImageSet.mean_std`, and the same numbers."""
        if not len(self):
            raise no_image(self.provenance)
        rows = self.rows.numpy()
        sums, squares = (table[rows].sum(axis=0).tolist() for table in (self.scan.sums, self.scan.squares))
        return moments(sums, squares, len(self) * self.size[0] * self.size[1])

    def sha256(self) -> str:
        """As `ImageSet.sha256`, and the same digest. Of a part of what was opened it costs a pass over its images."""
        if self.whole:
            return self.scan.sha256
        return scan_images(self.reader, self.positions(), self.labels.numpy(), self.classes).sha256

    def positions(self) -> np.ndarray:
        """Where the reader has these images, int64 (N,)."""
        return self.scan.kept[self.rows.numpy()]

    def loaded(self) -> ImageSet:
        """The same set with its images in memory."""
        import torch

        decoded = decode_images(
            self.reader.encoded(self.positions()), len(self), source=self.reader.name, resize=self.reader.resize
        )
        pixels = torch.from_numpy(decoded.pixels) if len(self) else torch.empty((0, 3, *self.size), dtype=torch.uint8)
        return ImageSet(pixels, self.labels, self.classes, self.provenance)


def stream_subset(subset: Subset, on_progress: Callable[[int, int], None] | None = None) -> StreamingImageSet:
    """The images of a selection, left on disk.

    Every image is decoded once first, for what is needed of all of them before training (see `Scan`); what that finds is kept
    for later runs. Raises as `load_images` does, and MissingError when there is no room to unpack parquet files.
    """
    import torch

    from stages.data import cache

    reader = Reader(subset)
    labels = np.ascontiguousarray(subset.labels, dtype=np.int64)
    name = subset.entry_name("scan", labels=cache.digest_of(labels), classes=list(subset.names))
    with cache.one_at_a_time(name):
        found = cached_scan(name)
        if found is None:
            found = scan_images(
                reader,
                np.arange(len(labels)),
                labels,
                subset.names,
                skip_corrupt=subset.skip_corrupt,
                on_progress=on_progress,
            )
            if not subset.source.elsewhere:
                cache_scan(name, found)
    labels, provenance = subset.kept(found.kept)
    return StreamingImageSet(
        reader,
        found,
        torch.arange(len(labels)),
        torch.from_numpy(labels),
        subset.names,
        provenance,
        whole=True,
    )
