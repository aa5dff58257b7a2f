"""Data sets as Python objects: a `datasets.Dataset` or `DatasetDict`, and map-style torch data sets of (image, label)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from stages.classes import check_unique, spelled
from stages.data.decoding.encoded import Encoded
from stages.data.decoding.levels import UnreadableImageError, depth_of, to_8_bits
from stages.data.request import ImageRequest
from stages.data.source import Source
from stages.data.source_rows import UNNAMED
from stages.errors import InputError, UsageError
from stages.text import counted

_LEVEL = 1e-3  # of a grey level: float rounding of x / 255 * 255


def source_of(request: ImageRequest, wanted: Sequence[str] | None) -> Source:
    """The source of `request.data`, an object. Raises UsageError for one that is neither kind of data set.

    It is the caller's own: where its rows name image files, these may be anywhere.
    """
    data = request.data
    tables = data if hasattr(data, "items") else {str(getattr(data, "split", None) or UNNAMED): data}
    if all(hasattr(table, "features") and hasattr(table, "select_columns") for table in tables.values()):
        from stages.data.tables.arrow_table import ArrowTable
        from stages.data.tables.table_source import TableSource

        first = next(iter(tables.values()))
        name = getattr(getattr(first, "info", None), "dataset_name", None) or "datasets.Dataset"
        arrow = {split: ArrowTable(table, split) for split, table in tables.items()}
        source: Source = TableSource(name, arrow, image=request.image_column, label=request.label_column, wanted=wanted)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__") and hasattr(data, "classes"):
        source = MapSource(data, request.white)
    else:
        raise UsageError(
            f"data of type {type(data).__name__} is no data set",
            "give a path, a hub id, a datasets.Dataset, or a map-style torch Dataset of (image, label) with `classes`",
        )
    source.whole = True
    return source


class MapSource(Source):
    """A map-style torch Dataset of (image, label), with its class names in `classes`.

    Images are PIL images, or tensors (3, H, W) of uint8 or of float grey levels n / 255 in [0, 1], as torchvision's ToTensor
    gives them. Labels are positions in `classes`, in `targets` or in the items.
    """

    decoded = True

    def __init__(self, data: Any, white: float | None = None) -> None:
        self._data, self._white = data, white
        self.name = type(data).__name__
        train = getattr(data, "train", None)
        self.splits = ({True: "train", False: "test"}.get(train, UNNAMED) if isinstance(train, bool) else UNNAMED,)
        self.classes = tuple(spelled(str(name)) for name in data.classes)
        check_unique(self.classes, where=f"the data '{self.name}'")
        # `targets` are as before the transform of targets
        targets = getattr(data, "targets", None) if getattr(data, "target_transform", None) is None else None
        found = [data[at][1] for at in range(len(data))] if targets is None else targets
        self._labels = np.array([int(label) for label in found], dtype=np.int64)
        if not all(label == own for label, own in zip(found, self._labels.tolist(), strict=True)):
            raise InputError(f"the data '{self.name}' has labels that are no whole numbers", "give positions in `classes`")
        if len(self._labels) != len(data):
            raise InputError(
                f"the data '{self.name}' has {counted(len(data), 'image')} and {counted(len(self._labels), 'target')}",
                "give one each",
            )
        if len(self._labels) and not 0 <= self._labels.min() <= self._labels.max() < len(self.classes):
            raise InputError(
                f"the labels of '{self.name}' span [{self._labels.min()}, {self._labels.max()}] and it has "
                f"{len(self.classes)} classes",
                "give labels that are positions in `classes`",
            )

    def labels(self, split: str) -> np.ndarray:
        """See `Source`."""
        return self._labels

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """See `Source`; the images are pixels already."""
        for row in rows.tolist():
            pixels, undeclared = self._pixels(self._data[row][0], row)
            yield Encoded(f"at {row} of '{self.name}'", pixels, undeclared)

    def keys(self, split: str, rows: np.ndarray) -> list[str]:
        """See `Source`: the indices of the data set."""
        return [str(row) for row in rows.tolist()]

    def _pixels(self, image: Any, row: int) -> tuple[np.ndarray, bool]:
        """Pixels uint8 (H, W, 3), and whether they had more than 8 bits and nothing says which value is white."""
        if hasattr(image, "convert"):  # PIL
            depth, undeclared = depth_of(image), False
            if depth is not None:
                try:
                    image, undeclared = to_8_bits(image, depth, self._white)
                except UnreadableImageError as error:
                    raise InputError(f"image {row} of '{self.name}' cannot be used ({error})", error.hint) from None
            return np.asarray(image.convert("RGB")), undeclared
        import torch

        from stages.pixels import check_pixels

        x = torch.as_tensor(image)
        check_pixels(x[None])
        if x.dtype != torch.uint8:
            levels = x * 255
            if bool((levels - levels.round()).abs().max() > _LEVEL):
                raise InputError(
                    f"image {row} of '{self.name}' has float pixels between the 8-bit grey levels",
                    "resize before ToTensor, return PIL images or uint8, or give float batches to the classifier itself",
                )
            x = levels.round().to(torch.uint8)
        return x.permute(1, 2, 0).cpu().numpy(), False
