"""AdversarialSet: adversarial and clean images with labels, predictions and threat model, and its artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.attacks.png_folder import write_png_folder
from stages.classes import check_unique, spelled
from stages.conditions import Conditions
from stages.data.source_rows import SourceRows
from stages.errors import InputError
from stages.files.artifacts import Artifact
from stages.text import counted
from stages.threat import ThreatModel

KIND = "adversarial"
_PER_IMAGE = ("labels", "clean_predictions", "attacked_predictions")
_REMAKE = "make it again with `laat attack`"


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
        conditions: the pixel grid and the preprocessing; None in older files.
        identity, figures: everything that determines the images, see `stages.identity`, and the accuracies of the attack by
            name, records of `Estimate`; None in older files.
        attacked: digest of the attacked model, see `stages.evaluation.task.attacked_digest`; None if unknown.
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
    conditions: Conditions | None = None
    identity: dict[str, Any] | None = None
    figures: dict[str, Any] | None = None
    attacked: str | None = None

    def to_artifact(self) -> Artifact:
        """The artifact of kind 'adversarial'."""
        tensors = {name: getattr(self, name).cpu().numpy() for name in ("images", "clean_images", *_PER_IMAGE)}
        params: dict[str, Any] = {
            "attack": self.attack,
            "classes": list(self.classes),
            "data": self.data,
            "group": self.group,
            "threat": {**self.threat.to_record(), **(self.conditions.to_record() if self.conditions else {})},
        }
        if self.identity is not None:
            params |= {"identity": self.identity, "figures": self.figures}
        if self.attacked is not None:
            params["attacked"] = self.attacked
        if self.source_rows is not None:
            tensors |= _packed(self.source_rows)
            params["source_splits"] = [list(one) for one in self.source_rows.starts.items()]
        return Artifact(KIND, tensors, params, dict(self.inputs))

    @classmethod
    def from_artifact(cls, artifact: Artifact, where: str) -> AdversarialSet:
        """Unpack an artifact that was read (see `artifacts.from_bytes`, which checks its record).

        Raises InputError for tensors that do not fit together; the images are checked when they are scored.
        """
        images = artifact.tensor("images", (None, 3, None, None))
        count, _, height, width = images.shape
        tensors = {
            "images": images,
            "clean_images": artifact.tensor("clean_images", (count, 3, height, width), "u"),
            **{name: artifact.tensor(name, (count,), "i") for name in _PER_IMAGE},
        }
        params = artifact.params
        classes = tuple(map(spelled, params["classes"]))
        check_unique(classes, where=where)
        for name in _PER_IMAGE:
            if count and not 0 <= int(tensors[name].min()) <= int(tensors[name].max()) < len(classes):
                raise InputError(f"{where} has {name} outside its {counted(len(classes), 'class', 'classes')}", _REMAKE)
        try:
            source_rows = _unpacked(artifact, count)
            threat = ThreatModel.from_record(params["threat"])
        except ValueError as error:
            raise InputError(f"{where} has images without a place in their source: {error}", _REMAKE) from None
        except InputError as error:
            raise InputError(f"{where}: {error.what}", _REMAKE) from None
        return cls(
            **{name: torch.from_numpy(value.copy()) for name, value in tensors.items()},
            classes=classes,
            group=params["group"],
            threat=threat,
            attack=params["attack"],
            data=params["data"],
            inputs=artifact.inputs,
            source_rows=source_rows,
            conditions=Conditions.from_record(params["threat"]),
            identity=params.get("identity"),
            figures=params.get("figures"),
            attacked=params.get("attacked"),
        )


def write_correct_images(saved: AdversarialSet, folder: Path, most: int) -> None:
    """Write clean images that were classified correctly as PNG files, one each of the first `most` classes that have some.

    Raises what `write_png_folder` raises; a folder that has other images of these classes is replaced.
    """
    labels = saved.labels.numpy()
    right = np.flatnonzero(saved.clean_predictions.numpy() == labels)
    rows = right[np.unique(labels[right], return_index=True)[1]][:most]
    write_png_folder(folder, saved.clean_images.numpy()[rows], labels[rows], saved.classes, force=True, rows=rows)


def _packed(found: SourceRows) -> dict[str, np.ndarray]:
    """Index and key of each image; keys as UTF-8 with a NUL after each."""
    keys = np.frombuffer("".join(f"{key}\0" for key in found.names()).encode(), dtype=np.uint8)
    return {"source_index": found.index, "source_keys": keys}


def _unpacked(artifact: Artifact, count: int) -> SourceRows | None:
    """None for older files. Raises InputError, or ValueError where the entries do not fit together."""
    if "source_index" not in artifact.tensors:
        return None
    starts = dict(artifact.params.get("source_splits") or ())
    if 0 not in starts.values():
        raise ValueError("no first split")
    keys = artifact.tensor("source_keys", (None,), "u").tobytes().decode().split("\0")[:-1]
    return SourceRows.named(artifact.tensor("source_index", (count,), "i"), starts, keys)
