"""What a report says about the checks of its robust accuracies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, model_validator
from typing_extensions import Self

from stages.files.records import Record


class CheckSample(Record):
    """The sample of points, all correct on clean images, that a check looked at."""

    of: NonNegativeInt
    points: NonNegativeInt
    seed: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.points > self.of:
            raise ValueError(f"{self.points} points of {self.of}")
        return self


class Finding(Record):
    """What one check found."""

    figures: dict[str, Any]
    """Those that decided."""
    name: str
    result: Literal["pass", "warn", "fail", "few"]
    """few: too few points to say that it passes."""
    sentence: str


class Checks(Record):
    """Whether the robust accuracies of one result can be trusted."""

    findings: Annotated[list[Finding], Field(min_length=1)]
    group: str
    model: str
    protocol: str
    sample: CheckSample
