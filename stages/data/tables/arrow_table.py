"""Tables in Arrow files, as the `datasets` library writes them, mapped into memory and read in any order."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.data.source_rows import row_keys
from stages.errors import InputError
from stages.text import first_line

ROWS = 32  # rows read between two checks of the resident memory
RESIDENT_BYTES = 32 * 2**20  # of mapped files that may count as memory of the process


class ArrowTable:
    """One split of a data set that the `datasets` library opened."""

    def __init__(self, dataset: Any, split: str) -> None:
        self.features: Mapping[str, Any] = dataset.features
        self._split = split
        self._mapped = _mapped(dataset)
        self._dataset = dataset if self._mapped is None else None
        _check_positions(dataset, split)
        self.files = None if self._mapped is None else self._mapped.files

    def column(self, name: str) -> Iterator[Any]:
        """A whole column in pyarrow arrays."""
        found = self._picked(name, slice(None)) if self._mapped is None else self._mapped.table.column(name)
        return iter(found.chunks)

    def cells(self, name: str, rows: np.ndarray) -> Iterator[Any]:
        """The cells of a column at `rows`, in any order, one by one.

        Raises InputError when they cannot be read, UnicodeDecodeError at a cell with text that is not UTF-8.
        """
        import pyarrow as pa

        try:
            if self._mapped is not None:
                yield from self._mapped.cells(name, rows)
            else:
                for start in range(0, len(rows), ROWS):
                    yield from (cell.as_py() for cell in self._picked(name, rows[start : start + ROWS].tolist()))
        except UnicodeDecodeError:  # of this one cell; the caller knows its row
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            what = f"rows {rows.min()} to {rows.max()} of split '{self._split}' cannot be read ({first_line(error)})"
            raise InputError(what, "write or download the data again") from error

    def place(self, row: int) -> str:
        """Where a row is, for messages."""
        return f"in row {row} of split '{self._split}'"

    def keys(self, rows: np.ndarray) -> list[str]:
        """See `SourceRows`."""
        return row_keys(self._split, rows)

    def random_access(self, name: str, rows: np.ndarray) -> ArrowTable:
        """This table: its rows can be read in any order."""
        return self

    def _picked(self, name: str, rows: Any) -> Any:
        assert self._dataset is not None
        return self._dataset.select_columns([name]).with_format("arrow")[rows].column(name)


class MappedFiles:
    """Arrow stream files, one after the other.

    Pages of a mapped file count as memory of the process once they were read; with `datasets.Dataset` that becomes the whole
    file. Here they are released, so that memory does not grow with the size of the data (measured in tests/benchmarks/LOG.md).

    Attributes:
        files: the files.
        table: all rows as a pyarrow Table.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        import pyarrow as pa

        self.files = list(files)
        self._resident = _resident_bytes()
        self._maps = [_map(file) for file in files]
        self.table = pa.concat_tables(
            [pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(mapped))).read_all() for mapped in self._maps]
        )
        self._release()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __reduce__(self) -> Any:
        return MappedFiles, (self.files,)  # another process maps the files itself

    def cells(self, name: str, rows: np.ndarray) -> Iterator[Any]:
        """The cells of a column at `rows`, in any order."""
        chunks = self.table.column(name).chunks
        ends = np.cumsum([len(chunk) for chunk in chunks])
        chunk_of = np.searchsorted(ends, rows, side="right")
        for at, (row, chunk) in enumerate(zip(rows.tolist(), chunk_of.tolist(), strict=True)):
            yield chunks[chunk][row - int(ends[chunk])].as_py()  # counted from the end of its chunk
            if at % ROWS == ROWS - 1:
                self._release()

    def _release(self) -> None:
        """Release the pages that were read if they are many; read again, they come from the file."""
        if _resident_bytes() - self._resident > RESIDENT_BYTES:
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)
            self._resident = _resident_bytes()


def _mapped(dataset: Any) -> MappedFiles | None:
    """The Arrow files of a dataset; None unless they hold its rows, all of them in their order."""
    import datasets

    files = [Path(file["filename"]) for file in dataset.cache_files]
    if not files or getattr(dataset, "_indices", None) is not None:  # in memory, or rows selected from the files
        return None
    try:
        found = MappedFiles(files)
        same = datasets.Features.from_arrow_schema(found.table.schema) == dataset.features
    except Exception:  # no Arrow streams with the same columns
        return None
    return found if same and len(found) == len(dataset) else None


def _check_positions(dataset: Any, split: str) -> None:
    """Raise InputError where cells lie outside their file: Arrow reads without looking. Text need not be UTF-8 here."""
    import pyarrow as pa

    try:
        for chunk in (chunk for column in dataset.data.table.columns for chunk in column.chunks):
            chunk.validate()
            chunk.cast(_as_bytes(chunk.type)).validate(full=True)
    except pa.ArrowInvalid as error:
        names = ", ".join(f"'{Path(file['filename']).name}'" for file in dataset.cache_files[:3])
        what = f"the data of split '{split}' are damaged ({first_line(error)}){f', in {names}' if names else ''}"
        raise InputError(what, "write or download the data again") from error


def _as_bytes(kind: Any) -> Any:
    """An Arrow type with bytes in place of text, whose cells are not looked at."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_as_bytes(field.type)) for field in kind])
    return pa.binary() if pa.types.is_string(kind) else pa.large_binary() if pa.types.is_large_string(kind) else kind


def _map(file: Path) -> mmap.mmap:
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)


def _resident_bytes() -> int:
    """Bytes of mapped files that count as memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[2]) * mmap.PAGESIZE
    except (OSError, ValueError):
        return 0
