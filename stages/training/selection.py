"""Scores epochs on validation classes or on held-out training images, to select the best; never on test data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.anchors.anchor_set import AnchorSet
from stages.attacks.perturb import attack_images
from stages.attacks.spec import AttackPlan
from stages.data.by_class import rows_by_class
from stages.data.image_set import ImageSet, restricted_labels
from stages.data.streaming_set import StreamingImageSet
from stages.errors import InputError
from stages.files.artifact_params import Calibration
from stages.models.calibrate import calibrate
from stages.models.classifier import Classifier, predict
from stages.randomness import torch_generator
from stages.training.settings import TrainSettings
from stages.world import World

MAX_IMAGES = 1000
FEW_IMAGES = 100  # with fewer the user is warned
HELD_OUT = 0.05
LARGEST_PART = 5  # at most a fifth of a class is held out
VALIDATION, SEEN = "validation classes", "held-out images of the seen classes"


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
        images: from about 100 to about 1,000, the same number of each class, where there are so many (see `images_per_class`).
        anchors: (C, D) float32, those of the images' classes.
        source: 'validation classes' or 'held-out images of the seen classes'.
        held_out: images of the seen classes that are neither trained on nor select the epoch, for the bias of the calibration;
            None if there are none.
    """

    images: ImageSet
    anchors: Tensor
    source: str
    held_out: ImageSet | None = None

    def to_record(self) -> dict[str, Any]:
        """JSON-able form."""
        return {"source": self.source, "images": len(self.images), "classes": len(self.images.classes)}

    def describe(self) -> tuple[str, str]:
        """How many images select the epoch, and a warning if they are few, else ''."""
        count = len(self.images)
        said = f"the best epoch is selected on {count:,} images: {self.source}"
        if len(self.images.classes) == 1:
            return (
                said,
                "a single validation class is always right, so it cannot select the best epoch; add classes for validation",
            )
        if count >= FEW_IMAGES:
            return said, ""
        few = f"only {count} images select the best epoch: an accuracy near 50 % is uncertain by {98 / count**0.5:.0f} points"
        return said, f"{few}; add images, or classes for validation (`laat anchors --val N`)"

    @property
    def judgements(self) -> int:
        """How many answers the score counts."""
        return len(self.images)

    def judged(
        self, model: nn.Module, head: nn.Module | None, settings: TrainSettings, share: slice
    ) -> tuple[Classifier, Tensor, Tensor]:
        """The classifier to score, and the images (n, 3, H, W) and labels (n,) of this process's share of the judgements."""
        classifier = Classifier(model, self.anchors, logit_scale=1 / settings.temperature)
        return classifier, self.images.images[share], self.images.labels[share].cpu()

    def score(
        self,
        model: nn.Module,
        settings: TrainSettings,
        device: str,
        *,
        head: nn.Module | None = None,
        attack: bool = True,
        world: World | None = None,
        stop: Callable[[], None] | None = None,
    ) -> Score:
        """Clean accuracy, and robust accuracy under the `selection_attack` of the settings; in float32.

        Args:
            model: on `device`; keeps its modes.
            settings: of the run.
            device: torch device.
            head: what the objective learnt besides the model.
            attack: False for clean accuracy alone.
            world: the processes that share the work; each returns the score over all images.
            stop: called with every forward pass; may raise to end the scoring.
        """
        world = world or World()
        share = world.share(self.judgements)
        classifier, images, labels = self.judged(model, head, settings, share)
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
        clean_share, robust_share = (count / self.judgements for count in counts.tolist())
        return Score(clean_share, robust_share if attack else None)

    def calibration(self, model: nn.Module, anchors: AnchorSet, settings: TrainSettings) -> Calibration | None:
        """Temperature and bias on these images, in float32; None for images of a single class, which is always right.

        Args:
            model: as for `score`.
            anchors: all anchors.
            settings: of the run.
        """
        if len(self.images.classes) < 2:
            return None
        why = "there are no validation classes" if self.source == SEEN else "no images of the seen classes were held out"
        return calibrate(
            Classifier(model, anchors, logit_scale=1 / settings.temperature),
            self.images,
            self.held_out,
            source=self.source,
            no_bias=why,
            batch_size=settings.batch_size,
        )


