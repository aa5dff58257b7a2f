"""The task of a benchmark: one model, one set of images and anchors, and one recipe, generated from a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.data.image_set import DataProvenance, ImageSet
from stages.models.embedding import EmbeddingModel
from stages.randomness import numpy_generator
from stages.training.settings import TrainSettings


@dataclass(frozen=True)
class Task:
    """A training task. Everything is generated from these numbers, so two processes can generate the same.

    Attributes:
        backbone: a name of `build_backbone`.
        batch: images per training step.
        steps: of the inner attack.
        precision: of `laat`; the plain program uses float32.
        attack_precision: of the inner attack of `laat`.
        images: number of images; noise, because the time of a step does not depend on the content.
        size: side of the images, pixels.
        classes: anchors of `width` dimensions.
    """

    backbone: str
    batch: int = 128
    steps: int = 7
    precision: str = "float32"
    images: int = 1024
    size: int = 32
    classes: int = 64
    width: int = 512
    attack_precision: str = "auto"

    def image_set(self) -> ImageSet:
        """The training images, uint8."""
        drawn = numpy_generator(0, "bench/images").integers(0, 256, (self.images, 3, self.size, self.size), dtype=np.uint8)
        names = tuple(f"class {at}" for at in range(self.classes))
        return ImageSet(torch.from_numpy(drawn), torch.arange(self.images) % self.classes, names, DataProvenance("noise"))

    def anchors(self) -> Tensor:
        """(classes, width) random unit rows."""
        drawn = numpy_generator(0, "bench/anchors").standard_normal((self.classes, self.width))
        return torch.nn.functional.normalize(torch.from_numpy(drawn).float(), dim=1)

    def model(self) -> EmbeddingModel:
        """The untrained model, on the CPU."""
        return EmbeddingModel(self.backbone, self.width, self.size, mean=(0.5,) * 3, std=(0.25,) * 3)

    def settings(self) -> TrainSettings:
        """The published recipe (method: Li et al., CVPR 2024, Sec. 4.1) on this backbone."""
        return TrainSettings(
            backbone=self.backbone,
            batch_size=self.batch,
            steps=self.steps,
            precision=self.precision,
            attack_precision=self.attack_precision,
        )

    @property
    def title(self) -> str:
        """Name for tables."""
        attack = "" if self.attack_precision == "auto" else f" {self.attack_precision}"
        return f"LAAT step, {self.backbone}, {self.precision}, batch {self.batch}, PGD-{self.steps}{attack}"
