"""Which row of its source each image is: split, row and key, whatever was sampled, restricted or skipped. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from stages.text import as_text

UNNAMED = "unnamed"  # the split of data without split names

# (split, rows (n,)) -> n keys
NameRows = Callable[[str, np.ndarray], list[str]]


def row_keys(split: str, rows: np.ndarray) -> list[str]:
    """'test:17', or '17' in data without split names."""
    prefix = "" if split == UNNAMED else f"{split}:"
    return [f"{prefix}{row}" for row in rows.tolist()]


@dataclass(frozen=True, eq=False)
class SourceRows:
    """The rows of N images in their source.

    Attributes:
        index: (N,) int64, the row; with several splits counted on from one split to the next.
        starts: split -> index of its first row, in the order in which the splits are read.
        name_rows: the keys of rows of a split, unique in the source: a path inside the data, a file and the row in it, or
            split and row; never an absolute path.
    """

    index: np.ndarray
    starts: Mapping[str, int]
    name_rows: NameRows = row_keys

    @classmethod
    def counted(cls, count: int) -> SourceRows:
        """The rows of images that come from no source: their positions."""
        return cls(np.arange(count, dtype=np.int64), {UNNAMED: 0})

    @classmethod
    def named(cls, index: np.ndarray, starts: Mapping[str, int], keys: Sequence[str]) -> SourceRows:
        """Images with these keys, one each. Raises ValueError where they do not fit together."""
        firsts = list(starts.values())
        if not firsts or firsts[0] < 0 or firsts != sorted(firsts):
            raise ValueError("the first rows of the splits do not ascend")
        if index.size and not firsts[0] <= int(index.min()) <= int(index.max()) < 2**31:
            raise ValueError("an image has a row outside its source")
        known = dict(zip(index.tolist(), keys, strict=True))
        return cls(index, starts, lambda split, rows: [known[starts[split] + row] for row in rows.tolist()])

    def __len__(self) -> int:
        return len(self.index)

    def take(self, at: np.ndarray) -> SourceRows:
        """The rows of the images `at` (n,)."""
        return SourceRows(self.index[at], self.starts, self.name_rows)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that were read."""
        return tuple(self.starts)

    def split_of(self) -> np.ndarray:
        """(N,) int32, the position in `splits` of each image's split."""
        firsts = np.array(list(self.starts.values()), dtype=np.int64)
        return (np.searchsorted(firsts, self.index, side="right") - 1).astype(np.int32)

    def rows(self) -> np.ndarray:
        """(N,) int32, the row of each image in its split."""
        firsts = np.array(list(self.starts.values()), dtype=np.int64)
        return (self.index - firsts[self.split_of()]).astype(np.int32)

    def names(self) -> list[str]:
        """The key of each image."""
        found: list[str] = [""] * len(self)
        split_of, rows = self.split_of(), self.rows()
        for number, split in enumerate(self.splits):
            own = np.flatnonzero(split_of == number)
            for at, key in zip(own.tolist(), self.name_rows(split, rows[own]), strict=True):
                found[at] = key
        return found


def starts_of(counts: Mapping[str, int]) -> dict[str, int]:
    """The index of the first row of each split, from their numbers of rows."""
    return dict(zip(counts, accumulate((0, *counts.values())), strict=False))  # the last sum starts nothing


def portable(path: Path | str) -> str:
    """A relative path as valid text, see `as_text`."""
    return as_text(Path(path).as_posix())


def relative_names(files: Sequence[Path], root: Path) -> list[str]:
    """The paths of files inside `root`, or their names where they are elsewhere."""
    return [portable(file.relative_to(root) if file.is_relative_to(root) else file.name) for file in files]
