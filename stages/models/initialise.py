"""Starting a training from the weights of another one."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from stages.errors import InputError
from stages.models.embedding import EmbeddingModel

_PROJECTION = "projection."


def initialise_from(model: EmbeddingModel, source: EmbeddingModel, where: str) -> bool:
    """Copy the weights of a checkpoint's model, `source`, into `model`.

    The backbones must be the same; image size, anchors' width and DropBlock may differ. All of the backbone is copied, the
    running statistics of its norms included, and so are mean and std of the input normalisation: the features of an image
    are then those that `source` gives it, whatever data come next. The projection is copied when both have the same width
    and left as it is otherwise.

    Args:
        model: the model to be trained; it keeps its device.
        source: the embedding model of a checkpoint.
        where: how errors call the checkpoint.

    Returns:
        Whether the projection was copied too.

    Raises:
        InputError: another architecture, or one whose weights depend on the image size, which differs.
    """
    if _family(model) != _family(source):
        raise _another(model, source, where, "")
    given = source.state_dict()
    if model.width != source.width:
        given = {name: value for name, value in given.items() if not name.startswith(_PROJECTION)}
    own = model.state_dict()
    odd = next((name for name, value in given.items() if name not in own or own[name].shape != value.shape), None)
    if odd is not None:
        raise _another(model, source, where, f"; '{odd}' is {_shape(given, odd)} there and {_shape(own, odd)} here")
    model.load_state_dict(given, strict=False)
    return model.width == source.width


def _family(model: EmbeddingModel) -> Any:
    """What two models have in common whose weights mean the same; a tower's weights may come from any tag."""
    tower = model.architecture.get("tower")
    return tower or model.backbone_name


def _shape(weights: dict[str, Tensor], name: str) -> str:
    return str(tuple(weights[name].shape)) if name in weights else "missing"


def _another(model: EmbeddingModel, source: EmbeddingModel, where: str, detail: str) -> InputError:
    return InputError(
        f"{where} holds {source.backbone_name} for images of {source.image_size} px, this run trains {model.backbone_name} "
        f"at {model.image_size} px{detail}",
        f"give a checkpoint of {model.backbone_name}, or train with --backbone {source.backbone_name}",
    )
