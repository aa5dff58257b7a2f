"""The bundled data `shapes` as a source of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal, cast

import numpy as np

from stages.data.decode import Encoded
from stages.data.shapes import render_split, shape_classes


class ShapesSource:
    """`shapes`, with the splits train and test. A split is rendered on first use."""

    name = "shapes"
    splits: tuple[str, ...] = ("train", "test")
    notes: tuple[str, ...] = ()
    external_files = False

    def __init__(self) -> None:
        self.classes = tuple(shape_classes())

    def labels(self, split: str) -> np.ndarray:
        """Labels of a split, int64 (N,), positions in `classes`."""
        return _rendered(split)[1]

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """The images at `rows` of a split, in any order, already pixels."""
        images = _rendered(split)[0]
        for row in rows:
            yield Encoded(f"{row} of split '{split}'", images[row].transpose(1, 2, 0))

    def random_access(self, rows: Mapping[str, np.ndarray]) -> ShapesSource:
        """This source: the images are in memory."""
        return self

    def cache_key(self, split: str, rows: np.ndarray) -> None:
        """None: the images are not in files."""


@lru_cache(maxsize=2)
def _rendered(split: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = render_split(cast("Literal['train', 'test']", split))
    return images, labels
