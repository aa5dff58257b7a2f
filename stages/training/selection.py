"""Scores epochs on validation classes or on held-out training images, to select the best; never on test data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.anchors.anchor_set import AnchorSet
from stages.attacks.perturb import attack_images
from stages.attacks.spec import AttackPlan
from stages.data.image_set import ImageSet
from stages.data.streaming_set import StreamingImageSet
from stages.errors import InputError
from stages.models.classifier import Classifier, predict
from stages.randomness import torch_generator
from stages.training.settings import TrainSettings
from stages.world import World

MAX_IMAGES = 1000
HELD_OUT = 0.05


@dataclass(frozen=True)
class Score:
    """Accuracies of one epoch on the selection images; `robust` is None without an attack."""

    clean: float
    robust: float | None

    @property
    def key(self) -> tuple[float, float]:
        """Larger is better: robust accuracy, then clean accuracy."""
        return (self.clean, 0.0) if self.robust is None else (self.robust, self.clean)


@dataclass(frozen=True)
class Selection:
    """The images and anchors that epochs are scored on.

    Attributes:
        images: at most about 1,000, the same number of each class.
        anchors: (C, D) float32, those of the images' classes.
        source: 'validation classes' or 'held-out images of the seen classes'.
    """

    images: ImageSet
    anchors: Tensor
    source: str

    def to_record(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"source": self.source, "images": len(self.images), "classes": len(self.images.classes)}

    def score(
        self,
        model: nn.Module,
        settings: TrainSettings,
        device: str,
        *,
        attack: bool = True,
        world: World | None = None,
        stop: Callable[[], None] | None = None,
    ) -> Score:
        """Clean accuracy, and robust accuracy under the steps of the inner attack; in float32.

        Args:
            model: on `device`; keeps its modes.
            settings: of the run.
            device: torch device.
            attack: False for clean accuracy alone.
            world: the processes that share the work; each returns the score over all images.
            stop: called with every forward pass; may raise to end the scoring.
        """
        world = world or World()
        share = world.share(len(self.images))
        images, labels = self.images.images[share], self.images.labels[share].cpu()
        classifier = Classifier(model, self.anchors, logit_scale=1 / settings.tau)
        progress = None if stop is None else lambda *_: stop()
        robust = 0
        if not attack:
            right = predict(classifier, images, batch_size=settings.batch_size, progress=progress) == labels
        else:
            _, clean, attacked = attack_images(
                classifier,
                images,
                labels,
                AttackPlan(settings.selection_attack(), settings.threat, seed=settings.seed, batch_size=settings.batch_size),
                first_row=share.start,
                progress=progress,
            )
            right = clean == labels
            robust = int((right & (attacked == labels)).sum())
        counts = torch.tensor([int(right.sum()), robust], device=device)
        world.barrier()  # some processes attack longer
        world.sum([counts])
        clean_share, robust_share = (count / len(self.images) for count in counts.tolist())
        return Score(clean_share, robust_share if attack else None)


def plan_selection(
    images: ImageSet | StreamingImageSet, anchors: AnchorSet, seed: int
) -> tuple[ImageSet | StreamingImageSet, Selection]:
    """Split images into training images and selection images; the latter are loaded into memory.

    Args:
        images: images of the seen and the validation classes.
        anchors: all anchors.
        seed: of the sampling.

    Returns:
        The training images (seen classes, labels in the order of the seen classes), and the selection.

    Raises InputError when there are no validation classes and every class has only one image.
    """
    vectors = torch.from_numpy(anchors.vectors.copy())
    seen = images.restricted_to(anchors.names("seen"), names_from="the anchors")
    seen_anchors = vectors[anchors.indices("seen")]
    generator = torch_generator(seed, "train/selection")
    if anchors.groups.val:
        val = images.restricted_to(anchors.names("val"), names_from="the anchors")
        rows = _per_class(val.labels, MAX_IMAGES, 1.0, generator)
        return seen, Selection(val.take(rows).loaded(), vectors[anchors.indices("val")], "validation classes")
    rows = _per_class(seen.labels, MAX_IMAGES, HELD_OUT, generator)
    if not len(rows):
        raise InputError(
            f"the data '{images.provenance.source}' has one training image per class: none can be held out to select the epoch",
            "give at least two images per class, or validation classes (`laat anchors --val N`)",
        )
    rest = torch.ones(len(seen), dtype=torch.bool)
    rest[rows] = False
    source = "held-out images of the seen classes"
    return seen.take(rest.nonzero()[:, 0]), Selection(seen.take(rows).loaded(), seen_anchors, source)


def _per_class(labels: Tensor, most: int, share: float, generator: torch.Generator) -> Tensor:
    """Rows of the same number of images sampled from each class, ascending: `share` of the smallest class, at least 1, and at
    most `most` in total. A class with a single image is sampled only when `share` is 1."""
    labels = labels.cpu()
    counts = torch.bincount(labels)
    present = counts[counts > 0]
    each = max(1, min(int(share * int(present.min())), most // len(present)))
    order = torch.randperm(len(labels), generator=generator)
    rows = []
    for label, count in enumerate(counts.tolist()):
        if count > 1 or share == 1:
            rows.append(order[labels[order] == label][:each])
    return torch.cat(rows).sort().values if rows else torch.empty(0, dtype=torch.int64)
