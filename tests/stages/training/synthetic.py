"""A small made-up training task: classes told apart by colour and stripes, and anchors of few dimensions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups
from stages.data.image_set import DataProvenance, ImageSet
from stages.models.embedding import EmbeddingModel
from stages.randomness import numpy_generator
from stages.training.settings import TrainSettings

SIZE = 16
NAMES = ("red", "green", "blue", "red stripes", "green stripes", "blue stripes")


def made_up_images(names: tuple[str, ...] = NAMES, per_class: int = 8, seed: int = 0) -> ImageSet:
    """Noisy pictures, `per_class` of each name; from numpy, so the same everywhere."""
    generator = numpy_generator(seed, "tests/images")
    labels = np.repeat(np.arange(len(names)), per_class)
    pixels = generator.integers(0, 120, (len(labels), 3, SIZE, SIZE))
    for at, label in enumerate(labels):
        channel = NAMES.index(names[label]) % 3
        bright = pixels[at, channel]
        if "stripes" in names[label]:
            bright[::4] += 130
            bright[1::4] += 130
        else:
            bright += 80
    return ImageSet(torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels), names, DataProvenance("made up"))


def made_up_anchors(names: tuple[str, ...] = NAMES, seen: int | None = None, val: int = 0, width: int = 6) -> AnchorSet:
    """Random unit anchors."""
    values = numpy_generator(0, "tests/anchors").standard_normal((len(names), width))
    unit = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return AnchorSet(unit, names, ClassGroups.from_counts(len(names), seen, val), {"source": "random", "seed": 0})


def quick(**changes: Any) -> TrainSettings:
    """Settings that finish in a moment."""
    given = {"backbone": "conv4-8", "epochs": 2, "batch_size": 16, "steps": 2, "eps": Fraction(8, 255), **changes}
    return TrainSettings(**given)


def small_model(width: int = 6, seed: int = 0) -> EmbeddingModel:
    """An untrained conv4-8."""
    return EmbeddingModel("conv4-8", width, SIZE, mean=(0.4, 0.4, 0.4), std=(0.25, 0.25, 0.25), seed=seed)
