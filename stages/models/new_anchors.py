"""Anchors for new classes of a trained model, in the space of the training anchors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.descriptions import SOURCE as DESCRIPTIONS
from stages.anchors.descriptions import Described, description_anchors
from stages.anchors.merged import join
from stages.anchors.parts import Source, difference, leaves
from stages.classes import ClassGroups, fold
from stages.clip_weights import FILE_TAG
from stages.errors import InputError, MissingError, UsageError

if TYPE_CHECKING:
    from stages.anchors.encoder import TextEncoder

_MAKE = "make them with `laat anchors` and the encoder of the training anchors, and give them with --anchors FILE.st"
_DESCRIBE = (
    "make them with `laat anchors --classes NEW.txt --descriptions FILE.json {encoder} -o new.st`, and give them with "
    "--anchors new.st"
)
_MERGE = (
    "make anchors of the classes from each source, merge them with `laat merge` as those of the training were, and give them "
    "with --anchors FILE.st"
)
_WITHOUT_LANGUAGE = ("simplex", "random")
NO_LANGUAGE = "such anchors know only the classes that they were made for; train with those of a text encoder for others"
_SAME = 1 - 1e-6  # cosine
_SAME_ENCODER = "encode the classes with the encoder of the training anchors"
_ENCODER = ("source", "model", "pretrained", "weights_sha256", "config_sha256", "activation")


def matching_anchors(new: AnchorSet, trained: AnchorSet, where: str) -> AnchorSet:
    """Anchors `new` for a model that was trained with the anchors `trained`.

    Raw anchors are expanded like `trained`; expanded ones must have the same map.

    Args:
        new: anchors of any classes.
        trained: the training anchors.
        where: name of `new` in errors.

    Raises InputError for another width, another encoder or another map.
    """
    width, own_width = new.vectors.shape[1], trained.vectors.shape[1]
    if width != own_width:
        raise InputError(f"the anchors of {where} have width {width} and the checkpoint {own_width}", _SAME_ENCODER)
    found = difference(new, trained, _ENCODER)
    if found is not None:
        other = "merged in another way" if found.merged else "from another encoder"
        what = f"the anchors of {where} are {other} than the checkpoint's"
        raise InputError(f"{what}: {found.what} is {found.own!r} there and {found.other!r} here", _alike(new, trained))
    own, given = trained.expansion, new.expansion
    if own is not None and given is None:
        new = new.expanded_by(own)
    elif own is not given and (own is None or not own.same_as(given)):
        raise InputError(
            f"the anchors of {where} are expanded with another map than the checkpoint's",
            "give the raw anchors; the checkpoint's map is applied to them",
        )
    if trained.origin.get("source") in _WITHOUT_LANGUAGE:
        _refuse_taken(new, trained, where)
    return new


def _refuse_taken(new: AnchorSet, trained: AnchorSet, where: str) -> None:
    """Raise InputError where an anchor without language is that of a class of another name in the training: those of one seed
    are the same rows for any names."""
    own = {fold(name) for name in trained.classes}
    others = ((name, row) for name, row in zip(new.classes, new.vectors, strict=True) if fold(name) not in own)
    for name, row in others:
        cosines = trained.vectors @ row
        if cosines.max() > _SAME:
            raise InputError(
                f"'{name}' has the anchor of the checkpoint's '{trained.classes[int(cosines.argmax())]}' in {where}",
                NO_LANGUAGE,
            )


def _alike(new: AnchorSet, trained: AnchorSet) -> str:
    """How to make anchors like those of the training."""
    if trained.parts:
        return _MERGE
    source = trained.origin.get("source")
    if source == new.origin.get("source"):
        return _SAME_ENCODER
    if source == DESCRIPTIONS:
        return _DESCRIBE.format(encoder="--like CHECKPOINT")
    return "make them with `laat anchors --classes NEW.txt --like CHECKPOINT`" if source == "text" else _SAME_ENCODER


def anchors_for_names(
    trained: AnchorSet,
    classes: Sequence[str],
    device: str = "cpu",
    where: str = "these classes",
    whose: str = "the checkpoint's",
    fix: str | None = None,
    described: Described | None = None,
) -> AnchorSet:
    """Anchors of `classes`, encoded and expanded like the training anchors.

    Seen and validation classes of the training are recognized by name; all others are novel.

    Args:
        trained: the training anchors, with their encoder and templates.
        classes: unique names.
        device: of the encoder.
        where: name of the classes in errors.
        whose, fix: see `no_encoder`.
        described: sentences for `classes`, where the training anchors are means of such.

    Raises:
        InputError: training anchors without an encoder, and as `text_anchors` and `description_anchors`.
        MissingError: an encoder from a local folder or file, or whose weights cannot be downloaded.
    """
    if (refused := no_encoder(trained.origin, whose, fix, described=described is not None)) is not None:
        raise refused
    encoders: dict[tuple[str, str], TextEncoder] = {}

    def load(model: str, tag: str) -> TextEncoder:
        from stages.anchors.encoder import load_encoder

        try:
            return encoders.setdefault((model, tag), encoders.get((model, tag)) or load_encoder(model, tag, device))
        except (MissingError, UsageError) as error:
            raise MissingError(f"{whose} encoder is not available: {error.what}", fix or _MAKE) from error

    raw = _encoded_like(trained, classes, groups_like(trained, classes), load, described)
    return matching_anchors(raw, trained, where)


def _encoded_like(
    source: Source,
    classes: Sequence[str],
    groups: ClassGroups,
    load: Callable[[str, str], TextEncoder],
    described: Described | None,
) -> AnchorSet:
    """Anchors of `classes` from the encoder and the prompts of `source`, before its own map; each part after its map."""
    if source.parts:
        raw = [_encoded_like(part, classes, groups, load, described) for part in source.parts]
        moved = [
            one if part.expansion is None else one.expanded_by(part.expansion)
            for one, part in zip(raw, source.parts, strict=True)
        ]
        return join(moved, [part.weight for part in source.parts])
    from stages.anchors.sources import text_anchors

    origin = source.origin
    encoder = load(*(str(origin.get(key, "")) for key in ("model", "pretrained")))
    cut = bool(origin.get("allow_truncation", False))
    if origin.get("source") == DESCRIPTIONS and described is not None:
        return description_anchors(described, groups, encoder, allow_truncation=cut)
    templates = [str(template) for template in origin.get("templates", ())]
    return text_anchors(classes, groups, encoder, templates, allow_truncation=cut)


def no_encoder(
    origin: Mapping[str, Any], whose: str = "the checkpoint's", fix: str | None = None, *, described: bool = False
) -> InputError | MissingError | None:
    """Why new names cannot be encoded like anchors of this origin; None where an encoder can be loaded by its name.

    Args:
        origin: see `AnchorSet`.
        whose: the anchors are, in the error.
        fix: what to do about it; None is for a checkpoint.
        described: whether there are sentences for the new names.
    """
    if (parts := origin.get("parts")) is not None:
        return _no_encoder_of_parts(parts, whose, fix, described=described)
    source, model, tag = (str(origin.get(key, "")) for key in ("source", "model", "pretrained"))
    if source not in ("text", DESCRIPTIONS):
        what = f"{whose} anchors come from {source or 'an unknown source'}, which cannot encode names"
        same = NO_LANGUAGE if source in _WITHOUT_LANGUAGE else "give anchors of the same kind with --anchors FILE.st"
        return InputError(what, fix or same)
    local = model.startswith("local-dir:") or tag.startswith(FILE_TAG)
    if source == DESCRIPTIONS and not described:
        what = f"{whose} anchors are means of sentences about each class, and new names need sentences of their own"
        return InputError(what, fix or _DESCRIBE.format(encoder="--model MODEL" if local else "--like CHECKPOINT"))
    if local:
        name = tag.removeprefix(FILE_TAG) if tag.startswith(FILE_TAG) else model.removeprefix("local-dir:")
        return MissingError(f"{whose} encoder was given as '{name}', and files do not record paths", fix or _MAKE)
    return None


def _no_encoder_of_parts(
    parts: Sequence[Mapping[str, Any]], whose: str, fix: str | None, *, described: bool
) -> InputError | MissingError | None:
    """The first reason of a part; descriptions are asked for last, where all other parts can be encoded, and can be given for
    one part."""
    files = sum(leaf.get("source") == DESCRIPTIONS for leaf in leaves({"parts": parts}))
    if described and files > 1:
        what = f"{whose} anchors are merged from {files} files of descriptions, and new names need as many"
        return InputError(what, fix or _MERGE)
    for given in dict.fromkeys((True, described)):
        for number, part in enumerate(parts, 1):
            own = fix or (_MERGE if given else None)
            if refused := no_encoder(part["origin"], f"{whose} anchors are merged, and part {number}'s", own, described=given):
                return refused
    return None


def groups_like(trained: AnchorSet, classes: Sequence[str]) -> ClassGroups:
    """The groups of `classes`, by name, for a model trained with the anchors `trained`; unknown classes are novel."""
    known = {fold(name): group for group in ("seen", "val") for name in trained.names(group)}
    groups = [known.get(fold(name), "novel") for name in classes]
    seen, val, novel = (tuple(at for at, group in enumerate(groups) if group == wanted) for wanted in ("seen", "val", "novel"))
    return ClassGroups(seen, val, novel)


def numbered_anchors(vectors: np.ndarray) -> AnchorSet:
    """Anchors without names, (C, D), or the first of several heads (H, C, D): classes are named by number."""
    first = vectors if vectors.ndim == 2 else vectors[0]
    groups = ClassGroups.from_counts(len(first), None)
    return AnchorSet(first, tuple(str(at) for at in range(len(first))), groups, {"source": "given"})
