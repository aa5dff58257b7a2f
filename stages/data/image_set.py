"""Labelled sets of images: in memory as uint8, and what they have in common with those on disk; where images came from."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.classes import check_unique, match_classes, spelled
from stages.data.image_hashes import image_hashes
from stages.data.source_rows import SourceRows
from stages.errors import InputError
from stages.text import listed

if TYPE_CHECKING:
    import torch
    from typing_extensions import Self


@dataclass(frozen=True)
class Contents:
    """What was found in the chosen splits of a source, before classes are selected.

    Attributes:
        files: number of files, with those that were passed over; None when the images are not in files.
        classes: number of classes.
        images: number of images.
        passed_over: reason -> number of files that were not read.
        other_splits: the splits of the source that were not chosen.
    """

    files: int | None
    classes: int
    images: int
    passed_over: dict[str, int] = field(default_factory=dict)
    other_splits: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DataProvenance:
    """Where images came from and what was done to them before training.

    Attributes:
        source: base name of the file or folder, hub id or bundled name; never a path of the machine.
        splits: the splits read, in this order.
        divided: '' or, for a source with a single split, which part of its 90/10 division by class: 'train' or 'test'.
        divided_classes: the classes that were divided; all images of the others were read.
        resize: side in pixels the images were resized and cropped to; None when all were taken as they are.
        white: the value of white in images of more than 8 bits, if it was given.
        skipped_corrupt: number of images that could not be decoded and were left out.
        contents: what was found in these splits; None when unknown.
        notes: anything else a reader of the result should know, one sentence each.
    """

    source: str
    splits: tuple[str, ...] = ()
    divided: str = ""
    divided_classes: tuple[str, ...] = ()
    resize: int | None = None
    white: float | None = None
    skipped_corrupt: int = 0
    contents: Contents | None = None
    notes: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """The provenance as a JSON-able dict."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


class LabelledImages(ABC):
    """What image sets in memory and on disk have in common.

    Attributes:
        labels: int64 (N,), positions in `classes`.
        classes: the class names; a class may have no image.
        provenance: where the images came from.
        source_rows: which rows of their source they are.
    """

    labels: torch.Tensor
    classes: tuple[str, ...]
    provenance: DataProvenance
    source_rows: SourceRows

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""

    @abstractmethod
    def take(self, indices: torch.Tensor | Sequence[int]) -> Self:
        """The images at `indices` (int64, may repeat), with the same classes."""

    @abstractmethod
    def loaded(self) -> ImageSet:
        """The same set with its images in memory."""

    @abstractmethod
    def sha256(self) -> str:
        """SHA-256 (hex) over size, pixels, labels and class names; the same on every device, in memory or on disk."""

    @abstractmethod
    def _channel_sums(self) -> list[list[int]]:
        """The sums over all images of each channel's pixel values (0 to 255), and of their squares."""

    @abstractmethod
    def channel_ranges(self) -> list[tuple[int, int]]:
        """The lowest and highest pixel value (0 to 255) of each channel; empty for an empty set."""

    @abstractmethod
    def hashes(self) -> np.ndarray:
        """The hash of each image, int64 (N,), see `image_hashes`."""

    def counts(self) -> list[int]:
        """The number of images of each class, in the order of `classes`."""
        return class_counts(self.labels, self.classes)

    def restricted_to(self, names: Sequence[str], *, names_from: str) -> Self:
        """Only the images of the classes `names`; labels become positions in `names`.

        Args:
            names: class names, compared folded (see `stages.classes.fold`).
            names_from: what `names` are, for the message, for example 'the anchors'.

        Raises InputError when a name is not among the classes, is given twice, or has no image.
        """
        kept, labels = restricted_labels(self.labels, self.classes, names, names_from=names_from, provenance=self.provenance)
        return replace(self.take(kept), labels=labels, classes=tuple(names))  # type: ignore[type-var]  # a dataclass

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and (population) standard deviation of each channel, pixel values in [0, 1].

        Computed from integer sums, so the result does not depend on order or device. Raises InputError on an empty set.
        """
        if not len(self):
            raise InputError(f"the data '{self.provenance.source}' has no images here", "choose another --split")
        count = len(self) * self.size[0] * self.size[1]
        sums, squares = self._channel_sums()
        means = [total / count for total in sums]
        variances = [square / count - mean * mean for square, mean in zip(squares, means, strict=True)]
        return tuple(mean / 255 for mean in means), tuple(math.sqrt(max(0.0, variance)) / 255 for variance in variances)


@dataclass(frozen=True, eq=False)
class ImageSet(LabelledImages):
    """Images of one size with their labels, in memory.

    Attributes:
        images: uint8 (N, 3, H, W), 0 to 255.
        labels, classes, provenance: see `LabelledImages`.
        source_rows: by default their positions.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    provenance: DataProvenance
    source_rows: SourceRows = None  # type: ignore[assignment]  # set below

    def __post_init__(self) -> None:
        import torch

        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ValueError(f"images are {self.images.dtype} {tuple(self.images.shape)}, not uint8 (N, 3, H, W)")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(f"labels are {self.labels.dtype} {tuple(self.labels.shape)}, not int64 ({len(self.images)},)")
        if len(self) and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise ValueError(f"labels are outside the {len(self.classes)} classes")
        if self.source_rows is None:
            object.__setattr__(self, "source_rows", SourceRows.counted(len(self)))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def take(self, indices: torch.Tensor | Sequence[int]) -> ImageSet:
        """The images at `indices` (int64, may repeat), with the same classes."""
        import torch

        at = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        if torch.equal(at, torch.arange(len(self), device=at.device)):
            return self  # no copy of all images
        rows = self.source_rows.take(at.cpu().numpy())
        return replace(self, images=self.images[at], labels=self.labels[at], source_rows=rows)

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set with its tensors on `device`."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def loaded(self) -> ImageSet:
        """This set: its images are in memory."""
        return self

    def sha256(self) -> str:
        """SHA-256 (hex) over size, pixels, labels and class names; the same on every device, in memory or on disk."""
        digest = digest_start(len(self), self.size, self.classes)
        digest.update(self.images.cpu().contiguous().numpy().data)
        digest.update(self.labels.cpu().contiguous().numpy().astype("<i8").data)
        return digest.hexdigest()

    def channel_ranges(self) -> list[tuple[int, int]]:
        """See `LabelledImages`."""
        if not len(self):
            return []
        present = [channel.nonzero().flatten() for channel in self._histogram()]
        return [(int(levels[0]), int(levels[-1])) for levels in present]

    def hashes(self) -> np.ndarray:
        """The hash of each image, int64 (N,), see `image_hashes`."""
        return image_hashes(self.images.cpu().numpy())

    def _channel_sums(self) -> list[list[int]]:
        import torch

        levels, found = torch.arange(256), self._histogram()
        return [(found * levels).sum(1).tolist(), (found * levels * levels).sum(1).tolist()]

    def _histogram(self) -> torch.Tensor:
        """How often each pixel value occurs in each channel, int64 (3, 256)."""
        import torch

        found = torch.zeros(3, 256, dtype=torch.int64)
        for part in self.images.split(4096):  # a whole channel at once would take a third of the memory of the images again
            for channel in range(3):
                found[channel] += torch.bincount(part[:, channel].flatten(), minlength=256).cpu()
        return found


