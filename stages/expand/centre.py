"""Centring: what all seen anchors share is taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import Self, override

from stages.expand.expansion import MIN_ANGLE, Expansion, Tensors, angles_to, check_mean, mean_of, one_direction


@dataclass(frozen=True, eq=False)
class Centring(Expansion):
    """The mean of the seen anchors becomes the origin.

    With m the mean of the seen unit anchors (not normalised) and a any unit anchor:

        a' = (a - m) / |a - m|

    Each anchor moves along its great circle through m / |m|, as with the published expansion, but by another angle.

    Attributes:
        centre: m, (D,) float64.
    """

    method = "centre"
    undefined = "is at the mean of the seen anchors, so it has no direction after the map"

    @classmethod
    def fit(cls, seen: np.ndarray) -> Self:
        """Fit the map on the seen anchors (n, D), n >= 2; rows are normalized again in float64.

        Raises InputError for fewer than two anchors, and for anchors in a single direction.
        """
        mean = mean_of(seen)
        if np.linalg.norm(mean) > MIN_ANGLE and angles_to(mean / np.linalg.norm(mean), seen).max() < MIN_ANGLE:
            raise one_direction()
        return cls(mean)

    @property
    @override
    def label(self) -> str:
        return "centred"

    @override
    def to_record(self) -> dict[str, Any]:
        return {"method": self.method}

    @classmethod
    @override
    def restored(cls, centre: np.ndarray, record: Mapping[str, Any], tensors: Tensors, where: str) -> Self:
        return cls(check_mean(centre, where))

    @override
    def _moved(self, unit: np.ndarray) -> np.ndarray:
        away = unit - self.centre
        return np.where(np.linalg.norm(away, axis=1, keepdims=True) < MIN_ANGLE, 0.0, away)
