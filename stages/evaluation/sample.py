"""A quick look: a seeded draw of the images of an evaluation, said in the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.classes import fold
from stages.data.image_set import ImageSet
from stages.data.request import IMAGES
from stages.errors import UsageError
from stages.parameters import check, parameter
from stages.randomness import numpy_generator

PURPOSE = "evaluate/sample"


@dataclass(frozen=True)
class Sample:
    """How many images are sampled: at most `per_class` of each class, then at most `images` of those; None is no limit.

    `seed` is that of the sampling, whose purpose is 'evaluate/sample'. Raises UsageError for a number below 1.
    """

    images: int | None = parameter(
        None, "Evaluate at most N images, sampled evenly over the classes.", option="max-images", panel=IMAGES, at_least=1
    )
    per_class: int | None = parameter(
        None, "Evaluate at most N images of each class.", option="max-per-class", panel=IMAGES, at_least=1
    )
    seed: int = 0

    def __post_init__(self) -> None:
        check(self)

    @property
    def asked(self) -> bool:
        """Whether there is a limit at all."""
        return self.images is not None or self.per_class is not None

    def to_record(self) -> dict[str, Any]:
        """As a JSON-able record."""
        return {"max_images": self.images, "max_per_class": self.per_class, "seed": self.seed}


def drawn(images: ImageSet, sample: Sample) -> ImageSet:
    """The drawn images, in their old order.

    The draw follows from the labels, the limits and the seed alone. Each class is ordered by a generator of its own name, and
    `images` is filled one image of each class after the other, in the order of their names: as even as can be, and the
    images of a smaller draw are among those of a larger one.

    Raises UsageError when `sample.images` leaves a class without an image.
    """
    if not sample.asked:
        return images
    import torch

    labels = images.labels.cpu().numpy()
    rank = np.empty(len(labels), dtype=np.int64)
    turn = np.argsort(np.argsort([fold(name) for name in images.classes]))
    for at, name in enumerate(images.classes):
        own = np.flatnonzero(labels == at)
        words = numpy_generator(sample.seed, f"{PURPOSE}/{fold(name)}").bit_generator.random_raw(len(own))
        rank[own[np.argsort(words, kind="stable")]] = np.arange(len(own))
    kept = np.flatnonzero(rank < sample.per_class) if sample.per_class is not None else np.arange(len(labels))
    if sample.images is not None:
        present = len(np.unique(labels))
        if sample.images < present:
            fix = f"give --max-images {present} or more"
            raise UsageError(f"--max-images {sample.images} leaves some of the {present} classes without an image", fix)
        in_turn = kept[np.lexsort((turn[labels[kept]], rank[kept]))]
        kept = np.sort(in_turn[: sample.images])
    return images.take(torch.from_numpy(kept))


def sample_note(sample: Sample, kept: int, whole: int) -> str:
    """What a report says of a draw: `kept` images of `whole`."""
    return f"a quick look: {kept:,} of {whole:,} images, drawn with seed {sample.seed}"
