"""Tables that the datasets library opens: saved datasets and hub datasets."""

from __future__ import annotations

import contextlib
import logging
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.errors import InputError

ROWS = 32  # rows read at once
RESIDENT_BYTES = 32 * 2**20  # of mapped files that may count as memory of the process


class LibraryTable:
    """A split as a `datasets.Dataset`: its files are mapped into memory, not read.

    What was read of a mapped file, and what the system maps around it, counts as memory of the process for as long as it is
    mapped: in time the whole file. So the files are mapped here once more, in a way that lets go of what was read.
    """

    any_order = True

    def __init__(self, dataset: Any, split: str) -> None:
        self._files = _whole_files(dataset)
        self._dataset = dataset if self._files is None else None
        self._count = len(dataset)
        self._split = split
        self._mapped: _Mapped | None = None
        self.features: Mapping[str, Any] = dataset.features

    def __len__(self) -> int:
        return self._count

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapping: another process makes its own."""
        return {**self.__dict__, "_mapped": None}

    def column(self, name: str) -> Any:
        """The column, without decoding; a copy, so that its places in the files need not stay mapped."""
        import pyarrow as pa

        found = self._whole().select_columns([name]).with_format("arrow")[:].column(name)
        chunks = []
        for chunk in found.chunks:
            chunks.append(pa.concat_arrays([chunk, chunk.slice(0, 0)]))  # of a single array it would not make a copy
            if self._mapped is not None:
                self._mapped.let_go()
        return pa.chunked_array(chunks, found.type)

    def files(self) -> list[Path] | None:
        """The mapped files; None when the rows are in memory, or are not all rows of the files in their order."""
        return self._files

    def cells(self, name: str, rows: np.ndarray) -> Iterator[tuple[str, Any]]:
        """The cells at `rows`, in any order, without decoding. Raises InputError when they cannot be read."""
        table = None
        for start in range(0, len(rows), ROWS):
            own = rows[start : start + ROWS]
            table = table or self._whole().select_columns([name]).with_format("arrow")
            yield from zip(
                (f"in row {row} of split '{self._split}'" for row in own), self._taken(table, name, own), strict=True
            )

    def _taken(self, table: Any, name: str, rows: np.ndarray) -> list[Any]:
        import pyarrow as pa

        try:
            cells = table[rows.tolist()].column(name).to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            what = f"rows {rows.min()} to {rows.max()} of split '{self._split}' cannot be read ({first_line(error)})"
            raise InputError(what, "write or fetch the data again") from error
        if self._mapped is not None:
            self._mapped.let_go()
        return cells

    def _whole(self) -> Any:
        if self._files is None:
            return self._dataset
        if self._mapped is None:
            self._mapped = _Mapped(self._files)
        return self._mapped.dataset


class _Mapped:
    """Arrow files, one after the other, mapped as a `datasets.Dataset`.

    Attributes:
        dataset: their rows.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        import datasets
        import pyarrow as pa

        self._resident = _resident_files()
        self._maps = [_map(file) for file in files]
        tables = [pa.ipc.open_stream(pa.BufferReader(pa.py_buffer(mapped))).read_all() for mapped in self._maps]
        # a fingerprint of its own making would read all of them
        self.dataset = datasets.Dataset(datasets.table.InMemoryTable(pa.concat_tables(tables)), fingerprint="mapped")
        self.let_go()

    def let_go(self) -> None:
        """Have the pages that were read count no longer, if they are many; read again, they come from the file again."""
        if _resident_files() - self._resident > RESIDENT_BYTES:
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)
            self._resident = _resident_files()


def _map(file: Path) -> mmap.mmap:
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)


def _resident_files() -> int:
    """Bytes of mapped files that count as memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[2]) * mmap.PAGESIZE
    except (OSError, ValueError):
        return 0


def _whole_files(dataset: Any) -> list[Path] | None:
    """The Arrow files that, one after the other, hold the rows of a dataset; None when there are none such."""
    files = [Path(file["filename"]) for file in dataset.cache_files]
    if not files or getattr(dataset, "_indices", None) is not None:  # in memory, or rows picked from the files
        return None
    try:
        whole = _Mapped(files).dataset
    except Exception:  # no Arrow streams of the same columns
        return None
    return files if len(whole) == len(dataset) and whole.features == dataset.features else None


def saved_tables(path: Path, name: str) -> dict[str, LibraryTable]:
    """The splits of a dataset written by `save_to_disk`. Raises InputError when it cannot be read."""
    import datasets

    try:
        with quiet_datasets():
            loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # anything may be wrong with the files
        what = f"the saved dataset '{name}' cannot be read ({first_line(error)})"
        raise InputError(what, "save it again") from error
    return library_tables(loaded)


def library_tables(loaded: Any) -> dict[str, LibraryTable]:
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


def first_line(error: Exception) -> str:
    """What another library's error says, short enough for one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]
