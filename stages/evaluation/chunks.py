"""Evaluate samples in chunks: shared among processes, and saved to disk so that an interrupted evaluation resumes.

A chunk's file is named by the digest of everything that determines its results.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.attacks.spec import AttackSpec
from stages.errors import MissingError
from stages.files.writing import write_file
from stages.identity import digest_of
from stages.world import World

# attack steps on full batches per chunk, approximately: the most that an interrupted evaluation loses
_CHUNK_STEPS = 160
_SAVE_EVERY_SECONDS = 1.0
_ENDING = ".part"
_DIGEST_BYTES = 32


def chunk_size(spec: AttackSpec, batch_size: int) -> int:
    """Samples per chunk. It depends on neither time nor processes."""
    return batch_size * max(1, _CHUNK_STEPS // spec.steps)


def chunks_folder(report: Path) -> Path:
    """Folder of the finished chunks of a report: .report.json.parts for report.json."""
    return report.with_name(f".{report.name}.parts")


class SavedChunks:
    """Finished chunks in files. Chunks that cannot be written or read are computed again.

    Args:
        folder: created when it is needed.
        every: seconds between writes; a shorter evaluation writes nothing.
    """

    def __init__(self, folder: Path, every: float = _SAVE_EVERY_SECONDS) -> None:
        self.found = 0
        self._folder, self._every = folder, every
        self._unsaved: dict[str, bytes] = {}
        self._saved_at = time.monotonic()

    def find(self, name: str, like: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """The columns saved as `name`, with the dtypes and shapes of `like`, or None."""
        try:
            data = (self._folder / f"{name}{_ENDING}").read_bytes()
        except OSError:
            return None
        body = data[_DIGEST_BYTES:]
        if data[:_DIGEST_BYTES] != hashlib.sha256(body).digest() or len(body) != sum(column.nbytes for column in like):
            return None
        columns, start = [], 0
        for column in like:
            columns.append(np.frombuffer(body, column.dtype, column.size, start).reshape(column.shape))
            start += column.nbytes
        self.found += 1
        return columns

    def keep(self, name: str, columns: Sequence[np.ndarray]) -> None:
        """Store columns as `name`; written by the first call after `every` seconds."""
        body = b"".join(column.tobytes() for column in columns)
        self._unsaved[name] = hashlib.sha256(body).digest() + body
        if time.monotonic() - self._saved_at >= self._every:
            self.save()

    def save(self) -> None:
        """Write all unsaved chunks."""
        with suppress(MissingError):
            while self._unsaved:
                name, data = next(iter(self._unsaved.items()))
                write_file(self._folder / f"{name}{_ENDING}", data)
                del self._unsaved[name]
        self._unsaved.clear()
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Remove all chunks, also those of other evaluations with the same report file."""
        self._unsaved.clear()
        for path in self._folder.glob(f"*{_ENDING}"):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # missing, or it holds other files
            self._folder.rmdir()


@dataclass(frozen=True)
class Chunks:
    """Evaluates samples chunk by chunk.

    Attributes:
        world: the processes that share the work; each takes every n-th chunk.
        saved: where finished chunks are saved, or None.
        about: everything that determines the results, besides the arguments of `run`.
    """

    world: World = field(default_factory=World)
    saved: SavedChunks | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def run(
        self,
        rows: Tensor,
        size: int,
        columns: Sequence[np.ndarray],
        judge: Callable[[Tensor], None],
        *,
        about: Mapping[str, Any],
        device: torch.device,
        resumed: Callable[[Tensor], None],
    ) -> None:
        """Fill `columns` at `rows`, in all processes.

        Args:
            rows: (M,) int64 on the CPU.
            size: samples per chunk.
            columns: int32 or float32, one value per sample.
            judge: fills the columns at the rows (n,) of one chunk.
            about: what determines the results, besides `self.about` and the rows.
            device: of this process.
            resumed: called with the rows (n,) of a chunk that was read from disk.
        """
        mine = rows.split(size)[self.world.rank :: self.world.size] if len(rows) else ()
        record = {**self.about, **about}
        try:
            for chunk in mine:
                at = chunk.numpy()
                name = digest_of(record, at)
                done = None if self.saved is None else self.saved.find(name, [column[at] for column in columns])
                if done is not None:
                    for column, values in zip(columns, done, strict=True):
                        column[at] = values
                    resumed(chunk)
                    continue
                judge(chunk)
                if self.saved is not None:
                    self.saved.keep(name, [column[at] for column in columns])
        except BaseException:
            if self.saved is not None:
                self.saved.save()
            raise
        if self.world.size > 1:
            self._gather(rows, torch.cat(mine) if mine else rows[:0], columns, device)

    def _gather(self, rows: Tensor, mine: Tensor, columns: Sequence[np.ndarray], device: torch.device) -> None:
        """Sum over processes: each row was evaluated by one of them, the others add zeros. Integers keep the bits of floats."""
        for column in columns:
            bits = column.view(np.int32)
            message = torch.zeros(len(bits), dtype=torch.int32)
            message[mine] = torch.from_numpy(bits[mine.numpy()])
            message = message[rows].to(device)
            self.world.sum([message])
            bits[rows.numpy()] = message.cpu().numpy()
