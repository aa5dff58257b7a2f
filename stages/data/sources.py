"""Image sources: what DATA on the command line can be, and what all of it has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.data.decode import Encoded
from stages.data.locate import locate, parquet_splits
from stages.data.request import ImageRequest
from stages.errors import UsageError


class Source(ABC):
    """Data whose labels can be read without decoding an image.

    Attributes:
        name: base name, hub id or bundled name.
        splits: split names.
        classes: class names.
        notes: what a reader of the result should know.
        whole: whether a single split is used whole, for training and evaluation, instead of being divided 90/10.
        external_files: whether an image was read from a file that is not among those of `cache_key`.
    """

    name: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    whole = False
    external_files = False

    @abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """Labels of a split, int64 (N,), positions in `classes`. Raises InputError when an image has none."""

    @abstractmethod
    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """The images at `rows` of a split, ascending, not decoded; in any order after `random_access`."""

    def random_access(self, rows: Mapping[str, np.ndarray]) -> Source:
        """A source whose images at `rows` (ascending) of each split can be read in any order."""
        return self

    def cache_key(self, split: str, rows: np.ndarray) -> tuple[list[Path], str] | None:
        """The files that contain the images at `rows`, and where in them; None when they are not in files."""
        return None


def open_source(request: ImageRequest, *, wanted: Sequence[str] | None = None) -> Source:
    """Open the data of a request without decoding an image; `wanted` are the classes that count, None is all.

    Raises UsageError, InputError and MissingError.
    """
    if request.data is None:
        raise UsageError(
            "option --data is missing",
            "name the images with --data: a folder of class folders, a parquet file, a saved dataset or a hub id",
        )
    if not isinstance(request.data, str | Path):
        from stages.data.python_data import source_of

        return source_of(request, wanted)
    place = locate(str(request.data))
    if place.kind in ("shapes", "folders") and (request.image_column or request.label_column):
        raise UsageError(f"the data '{place.name}' has no columns", "use --image-column and --label-column with tables only")
    if place.kind == "shapes":
        from stages.data.bundled import ShapesSource

        return ShapesSource()
    if place.kind == "folders":
        from stages.data.folders import FolderSource

        return FolderSource(place.path, place.name)
    from stages.data.arrow_table import ArrowTable
    from stages.data.hub import load_hub, load_saved
    from stages.data.parquet_table import ParquetTable
    from stages.data.table_source import Table, TableSource

    tables: Mapping[str, Table]
    if place.kind == "parquet":
        tables = {split: ParquetTable(files) for split, files in parquet_splits(place.path).items()}
    else:
        loaded = load_saved(place.path, place.name) if place.kind == "saved" else load_hub(place.name)
        tables = {split: ArrowTable(dataset, split) for split, dataset in loaded.items()}
    return TableSource(place.name, tables, image=request.image_column, label=request.label_column, wanted=wanted)


def class_names(request: ImageRequest) -> list[str]:
    """The class names of the data, in its own order; no image is decoded. Raises as `open_source` does."""
    return list(open_source(request).classes)
