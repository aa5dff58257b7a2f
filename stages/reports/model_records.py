"""What a report records of a model: what it is, and how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import NonNegativeInt

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.parts import Part
from stages.files.records import Record, Share
from stages.files.training_params import blend_of, complete_settings
from stages.identity import digest_of


class Training(Record, extra="allow"):
    """How a model was trained, from its checkpoint. Other entries are further settings of `laat train`, by their names."""

    anchors: str
    """How the training anchors were made: raw, or the label of their expansion (from text); random, simplex, features; or both:
    'expanded random'."""
    anchors_sha256: str | None = None
    """Of their class names, groups and values."""
    backbone: str | None = None
    blend: Share | None = None
    """Of a blend of two models, the weight of the one whose training this is otherwise."""
    blend_with: str | None = None
    """What the rest of a blend is of: a tower, or the objective of the other model; null if that is unknown."""
    classes: NonNegativeInt | None = None
    """Number of seen classes; null if it is unknown which classes were trained on."""
    data: str | None = None
    """Source of the training images."""
    data_sha256: str | None = None
    """Of their pixels, labels and class names."""
    epochs: NonNegativeInt | None = None
    eps: str | None = None
    """Of the attack in training, in pixel units."""
    images: NonNegativeInt | None = None
    """Number of training images."""
    imported: str | None = None
    """The program whose checkpoint was imported; of its training nothing else is known."""
    init: str | None = None
    """SHA-256 of the checkpoint that it started from; null for the initial weights of the backbone."""
    name: str | None = None
    """Of the run."""
    objective: str | None = None
    seed: int | None = None
    """Of the training."""
    steps: NonNegativeInt | None = None
    """Steps of the attack in training."""
    tau: float | None = None
    """Temperature: logits are cosine / tau."""


class Model(Record):
    """A model that was evaluated."""

    anchors: str
    """Source of the anchors, and raw or the label of their expansion: expanded, centred …"""
    name: str
    """Unique in the report."""
    objective: str
    """Of the training; zero-shot or closed set for a model from elsewhere."""
    sha256: str
    """Of the checkpoint, or of the weights of a model from elsewhere."""
    training: Training | None = None
    """Null for models from elsewhere, and in reports of schema version 3 and older."""


def training_of(
    record: Mapping[str, Any], inputs: Mapping[str, Any], anchors: AnchorSet, *, groups_known: bool = True
) -> Training:
    """What a checkpoint records of its training: every setting, and what was trained on.

    Args:
        record: its entry 'training'.
        inputs: its lineage.
        anchors: that it was trained with.
        groups_known: whether their groups say which classes were trained on.
    """
    data, start, imported = record.get("data", {}), inputs.get("init"), record.get("imported")
    weight, rest = blend_of(record)
    known = {
        "anchors_sha256": digest_of([anchors.classes, anchors.groups.to_record()], anchors.vectors),
        "blend": weight,
        "blend_with": rest,
        "classes": len(anchors.groups.seen) if groups_known else None,
        "data": data.get("source"),
        "data_sha256": data.get("sha256"),
        "images": record.get("images"),
        "imported": None if imported is None else imported["layout"],
        "init": None if start is None else start["sha256"],
        "name": record.get("name"),
    }
    settings = {
        **complete_settings(record.get("settings", {})),
        **{name: value for name, value in known.items() if value is not None},
    }
    return Training.model_validate({**settings, "anchors": anchors_method(anchors)})


def anchors_method(anchors: AnchorSet | Part) -> str:
    """How anchors were made, in a word or two: raw, expanded or centred (from text), random, 'expanded random',
    'merged (raw + centred glove)' …"""
    source = str(anchors.origin.get("source", "unknown"))
    label = "raw" if anchors.expansion is None else anchors.expansion.label
    if anchors.parts:
        source = f"{source} ({' + '.join(map(anchors_method, anchors.parts))})"
    if source == "text":
        return label
    return source if anchors.expansion is None else f"{label} {source}"
