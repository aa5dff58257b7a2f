"""Predictions as a file, written while they are made: CSV, JSON lines or Parquet. No torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from stages.errors import UsageError
from stages.files.reading import STDIO
from stages.files.writing import streamed_file
from stages.prediction.record import Prediction, path_as_text
from stages.reports.tables import csv_line, csv_path

SUFFIXES = (".csv", ".jsonl", ".parquet")
_GROUP = 1 << 16  # rows of a Parquet file that are written at once


class Writer(Protocol):
    """What takes predictions in their order."""

    def write(self, predictions: Sequence[Prediction]) -> None:
        """Append some."""

    def end(self) -> None:
        """Write what was held back."""

    def close(self) -> None:
        """Let the file go, also after an error."""


def check_suffix(path: Path) -> str:
    """How a file of predictions is written, by its name: '.csv', '.jsonl' or '.parquet'; '-' is '.csv'. Raises UsageError."""
    suffix = ".csv" if str(path) == STDIO else path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"'{path}' is not the name of a file of predictions", "end the name with .csv, .jsonl or .parquet")
    return suffix


@contextmanager
def prediction_file(path: Path, stdout: BinaryIO, *, top: int, judged: bool) -> Iterator[Writer]:
    """A file of predictions, whole or not there at all.

    Columns of CSV and Parquet: path, name, confidence, margin; name_2, confidence_2, … for the other `top` classes; stands and
    falls_at where attacks were run; error. Confidences are fractions of 1. Paths are those of `path_as_text`.

    Args:
        path: its suffix decides the format; '-' is CSV to `stdout`.
        stdout: see `path`.
        top: number of classes for each image.
        judged: whether attacks were run.

    Raises UsageError for another suffix, MissingError if it cannot be written.
    """
    kinds: dict[str, Callable[[BinaryIO, dict[str, type]], Writer]]
    kinds = {".csv": _Csv, ".jsonl": _JsonLines, ".parquet": _Parquet}
    kind = kinds[check_suffix(path)]
    with ExitStack() as ending:
        file = stdout if str(path) == STDIO else ending.enter_context(streamed_file(path))
        writer = ending.enter_context(closing(kind(file, columns(top, judged=judged))))
        yield writer
        writer.end()
        file.flush()


def columns(top: int, *, judged: bool) -> dict[str, type]:
    """The columns of CSV and Parquet, and their types."""
    others = {f"{name}_{at}": kind for at in range(2, top + 1) for name, kind in (("name", str), ("confidence", float))}
    after: dict[str, type] = {"stands": bool, "falls_at": str} if judged else {}
    return {"path": str, "name": str, "confidence": float, "margin": float, **others, **after, "error": str}


def cells(prediction: Prediction) -> dict[str, Any]:
    """The values of the columns that a prediction has."""
    if prediction.error:
        return {"path": path_as_text(prediction.path), "error": prediction.error}
    others = {
        f"{name}_{at}": value
        for at, pair in enumerate(prediction.top[1:], 2)
        for name, value in zip(("name", "confidence"), pair, strict=True)
    }
    return {
        "path": path_as_text(prediction.path),
        "name": prediction.name,
        "confidence": prediction.confidence,
        "margin": prediction.margin,
        **others,
        "stands": prediction.stands,
        "falls_at": prediction.falls_at or None,
    }


class _Csv:
    def __init__(self, file: BinaryIO, columns: dict[str, type]) -> None:
        self._file, self._columns = file, columns
        self._shown = file.isatty()  # a terminal would obey control characters
        self._write(csv_line(columns))

    def write(self, predictions: Sequence[Prediction]) -> None:
        for prediction in predictions:
            found = {name: _plain(value) for name, value in cells(prediction).items()}
            path, *others = map(found.get, self._columns)
            self._write(csv_line([path, *others]) if self._shown else f"{csv_path(str(path))},{csv_line(others)}")

    def end(self) -> None:
        """See `Writer`."""

    def close(self) -> None:
        """See `Writer`."""

    def _write(self, line: str) -> None:
        self._file.write(line.encode())


def _plain(value: Any) -> Any:
    """A cell: six significant digits, and yes or no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return float(f"{value:.6g}") if isinstance(value, float) else value


class _JsonLines:
    def __init__(self, file: BinaryIO, columns: dict[str, type]) -> None:
        self._file = file

    def write(self, predictions: Sequence[Prediction]) -> None:
        for prediction in predictions:
            self._file.write(f"{json.dumps(prediction.to_record(), ensure_ascii=False, allow_nan=False)}\n".encode())

    def end(self) -> None:
        """See `Writer`."""

    def close(self) -> None:
        """See `Writer`."""


class _Parquet:
    def __init__(self, file: BinaryIO, columns: dict[str, type]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {str: pa.string(), float: pa.float32(), bool: pa.bool_()}
        self._schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
        self._writer = pq.ParquetWriter(pa.PythonFile(file, mode="w"), self._schema, compression="zstd")
        self._held: list[dict[str, Any]] = []

    def write(self, predictions: Sequence[Prediction]) -> None:
        self._held += [cells(prediction) for prediction in predictions]
        if len(self._held) >= _GROUP:
            self._flush()

    def end(self) -> None:
        """See `Writer`."""
        self._flush()

    def close(self) -> None:
        """See `Writer`; writes the table of contents."""
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._held:
            self._writer.write_table(pa.Table.from_pylist(self._held, schema=self._schema))
            self._held = []
