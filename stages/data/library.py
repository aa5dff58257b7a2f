"""Tables that the datasets library opens: saved datasets and hub datasets."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.errors import InputError

ROWS = 256  # rows read at once
# What was read of a mapped file, and what the system maps around it, counts as memory of the process until mapped anew.
MAPPED_BYTES = 64 * 2**20
PAGES_BYTES = 64 * 2**10  # around a place that is read, where the system does not say


class LibraryTable:
    """A split as a `datasets.Dataset`: its files are mapped into memory, not read.

    What was read of a mapped file counts as memory of the process. So the cells are read through a mapping of their own, which
    is made anew now and then.
    """

    any_order = True

    def __init__(self, dataset: Any, split: str) -> None:
        self._dataset = dataset
        self._split = split
        self._files = _mapped_files(dataset)
        self._mapped: dict[str, Any] = {}
        self._read = self._before = 0
        self.features: Mapping[str, Any] = dataset.features

    def __len__(self) -> int:
        return len(self._dataset)

    def column(self, name: str) -> Any:
        """The column, without decoding."""
        return self._dataset.select_columns([name]).with_format("arrow")[:].column(name)

    def files(self) -> list[Path] | None:
        """The mapped files; None when the rows are in memory, or are not all rows of the files in their order."""
        return self._files

    def cells(self, name: str, rows: np.ndarray) -> Iterator[tuple[str, Any]]:
        """The cells at `rows`, in any order, without decoding. Raises InputError when they cannot be read."""
        for start in range(0, len(rows), ROWS):
            own = rows[start : start + ROWS]
            cells = self._taken(name, own)
            yield from zip((f"in row {row} of split '{self._split}'" for row in own), cells, strict=True)

    def _taken(self, name: str, rows: np.ndarray) -> list[Any]:
        import pyarrow as pa

        try:
            taken = self._table(name)[rows.tolist()].column(name)
            self._read += taken.nbytes + PAGES_BYTES * len(rows)
            return taken.to_pylist()
        except (pa.ArrowException, OSError, ValueError) as error:
            what = f"rows {rows.min()} to {rows.max()} of split '{self._split}' cannot be read ({first_line(error)})"
            raise InputError(what, "write or fetch the data again") from error

    def _table(self, name: str) -> Any:
        resident = _resident_files()
        if (self._read if resident is None else resident - self._before) > MAPPED_BYTES:
            self._mapped.clear()
            self._read, self._before = 0, _resident_files() or 0
        if name not in self._mapped:
            whole = self._dataset if self._files is None else _open_mapped(self._files)
            self._mapped[name] = whole.select_columns([name]).with_format("arrow")
        return self._mapped[name]


def _resident_files() -> int | None:
    """Bytes of mapped files that count as memory of this process; None where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[2]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _mapped_files(dataset: Any) -> list[Path] | None:
    """The Arrow files that, one after the other, hold the rows of a dataset; None when there are none such."""
    files = [Path(file["filename"]) for file in dataset.cache_files]
    if getattr(dataset, "_indices", None) is not None:  # rows picked from the files
        return None
    try:
        whole = _open_mapped(files) if files else None
    except Exception:  # no Arrow streams of the same columns
        return None
    same = whole is not None and len(whole) == len(dataset) and whole.features == dataset.features
    return files if same else None


def _open_mapped(files: Sequence[Path]) -> Any:
    import datasets

    with quiet_datasets():
        parts = [datasets.Dataset.from_file(str(file)) for file in files]
        return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


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
