"""The bundled data `shapes` and its variants as sources of images."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, cast

import numpy as np

from stages.data.decoding.encoded import Encoded
from stages.data.shapes import render_split, shape_classes
from stages.data.source import Source


class ShapesSource(Source):
    """`shapes` or a variant, with the splits train and test. A split is rendered on first use."""

    splits = ("train", "test")
    classes = shape_classes()
    decoded = True

    def __init__(self, name: str = "shapes") -> None:
        self.name = name

    def labels(self, split: str) -> np.ndarray:
        """See `Source`."""
        return _rendered(self.name, split)[1]

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """See `Source`; the images are pixels already."""
        images = _rendered(self.name, split)[0]
        for row in rows:
            yield Encoded(f"{row} of split '{split}'", images[row].transpose(1, 2, 0))


@lru_cache(maxsize=2)
def _rendered(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    return render_split(cast("Literal['train', 'test']", split), name=name)
