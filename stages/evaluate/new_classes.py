"""Anchors for the classes of another data set, from the encoder that a checkpoint's own anchors came from."""

from __future__ import annotations

from collections.abc import Sequence

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.encoder import load_encoder
from stages.anchors.text import text_anchors
from stages.classes import ClassGroups, fold
from stages.errors import InputError, MissingError, UsageError
from stages.models.checkpoint import Checkpoint

_FILE = "file:"
_MAKE = "make them with `laat anchors` and the encoder of the training anchors, and give them with --anchors FILE.st"


def encoded_like(checkpoint: Checkpoint, classes: Sequence[str], device: str = "cpu") -> AnchorSet:
    """Raw anchors of `classes`, encoded with the encoder and the templates of the checkpoint's own anchors.

    Which of the classes were trained on, or selected the epoch, goes by their names; all others are novel. To be given to
    `Checkpoint.with_anchors`, which refuses another encoder and applies the checkpoint's own fitted expansion.

    Args:
        checkpoint: its anchors say which encoder: model, tag and templates.
        classes: names, no two of them the same.
        device: of the encoder.

    Raises:
        InputError: anchors that no encoder made, and what `text_anchors` raises.
        MissingError: an encoder that cannot be had by its recorded name: one from a folder or a file of the user's, or
            weights that are neither here nor to be downloaded.
    """
    own = checkpoint.trained
    origin = own.origin
    source, model, tag = (str(origin.get(key, "")) for key in ("source", "model", "pretrained"))
    if source != "text":
        what = f"the checkpoint's anchors come from {source or 'an unknown source'}, which encodes no names"
        raise InputError(what, "give anchors of the same kind with --anchors FILE.st")
    if model.startswith("local-dir:") or tag.startswith(_FILE):
        name = tag.removeprefix(_FILE) if tag.startswith(_FILE) else model.removeprefix("local-dir:")
        raise MissingError(f"the checkpoint's encoder was given as '{name}', and a checkpoint keeps no path", _MAKE)
    try:
        encoder = load_encoder(model, tag, device)
    except (MissingError, UsageError) as error:
        raise MissingError(f"the checkpoint's encoder cannot be had: {error.what}", _MAKE) from error
    return text_anchors(
        classes,
        groups_like(own, classes),
        encoder,
        [str(template) for template in origin.get("templates", ())],
        allow_truncation=bool(origin.get("allow_truncation", False)),
    )


def groups_like(own: AnchorSet, classes: Sequence[str]) -> ClassGroups:
    """The groups of `classes` for a model trained with the anchors `own`, by name; a class that it does not know is novel."""
    known = {fold(name): part for part in ("seen", "val") for name in own.names(part)}
    parts = [known.get(fold(name), "novel") for name in classes]
    seen, val, novel = (tuple(at for at, part in enumerate(parts) if part == wanted) for wanted in ("seen", "val", "novel"))
    return ClassGroups(seen, val, novel)
