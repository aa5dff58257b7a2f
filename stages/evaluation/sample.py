"""Evaluate a random subset of the images, which the report mentions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.classes import fold
from stages.data.by_class import rows_by_class
from stages.data.image_set import ImageSet
from stages.data.request import IMAGES
from stages.errors import UsageError
from stages.parameters import check, parameter
from stages.randomness import numpy_generator

PURPOSE = "evaluate/sample"


@dataclass(frozen=True)
class Sample:
    """Size of the subset: at most `per_class` of each class, then at most `images` of those; None is no limit.

    Raises UsageError for a number below 1.
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
        """Whether there is a limit."""
        return self.images is not None or self.per_class is not None

    def to_record(self) -> dict[str, Any]:
        """JSON-able record."""
        return {"max_images": self.images, "max_per_class": self.per_class, "seed": self.seed}


def subset_of(images: ImageSet, sample: Sample) -> ImageSet:
    """The sampled images, in their original order.

    The subset depends on labels, limits and seed only, is spread evenly over the classes, and is contained in any larger one.

    Raises UsageError if `sample.images` leaves a class without an image.
    """
    if not sample.asked:
        return images
    import torch

    labels = images.labels.cpu().numpy()
    rank = np.empty(len(labels), dtype=np.int64)
    turn = np.argsort(np.argsort([fold(name) for name in images.classes]))
    for name, own in zip(images.classes, rows_by_class(labels, len(images.classes)), strict=True):
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
    """The note in the report: `kept` of `whole` images."""
    return f"a subset: {kept:,} of {whole:,} images, sampled with seed {sample.seed}"
