"""What the parameters of each kind of artifact must have, as types. Entries that are not named here may be anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError, model_validator
from typing_extensions import Self

from stages.conditions import NOT_RESIZED, Knowledge
from stages.errors import InputError
from stages.files.anchor_params import AnchorParams
from stages.files.artifact_record import REMAKE
from stages.files.epoch_metrics import EpochMetrics, check_epochs
from stages.files.records import Record, Share, first_fault
from stages.files.training_params import Training


class Lineage(Record):
    """One input of an artifact, and its own inputs."""

    inputs: dict[str, Lineage] = Field(default_factory=dict)
    kind: str
    sha256: str


class Architecture(Record, extra="allow"):
    """What a model is built from: a backbone, or a module of the user."""

    backbone: str | None = None
    module: str | None = None
    width: PositiveInt
    image_size: PositiveInt
    tower: dict[str, Any] | None = None


class Data(Record, extra="allow"):
    """Provenance of the images; the digest is of pixels, labels and class names."""

    source: str
    sha256: str | None = None


class SeenUnseenShares(Record):
    """S, U and H = 2 S U / (S + U), see `stages.statistics.gzsl`."""

    S: Share
    U: Share
    H: Share


class BiasFit(Record):
    """The images that the bias was fitted on, and what they give at bias 0 and at the bias."""

    seen_images: PositiveInt
    """Held-out images of the seen classes, for S."""
    seen_classes: PositiveInt
    images: PositiveInt
    """Of the classes that stand in for novel ones, for U."""
    classes: PositiveInt
    before: SeenUnseenShares
    after: SeenUnseenShares


class Calibration(Record):
    """Temperature and bias of a classifier, and what they were fitted on; see `stages.statistics.calibration`."""

    temperature: PositiveFloat
    """Logits are divided by it."""
    source: str
    """Of the images that the temperature was fitted on."""
    images: PositiveInt
    classes: PositiveInt
    """Candidates of each image."""
    ece_before: Share
    """Expected calibration error of these images at temperature 1."""
    ece_after: Share
    """The same at `temperature`."""
    unused_temperature: PositiveFloat | None = None
    """The likeliest one, which is not used: it does not lower the error or is at the end of its range. The temperature is 1."""
    unused_ece: Share | None = None
    """The error at it."""
    bias: float | None = None
    """Subtracted from the cosines of the seen classes where they compete with others."""
    bias_fit: BiasFit | None = None
    no_bias: str | None = None
    """Why there is no bias."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.bias is None) != (self.bias_fit is None) or (self.bias is None) != (self.no_bias is not None):
            raise ValueError("there is neither a bias with what it was fitted on, nor a reason for none")
        if (self.unused_temperature is None) != (self.unused_ece is None):
            raise ValueError("an unused temperature has no error, or an error no temperature")
        return self

    @property
    def lowers_error(self) -> bool:
        """Whether confidence is closer to accuracy than without it, on the images that it was fitted on."""
        return self.ece_after < self.ece_before


class ModelParams(AnchorParams):
    """Parameters of a checkpoint."""

    architecture: Architecture
    calibration: Calibration | None = None
    """Null in files of older versions, and where nothing could be fitted."""
    training: Training


class Preprocessing(Record):
    """How images were resized: 'none', or interpolation and size."""

    inside: str
    """From the pixel grid to the model's input, within the attack."""
    outside: str
    """To the pixel grid, before the attack."""


class Threat(Record):
    """The threat model. Older files lack the grid, the preprocessing and the knowledge: they resized outside the attack."""

    clip: Annotated[list[float], Field(min_length=2, max_length=2)]
    eps: str
    """Exact, in pixel units: 8/255."""
    grid: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    """Height and width of the images whose pixels are perturbed."""
    knowledge: Knowledge | None = None
    """Of the attacker: white-box knows the whole model; transfer attacked another model; oblivious attacked the model with its
    defence switched off."""
    norm: str
    preprocessing: Preprocessing | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.clip[0] < self.clip[1]:
            raise ValueError(f"the pixel range {self.clip} is empty")
        return self

    @property
    def inside(self) -> str:
        """How images are resized within the attack."""
        return NOT_RESIZED if self.preprocessing is None else self.preprocessing.inside

    def __str__(self) -> str:
        """For titles: 'Linf 1/255 at 32x32, resized inside the attack: bicubic to 224x224'."""
        at = "" if self.grid is None else f" at {self.grid[1]}x{self.grid[0]}"
        resized = "" if self.inside == NOT_RESIZED else f", resized inside the attack: {self.inside}"
        return f"{self.norm} {self.eps}{at}{resized}"


class SavedAttack(Record, extra="allow"):
    """The attack that made images."""

    name: str | None = None
    seed: int = 0


class AdversarialParams(Record, extra="allow"):
    """Parameters of adversarial images."""

    attack: SavedAttack
    attacked: str | None = None
    """Digest of the attacked model; null in older files."""
    classes: Annotated[list[str], Field(min_length=1)]
    data: Data
    figures: dict[str, dict[str, float]] | None = None
    """Accuracies with their intervals; null in older files."""
    group: str
    identity: dict[str, dict[str, Any]] | None = None
    source_splits: list[tuple[str, NonNegativeInt]] | None = None
    threat: Threat


class StateParams(Record, extra="allow"):
    """Parameters of an unfinished run."""

    best_sha256: str
    identity: dict[str, dict[str, Any]]
    name: str | None = None
    reports: list[EpochMetrics]
    step: NonNegativeInt

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_epochs(self.reports)
        if any(one.loss is None or one.selection_clean is None for one in self.reports):
            raise ValueError("a finished epoch has no loss or no score")
        return self


class _Inputs(Record):
    inputs: dict[str, Lineage]


_PARAMS: dict[str, type[Record]] = {
    "anchors": AnchorParams,
    "model": ModelParams,
    "adversarial": AdversarialParams,
    "training-state": StateParams,
}


def check_record(record: Mapping[str, Any], where: str) -> None:
    """Raise InputError unless the parameters and the lineage in the record of an artifact are of the types they must have.

    Args:
        record: of `artifact_record.read_record`.
        where: name of the file in errors.
    """
    try:
        _Inputs.model_validate({"inputs": record["inputs"]})
        _PARAMS[record["kind"]].model_validate_json(json.dumps(record["params"]))  # of JSON, where a list can be a tuple
    except ValidationError as error:
        raise InputError(f"{where} has a damaged laat record: {first_fault(error)}", REMAKE) from None
