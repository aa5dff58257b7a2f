"""Starting a training run from the weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from stages.errors import InputError
from stages.files.artifacts import Artifact
from stages.models.checkpoint import weights_of
from stages.models.embedding import EmbeddingModel

_PROJECTION = "projection."


def initialise_from(model: EmbeddingModel, artifact: Artifact, where: str) -> bool:
    """Copy the weights of a checkpoint into `model`.

    The backbones must be the same; image size, width of the anchors and DropBlock may differ. The whole backbone is copied,
    with the running statistics of its norms, and so are mean and std of the input normalization: an image then has the same
    features as with the checkpoint, whatever the new data are. The projection is copied when both have the same width, and
    otherwise stays as it is.

    Args:
        model: the model to be trained; stays on its device.
        artifact: the checkpoint, of kind 'model'.
        where: name of the checkpoint in error messages.

    Returns:
        Whether the projection was copied too.

    Raises:
        InputError: a damaged checkpoint, another architecture, or one whose weights depend on the image size, which differs.
    """
    theirs = artifact.params["architecture"]
    if theirs.get("backbone") is None:
        raise InputError(f"{where} does not say its backbone", f"give a checkpoint of {model.backbone_name}")
    if family_of(theirs) != family_of(model.architecture):
        raise _another(model, theirs, where, "")
    given = {name: torch.from_numpy(value.copy()) for name, value in weights_of(artifact).items()}
    same_width = model.width == theirs["width"]
    if not same_width:
        given = {name: value for name, value in given.items() if not name.startswith(_PROJECTION)}
    own = model.state_dict()
    expected = {name for name in own if same_width or not name.startswith(_PROJECTION)}
    for name in sorted(given.keys() | expected):
        if _shape(given, name) != _shape(own, name):
            detail = f"; '{name}' is {_shape(given, name)} in the checkpoint and {_shape(own, name)} in the new model"
            raise _another(model, theirs, where, detail)
    model.load_state_dict(given, strict=False)
    return same_width


def family_of(architecture: Mapping[str, Any]) -> Any:
    """What two models must have in common to share weights; those of an image tower may come from any pretrained tag."""
    return architecture.get("tower") or architecture.get("backbone") or architecture.get("module")


def _shape(weights: dict[str, Tensor], name: str) -> str:
    return str(tuple(weights[name].shape)) if name in weights else "missing"


def _another(model: EmbeddingModel, theirs: dict[str, Any], where: str, detail: str) -> InputError:
    return InputError(
        f"{where} has {theirs['backbone']} for images of {theirs['image_size']} px, this run trains {model.backbone_name} at "
        f"{model.image_size} px{detail}",
        f"give a checkpoint of {model.backbone_name}, or train with --backbone {theirs['backbone']}",
    )
