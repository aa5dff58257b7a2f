"""The attack stage: a classifier and images in, adversarial images and accuracies out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.attacks.adversarial import KIND, AdversarialSet
from stages.attacks.perturb import attack_images
from stages.attacks.quantize import quantize
from stages.attacks.spec import AttackPlan, library_versions
from stages.data.image_set import ImageSet
from stages.errors import InputError
from stages.evaluation.clean_passes import require_same_passes
from stages.evaluation.task import attacked_digest, conditions_of, how_attacked, own_code
from stages.files.artifacts import read
from stages.files.reading import STDIO
from stages.identity import CHOOSE_OR_FORCE, Identity, digest_of, require_same, versions
from stages.models.classifier import Classifier, Progress, predict
from stages.models.wrapped import mean_of_draws
from stages.statistics.intervals import Estimate, estimate

ROUNDED = "robust_8bit"


@dataclass(frozen=True)
class Attacked:
    """The result of the attack stage.

    Attributes:
        saved: the images with labels, predictions and threat model.
        figures: accuracies by name: 'clean', 'robust' and, for rounded images, 'robust_8bit'.
        levels: (N, 3, H, W) uint8, the adversarial images rounded inside the threat model, or None.
        sha256: of the file of `saved`; empty until it is written or read.
    """

    saved: AdversarialSet
    figures: dict[str, Estimate]
    levels: Tensor | None = None
    sha256: str = ""

    @property
    def largest(self) -> float:
        """The largest perturbation, in the norm of the threat model."""
        return float(self.saved.threat.distance(self.saved.images, self.saved.clean_images / 255).max())


def attack_group(
    classifier: Classifier,
    group: str,
    images: ImageSet,
    plan: AttackPlan,
    *,
    round_images: bool = False,
    save_rounded: bool = False,
    inputs: Mapping[str, Any] | None = None,
    identity: dict[str, dict[str, Any]] | None = None,
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
        identity: `attack_identity` of the same arguments; None computes it, which reads all pixels.
        progress: called with (images done, images in total, what).

    Raises as `attack_images`, and UsageError for a randomised model without `plan.eot`.
    """
    threat, attacked_model = plan.threat, attacked_digest(classifier)
    require_same_passes({"": classifier}, images.images, plan.eot)
    classifier = mean_of_draws(classifier, plan.eot, plan.seed)
    x_adv, clean, attacked = attack_images(classifier, images.images, images.labels, replace(plan, eot=1), progress=progress)
    right = (clean == images.labels).numpy()
    figures = {"clean": estimate(right), "robust": estimate(right & (attacked == images.labels).numpy())}
    levels = None
    if round_images or save_rounded:
        levels = quantize(x_adv, images.images, threat)
        judged = predict(classifier, levels, batch_size=plan.batch_size, progress=progress, what="8 bits")
        figures[ROUNDED] = estimate(right & (judged == images.labels).numpy())
        if save_rounded:
            x_adv, attacked = levels.to(torch.float32) / 255, judged
    identity = identity or attack_identity(classifier, group, images, plan, save_rounded=save_rounded, inputs=inputs)
    saved = AdversarialSet(
        x_adv,
        images.images,
        images.labels,
        clean,
        attacked,
        tuple(classifier.classes),
        group,
        threat,
        {
            **plan.spec.to_record(),
            **({"eot": plan.eot} if plan.eot > 1 else {}),
            **{"seed": plan.seed, "every_step": not plan.early_stop, "quantized": save_rounded},
        },
        {**images.provenance.to_record(), "sha256": identity["inputs"]["data"]},
        dict(inputs or {}),
        images.source_rows,
        conditions_of({"": classifier}, images.size, images.provenance.to_record()),
        identity,
        {name: asdict(value) for name, value in figures.items() if save_rounded or name != ROUNDED},
        attacked_model,
    )
    return Attacked(saved, figures, levels)


def attack_identity(
    classifier: Classifier,
    group: str,
    images: ImageSet,
    plan: AttackPlan,
    *,
    save_rounded: bool = False,
    inputs: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Everything that determines the result, JSON-able, see `stages.identity`; arguments as for `attack_group`."""
    return {
        "inputs": {
            **{name: one["sha256"] for name, one in (inputs or {}).items()},
            **({"model": classifier.origin.digest} if classifier.origin.foreign else {}),
            "data": images.sha256(),
            "list of images": digest_of(images.source_rows.names()),
            "classes": digest_of(list(classifier.classes)),
        },
        "settings": {
            "classes_from": group,
            "attack": plan.spec.name,
            **plan.threat.to_record(),
            "seed": plan.seed,
            "full": not plan.early_stop,
            "quantize": save_rounded,
            **how_attacked(classifier, plan.eot, plan.batch_size),
        },
        "versions": versions(**library_versions([plan.spec])),
        **own_code([classifier]),
    }


def earlier_attack(output: Path, identity: Identity) -> Attacked | None:
    """The result of the same attack at `output`; None if there is no file.

    Raises:
        UsageError: the images of another attack.
        InputError: the file is damaged or of another kind.
    """
    if str(output) == STDIO or not output.is_file():
        return None
    where = f"'{output}'"
    try:
        artifact = read(output, KIND)
        saved = AdversarialSet.from_artifact(artifact, where)
        figures = {name: Estimate(**value) for name, value in (saved.figures or {}).items()}
    except InputError as error:
        raise InputError(error.what, CHOOSE_OR_FORCE) from None
    except (TypeError, ValueError):
        raise InputError(f"{where} has damaged accuracies", CHOOSE_OR_FORCE) from None
    require_same(saved.identity, identity, f"{where} has the images of another attack", CHOOSE_OR_FORCE)
    return Attacked(saved, figures, sha256=artifact.sha256)
