"""Finished parts of an evaluation, kept in a hidden folder beside the report until it is written.

A part is named by the digest of everything that its figures follow from, so that one that does not fit is never found.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from stages import artifacts
from stages.errors import MissingError

EVERY_SECONDS = 1.0
_ENDING = ".part"
_DIGEST_BYTES = 32


def digest_of(record: Mapping[str, Any], *columns: np.ndarray) -> str:
    """A name for what follows from `record` (JSON-able) and the columns alone."""
    found = hashlib.sha256(json.dumps(record, sort_keys=True, ensure_ascii=False).encode())
    for column in columns:
        found.update(f"\0{column.dtype.str}{column.shape}\0".encode())
        found.update(np.ascontiguousarray(column).data)
    return found.hexdigest()


def parts_folder(report: Path) -> Path:
    """Where the parts of a report are kept: .report.json.parts beside report.json."""
    return report.with_name(f".{report.name}.parts")


class Parts:
    """Columns by name, in files. Written at most every `every` seconds: a short evaluation leaves no trace.

    What cannot be written is not kept, and is computed again; what is damaged is not found.

    Args:
        folder: made when it is needed.
        every: seconds between writes.
    """

    def __init__(self, folder: Path, every: float = EVERY_SECONDS) -> None:
        self.found = 0
        self._folder, self._every = folder, every
        self._held: dict[str, bytes] = {}
        self._written = time.monotonic()

    def find(self, name: str, like: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """The columns kept under `name`, each of the dtype and shape of its counterpart in `like`, or None."""
        try:
            data = (self._folder / f"{name}{_ENDING}").read_bytes()
        except OSError:
            return None
        body = data[_DIGEST_BYTES:]
        if data[:_DIGEST_BYTES] != hashlib.sha256(body).digest() or len(body) != sum(column.nbytes for column in like):
            return None
        columns, start = [], 0
        for column in like:
            part = np.frombuffer(body, column.dtype, column.size, start)
            columns.append(part.reshape(column.shape))
            start += column.nbytes
        self.found += 1
        return columns

    def keep(self, name: str, columns: Sequence[np.ndarray]) -> None:
        """Keep columns under `name`, at the latest with the first call after `every` seconds."""
        body = b"".join(column.tobytes() for column in columns)
        self._held[name] = hashlib.sha256(body).digest() + body
        if time.monotonic() - self._written >= self._every:
            self.write()

    def write(self) -> None:
        """Write what is held."""
        with suppress(MissingError):
            while self._held:
                name, data = next(iter(self._held.items()))
                artifacts.write_file(self._folder / f"{name}{_ENDING}", data)
                del self._held[name]
        self._held.clear()
        self._written = time.monotonic()

    def remove(self) -> None:
        """Take all parts away, also those of other evaluations into the same report."""
        self._held.clear()
        for path in self._folder.glob(f"*{_ENDING}"):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not there, or holds what is not ours
            self._folder.rmdir()
