"""What a run trains on what: the identity of the run, its initial model, and what its checkpoints record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from stages.anchors.anchor_set import AnchorSet
from stages.data.image_set import ImageSet
from stages.data.normalization import normalization_of
from stages.data.streaming_set import StreamingImageSet
from stages.files import artifacts
from stages.identity import CODE
from stages.imports import code_of
from stages.models.backbones import recorded_backbone
from stages.models.checkpoint import image_hashes_of
from stages.models.embedding import EmbeddingModel
from stages.models.initialise import initialise_from
from stages.models.own_parts import fingerprint, import_path_of
from stages.models.reference import NamedReference
from stages.training.build_objective import find_kind
from stages.training.few_shot_selection import plan_few_shot_selection
from stages.training.objectives import Objective
from stages.training.selection import FEW_IMAGES, Selection, floor_decides, plan_selection
from stages.training.settings import TrainSettings


@dataclass(frozen=True)
class Task:
    """The inputs of a run; see `stages.training.run.train_run`.

    `backbone` is the module of a backbone that is named by its import path, `named` where `reference` is from.
    """

    anchors: AnchorSet
    images: ImageSet | StreamingImageSet
    settings: TrainSettings
    inputs: dict[str, Any]
    init: artifacts.Artifact | None
    resize: int | None
    model: nn.Module | None
    backbone: nn.Module | None
    objective: Objective | type[Objective] | None
    reference: nn.Module | None = None
    named: NamedReference | None = None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the result, JSON-able: two runs of the same identity write the same files."""
        recorded = {**self.settings.to_record(self.kind), "backbone": recorded_backbone(self.settings.backbone)}
        if self.model is not None:
            recorded["backbone"] = import_path_of(type(self.model))
        if self.objective is not None:
            recorded["objective"] = import_path_of(self.kind)
        if isinstance(self.objective, Objective):
            recorded |= self.objective.own_weights
        digests = {name: record["sha256"] for name, record in self.inputs.items()}
        found = {"settings": recorded, "inputs": {"data": self.images.sha256(), **digests}}
        if self.kind.anchored and floor_decides(self.images, self.anchors):  # a run of another version held out other images
            found["selection"] = {"smallest number of selection images": FEW_IMAGES}
        if self.scored_apart:  # another version scored epochs by the inner attack
            found["selection"] = {**found.get("selection", {}), "attack": self.settings.selection_attack().to_record()}
        if self.kind.anchored and self.anchors.groups.val and self.settings.seen_bias:
            found["calibration"] = {"images of the seen classes": "held out"}
        if self.reference is not None:
            found["reference"] = fingerprint(self.reference)
        own, code = self.model or self.backbone, code_of(self.settings.backbone, self.settings.objective)
        if code:
            found[CODE] = code
        return found if own is None else {**found, "model": fingerprint(own)}

    @property
    def kind(self) -> type[Objective]:
        """The class of the objective."""
        return find_kind(self.settings, self.objective)

    @property
    def scored_apart(self) -> bool:
        """Whether epochs are scored under an attack of more steps than the inner attack's."""
        return self.kind.attacks and self.settings.selection_attack().steps > self.settings.steps

    def plan_selection(self) -> tuple[ImageSet | StreamingImageSet, Selection]:
        """The training images, and what scores the epochs."""
        if not self.kind.anchored:
            return plan_few_shot_selection(self.images, self.anchors, self.settings, self.kind)
        return plan_selection(self.images, self.anchors, self.settings.seed, seen_bias=self.settings.seen_bias)

    def build_model(self, training: ImageSet | StreamingImageSet, on_note: Callable[[str], None] | None = None) -> nn.Module:
        """The model with its initial weights; pixels are normalized by the statistics of the `training` images.

        `on_note` is called where a channel hardly varies.
        """
        if self.model is not None:
            return self.model
        settings, pixels = self.settings, normalization_of(training)
        model = EmbeddingModel(
            settings.backbone,
            self.anchors.vectors.shape[1],
            self.images.size[0],
            mean=pixels.mean,
            std=pixels.std,
            seed=settings.seed,
            drop_block=settings.drop_block,
            own=self.backbone,
        )
        if self.init is not None:
            initialise_from(model, self.init, "the --init checkpoint")
        if on_note is not None and torch.allclose(model.std.flatten(), torch.tensor(pixels.std)):  # not of other weights
            for note in pixels.notes:
                on_note(note)
        return model

    @property
    def earlier(self) -> dict[str, artifacts.Artifact]:
        """The checkpoints that the model learns from: what each is -> the checkpoint."""
        found = {"the --init checkpoint": self.init, "the reference": None if self.named is None else self.named.artifact}
        return {what: artifact for what, artifact in found.items() if artifact is not None}

    def image_hashes(self, training: ImageSet | StreamingImageSet, selection: Selection) -> dict[str, np.ndarray]:
        """The hashes of the images that are trained on, of those that select the epoch, and of those held out for the
        calibration, each with those of the `earlier` checkpoints; {} if one of these does not have them."""
        before = [image_hashes_of(artifact) for artifact in self.earlier.values()]
        if not all(before):
            return {}
        found = {"trained": training.hashes(), "selected": selection.images.hashes()}
        if selection.held_out is not None:
            found["calibrated"] = selection.held_out.hashes()
        return {
            use: np.unique(np.concatenate([own, *(one[use] for one in before if use in one)])) for use, own in found.items()
        }

    def record(self, training: ImageSet | StreamingImageSet, selection: Selection) -> dict[str, Any]:
        """What the checkpoints record of the run."""
        attack = {"attack": self.settings.selection_attack().name} if self.kind.attacks else {}
        return {
            "settings": self.identity["settings"],
            "identity": self.identity,
            "data": {**self.images.provenance.to_record(), "sha256": self.identity["inputs"]["data"]},
            "images": len(training),
            "resize": self.resize,
            **({} if self.named is None else self.named.record),
            "selection": {**selection.to_record(), **attack},
            **({} if self.kind.anchored else {"anchored": False}),
        }
