"""The image source: what all kinds of DATA have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from stages.data.decoding.encoded import Encoded
from stages.data.image_set import Contents
from stages.data.source_rows import row_keys


class Source(ABC):
    """Data whose labels can be read without decoding an image.

    Attributes:
        name: base name, hub id or bundled name.
        splits: split names.
        classes: class names.
        notes: what a reader of the result should know.
        whole: whether a single split is used whole, for training and evaluation, instead of being divided 90/10.
        passed_over: split -> reason -> number of files that were found there and are not read; '' for those outside the splits.
        decoded: whether its images are pixels already, so that there is nothing to cache.
    """

    name: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    whole = False
    passed_over: Mapping[str, Mapping[str, int]] = MappingProxyType({})
    decoded = False

    @abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """Labels of a split, int64 (N,), positions in `classes`. Raises InputError when an image has none."""

    def image_count(self, split: str) -> int:
        """The number of images of a split, also of those without a label."""
        return len(self.labels(split))

    def file_count(self, split: str) -> int | None:
        """The number of files that contain the images of a split; None when they are not in files."""
        return None

    @abstractmethod
    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """The images at `rows` of a split, ascending, not decoded; in any order after `random_access`."""

    def keys(self, split: str, rows: np.ndarray) -> list[str]:
        """A name for each of the images at `rows` of a split, unique in the source (see `SourceRows`)."""
        return row_keys(split, rows)

    def random_access(self, rows: Mapping[str, np.ndarray]) -> Source:
        """A source whose images at `rows` (ascending) of each split can be read in any order."""
        return self

    def contents(self, splits: Sequence[str]) -> Contents:
        """What was found in `splits`."""
        passed: Counter[str] = Counter()
        for split in ("", *splits):
            passed.update(self.passed_over.get(split, {}))
        files = [self.file_count(split) for split in splits]
        known = None if None in files else sum(count for count in files if count is not None) + passed.total()
        images = sum(self.image_count(split) for split in splits)
        others = [split for split in self.splits if split not in splits]
        return Contents(known, len(self.classes), images, dict(sorted(passed.items())), others)
