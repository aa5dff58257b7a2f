"""The expansion: spread anchors in a cone along great circles (Li et al., CVPR 2024, Sec. 3.2).

Float64 and closed form: O(C D), while a product of D-1 plane rotations needs O(D^4). Needs numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from stages.cosines import blocks_of, unit_rows
from stages.errors import InputError

# below this angle (radians) two directions are the same in float32
MIN_ANGLE = 1e-5


@dataclass(frozen=True)
class Expansion:
    """A fitted expansion map.

    Attributes:
        centre: (D,) float64 unit vector, the mean direction of the seen anchors.
        theta_max: largest angle between a seen anchor and the centre, in radians, in (0, pi).
    """

    centre: np.ndarray
    theta_max: float

    @classmethod
    def fit(cls, seen: np.ndarray) -> Expansion:
        """Fit centre and opening angle on the seen anchors.

        Args:
            seen: (n, D) anchors, n >= 2; rows are normalized again in float64.

        Raises:
            InputError: fewer than two anchors, anchors in a single direction, or a mean of zero.

        Source: Li et al., CVPR 2024, Sec. 3.2.
        """
        if len(seen) < 2:
            raise InputError(
                f"the expansion is fitted on at least 2 seen anchors, and has {len(seen)}",
                "name more seen classes (--seen N)",
            )
        mean = sum(unit_rows(seen[rows]).sum(axis=0) for rows in blocks_of(len(seen))) / len(seen)
        length = float(np.linalg.norm(mean))
        if length < MIN_ANGLE:
            raise InputError(
                "the seen anchors cancel out: their mean is zero, so there is no centre to spread them from",
                "they are already spread: train on them without `laat expand`",
            )
        centre = mean / length
        theta_max = float(_angles(seen, centre).max())
        if theta_max < MIN_ANGLE:
            raise InputError(
                "all seen anchors point in one direction, so there is nothing to spread",
                "check the class names and the prompt template: the encoder gave every class the same feature",
            )
        return cls(centre, theta_max)

    def angles(self, anchors: np.ndarray) -> np.ndarray:
        """Angle of each anchor (C, D) to the centre, in radians (C,)."""
        return _angles(anchors, self.centre)

    def apply(self, anchors: np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
        """Move anchors along their great circles through the centre: theta -> theta * (pi/2) / theta_max.

        Args:
            anchors: (C, D) seen or novel anchors.
            dtype: of the result; everything is computed in float64.

        Returns:
            (C, D) unit rows. An anchor at the centre is unchanged.

        Raises:
            InputError: another width than the centre's, or an anchor opposite to the centre, which has no direction.

        Source: Li et al., CVPR 2024, Sec. 3.2.
        """
        if anchors.shape[1] != len(self.centre):
            raise InputError(
                f"the anchors have width {anchors.shape[1]} and the fitted expansion {len(self.centre)}",
                "encode the classes with the model that the expansion was fitted with",
            )
        result = np.empty(anchors.shape, dtype)
        for rows in blocks_of(len(anchors)):
            result[rows] = self._moved(unit_rows(anchors[rows]), rows.start)
        return result

    def _moved(self, unit: np.ndarray, first: int) -> np.ndarray:
        """The unit rows `unit`, of which the first has the number `first`, after the map."""
        cosine = unit @ self.centre
        away = unit - cosine[:, None] * self.centre
        sine = np.linalg.norm(away, axis=1)
        at_centre = sine < 1e-12
        opposite = (sine < MIN_ANGLE) & (cosine < 0)
        if opposite.any():
            row = first + int(np.argmax(opposite))
            raise InputError(
                f"anchor {row + 1} is opposite to the centre, so it has no direction to move in",
                "check its text feature, or leave the class out",
            )
        # divide by 1 at the centre, where the direction does not matter since sin(0) = 0
        direction = away / np.where(at_centre, 1.0, sine)[:, None]
        moved = np.where(at_centre, 0.0, np.arctan2(sine, cosine)) * (np.pi / 2) / self.theta_max
        result = np.cos(moved)[:, None] * self.centre + np.sin(moved)[:, None] * direction
        return np.asarray(result / np.linalg.norm(result, axis=1, keepdims=True))


def _angles(anchors: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Angles of anchors (C, D) to the centre by atan2, which is accurate near 0, unlike arccos."""
    found = np.empty(len(anchors))
    for rows in blocks_of(len(anchors)):
        unit = unit_rows(anchors[rows])
        cosine = unit @ centre
        sine = np.linalg.norm(unit - cosine[:, None] * centre, axis=1)
        found[rows] = np.arctan2(sine, cosine)
    return found
