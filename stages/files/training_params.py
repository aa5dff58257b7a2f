"""What a checkpoint must record of its training, as types. Entries that are not named here may be anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from stages.files.records import Record, Share


class Settings(Record, extra="allow"):
    """The settings of a training that later commands read."""

    tau: Annotated[float, Field(ge=1e-38, le=1e38)]  # whose inverse is finite in float32
    backbone: str | None = None
    epochs: NonNegativeInt | None = None
    eps: str | None = None
    norm: str | None = None
    objective: str | None = None
    seed: int | None = None
    steps: NonNegativeInt | None = None


class TrainingData(Record, extra="allow"):
    """Provenance of the training images."""

    source: str | None = None
    sha256: str | None = None
    white: PositiveFloat | None = None


class Imported(Record, extra="allow"):
    """The file of another program that a checkpoint was converted from; of its training nothing is known."""

    layout: str
    file: str
    """Its name, without a folder."""
    sha256: str
    changes: list[str]
    """What was done to the weights, in sentences."""
    ignored: dict[str, NonNegativeInt]
    """Number of entries that were not taken, by their first key."""
    groups_known: bool
    """Whether the groups are those of the training anchors; otherwise it is unknown which classes were trained on."""


class Blend(Record):
    """The weights are w A + (1 - w) B, see `stages.models.blend`."""

    weight: Share
    """w, that of the first model."""
    anchors_of: Literal["second"] | None = None
    """Set if the anchors and the other entries of the training are those of B."""
    other: str | None = None
    """Objective of the model whose training this is not; absent in older checkpoints."""
    tower: str | None = None
    """B, where that is the image tower of a CLIP model; otherwise it is an input of the checkpoint."""
    tower_sha256: str | None = None
    """Of its weights."""


class Reference(Record):
    """The frozen reference model of the training, where it is no input of the checkpoint."""

    tower: str
    """The image tower of a CLIP model."""


def complete_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a training as they are recorded now: in older records the attack has the precision of the outer step."""
    of_outer = {"attack_precision": settings["precision"]} if "precision" in settings else {}
    return {**of_outer, **settings}


def is_anchored(training: Mapping[str, Any]) -> bool:
    """Whether the projection to the anchors was trained; otherwise the model has few-shot heads alone."""
    return bool(training.get("anchored", True))


def blend_of(record: Mapping[str, Any]) -> tuple[float | None, str | None]:
    """Of an entry 'training' of a blend, the weight of the model whose training it is, and what the rest is of.

    That is a tower by its name, or a checkpoint by its objective; None if unknown.
    """
    blend = record.get("blend")
    if blend is None:
        return None, None
    if blend.get("anchors_of") == "second":
        return round(1 - blend["weight"], 12), blend.get("other")
    return blend["weight"], blend.get("tower") or blend.get("other")


class Training(Record, extra="allow"):
    """How a model was trained."""

    anchored: bool = True
    """Whether the projection to the anchors was trained."""
    blend: Blend | None = None
    imported: Imported | None = None
    settings: Settings
    data: TrainingData = TrainingData()
    images: NonNegativeInt | None = None
    identity: dict[str, dict[str, Any]] = Field(default_factory=dict)
    name: str | None = None
    """That the user gave the run."""
    reference: Reference | None = None
    resize: PositiveInt | None = None
