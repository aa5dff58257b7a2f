"""The published expansion: along great circles away from the centre (Li et al., CVPR 2024, Sec. 3.2).

Float64 and closed form: O(C D), while a product of D-1 plane rotations needs O(D^4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import Self, override

from stages.errors import InputError
from stages.expand.expansion import MIN_ANGLE, Expansion, Tensors, angles_to, mean_of, one_direction
from stages.files.artifact_record import REMAKE

PUBLISHED_ANGLE = 90.0


@dataclass(frozen=True, eq=False)
class PaperExpansion(Expansion):
    """Each anchor moves along its great circle through the centre; the farthest seen one comes to `angle` from it.

    With c the mean of the seen anchors, normalised, theta the angle between an anchor a and c, theta_max the largest theta of
    a seen anchor, and u = (a - cos(theta) c) / sin(theta):

        theta' = theta * angle / theta_max
        a' = cos(theta') c + sin(theta') u

    a = c stays where it is. An angle other than 90 degrees is a graded expansion, which is not published.

    Attributes:
        centre: c, (D,) float64 of unit length.
        theta_max: in radians, in (0, pi).
        angle: in degrees, in (0, 180).

    Source: Li et al., CVPR 2024, Sec. 3.2.
    """

    theta_max: float
    angle: float = PUBLISHED_ANGLE

    method = "paper"
    options = ("angle",)
    undefined = "is opposite to the centre, so it has no direction to move in"

    @classmethod
    def fit(cls, seen: np.ndarray, angle: float = PUBLISHED_ANGLE) -> Self:
        """Fit the map on the seen anchors.

        Args:
            seen: (n, D) anchors, n >= 2; rows are normalized again in float64.
            angle: of the farthest seen anchor to the centre after the map, in degrees, in (0, 180).

        Raises:
            InputError: fewer than two anchors, anchors in a single direction, or a mean of zero.
        """
        mean = mean_of(seen)
        length = float(np.linalg.norm(mean))
        if length < MIN_ANGLE:
            raise InputError(
                "the seen anchors cancel out: their mean is zero, so there is no centre to spread them from",
                "they are already spread: train on them without `laat expand`",
            )
        centre = mean / length
        theta_max = float(angles_to(centre, seen).max())
        if theta_max < MIN_ANGLE:
            raise one_direction()
        return cls(centre, theta_max, float(angle))

    @property
    @override
    def label(self) -> str:
        return "expanded" if self.angle == PUBLISHED_ANGLE else f"expanded angle={self.angle:g}"

    @override
    def to_record(self) -> dict[str, Any]:
        """Without method and angle where they are the published ones, as in files of older versions."""
        own = {} if self.angle == PUBLISHED_ANGLE else {"method": self.method, "angle": self.angle}
        return {**own, "theta_max": self.theta_max}

    @classmethod
    @override
    def restored(cls, centre: np.ndarray, record: Mapping[str, Any], tensors: Tensors, where: str) -> Self:
        if not abs(np.linalg.norm(centre) - 1) < 1e-6:
            raise InputError(f"the centre of the expansion in {where} does not have unit length", REMAKE)
        return cls(centre, record["theta_max"], float(record.get("angle") or PUBLISHED_ANGLE))

    @override
    def cone(self) -> tuple[float, float]:
        return float(np.degrees(self.theta_max)), self.angle

    @override
    def axis(self) -> np.ndarray:
        return self.centre

    @override
    def _moved(self, unit: np.ndarray) -> np.ndarray:
        cosine = unit @ self.centre
        away = unit - cosine[:, None] * self.centre
        sine = np.linalg.norm(away, axis=1)
        at_centre = sine < 1e-12
        opposite = (sine < MIN_ANGLE) & (cosine < 0)
        # divide by 1 at the centre, where the direction does not matter since sin(0) = 0
        direction = away / np.where(at_centre, 1.0, sine)[:, None]
        moved = np.where(at_centre, 0.0, np.arctan2(sine, cosine)) * np.radians(self.angle) / self.theta_max
        result = np.cos(moved)[:, None] * self.centre + np.sin(moved)[:, None] * direction
        return np.where(opposite[:, None], 0.0, result)
