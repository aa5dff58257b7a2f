"""Images of the page, from the least to the most robust: what is shown of them, and which are. Needs no torch."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np

from stages.randomness import numpy_generator

STANDS, FALLS = "robust", "misclassified under attack"
MARGIN = "cosine, or logit of a few-shot head or of fixed classes, of the correct class minus the largest other"
_PURPOSE = "page/images"


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        key: its name in the data.
        true_class, attacked_answer: names of classes; the answer on the clean image is the true class.
        outcome: `STANDS` or `FALLS`.
        margin: that orders the images of an outcome, in words; '' if unknown.
        rank: 0 for the least robust.
        clean, attacked, difference: PNG as data URI; the last two are '' where the attacked image was not saved.
    """

    key: str
    true_class: str
    attacked_answer: str
    outcome: str
    margin: str
    rank: int
    clean: str
    attacked: str
    difference: str

    @property
    def stands(self) -> bool:
        """Whether the attack fails on it."""
        return self.outcome == STANDS


@dataclass(frozen=True)
class Gallery:
    """Images under one attack, or the worst of several.

    Attributes:
        name: where they are from.
        attack: name of the attack.
        about: what a reader must know, a sentence each.
        scale: the difference is shown this many times as large, around grey; 0 without one.
        pixels: width of an image.
        pictures: from the least to the most robust.
    """

    name: str
    attack: str
    about: tuple[str, ...]
    scale: int
    pixels: int
    pictures: tuple[Picture, ...]

    @property
    def classes(self) -> list[str]:
        """The classes of the images that are shown."""
        return sorted({one.true_class for one in self.pictures})


def margin_text(margin: float, *, stands: bool) -> str:
    """The margin of an image in words; '' where it is unknown."""
    return "" if np.isnan(margin) else f"{margin:+.3f} {'under attack' if stands else 'when clean'}"


def chosen_ranks(labels: np.ndarray, most: int) -> np.ndarray:
    """Positions in the order from least to most robust, ascending: both ends, one of each class, and others by seed."""
    count = len(labels)
    if count <= most:
        return np.arange(count)
    ends = max(1, most // 3)
    drawn = numpy_generator(0, _PURPOSE).permutation(count)
    firsts = drawn[np.sort(np.unique(labels[drawn], return_index=True)[1])]
    wanted = [*range(ends), *range(count - ends, count), *firsts.tolist(), *drawn.tolist()]
    return np.sort(np.array(list(dict.fromkeys(wanted))[:most]))


def png_uri(image: np.ndarray) -> str:
    """A (3, H, W) uint8 image as data URI."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