def class_counts(labels: torch.Tensor, classes: Sequence[str]) -> list[int]:
    """The number of labels of each class."""
    import torch

    return torch.bincount(labels.cpu(), minlength=len(classes)).tolist()


def class_positions(classes: Sequence[str], names: Sequence[str], *, names_from: str, source: str) -> np.ndarray:
    """For each of `classes` its position in `names`, int64; -1 for the classes that are not in it. Names are compared folded.

    Raises InputError when a name is not among the classes or is given twice.
    """
    check_unique(names, where=names_from)
    positions = np.full(len(classes), -1, dtype=np.int64)
    positions[match_classes(names, classes, wanted_from=names_from, available_from=f"the data '{source}'")] = np.arange(
        len(names)
    )
    return positions


def restricted_labels(
    labels: torch.Tensor, classes: Sequence[str], names: Sequence[str], *, names_from: str, provenance: DataProvenance
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which images are of the classes `names` (int64, ascending), and their labels as positions in `names`.

    Raises as `LabelledImages.restricted_to`.
    """
    import torch

    positions = torch.from_numpy(class_positions(classes, names, names_from=names_from, source=provenance.source))
    labels = positions.to(labels.device)[labels]
    kept = torch.nonzero(labels >= 0).flatten()
    check_no_class_empty(class_counts(labels[kept], names), names, source=provenance.source)
    return kept, labels[kept]


def digest_start(count: int, size: tuple[int, int], classes: tuple[str, ...]) -> hashlib._Hash:
    """The digest of `ImageSet.sha256` before its pixels (in order) and labels (int64, little endian) are added."""
    names = tuple(map(spelled, classes))
    return hashlib.sha256(repr(((count, 3, *size), names)).encode())


def check_no_class_empty(counts: Sequence[int], names: Sequence[str], *, source: str, part: str = "", fix: str = "") -> None:
    """Raise InputError that lists the classes of `names` whose count is 0.

    Args:
        counts: images of each class.
        names: the class names, in the same order.
        source: name of the data, for the message.
        part: which part of it, for the message, for example " (split 'test')".
        fix: what to do, if that is known.
    """
    empty = [name for name, count in zip(names, counts, strict=True) if count == 0]
    if empty:
        raise InputError(
            f"the data '{source}'{part} has no image of {listed(empty, 5)}",
            fix or "add images, leave these classes out, or choose another --split",
        )
