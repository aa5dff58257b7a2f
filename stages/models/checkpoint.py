"""The checkpoint: weights, architecture, normalisation, anchors and the fitted expansion, complete in one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from stages.anchors.anchor_set import AnchorSet
from stages.artifacts import Artifact
from stages.errors import InputError, UsageError
from stages.models.embedding import EmbeddingModel
from stages.models.new_anchors import matching_anchors

KIND = "model"
_WEIGHT = "weights."
_REMAKE = "train it again with `laat train`"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model with everything that attack and eval need.

    Attributes:
        model: the image model.
        anchors: the anchors it was trained with, expanded or raw, of all groups.
        training: settings, data and selection that it came from; JSON-able.
        inputs: lineage of the artifacts it came from.
        sha256: of the file; empty when it was not read from one.
        own: the anchors it was trained with where `anchors` are others, given later; else None.
    """

    model: EmbeddingModel
    anchors: AnchorSet
    training: dict[str, Any]
    inputs: dict[str, Any]
    sha256: str = ""
    own: AnchorSet | None = None

    @property
    def trained(self) -> AnchorSet:
        """The anchors it was trained with, whatever anchors it has now."""
        return self.own or self.anchors

    @property
    def logit_scale(self) -> float:
        """1 / tau of training: logits are this times the cosines."""
        return 1 / float(self.training.get("settings", {}).get("tau", 1.0))

    def to_artifact(self) -> Artifact:
        """The artifact of kind 'model'."""
        anchors = self.anchors.to_artifact()
        weights = {f"{_WEIGHT}{name}": value.detach().cpu().numpy() for name, value in self.model.state_dict().items()}
        params = {**anchors.params, "architecture": self.model.architecture, "training": self.training}
        return Artifact(KIND, {**anchors.tensors, **weights}, params, self.inputs)

    @classmethod
    def from_artifact(cls, artifact: Artifact, where: str) -> Checkpoint:
        """Rebuild the model and load its weights strictly. Raises InputError naming what does not fit."""
        anchors = AnchorSet.from_artifact(artifact, where)
        try:
            architecture, training = artifact.params["architecture"], dict(artifact.params["training"])
            backbone, width = str(architecture["backbone"]), int(architecture["width"])
            image_size = int(architecture["image_size"])
            tower = architecture.get("tower")
            sound = (tower is not None) == backbone.startswith("clip:")
            sound = sound and width == anchors.vectors.shape[1] and image_size > 0 and float(training["settings"]["tau"]) > 0
        except (KeyError, TypeError, ValueError):
            sound = False
        if not sound:
            raise InputError(f"{where} lacks its architecture or settings", _REMAKE)
        build = partial(EmbeddingModel, backbone, width, image_size, mean=(0, 0, 0), std=(1, 1, 1), tower=tower)
        try:
            _check_shapes(build, artifact, where)
            model = build()
        except UsageError as error:
            raise InputError(f"the model in {where} cannot be built: {error.what}", _REMAKE) from None
        _load_weights(model, artifact, where)
        return cls(model, anchors, training, artifact.inputs, artifact.sha256)

    def with_anchors(self, anchors: AnchorSet, where: str) -> Checkpoint:
        """The same model with other anchors, for classes that were named later.

        Raw anchors are moved by the checkpoint's own fitted expansion if it has one; expanded ones must carry the same map.
        Raises InputError for another width, another encoder or another map.
        """
        return replace(self, anchors=matching_anchors(anchors, self.trained, where), own=self.trained)


def weights_of(artifact: Artifact) -> dict[str, np.ndarray]:
    """The model's weights in a checkpoint's artifact, by their names in the model."""
    return {name.removeprefix(_WEIGHT): value for name, value in artifact.tensors.items() if name.startswith(_WEIGHT)}


def _check_shapes(build: Callable[[], EmbeddingModel], artifact: Artifact, where: str) -> None:
    """Compare names and shapes with a model without memory: a forged record must not make us build what does not fit."""
    try:
        with torch.device("meta"):
            model = build()
    except (NotImplementedError, RuntimeError):
        return  # some of timm's models look at the values while they are built; those of timm have the sizes that timm knows
    _require_fit(model, weights_of(artifact), where)


def _require_fit(model: EmbeddingModel, given: Mapping[str, np.ndarray], where: str) -> None:
    own = model.state_dict()
    odd = sorted(own.keys() ^ given.keys())
    if odd:
        raise InputError(f"the weights in {where} do not fit {model.backbone_name}: '{odd[0]}' is on one side only", _REMAKE)
    for name, value in given.items():
        if tuple(value.shape) != tuple(own[name].shape):
            raise InputError(
                f"weight '{name}' in {where} has shape {value.shape}, {model.backbone_name} wants {tuple(own[name].shape)}",
                _REMAKE,
            )


def _load_weights(model: EmbeddingModel, artifact: Artifact, where: str) -> None:
    given = weights_of(artifact)
    _require_fit(model, given, where)
    for name, value in given.items():
        if not np.isfinite(value).all():
            raise InputError(f"weight '{name}' in {where} is not finite", _REMAKE)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in given.items()})
