"""Images in tables: parquet files, saved datasets and hub datasets, each a table of rows a split."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stages.classes import check_unique
from stages.data.columns import image_column, is_integer, label_column
from stages.data.decode import Encoded
from stages.errors import InputError

ROWS = 1024  # rows read at once


class Table(Protocol):
    """One split: typed columns, read in part."""

    features: Mapping[str, Any]

    def column(self, name: str) -> Any:
        """A whole column as a pyarrow ChunkedArray."""

    def cells(self, name: str, rows: np.ndarray) -> Iterator[tuple[str, Any]]:
        """The cells of a column at ascending `rows`, each with its place ('row 3 of train.parquet')."""


class TableSource:
    """Tables with an image and a label column.

    Attributes:
        name: base name or hub id.
        splits: split names.
        classes: names of the ClassLabel column, or the sorted values of the string or integer column over all splits.
        notes: what a reader of the result should know.
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
        """The images at ascending `rows` of a split."""
        table = self._tables[split]
        column = image_column(table.features, self._named_image, source=self.name)
        for place, cell in table.cells(column, rows):
            yield _encoded(place, cell)

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


class LibraryTable:
    """A split as a `datasets.Dataset`."""

    def __init__(self, dataset: Any, split: str) -> None:
        self._dataset = dataset
        self._split = split
        self.features: Mapping[str, Any] = dataset.features

    def column(self, name: str) -> Any:
        """The column, without decoding."""
        return self._dataset.select_columns([name]).with_format("arrow")[:].column(name)

    def cells(self, name: str, rows: np.ndarray) -> Iterator[tuple[str, Any]]:
        """The cells at `rows`, without decoding."""
        table = self._dataset.select_columns([name]).with_format("arrow")
        for start in range(0, len(rows), ROWS):
            own = rows[start : start + ROWS]
            cells = table[own.tolist()].column(name).to_pylist()
            yield from zip((f"in row {row} of split '{self._split}'" for row in own), cells, strict=True)


def saved_tables(path: Path, name: str) -> dict[str, Table]:
    """The splits of a dataset written by `save_to_disk`. Raises InputError when it cannot be read."""
    import datasets

    try:
        with quiet_datasets():
            loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # anything may be wrong with the files
        what = f"the saved dataset '{name}' cannot be read ({first_line(error)})"
        raise InputError(what, "save it again") from error
    return library_tables(loaded)


def library_tables(loaded: Any) -> dict[str, Table]:
    """The splits of a `datasets.DatasetDict`, or the one of a `datasets.Dataset` ('train' if it has no name)."""
    if hasattr(loaded, "items"):
        return {str(split): LibraryTable(dataset, str(split)) for split, dataset in loaded.items()}
    split = str(loaded.split or "train")
    return {split: LibraryTable(loaded, split)}


@contextlib.contextmanager
def quiet_datasets() -> Iterator[None]:
    """No progress bar and no log line of the datasets and hub libraries inside; their settings are put back after."""
    import datasets.utils
    import huggingface_hub.utils as hub

    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    bars = not datasets.utils.are_progress_bars_disabled(), not hub.are_progress_bars_disabled()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    datasets.utils.disable_progress_bars()
    hub.disable_progress_bars()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars[0]:
            datasets.utils.enable_progress_bars()
        if bars[1]:
            hub.enable_progress_bars()


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


def first_line(error: Exception) -> str:
    """What another library's error says, short enough for one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
