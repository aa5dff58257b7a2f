"""Tables in parquet files."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import os
import shutil
import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stages.data.decoding import cache
from stages.data.source_rows import relative_names
from stages.data.tables.arrow_table import MappedFiles
from stages.data.tables.columns import alike, kind_of
from stages.errors import InputError
from stages.files.reading import sha256_of
from stages.text import first_line

ROWS = 64  # rows decoded at once, and in a record batch of a copy, at most
BATCH_BYTES = 128 * 2**20  # that these rows may take
LABEL_ROWS = 2**16
FEWEST_ROWS = 10**6  # up to which a file may have more rows than bytes
UNPACKED_BYTES = 256 * 2**20  # up to which a row group may be compressed to less than a hundredth


class ParquetTable:
    """The parquet files of one split.

    pyarrow reads them in order, without a copy on disk: `datasets.Dataset.from_parquet` first writes all rows to its cache, and
    reads from a Python file with Arrow's threads, which once aborted the process (see tests/benchmarks/LOG.md).
    """

    def __init__(self, files: Sequence[Path], root: Path | None = None) -> None:
        """`root` is the data's folder; None takes that of the first file.

        Raises InputError when a file is not a readable parquet file or the files differ in their columns.
        """
        self.files = list(files)
        self._names = relative_names(self.files, root or self.files[0].parent)
        found = [_features_and_rows(file) for file in self.files]
        self.features = found[0][0]
        self._ends = np.cumsum([rows for _, rows in found])
        self._copy: tuple[np.ndarray, MappedFiles] | None = None
        for file, (features, _) in zip(self.files, found, strict=True):
            _check_alike(self.features, features, self.files[0].name, file.name)

    def column(self, name: str) -> Iterator[Any]:
        """A whole column in pyarrow arrays; text is dictionary-encoded, so that a value counts once however often it occurs."""
        import pyarrow.parquet as pq

        for file in self.files:
            with _reading(file):
                opened = pq.ParquetFile(file, read_dictionary=[name])
                for group in range(opened.num_row_groups):
                    _unpacked_bytes(opened.metadata.row_group(group), file)
                yield from (batch.column(0) for batch in opened.iter_batches(LABEL_ROWS, columns=[name]))

    def cells(self, name: str, rows: np.ndarray) -> Iterator[Any]:
        """The cells of a column at `rows`, ascending; in any order after `random_access`; one by one.

        Raises UnicodeDecodeError at a cell with text that is not UTF-8.
        """
        if self._copy is not None:
            copied, mapped = self._copy
            return mapped.cells(name, np.searchsorted(copied, rows))
        return (cell.as_py() for batch in self._batches(name, rows) for cell in batch)

    def keys(self, rows: np.ndarray) -> list[str]:
        """'test.parquet:17': the file and the row in it."""
        return [f"{name}:{row}" for name, row in self._in_files(rows)]

    def place(self, row: int) -> str:
        """Where a row is, for messages."""
        ((name, own),) = self._in_files(np.array([row]))
        return f"in row {own} of '{name}'"

    def _in_files(self, rows: np.ndarray) -> Iterator[tuple[str, int]]:
        file = np.searchsorted(self._ends, rows, side="right")
        own = rows - np.array([0, *self._ends])[file]
        return zip((self._names[at] for at in file), own.tolist(), strict=True)

    def random_access(self, name: str, rows: np.ndarray) -> ParquetTable:
        """This table with the cells of a column at `rows` (ascending) copied to an Arrow file, to be read in any order.

        The copy goes to the disk cache, and to a temporary folder where that is off or full. Raises OSError when there is no
        room for it either.
        """
        if not len(rows):
            return self
        result = copy.copy(self)
        group = cache.entry_group("images", column=name, rows=len(rows))

        def write(path: Path | None) -> str:
            return f"{group}-{self._write(name, rows, path)}"

        with cache.locked(group):
            entry = cache.find_name(group, lambda: self._write(name, rows, None))
            file = _sound(cache.find_file(entry, ".arrow")) or cache.save_file(group, ".arrow", write)
        result._copy = rows, self._temporary_copy(name, rows) if file is None else MappedFiles([file])
        return result

    def _temporary_copy(self, name: str, rows: np.ndarray) -> MappedFiles:
        folder = Path(tempfile.mkdtemp(prefix="laat-"))
        try:
            self._write(name, rows, folder / "images.arrow")
            mapped = MappedFiles([folder / "images.arrow"])
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        weakref.finalize(mapped, _remove, folder, os.getpid())
        return mapped

    def _write(self, name: str, rows: np.ndarray, file: Path | None) -> str:
        """Write the copy to a file, or nowhere; returns its SHA-256 (hex)."""
        import pyarrow as pa

        with contextlib.ExitStack() as stack:
            written = _Written(None if file is None else stack.enter_context(file.open("wb")))
            stream = None
            for cells in _gathered(self._batches(name, rows)):
                batch = pa.record_batch([cells], [name])
                stream = stream or stack.enter_context(pa.ipc.new_stream(pa.PythonFile(written, "w"), batch.schema))
                stream.write_batch(batch)
        return written.digest.hexdigest()

    def _batches(self, name: str, rows: np.ndarray) -> Iterator[Any]:
        """The cells of a column at `rows` (ascending) as pyarrow arrays, so many at a time that memory stays within bounds."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        start = 0
        for file in self.files:
            with _reading(file), pq.ParquetFile(file) as opened:
                for group in range(opened.num_row_groups):
                    about = opened.metadata.row_group(group)
                    end = start + about.num_rows
                    own = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)] - start
                    start = end
                    if not len(own):
                        continue
                    at = 0
                    for batch in opened.iter_batches(_rows_at_once(about, file), row_groups=[group], columns=[name]):
                        here = own[np.searchsorted(own, at) : np.searchsorted(own, at + batch.num_rows)] - at
                        at += batch.num_rows
                        if len(here) == batch.num_rows:
                            yield batch.column(0)
                        elif len(here):
                            # pyarrow does not take rows of all types, such as binary_view
                            yield pa.concat_arrays([batch.column(0).slice(row, 1) for row in here])


