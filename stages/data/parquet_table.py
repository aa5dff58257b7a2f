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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from stages.data import cache
from stages.data.arrow_table import MappedFiles
from stages.data.hub import first_line
from stages.data.source_rows import relative_names
from stages.errors import InputError

ROWS = 1024  # rows decoded at once
COPIED_ROWS = 64  # rows in a record batch of a copy


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
            if dict(features) != dict(self.features):
                raise InputError(
                    f"'{file.name}' has other columns than '{self.files[0].name}'", "write both with the same features"
                )

    def column(self, name: str) -> Any:
        """A whole column as a pyarrow ChunkedArray."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        chunks = []
        for file in self.files:
            with _reading(file):
                chunks += plain(pq.ParquetFile(file).read([name]).column(name)).chunks
        return pa.chunked_array(chunks)

    def cells(self, name: str, rows: np.ndarray) -> Iterator[Any]:
        """The cells of a column at `rows`, ascending; in any order after `random_access`."""
        if self._copy is not None:
            copied, mapped = self._copy
            return mapped.cells(name, np.searchsorted(copied, rows))
        return (cell for batch in self._batches(name, rows, ROWS) for cell in batch.to_pylist())

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
            for cells in self._batches(name, rows, COPIED_ROWS):
                batch = pa.record_batch([cells], [name])
                stream = stream or stack.enter_context(pa.ipc.new_stream(pa.PythonFile(written, "w"), batch.schema))
                stream.write_batch(batch)
        return written.digest.hexdigest()

    def _batches(self, name: str, rows: np.ndarray, size: int) -> Iterator[Any]:
        """The cells of a column at `rows` (ascending) as pyarrow arrays, from `size` rows at a time."""
        import pyarrow.parquet as pq

        start = 0
        for file in self.files:
            with _reading(file):
                for batch in pq.ParquetFile(file).iter_batches(size, columns=[name]):
                    own = rows[np.searchsorted(rows, start) : np.searchsorted(rows, start + batch.num_rows)]
                    yield batch.column(0).take(own - start)
                    start += batch.num_rows


def plain(column: Any) -> Any:
    """The column without dictionary encoding, which pandas uses for categories."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _features_and_rows(file: Path) -> tuple[Any, int]:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _reading(file), pq.ParquetFile(file) as opened:
        schema = opened.schema_arrow
        fields = [field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in schema]
        features = datasets.Features.from_arrow_schema(pa.schema(fields, metadata=schema.metadata))
        return features, opened.metadata.num_rows


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
        if file is None:
            return None
        with file.open("rb") as opened:
            return file if file.stem.endswith(hashlib.file_digest(opened, "sha256").hexdigest()) else None
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
