"""Images by their position, in any order, decoded when they are asked for."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.data import cache
from stages.data.decode import Encoded, UnreadableImageError, attempt, corrupt, different_sizes, quiet_pillow
from stages.data.sources import Source
from stages.data.subset import Subset
from stages.errors import MissingError

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 64  # images of a copy written at once


class Reader:
    """The images of a selection, by position (0 to len - 1). It goes along to other processes.

    Attributes:
        name: of the data, for messages.
        resize: side in pixels, or None.
    """

    def __init__(self, subset: Subset) -> None:
        """Where the source can only be read in order, its encoded images are first copied to where they can be reached.

        Raises InputError when the source cannot be read, MissingError when there is no room for the copy.
        """
        self.name, self.resize = subset.source.name, subset.resize
        self._source: Source | _Copy = subset.source if subset.source.any_order else _copied(subset)
        rows = subset.rows if subset.source.any_order else {"": np.arange(len(subset.labels))}
        self._splits = list(rows.items())
        self._ends = np.cumsum([len(own) for _, own in self._splits])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def encoded(self, positions: np.ndarray) -> Iterator[Encoded]:
        """The images at `positions` (int64), in that order, not decoded."""
        if len(self._splits) == 1:
            split, rows = self._splits[0]
            yield from self._source.encoded(split, rows[positions])
            return
        part = np.searchsorted(self._ends, positions, side="right")
        starts = self._ends - [len(own) for _, own in self._splits]
        feeds = [
            self._source.encoded(split, rows[positions[part == at] - starts[at]])
            for at, (split, rows) in enumerate(self._splits)
        ]
        for at in part:
            yield next(feeds[at])

    def pixels(self, positions: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The images at `positions`, uint8 (n, 3, H, W), decoded by this thread. Raises InputError, naming the image.

        Args:
            positions: int64 (n,).
            size: height and width that all must have.
        """
        pixels = np.empty((len(positions), 3, *size), dtype=np.uint8)
        with quiet_pillow():
            for at, image in enumerate(self.encoded(positions)):
                found = attempt(image, self.resize)
                if isinstance(found, UnreadableImageError):
                    raise corrupt(image.where, self.name, found)
                if found.shape[:2] != size:
                    raise different_sizes(self.name, ("the first", size), (image.where, found.shape))
                pixels[at] = found.transpose(2, 0, 1)
        return pixels


class _Copy:
    """Encoded images copied, in order, into an Arrow file that the datasets library maps into memory."""

    def __init__(self, file: Path) -> None:
        import datasets

        from stages.data.library import LibraryTable, quiet_datasets

        with quiet_datasets():
            self._table = LibraryTable(datasets.Dataset.from_file(str(file)), "train")

    def __len__(self) -> int:
        return len(self._table)

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """The images at `rows`, in any order; there is one split."""
        for _, cell in self._table.cells("image", rows):
            path = cell["path"]
            yield Encoded(cell["where"], Path(path) if path is not None else cell["content"])


def _copied(subset: Subset) -> _Copy:
    name = subset.entry_name("images")
    with cache.one_at_a_time(name):
        file = cache.fetch_file(name, ".arrow")
        copy = None if file is None else _whole_copy(file, len(subset.labels))
        if copy is not None:
            return copy
        file = cache.keep_file(name, ".arrow", lambda path: _write(subset, path))
        if file is not None:
            return _Copy(file)
    folder = Path(tempfile.mkdtemp(prefix="laat-"))
    file = folder / "images.arrow"
    try:
        _write(subset, file)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise MissingError(
            f"the data '{subset.source.name}' cannot be unpacked in '{folder.parent}' for streaming ({error.strerror})",
            "free some space, name a folder on a larger disk with LAAT_CACHE, or choose --cache ram",
        ) from None
    copy = _Copy(file)
    weakref.finalize(copy, _remove, folder, os.getpid())
    return copy


def _whole_copy(file: Path, count: int) -> _Copy | None:
    """The copy in a file of an earlier run, or None when it is damaged."""
    try:
        copy = _Copy(file)
    except Exception:  # whatever the library makes of the bytes
        return None
    return copy if len(copy) == count else None


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a worker process that lets go of its copy
        shutil.rmtree(folder, ignore_errors=True)


def _write(subset: Subset, file: Path) -> None:
    import pyarrow as pa

    kind = pa.struct([("where", pa.string()), ("content", pa.large_binary()), ("path", pa.string())])
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, pa.schema([("image", kind)])) as stream:
        cells: list[dict[str, Any]] = []
        for image in subset.encoded():
            path = str(image.content) if isinstance(image.content, Path) else None
            cells.append({"where": image.where, "content": None if path else image.content, "path": path})
            if len(cells) == ROWS:
                stream.write_batch(_batch(cells, kind))
                cells = []
        if cells:
            stream.write_batch(_batch(cells, kind))


def _batch(cells: list[dict[str, Any]], kind: pa.DataType) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.record_batch([pa.array(cells, kind)], ["image"])
