"""Anchors for classes that are named after training, in the space of the training anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups, fold
from stages.errors import InputError, MissingError, UsageError

_FILE = "file:"
_MAKE = "make them with `laat anchors` and the encoder of the training anchors, and give them with --anchors FILE.st"
_SAME_ENCODER = "encode the classes with the model that the training anchors came from"
_ENCODER = ("source", "model", "pretrained", "weights_sha256", "activation")


def matching_anchors(new: AnchorSet, trained: AnchorSet, where: str) -> AnchorSet:
    """`new` for a model that was trained with the anchors `trained`.

    Raw anchors are moved by the fitted expansion of `trained` if it has one; expanded ones must carry the same map.

    Args:
        new: anchors of any classes.
        trained: the training anchors.
        where: what errors call `new`.

    Raises InputError for another width, another encoder or another map.
    """
    width, own_width = new.vectors.shape[1], trained.vectors.shape[1]
    if width != own_width:
        raise InputError(f"the anchors of {where} have width {width} and the checkpoint {own_width}", _SAME_ENCODER)
    for key in _ENCODER:
        if new.origin.get(key) != trained.origin.get(key):
            raise InputError(
                f"the anchors of {where} come from another encoder than the checkpoint's: {key} is "
                f"{new.origin.get(key)!r} there and {trained.origin.get(key)!r} here",
                _SAME_ENCODER,
            )
    own, given = trained.expansion, new.expansion
    if own is not None and given is None:
        return replace(new, vectors=own.apply(new.vectors).astype(np.float32), expansion=own)
    if own is given:
        return new
    if own is None or given is None or own.theta_max != given.theta_max or not np.array_equal(own.centre, given.centre):
        raise InputError(
            f"the anchors of {where} are expanded with another map than the checkpoint's",
            "give the raw anchors: the checkpoint's own map is applied to them",
        )
    return new


def anchors_for_names(
    trained: AnchorSet, classes: Sequence[str], device: str = "cpu", where: str = "these classes"
) -> AnchorSet:
    """Anchors of `classes`, encoded with the text encoder and templates of the training anchors, and expanded like them.

    Classes that were trained on or selected the epoch are recognised by name; all others are novel.

    Args:
        trained: the training anchors; they record the model, the pretrained tag and the templates.
        classes: names, no two of them the same.
        device: of the encoder.
        where: what errors call the classes.

    Raises:
        InputError: training anchors that no encoder made, and what `text_anchors` raises.
        MissingError: an encoder that is not available by its recorded name: it was read from a local folder or file, or its
            weights are neither cached nor can they be downloaded.
    """
    # open_clip takes seconds to import
    from stages.anchors.encoder import load_encoder
    from stages.anchors.text import text_anchors

    origin = trained.origin
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
        raise MissingError(f"the checkpoint's encoder is not available: {error.what}", _MAKE) from error
    raw = text_anchors(
        classes,
        groups_like(trained, classes),
        encoder,
        [str(template) for template in origin.get("templates", ())],
        allow_truncation=bool(origin.get("allow_truncation", False)),
    )
    return matching_anchors(raw, trained, where)


def groups_like(trained: AnchorSet, classes: Sequence[str]) -> ClassGroups:
    """The groups of `classes` for a model trained with the anchors `trained`, by name; an unknown class is novel."""
    known = {fold(name): group for group in ("seen", "val") for name in trained.names(group)}
    groups = [known.get(fold(name), "novel") for name in classes]
    seen, val, novel = (tuple(at for at, group in enumerate(groups) if group == wanted) for wanted in ("seen", "val", "novel"))
    return ClassGroups(seen, val, novel)
