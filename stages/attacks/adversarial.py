"""AdversarialSet: attacked images with their clean originals, labels, predictions and threat model, and its artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stages.artifacts import Artifact
from stages.errors import InputError
from stages.threat import ThreatModel

KIND = "adversarial"


@dataclass(frozen=True)
class AdversarialSet:
    """What `laat attack` writes; complete in one file, so that another model can be scored on it.

    Attributes:
        images: (N, 3, H, W) float32 in [0, 1], exact; multiples of 1/255 where the attack's record says 'quantized'.
        clean_images: (N, 3, H, W) uint8, their originals.
        labels: (N,) int64 into `classes`.
        clean_predictions, attacked_predictions: (N,) int64 of the attacked model.
        classes: the names that were the candidates.
        group: which classes they are ('novel', 'seen', …).
        threat: what the images were made under.
        attack: record of the attack and its seed.
        data: provenance record of the images.
        inputs: lineage.
    """

    images: Tensor
    clean_images: Tensor
    labels: Tensor
    clean_predictions: Tensor
    attacked_predictions: Tensor
    classes: tuple[str, ...]
    group: str
    threat: ThreatModel
    attack: dict[str, Any]
    data: dict[str, Any]
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def to_artifact(self) -> Artifact:
        """The artifact of kind 'adversarial'."""
        tensors = {
            "images": self.images,
            "clean_images": self.clean_images,
            "labels": self.labels,
            "clean_predictions": self.clean_predictions,
            "attacked_predictions": self.attacked_predictions,
        }
        params = {
            "attack": self.attack,
            "classes": list(self.classes),
            "data": self.data,
            "group": self.group,
            "threat": self.threat.to_record(),
        }
        return Artifact(KIND, {name: value.cpu().numpy() for name, value in tensors.items()}, params, dict(self.inputs))

    @classmethod
    def from_artifact(cls, artifact: Artifact, where: str) -> AdversarialSet:
        """Check and unpack. Raises InputError on missing or ill-fitting parts. Whether the images keep to their threat
        model shows when they are scored (see `evaluate.saved`)."""
        images = artifact.tensor("images", (None, 3, None, None))
        count, _, height, width = images.shape
        tensors = {
            "images": images,
            "clean_images": artifact.tensor("clean_images", (count, 3, height, width)),
            **{name: artifact.tensor(name, (count,)) for name in ("labels", "clean_predictions", "attacked_predictions")},
        }
        params = artifact.params
        try:
            found = cls(
                **{name: torch.from_numpy(value.copy()) for name, value in tensors.items()},
                classes=tuple(params["classes"]),
                group=str(params["group"]),
                threat=ThreatModel.from_record(params["threat"]),
                attack=dict(params["attack"]),
                data=dict(params["data"]),
                inputs=artifact.inputs,
            )
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{where} lacks its classes, attack or threat model", "make it again with `laat attack`") from None
        if count and not 0 <= int(found.labels.min()) <= int(found.labels.max()) < len(found.classes):
            raise InputError(f"{where} has labels outside its {len(found.classes)} classes", "make it again with `laat attack`")
        return found
