"""Images in tables of rows, a table a split: parquet files here, what the datasets library opens in `library`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stages.classes import check_unique
from stages.data.columns import image_column, is_integer, label_column
from stages.data.decode import Encoded
from stages.data.library import first_line
from stages.errors import InputError

ROWS = 1024  # rows read at once


class Table(Protocol):
    """One split: typed columns, read in part."""

    features: Mapping[str, Any]
    any_order: bool  # whether `cells` takes rows in any order, at a like speed

    def column(self, name: str) -> Any:
        """A whole column as a pyarrow ChunkedArray."""

    def cells(self, name: str, rows: np.ndarray) -> Iterator[tuple[str, Any]]:
        """The cells of a column at `rows`, ascending unless `any_order`, each with its place ('row 3 of train.parquet')."""

    def files(self) -> list[Path] | None:
        """The files that hold the table; None when it is in memory."""


class TableSource:
    """Tables with an image and a label column.

    Attributes:
        name: base name or hub id.
        splits: split names.
        classes: names of the ClassLabel column, or the sorted values of the string or integer column over all splits.
        notes: what a reader of the result should know.
        elsewhere: whether an image was met that is not in the table itself, but in a file of its own.
    """

    def __init__(
        self,
        name: str,
        tables: Mapping[str, Table],
        *,
        image: str | None = None,
        label: str | None = None,
        wanted: Sequence[str] | None = None,
    ) -> None:
        """`image` and `label` name the columns; None finds them by type. Raises as `stages.data.columns` does."""
        features = next(iter(tables.values())).features
        self.name = name
        self.splits = tuple(tables)
        self.elsewhere = False
        self._tables = tables
        self._named_image = image
        self._label = label_column(features, label, source=name, wanted=wanted)
        several = [key for key, feature in features.items() if hasattr(feature, "names")]
        self.notes: tuple[str, ...] = (f"labels are the column '{self._label}'",) if len(several) > 1 and label is None else ()
        self._check_same_label()
        self.classes, self._labels = self._read_labels(features[self._label])
        check_unique(self.classes, where=f"the data '{name}'")

    def labels(self, split: str) -> np.ndarray:
        """Labels of a split, int64 (N,), positions in `classes`. Raises InputError when rows have none."""
        labels = self._labels[split]
        without = int(np.count_nonzero(labels < 0))
        if without:
            raise InputError(
                f"split '{split}' of the data '{self.name}' has {without} rows without a label",
                "choose another --split, or remove these rows",
            )
        return labels

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """The images at `rows` of a split, ascending unless `any_order`."""
        for place, cell in self._tables[split].cells(self.image_column(split), rows):
            image = _encoded(place, cell)
            self.elsewhere = self.elsewhere or isinstance(image.content, Path)
            yield image

    def image_column(self, split: str) -> str:
        """The column of a split that holds the images. Raises UsageError and InputError where it cannot be told."""
        return image_column(self._tables[split].features, self._named_image, source=self.name)

    @property
    def any_order(self) -> bool:
        """Whether `encoded` takes rows in any order, at a like speed."""
        return all(table.any_order for table in self._tables.values())

    def known_by(self, split: str, rows: np.ndarray) -> tuple[list[Path], str] | None:
        """The files that hold a split, and the column in them; None when it is in memory."""
        files = self._tables[split].files()
        return None if files is None else (files, self.image_column(split))

    def _check_same_label(self) -> None:
        kinds = {}
        for split, table in self._tables.items():
            if self._label not in table.features:
                raise InputError(
                    f"split '{split}' of the data '{self.name}' has no column '{self._label}'",
                    "name it alike in all splits",
                )
            feature = table.features[self._label]
            kinds[split] = tuple(getattr(feature, "names", ())) or feature.dtype
        if len(set(kinds.values())) > 1:
            raise InputError(
                f"the splits of the data '{self.name}' differ in the classes or type of column '{self._label}'",
                "write all splits with the same features",
            )

    def _read_labels(self, feature: Any) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
        """Class names, and the labels of every split as positions in them (-1: none)."""
        import pyarrow as pa
        import pyarrow.compute as pc

        columns = {split: _plain(table.column(self._label)) for split, table in self._tables.items()}
        if hasattr(feature, "names"):
            labels = {split: _integers(column) for split, column in columns.items()}
            highest = max((int(values.max()) for values in labels.values() if len(values)), default=-1)
            if highest >= len(feature.names):
                raise InputError(
                    f"the data '{self.name}' has the label {highest}, but names only {len(feature.names)} classes",
                    "write the data again with all its class names",
                )
            return tuple(feature.names), labels
        distinct = pc.unique(pa.chunked_array([chunk for column in columns.values() for chunk in column.chunks]))
        values = pa.array(sorted(value for value in distinct.to_pylist() if value is not None), type=distinct.type)
        names = tuple(str(value) for value in values.to_pylist())
        positions = {split: pc.index_in(column, value_set=values) for split, column in columns.items()}
        if is_integer(feature):
            self.notes += ("classes are named by their number",)
        return names, {split: _integers(column) for split, column in positions.items()}


class ParquetTable:
    """The parquet files of one split.

    Read with pyarrow, as the datasets library reads them, but straight from the files: no copy in a cache folder, and
    no report of the use to a server.
    """

    any_order = False

    def __init__(self, files: Sequence[Path]) -> None:
        """Raises InputError when a file is no readable parquet file or the files differ in their columns."""
        self._files = list(files)
        schemas = [_features_of(file) for file in self._files]
        self.features = schemas[0]
        for file, features in zip(self._files, schemas, strict=True):
            if dict(features) != dict(self.features):
                raise InputError(
                    f"'{file.name}' has other columns than '{self._files[0].name}'", "write both with the same features"
                )

    def column(self, name: str) -> Any:
        """The column over all files."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        chunks = []
        for file in self._files:
            with _reading(file):
                chunks += _plain(pq.ParquetFile(file).read([name]).column(name)).chunks
        return pa.chunked_array(chunks)

    def files(self) -> list[Path]:
        """The files."""
        return self._files

    def cells(self, name: str, rows: np.ndarray) -> Iterator[tuple[str, Any]]:
        """The cells at `rows`; a batch without any of them is passed over undecoded."""
        import pyarrow.parquet as pq

        start = 0
        for file in self._files:
            first = start
            with _reading(file):
                for batch in pq.ParquetFile(file).iter_batches(ROWS, columns=[name]):
                    own = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + batch.num_rows)]
                    cells = batch.column(0).take(_index(own - start)).to_pylist()
                    start += batch.num_rows
                    places = (f"in row {row - first} of '{file.name}'" for row in own)
                    yield from zip(places, cells, strict=True)


def _encoded(place: str, cell: Any) -> Encoded:
    if isinstance(cell, Mapping):
        path, content = cell.get("path"), cell.get("bytes")
        if path:
            place = f"'{Path(path).name}' {place}"
        return Encoded(place, content if content is not None else Path(path) if path else None)
    return Encoded(place, Path(cell) if isinstance(cell, str) else cell)


def _features_of(file: Path) -> Any:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _reading(file):
        schema = pq.read_schema(file)
        plain = [field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in schema]
        return datasets.Features.from_arrow_schema(pa.schema(plain, metadata=schema.metadata))


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turns what pyarrow raises about a broken file into an InputError that names it."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        what = f"'{file.name}' cannot be read as parquet ({first_line(error)})"
        raise InputError(what, "write or fetch it again") from error


def _plain(column: Any) -> Any:
    """The column without dictionary encoding (pandas writes categories so)."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _integers(column: Any) -> np.ndarray:
    """int64 values of an integer column; -1 for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return np.asarray(pc.fill_null(column.cast(pa.int64()), -1).to_numpy(), dtype=np.int64)


def _index(rows: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.array(rows, type=pa.int64())
