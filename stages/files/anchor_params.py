"""What the parameters of anchors must have, as types: classes, groups, origin and map."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from typing_extensions import Self

from stages.files.records import Record, Share


class Groups(Record):
    """Positions of the seen, validation and novel classes."""

    seen: list[NonNegativeInt]
    val: list[NonNegativeInt]
    novel: list[NonNegativeInt]


class Expanded(Record, extra="allow"):
    """The map that was applied to the anchors."""

    method: Literal["paper", "centre", "whiten"] = "paper"
    """Older files have none."""
    theta_max: Annotated[float, Field(gt=0, le=math.pi)] | None = None
    """Of paper."""
    angle: Annotated[float, Field(gt=0, lt=180)] | None = None
    """Of paper; null is 90."""
    components: PositiveInt | None = None
    """Of whiten."""
    shrinkage: Share | None = None
    """Of whiten."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in {"paper": ("theta_max",), "centre": (), "whiten": ("components", "shrinkage")}[self.method]:
            if getattr(self, name) is None:
                raise ValueError(f"the method {self.method} lacks '{name}'")
        return self


class AnchorOrigin(Record, extra="allow"):
    """Where anchors come from."""

    source: str | None = None
    model: str | None = None
    pretrained: str | None = None
    weights_sha256: str | None = None
    config_sha256: str | None = None
    activation: str | None = None
    templates: list[str] = Field(default_factory=list)
    sentences: PositiveInt | None = None
    """Of all classes, where the anchors are means of descriptions."""
    per_class: PositiveInt | None = None
    """Of descriptions, sampled with the seed."""
    allow_truncation: bool = False
    logit_scale: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    parts: Annotated[list[AnchorPart], Field(min_length=2)] | None = None
    """Of merged anchors."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.source == "merged") != (self.parts is not None):
            raise ValueError("merged anchors have parts, and no others do")
        if self.parts is not None and abs(sum(part.weight for part in self.parts) - 1) > 1e-6:
            raise ValueError("the weights of the parts do not sum to 1")
        return self


class AnchorPart(Record):
    """One of the sets that were merged."""

    map: Expanded | None = None
    """That was applied to it."""
    origin: AnchorOrigin
    weight: Annotated[float, Field(gt=0, le=1)]
    """Share in the cosines of the merged anchors."""
    width: PositiveInt


class AnchorParams(Record, extra="allow"):
    """Parameters of anchors."""

    classes: Annotated[list[str], Field(min_length=1)]
    groups: Groups
    origin: AnchorOrigin = AnchorOrigin()
    expansion: Expanded | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        members = sorted(self.groups.seen + self.groups.val + self.groups.novel)
        if members != list(range(len(self.classes))):
            raise ValueError(f"the groups do not cover each of the {len(self.classes)} classes once")
        return self
