"""AdversarialSet: adversarial and clean images with labels, predictions and threat model, and its artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.artifacts import Artifact
from stages.classes import spelled
from stages.data.source_rows import SourceRows
from stages.errors import InputError
from stages.threat import ThreatModel

KIND = "adversarial"
_PER_IMAGE = ("labels", "clean_predictions", "attacked_predictions")


@dataclass(frozen=True)
class AdversarialSet:
    """What `laat attack` writes: everything needed to score another model on the same images.

    Attributes:
        images: (N, 3, H, W) float32 in [0, 1]; multiples of 1/255 if the attack record has 'quantized'.
        clean_images: (N, 3, H, W) uint8.
        labels: (N,) int64, positions in `classes`.
        clean_predictions, attacked_predictions: (N,) int64, of the attacked model.
        classes: names of the candidate classes.
        group: their group ('novel', 'seen', …).
        threat: the threat model.
        attack: record of the attack and its seed.
        data: provenance record of the images.
        inputs: lineage.
        source_rows: which images of the data these are; None if unknown.
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
    source_rows: SourceRows | None = None

    def to_artifact(self) -> Artifact:
        """The artifact of kind 'adversarial'."""
        tensors = {name: getattr(self, name).cpu().numpy() for name in ("images", "clean_images", *_PER_IMAGE)}
        params: dict[str, Any] = {
            "attack": self.attack,
            "classes": list(self.classes),
            "data": self.data,
            "group": self.group,
            "threat": self.threat.to_record(),
        }
        if self.source_rows is not None:
            tensors |= _packed(self.source_rows)
            params["source_splits"] = [list(one) for one in self.source_rows.starts.items()]
        return Artifact(KIND, tensors, params, dict(self.inputs))

    @classmethod
    def from_artifact(cls, artifact: Artifact, where: str) -> AdversarialSet:
        """Unpack. Raises InputError for missing or inconsistent entries; the threat model is checked when images are scored."""
        images = artifact.tensor("images", (None, 3, None, None))
        count, _, height, width = images.shape
        tensors = {
            "images": images,
            "clean_images": artifact.tensor("clean_images", (count, 3, height, width)),
            **{name: artifact.tensor(name, (count,)) for name in _PER_IMAGE},
        }
        params = artifact.params
        try:
            found = cls(
                **{name: torch.from_numpy(value.copy()) for name, value in tensors.items()},
                classes=tuple(spelled(name) for name in params["classes"]),
                group=str(params["group"]),
                threat=ThreatModel.from_record(params["threat"]),
                attack=dict(params["attack"]),
                data=dict(params["data"]),
                inputs=artifact.inputs,
                source_rows=_unpacked(artifact, count),
            )
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{where} lacks its classes, attack or threat model", "make it again with `laat attack`") from None
        if count and not 0 <= int(found.labels.min()) <= int(found.labels.max()) < len(found.classes):
            raise InputError(f"{where} has labels outside its {len(found.classes)} classes", "make it again with `laat attack`")
        return found


def _packed(found: SourceRows) -> dict[str, np.ndarray]:
    """Index and key of each image; keys as UTF-8 with a NUL after each."""
    keys = np.frombuffer("".join(f"{key}\0" for key in found.names()).encode(), dtype=np.uint8)
    return {"source_index": found.index, "source_keys": keys}


def _unpacked(artifact: Artifact, count: int) -> SourceRows | None:
    """None for older files. Raises KeyError, TypeError, ValueError or InputError where the entries do not fit together."""
    if "source_index" not in artifact.tensors:
        return None
    starts = {str(name): int(first) for name, first in artifact.params["source_splits"]}
    if 0 not in starts.values():
        raise ValueError("no first split")
    keys = artifact.tensor("source_keys", (None,)).tobytes().decode().split("\0")[:-1]
    return SourceRows.named(artifact.tensor("source_index", (count,)), starts, keys)
