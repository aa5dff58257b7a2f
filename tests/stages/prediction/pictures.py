"""Image files of the bundled shapes, and a classifier whose answers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups
from stages.data.shapes import render_split, shape_classes
from stages.models.classifier import Classifier
from tests.stages.evaluation.models import Channels

NAMES = ("red", "green", "blue")


def by_colour(names: Sequence[str] = NAMES, *, size: int | None = 32, scale: float = 10.0) -> Classifier:
    """The class is the channel that is brightest."""
    anchors = AnchorSet(np.eye(3, dtype=np.float32)[: len(names)], tuple(names), ClassGroups.from_counts(len(names), 2), {})
    return Classifier(Channels(0.45), anchors, logit_scale=scale, image_size=size).eval()


def save_shapes(folder: Path, count: int = 4, suffix: str = ".png") -> list[Path]:
    """The first test image of each of the first classes, as files named by class."""
    images, labels = render_split("test", per_class=1)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for image, label in list(zip(images, labels, strict=True))[:count]:
        paths.append(folder / f"{shape_classes()[label].replace(' ', '_')}{suffix}")
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(paths[-1])
    return paths


def save_colour(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (32, 32)) -> Path:
    """A plain image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def pixels(paths: Sequence[Path]) -> torch.Tensor:
    """The images, (N, 3, H, W) uint8."""
    return torch.from_numpy(np.stack([np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) for path in paths]))
