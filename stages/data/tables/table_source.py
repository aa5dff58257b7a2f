"""Images in tables with an image and a label column, one table for each split."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.classes import check_unique, spelled
from stages.data.decoding.encoded import Encoded
from stages.data.source import Source
from stages.data.tables.arrow_table import ArrowTable
from stages.data.tables.columns import alike, image_column, kind_of, label_column, not_utf8
from stages.data.tables.labels import read_labels
from stages.data.tables.parquet_table import ParquetTable
from stages.errors import InputError, MissingError
from stages.files.strict_json import check_text
from stages.text import counted

Table = ArrowTable | ParquetTable


class TableSource(Source):
    """Tables with an image and a label column.

    The classes are those of the ClassLabel column, or the values of another column, see `read_labels`.
    """

    def __init__(
        self,
        name: str,
        tables: Mapping[str, Table],
        *,
        image: str | None = None,
        label: str | None = None,
        wanted: Sequence[str] | None = None,
        folders: Sequence[Path] | None = None,
    ) -> None:
        """The source of `tables`, split -> table.

        Args:
            name: of the data.
            tables: one for each split.
            image, label: names of the columns; None finds them by type.
            wanted: the classes that count, for `stages.data.tables.columns.label_column`; None is all.
            folders: images whose row has only a path must be in one of these folders; relative paths begin in the first. None
                allows any path: the tables are the caller's own objects.

        Raises as `stages.data.tables.columns` does.
        """
        features = next(iter(tables.values())).features
        self.name = name
        self.splits = tuple(tables)
        self._tables = tables
        self._named_image = image
        self._folders = None if folders is None else [folder.resolve() for folder in folders]
        self._label = label_column(features, label, source=name, wanted=wanted)
        several = [key for key, feature in features.items() if hasattr(feature, "names")]
        self.notes = (f"labels are the column '{self._label}'",) if len(several) > 1 and label is None else ()
        self._check_same_label()
        cells = {split: self._tables[split].column(self._label) for split in self._tables}
        where = f"the column '{self._label}' of the data '{name}'"
        self.classes, self._labels, notes = read_labels(cells, features[self._label], where=where)
        self.notes += notes
        if not self.classes:
            raise InputError(
                f"{where} has no label", "write a label for each image, or choose another column with --label-column"
            )
        check_unique(self.classes, where=f"the data '{name}'")

    def labels(self, split: str) -> np.ndarray:
        """See `Source`."""
        labels = self._labels[split]
        without = int(np.count_nonzero(labels < 0))
        if without:
            raise InputError(
                f"split '{split}' of the data '{self.name}' has {counted(without, 'row')} without a label",
                "choose another --split, or remove these rows",
            )
        return labels

    def image_count(self, split: str) -> int:
        """See `Source`."""
        return len(self._labels[split])

    def file_count(self, split: str) -> int | None:
        """See `Source`."""
        files = self._tables[split].files
        return None if files is None else len(files)

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """See `Source`."""
        table = self._tables[split]
        column = self._image_column(split)
        cells = table.cells(column, rows)
        for row in rows.tolist():
            try:
                cell = next(cells)
            except UnicodeDecodeError as error:
                raise not_utf8(f"the column '{column}' of the data '{self.name}' {table.place(row)}", error) from None
            yield self._encoded(table.place(row), cell)

    def keys(self, split: str, rows: np.ndarray) -> list[str]:
        """See `Source`: parquet files and rows in them, and split and row of other tables."""
        return self._tables[split].keys(rows)

    def random_access(self, rows: Mapping[str, np.ndarray]) -> TableSource:
        """See `Source`. Raises MissingError when there is no disk space for it."""
        result = copy.copy(self)
        try:
            result._tables = {
                split: self._tables[split].random_access(self._image_column(split), own) for split, own in rows.items()
            }
        except OSError as error:
            raise MissingError(
                f"the data '{self.name}' cannot be unpacked in '{tempfile.gettempdir()}' for streaming ({error.strerror})",
                "free some space, set LAAT_CACHE to a folder on a larger disk, or use --cache ram",
            ) from None
        return result

    def _image_column(self, split: str) -> str:
        return image_column(self._tables[split].features, self._named_image, source=self.name)

    def _encoded(self, place: str, cell: Any) -> Encoded:
        if not isinstance(cell, Mapping):
            return Encoded(place, cell)
        path, content = cell.get("path"), cell["bytes"]
        if not (isinstance(path, str) and path):
            return Encoded(place, content)
        place = f"'{Path(path).name[:100]}' {place}"
        return Encoded(place, self._file(path, place) if content is None else content)

    def _file(self, path: str, place: str) -> Path:
        """The file that a row names. Raises InputError when it is outside the folders of the data."""
        if self._folders is None:
            return Path(path)
        try:
            file = (self._folders[0] / path).resolve()  # links and '..' are followed; an absolute path stays as it is
            if any(file.is_relative_to(folder) for folder in self._folders):
                return file
        except (OSError, ValueError, RuntimeError):  # a name too long, with a NUL in it, or a link to itself
            pass
        raise InputError(
            f"image {place} is the file '{path[:200]}', which is outside the folder of the data '{self.name}'",
            "copy the file into that folder, or write the bytes of the images into the table",
        )

    def _check_same_label(self) -> None:
        kinds: dict[str, Any] = {}
        for split, table in self._tables.items():
            if self._label not in table.features:
                raise InputError(
                    f"split '{split}' of the data '{self.name}' has no column '{self._label}'",
                    "give it the same name in all splits",
                )
            feature = table.features[self._label]
            kinds[split] = self._names(feature) or alike(feature)
        first, *others = kinds
        different = next((split for split in others if kinds[split] != kinds[first]), None)
        if different is not None:
            types = [f"{kind_of(self._tables[split].features[self._label])} in split '{split}'" for split in (first, different)]
            raise InputError(
                f"the splits of the data '{self.name}' differ in the classes or type of column '{self._label}': "
                f"{types[0]}, {types[1]}",
                "write all splits with the same features",
            )

    def _names(self, feature: Any) -> tuple[str, ...]:
        """The class names of a feature as `spelled`, none if it has none. Raises InputError for one that is not text."""
        names = getattr(feature, "names", None) or ()
        for at, name in enumerate(names):
            try:
                check_text(name)
            except (ValueError, TypeError) as error:
                what = f"class name {at} of the data '{self.name}' is not text: {error}"
                raise InputError(what, "write the data again with text as class names") from None
        return tuple(map(spelled, names))
