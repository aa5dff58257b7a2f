"""A labelled set of images held in memory as uint8, and the record of where it came from."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.classes import check_unique, match_classes
from stages.errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class DataProvenance:
    """Where images came from and what was done to them before training.

    Attributes:
        source: base name of the file or folder, hub id or bundled name; never a path of the machine.
        splits: the splits read, in this order.
        divided: '' or, for a source with a single split, which part of its 90/10 division by class: 'train' or 'test'.
        resize: side in pixels the images were resized and cropped to; None when they were taken as they are.
        skipped_corrupt: number of images that could not be decoded and were left out.
        notes: anything else a reader of the result should know, one sentence each.
    """

    source: str
    splits: tuple[str, ...] = ()
    divided: str = ""
    resize: int | None = None
    skipped_corrupt: int = 0
    notes: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """The provenance as a JSON-able dict."""
        return {
            "source": self.source,
            "splits": list(self.splits),
            "divided": self.divided,
            "resize": self.resize,
            "skipped_corrupt": self.skipped_corrupt,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with their labels.

    Attributes:
        images: uint8 (N, 3, H, W), 0 to 255.
        labels: int64 (N,), positions in `classes`.
        classes: the class names; a class may have no image.
        provenance: where the images came from.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    provenance: DataProvenance

    def __post_init__(self) -> None:
        import torch

        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"images are {self.images.dtype} {tuple(self.images.shape)}, not uint8 (N, 3, H, W)")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels are {self.labels.dtype} {tuple(self.labels.shape)}, not int64 ({len(self)},)")
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise ValueError(f"labels reach outside the {len(self.classes)} classes")

    def __len__(self) -> int:
        return int(self.images.shape[0])

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def counts(self) -> list[int]:
        """The number of images of each class, in the order of `classes`."""
        import torch

        return torch.bincount(self.labels.cpu(), minlength=len(self.classes)).tolist()

    def take(self, indices: torch.Tensor | Sequence[int]) -> ImageSet:
        """The images at `indices` (int64, may repeat), with the same classes."""
        import torch

        at = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        return ImageSet(self.images[at], self.labels[at], self.classes, self.provenance)

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set with its tensors on `device`."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.classes, self.provenance)

    def restricted_to(self, names: Sequence[str], *, names_from: str) -> ImageSet:
        """Only the images of the classes `names`; labels become positions in `names`.

        Args:
            names: class names, compared folded (see `stages.classes.fold`).
            names_from: what `names` are, for the message, for example 'the anchors'.

        Raises InputError when a name is not among the classes, is given twice, or has no image.
        """
        import torch

        check_unique(names, where=names_from)
        wanted = match_classes(
            names, self.classes, wanted_from=names_from, available_from=f"the data '{self.provenance.source}'"
        )
        position = torch.full((len(self.classes),), -1, dtype=torch.int64, device=self.labels.device)
        position[torch.tensor(wanted, dtype=torch.int64)] = torch.arange(len(wanted), device=self.labels.device)
        labels = position[self.labels]
        kept = torch.nonzero(labels >= 0).flatten()
        restricted = ImageSet(self.images[kept], labels[kept], tuple(names), self.provenance)
        check_no_class_empty(restricted.counts(), names, source=self.provenance.source)
        return restricted

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and (population) standard deviation of each channel, pixel values in [0, 1].

        They come from counts of the grey levels, so the result does not depend on order or device.

        Raises InputError on an empty set.
        """
        import torch

        if not len(self):
            raise InputError(f"the data '{self.provenance.source}' has no image here", "choose another --split")
        levels = torch.arange(256, dtype=torch.int64)
        count = len(self) * self.size[0] * self.size[1]
        means, deviations = [], []
        for channel in range(3):
            found = torch.bincount(self.images[:, channel].flatten(), minlength=256).cpu()
            mean = int((found * levels).sum()) / count
            variance = int((found * levels * levels).sum()) / count - mean * mean
            means.append(mean / 255)
            deviations.append(math.sqrt(max(0.0, variance)) / 255)
        return tuple(means), tuple(deviations)

    def sha256(self) -> str:
        """SHA-256 (hex) over size, pixels, labels and class names; the same on every device."""
        digest = hashlib.sha256()
        digest.update(repr((tuple(self.images.shape), self.classes)).encode())
        digest.update(self.images.cpu().contiguous().numpy().data)
        digest.update(self.labels.cpu().contiguous().numpy().astype("<i8").data)
        return digest.hexdigest()


def check_no_class_empty(counts: Sequence[int], names: Sequence[str], *, source: str, part: str = "") -> None:
    """Raise InputError that lists the classes of `names` whose count is 0.

    Args:
        counts: images of each class.
        names: the class names, in the same order.
        source: name of the data, for the message.
        part: which part of the data was looked at, for the message, for example " (split 'test')".
    """
    empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if empty:
        shown = ", ".join(f"'{name}'" for name in empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        raise InputError(
            f"the data '{source}'{part} has no image of {shown}",
            "add images, leave these classes out, or choose another --split",
        )
