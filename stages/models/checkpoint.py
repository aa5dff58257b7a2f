"""The checkpoint: weights, architecture, normalization, anchors and fitted expansion of a classifier in one file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from stages.anchors.anchor_set import AnchorSet
from stages.errors import InputError, LaatError, UsageError
from stages.files.artifact_params import Calibration
from stages.files.artifacts import Artifact
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel
from stages.models.fit import REMAKE, Kind, on_meta, require_fit
from stages.models.origin import Origin
from stages.models.own_parts import import_path_of, is_own_backbone, load_backbone
from stages.statistics.calibration import calibration_of
from stages.threat import ThreatModel
from stages.uninitialised import Uninitialised

KIND = "model"
_WEIGHT = "weights."
_IMAGES = "images."
_HEAD = "head."
LEARNT = (_WEIGHT, _HEAD)
"""How the names of learnt tensors begin."""


def checkpoint_of(
    embedding: nn.Module,
    anchors: AnchorSet,
    training: Mapping[str, Any],
    inputs: Mapping[str, Any],
    *,
    image_size: int,
    images: Mapping[str, np.ndarray] | None = None,
    calibration: Calibration | None = None,
    head: nn.Module | None = None,
) -> Artifact:
    """A trained embedding model and its anchors as an artifact of kind 'model'.

    Args:
        embedding: any module; if it is not an `EmbeddingModel`, only its weights and the name of its type are saved.
        anchors: the training anchors of all groups.
        training: settings, data and selection of the run; JSON-able.
        inputs: lineage.
        image_size: side of the training images.
        images: see `Origin.images`.
        calibration: see `Classifier`.
        head: what the training learnt besides the embedding model, see `Origin.head`.
    """
    packed = anchors.to_artifact()
    weights = {f"{_WEIGHT}{name}": value.detach().cpu().numpy() for name, value in embedding.state_dict().items()}
    if isinstance(embedding, EmbeddingModel):
        architecture = embedding.architecture
    else:
        architecture = {"module": import_path_of(type(embedding)), "width": anchors.vectors.shape[1], "image_size": image_size}
    params = {**packed.params, "architecture": architecture, "training": dict(training)}
    if calibration is not None:
        params["calibration"] = calibration.to_record()
    hashes = {f"{_IMAGES}{name}": value for name, value in (images or {}).items()}
    learnt = {} if head is None else {f"{_HEAD}{key}": value.detach().cpu().numpy() for key, value in head.state_dict().items()}
    return Artifact(KIND, {**packed.tensors, **weights, **hashes, **learnt}, params, dict(inputs))


def read_checkpoint(artifact: Artifact, where: str, module: nn.Module | str | None = None) -> Classifier:
    """Rebuild the classifier of an artifact of kind 'model', in eval mode.

    Args:
        artifact: see `checkpoint_of`.
        where: name of the file in errors.
        module: for a checkpoint of custom code: the embedding model, or the import path of its backbone's factory
            (`pkg.mod:factory`). Reading a file never imports code by itself.

    Raises InputError for missing or mismatching entries, and for custom code without `module`.
    """
    anchors = AnchorSet.from_artifact(artifact, where)
    architecture, training = artifact.params["architecture"], artifact.params["training"]
    width, image_size, tau = architecture["width"], architecture["image_size"], training["settings"]["tau"]
    if width != anchors.vectors.shape[1]:
        raise InputError(f"{where} has a model of width {width} and anchors of width {anchors.vectors.shape[1]}", REMAKE)
    embedding = module if isinstance(module, nn.Module) else _built(architecture, module, artifact, where)
    _load_weights(embedding, artifact, where)
    origin = Origin(training, artifact.inputs, artifact.sha256, image_hashes_of(artifact), _foreign(training), _head(artifact))
    made = Classifier(
        embedding,
        anchors,
        logit_scale=1 / tau,
        threat=_threat(training),
        image_size=image_size,
        origin=origin,
        calibration=calibration_of(artifact),
    )
    return made.eval()


def _foreign(training: Mapping[str, Any]) -> dict[str, str]:
    """`Origin.foreign` of a checkpoint that was imported without the groups of its classes."""
    imported = training.get("imported")
    if imported is None or imported["groups_known"]:
        return {}
    return {"name": imported["file"], "kind": f"{imported['layout']} checkpoint"}


def weights_of(artifact: Artifact) -> dict[str, np.ndarray]:
    """The weights in a checkpoint, by their names in the model."""
    return {name.removeprefix(_WEIGHT): value for name, value in artifact.tensors.items() if name.startswith(_WEIGHT)}


def trained_classes_of(artifact: Artifact) -> set[str]:
    """The classes that the model of a checkpoint was trained on."""
    return {artifact.params["classes"][at] for at in artifact.params["groups"]["seen"]}


def learnt_of(artifact: Artifact) -> dict[str, np.ndarray]:
    """The weights in a checkpoint and what was learnt besides them (see `Origin.head`), by their names in the file."""
    return {name: value for name, value in artifact.tensors.items() if name.startswith(LEARNT)}


def _head(artifact: Artifact) -> dict[str, np.ndarray]:
    return {name.removeprefix(_HEAD): value for name, value in artifact.tensors.items() if name.startswith(_HEAD)}


def image_hashes_of(artifact: Artifact) -> dict[str, np.ndarray]:
    """The hashes of images in a checkpoint, by their use (see `Origin.images`); older ones have none."""
    return {
        name.removeprefix(_IMAGES): artifact.tensor(name, (None,), "i") for name in artifact.tensors if name.startswith(_IMAGES)
    }


def _threat(training: Mapping[str, Any]) -> ThreatModel | None:
    """The threat model of training; None for training without attack."""
    settings = training["settings"]
    if settings.get("objective") in (None, "clean") or settings.get("eps") is None:
        return None
    try:
        return ThreatModel(settings["eps"], settings.get("norm") or "Linf")
    except LaatError:
        return None


def _built(architecture: Mapping[str, Any], own: str | None, artifact: Artifact, where: str) -> EmbeddingModel:
    """Build the embedding model of the record; `own` is the import path of a backbone that the user agreed to import."""
    if architecture.get("module") is not None:
        raise InputError(
            f"{where} has the weights of your own module {architecture['module']}", "give it: laat.load(path, module=…)"
        )
    backbone, tower = architecture.get("backbone") or "", architecture.get("tower")
    if not backbone or (tower is not None) != backbone.startswith("clip:"):
        raise InputError(f"{where} lacks its architecture or settings", REMAKE)
    if is_own_backbone(backbone) and own is None:
        raise InputError(
            f"{where} was trained with your own backbone {backbone}, and loading it runs that code",
            f"add --backbone {backbone}, or in Python laat.load(path, module='{backbone}')",
        )
    width, image_size = architecture["width"], architecture["image_size"]
    net = None if own is None else load_backbone(own)
    build = partial(EmbeddingModel, own or backbone, width, image_size, mean=(0, 0, 0), std=(1, 1, 1), tower=tower, own=net)
    try:
        if (shapes := on_meta(build)) is not None:
            _require_fit(shapes, weights_of(artifact), where)
        with Uninitialised():
            return build()
    except UsageError as error:
        raise InputError(f"the model in {where} cannot be built: {error.what}", REMAKE) from None


def _require_fit(model: nn.Module, given: Mapping[str, np.ndarray], where: str) -> None:
    name = model.backbone_name if isinstance(model, EmbeddingModel) else type(model).__name__
    kinds = {key: Kind(tuple(one.shape), str(one.dtype), one.dtype.kind == "f") for key, one in given.items()}
    require_fit(model.state_dict(), kinds, name=name, where=where, fix=REMAKE)


def _load_weights(model: nn.Module, artifact: Artifact, where: str) -> None:
    given = weights_of(artifact)
    _require_fit(model, given, where)
    model.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in given.items()})
