"""The image source: what all kinds of DATA have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np

from stages.data.encoded import Encoded


class Source(ABC):
    """Data whose labels can be read without decoding an image.

    Attributes:
        name: base name, hub id or bundled name.
        splits: split names.
        classes: class names.
        notes: what a reader of the result should know.
        whole: whether a single split is used whole, for training and evaluation, instead of being divided 90/10.
        decoded: whether its images are pixels already, so that there is nothing to cache.
    """

    name: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    whole = False
    decoded = False

    @abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """Labels of a split, int64 (N,), positions in `classes`. Raises InputError when an image has none."""

    @abstractmethod
    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """The images at `rows` of a split, ascending, not decoded; in any order after `random_access`."""

    def random_access(self, rows: Mapping[str, np.ndarray]) -> Source:
        """A source whose images at `rows` (ascending) of each split can be read in any order."""
        return self