def _rows_at_once(group: Any, file: Path) -> int:
    """The number of rows of a row group whose cells in a column fit into memory, even if all are as large as one can be.

    A cell can be as large as the row group without compression, and occur many times in its dictionary encoding.
    """
    return max(1, min(ROWS, BATCH_BYTES // max(1, _unpacked_bytes(group, file))))


def _unpacked_bytes(group: Any, file: Path) -> int:
    """The bytes of a row group without compression.

    Raises InputError when they are far more than those of the file: pages, which have any size, are unpacked whole. The
    metadata of a single column is not asked for: where it is damaged, pyarrow aborts the process.
    """
    unpacked, packed = max(0, group.total_byte_size), file.stat().st_size
    if unpacked > max(UNPACKED_BYTES, 100 * packed):
        raise InputError(
            f"'{file.name}' has a row group of {unpacked:,} bytes, compressed to at most {packed:,}",
            "if you trust it, write it again with smaller row groups",
        )
    return unpacked


def _gathered(batches: Iterator[Any]) -> Iterator[Any]:
    """Small arrays put together into arrays of up to `ROWS` cells."""
    import pyarrow as pa

    waiting: list[Any] = []
    kind = None  # that of the first file; the others may have another type of bytes
    for found in batches:
        plain = found.dictionary_decode() if pa.types.is_dictionary(found.type) else found
        kind = kind or plain.type
        batch = plain if plain.type == kind else plain.cast(kind)
        total = (sum(len(one) for one in waiting) + len(batch), sum(one.nbytes for one in waiting) + batch.nbytes)
        if waiting and (total[0] > ROWS or total[1] > BATCH_BYTES):
            yield pa.concat_arrays(waiting)
            waiting = []
        waiting.append(batch)
    if waiting:
        yield pa.concat_arrays(waiting)


def _check_alike(first: Any, other: Any, first_name: str, name: str) -> None:
    """Raise InputError where two files have other columns, or columns that cannot be read as one."""
    for column in dict.fromkeys([*first, *other]):
        kinds = [kind_of(of[column]) if column in of else "missing" for of in (first, other)]
        if "missing" in kinds or alike(first[column]) != alike(other[column]):
            raise InputError(
                f"'{name}' has other columns than '{first_name}': '{column}' is {kinds[1]}, and {kinds[0]} in '{first_name}'",
                "write both with the same features",
            )


def _features_and_rows(file: Path) -> tuple[Any, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _reading(file), pq.ParquetFile(file) as opened:
        schema = opened.schema_arrow
        fields = [field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in schema]
        twice = [name for name, count in Counter(schema.names).items() if count > 1]
        if twice:
            raise InputError(f"'{file.name}' has several columns '{twice[0]}'", "write it again with one name for each column")
        features = _features(pa.schema(fields, metadata=schema.metadata))
        count, size = opened.metadata.num_rows, file.stat().st_size
        if count > max(FEWEST_ROWS, size):  # an image takes more than a byte; so many labels would fill the memory
            what = f"'{file.name}' has {count:,} rows in {size:,} bytes, which cannot be images"
            raise InputError(what, "write it again with its images")
        return features, count


def _features(schema: Any) -> dict[str, Any]:
    """The features of a schema; of a column with a type that the datasets library does not have, the type."""
    import datasets
    import pyarrow as pa

    known = []
    for field in schema:
        with contextlib.suppress(ValueError):
            datasets.Features.from_arrow_schema(pa.schema([field]))
            known.append(field)
    found = datasets.Features.from_arrow_schema(pa.schema(known, metadata=schema.metadata))
    return {field.name: found.get(field.name, str(field.type)) for field in schema}


class _Written(io.RawIOBase):
    """What pyarrow writes to: a file, or nothing, and a digest."""

    def __init__(self, file: BinaryIO | None) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return len(data) if self._file is None else self._file.write(data)


def _sound(file: Path | None) -> Path | None:
    """A copy whose content has the digest in its name; None when there is none, or it is damaged."""
    try:
        return file if file is not None and file.stem.endswith(sha256_of(file)) else None
    except OSError:
        return None


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a worker process
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Raise what pyarrow raises about a broken file as an InputError that names it."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, NotImplementedError) as error:
        what = f"'{file.name}' cannot be read as parquet ({first_line(error)})"
        raise InputError(what, "write or download it again") from error
