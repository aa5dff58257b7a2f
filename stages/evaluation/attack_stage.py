"""The attack stage: a classifier and images in, adversarial images and accuracies out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.attacks.adversarial import AdversarialSet
from stages.attacks.perturb import attack_images
from stages.attacks.quantize import quantize
from stages.attacks.spec import AttackPlan
from stages.data.image_set import ImageSet
from stages.models.classifier import Classifier, Progress, predict
from stages.statistics.intervals import Estimate, estimate


@dataclass(frozen=True)
class Attacked:
    """The result of the attack stage.

    Attributes:
        saved: the images with labels, predictions and threat model.
        figures: accuracies by name: 'clean', 'robust' and, for rounded images, 'robust_8bit'.
        levels: (N, 3, H, W) uint8, the adversarial images rounded inside the threat model, or None.
        largest: the largest perturbation, in the norm of the threat model.
    """

    saved: AdversarialSet
    figures: dict[str, Estimate]
    levels: Tensor | None
    largest: float


def attack_group(
    classifier: Classifier,
    group: str,
    images: ImageSet,
    plan: AttackPlan,
    *,
    round_images: bool = False,
    save_rounded: bool = False,
    inputs: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Attacked:
    """Attack the images of a group of classes.

    Args:
        classifier: over the classes of the group.
        group: its name.
        images: labels are positions in the classifier's classes.
        plan: the attack.
        round_images: also round the adversarial images to 8 bits inside the threat model, and classify those.
        save_rounded: save the rounded images.
        inputs: lineage of the checkpoint and its anchors.
        progress: called with (images done, images in total, what).

    Raises as `attack_images`.
    """
    threat = plan.threat
    x_adv, clean, attacked = attack_images(classifier, images.images, images.labels, plan, progress=progress)
    right = (clean == images.labels).numpy()
    figures = {"clean": estimate(right), "robust": estimate(right & (attacked == images.labels).numpy())}
    levels = None
    if round_images or save_rounded:
        levels = quantize(x_adv, images.images, threat)
        judged = predict(classifier, levels, batch_size=plan.batch_size, progress=progress, what="8 bits")
        figures["robust_8bit"] = estimate(right & (judged == images.labels).numpy())
        if save_rounded:
            x_adv, attacked = levels.to(torch.float32) / 255, judged
    saved = AdversarialSet(
        x_adv,
        images.images,
        images.labels,
        clean,
        attacked,
        tuple(classifier.classes),
        group,
        threat,
        {**plan.spec.to_record(), "seed": plan.seed, "every_step": not plan.early_stop, "quantized": save_rounded},
        {**images.provenance.to_record(), "sha256": images.sha256()},
        dict(inputs or {}),
        images.source_rows,
    )
    return Attacked(saved, figures, levels, float(threat.distance(x_adv, images.images / 255).max()))