def plan_selection(
    images: ImageSet | StreamingImageSet, anchors: AnchorSet, seed: int, *, seen_bias: bool = True
) -> tuple[ImageSet | StreamingImageSet, Selection]:
    """Split images into training images and selection images; the latter are loaded into memory.

    Args:
        images: images of the seen and the validation classes.
        anchors: all anchors.
        seed: of the sampling.
        seen_bias: with validation classes, hold out images of the seen classes too, to fit the bias of the calibration.

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
        rows = _per_class(val.labels, 1.0, generator)
        selected = Selection(val.take(rows).loaded(), vectors[anchors.indices("val")], VALIDATION)
        rows = _per_class(seen.labels, HELD_OUT, torch_generator(seed, "train/calibration")) if seen_bias else rows[:0]
        if not len(rows):
            return seen, selected
        return without(seen, rows), replace(selected, held_out=seen.take(rows).loaded())
    rows = _per_class(seen.labels, HELD_OUT, generator)
    if not len(rows):
        raise InputError(
            f"the data '{images.provenance.source}' has one training image per class: none can be held out to select the epoch",
            "give at least two images per class, or validation classes (`laat anchors --val N`)",
        )
    return without(seen, rows), Selection(seen.take(rows).loaded(), seen_anchors, SEEN)


def without(images: ImageSet | StreamingImageSet, rows: Tensor) -> ImageSet | StreamingImageSet:
    """All images but those at `rows`."""
    rest = torch.ones(len(images), dtype=torch.bool)
    rest[rows] = False
    return images.take(rest.nonzero()[:, 0])


def _per_class(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Rows sampled from each class, ascending; see `images_per_class`."""
    return sampled_rows(labels, images_per_class(torch.bincount(labels.cpu()), share), generator)


def sampled_rows(labels: Tensor, counts: Sequence[int], generator: torch.Generator) -> Tensor:
    """As many rows of each class as `counts` (C,) says, sampled, ascending."""
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator)
    places = [own[:count] for own, count in zip(rows_by_class(labels[order].numpy(), len(counts)), counts, strict=True)]
    return order[torch.from_numpy(np.concatenate(places))].sort().values if places else torch.empty(0, dtype=torch.int64)


def images_per_class(counts: Tensor, share: float) -> list[int]:
    """How many images of each class select the epoch.

    The same number of each class: `share` of the smallest class, or if that makes fewer than about 100 images in all as many as
    make 100; and about 1,000 in all at most. A class that has not so many gives what it has, or where images are held out from
    training (`share` below 1) a fifth of it, at least one of two.

    Args:
        counts: (C,) images of each class.
        share: 1 where the classes are not trained on.
    """
    present = counts[counts > 0]
    if not len(present):
        return [0] * len(counts)
    each = max(1, min(max(_share_of_smallest(present, share), _floor(present)), MAX_IMAGES // len(present)))
    if share == 1:
        return [min(each, count) for count in counts.tolist()]
    return [min(each, max(1, count // LARGEST_PART)) if count > 1 else 0 for count in counts.tolist()]


def floor_decides(images: ImageSet | StreamingImageSet, anchors: AnchorSet) -> bool:
    """Whether the images that select the epoch are more than their share of the smallest class, up to 0.9 all there were."""
    group, share = ("val", 1.0) if anchors.groups.val else ("seen", HELD_OUT)
    found = restricted_labels(
        images.labels, images.classes, anchors.names(group), names_from="the anchors", provenance=images.provenance
    )
    counts = torch.bincount(found[1].cpu())
    return _floor(counts[counts > 0]) > max(1, _share_of_smallest(counts[counts > 0], share))


def _share_of_smallest(present: Tensor, share: float) -> int:
    return int(share * int(present.min()))


def _floor(present: Tensor) -> int:
    return -(-FEW_IMAGES // len(present))
