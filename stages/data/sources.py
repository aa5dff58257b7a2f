"""Image sources: what DATA on the command line can be, and what all of it has in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from stages.data.decode import Encoded
from stages.data.locate import locate, parquet_splits
from stages.errors import UsageError


class Source(Protocol):
    """Data whose labels can be read without decoding an image.

    Attributes:
        name: base name, hub id or bundled name.
        splits: split names.
        classes: class names.
        notes: what a reader of the result should know.
        elsewhere: whether an image was met in a file that `known_by` does not name.
    """

    name: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    elsewhere: bool

    @property
    def any_order(self) -> bool:
        """Whether `encoded` takes rows in any order, at a like speed."""

    def labels(self, split: str) -> np.ndarray:
        """Labels of a split, int64 (N,), positions in `classes`."""

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """The images at `rows` of a split, ascending unless `any_order`, not decoded."""

    def known_by(self, split: str, rows: np.ndarray) -> tuple[list[Path], str] | None:
        """The files that hold the images at `rows`, and where in them; None when they lie in no file."""


def open_source(data: str, *, image_column: str | None, label_column: str | None, wanted: Sequence[str] | None) -> Source:
    """Open DATA without decoding an image. Raises UsageError, InputError and MissingError."""
    place = locate(data)
    if place.kind in ("shapes", "folders") and (image_column or label_column):
        raise UsageError(f"the data '{place.name}' has no columns", "leave --image-column and --label-column to tables")
    if place.kind == "shapes":
        from stages.data.bundled import ShapesSource

        return ShapesSource()
    if place.kind == "folders":
        from stages.data.folders import FolderSource

        return FolderSource(place.here, place.name)
    from stages.data.library import saved_tables
    from stages.data.table_source import ParquetTable, Table, TableSource

    tables: Mapping[str, Table]
    if place.kind == "parquet":
        tables = {split: ParquetTable(files) for split, files in parquet_splits(place.here).items()}
    elif place.kind == "saved":
        tables = saved_tables(place.here, place.name)
    else:
        from stages.data.hub import hub_tables

        tables = hub_tables(place.name)
    return TableSource(place.name, tables, image=image_column, label=label_column, wanted=wanted)


def class_names(data: str, *, label_column: str | None = None) -> list[str]:
    """The class names of the data, in its own order; no image is decoded. Raises as `load_images` does."""
    return list(open_source(data, image_column=None, label_column=label_column, wanted=None).classes)
