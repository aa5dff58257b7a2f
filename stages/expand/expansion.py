"""What all expansions have in common: a map that is fitted once, stored, and applied to any anchors later."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike
from typing_extensions import Self

from stages.cosines import blocks_of, unit_rows
from stages.errors import InputError
from stages.files.artifact_record import REMAKE

# below this angle (radians) two directions are the same in float32
MIN_ANGLE = 1e-5

# name and shape -> the tensor of an artifact, checked
Tensors = Callable[[str, tuple[int | None, ...]], np.ndarray]


@dataclass(frozen=True, eq=False)
class Expansion(ABC):
    """A fitted map of anchors.

    Attributes:
        centre: (D,) float64, what the anchors are spread from; see the method.
    """

    centre: np.ndarray

    method: ClassVar[str]
    """As `laat expand --method` and artifacts name it."""
    options: ClassVar[tuple[str, ...]] = ()
    """The fields of `ExpandSettings` that `fit` takes."""
    undefined: ClassVar[str]
    """Why an anchor has no direction after the map, to follow "the anchor of 'okapi' ..."."""
    remedy: ClassVar[str] = "check its text feature, or leave the class out"
    """What to do about it."""

    @property
    @abstractmethod
    def label(self) -> str:
        """An adjective for anchors after this map, and its parameters: 'centred'. No comma, which separates groups of runs."""

    @abstractmethod
    def to_record(self) -> dict[str, Any]:
        """Method and parameters, JSON-able; what `restored` takes besides the tensors."""

    @classmethod
    @abstractmethod
    def restored(cls, centre: np.ndarray, record: Mapping[str, Any], tensors: Tensors, where: str) -> Self:
        """The map of an artifact, from its centre, its record and its tensors. Raises InputError for values that do not fit."""

    @abstractmethod
    def _moved(self, unit: np.ndarray) -> np.ndarray:
        """Unit rows (B, D) after the map, of any length; a row of zeros where the map is `undefined`."""

    def tensors(self) -> dict[str, np.ndarray]:
        """The tensors of the map by their names in an artifact, without prefix."""
        return {"centre": self.centre}

    def cone(self) -> tuple[float, float] | None:
        """The largest angle between a seen anchor and the centre before and after the map, degrees; None if not recorded."""
        return None

    def kept_shares(self, anchors: np.ndarray) -> np.ndarray | None:
        """The share (C,) of |a - m|^2 that the map keeps of each anchor (C, D), in [0, 1]; None if it keeps all of any."""
        return None

    def same_as(self, other: Expansion | None) -> bool:
        """Whether the other map is exactly this one."""
        if other is None or self.to_record() != other.to_record() or self.method != other.method:
            return False
        own, given = self.tensors(), other.tensors()
        return all(np.array_equal(own[name], given[name]) for name in own)

    def angles(self, anchors: np.ndarray) -> np.ndarray:
        """Angle of each anchor (C, D) to the direction of the centre, in radians (C,)."""
        return angles_to(self.axis(), anchors)

    def axis(self) -> np.ndarray:
        """The direction of the centre, (D,) float64 of unit length. Raises InputError for a centre of zero."""
        length = np.linalg.norm(self.centre)
        if length < MIN_ANGLE:
            raise InputError("the mean of the seen anchors is zero: it has no direction", "these anchors are spread already")
        return np.asarray(self.centre / length)

    def apply(self, anchors: np.ndarray, dtype: DTypeLike = np.float64, names: Sequence[str] = ()) -> np.ndarray:
        """Map anchors, seen or not, each by itself.

        Args:
            anchors: (C, D), rows of any length.
            dtype: of the result; everything is computed in float64.
            names: of the C classes, for errors; without them anchors are numbered from 1.

        Returns:
            (C, D) unit rows.

        Raises:
            InputError: another width than the map's, or an anchor at which the map is undefined, naming it.
        """
        if anchors.shape[1] != len(self.centre):
            raise InputError(
                f"the anchors have width {anchors.shape[1]} and the fitted expansion {len(self.centre)}",
                "encode the classes with the model that the expansion was fitted with",
            )
        result = np.empty(anchors.shape, dtype)
        for rows in blocks_of(len(anchors)):
            moved = self._moved(unit_rows(anchors[rows]))
            lengths = np.linalg.norm(moved, axis=1, keepdims=True)
            if not lengths.all():
                row = rows.start + int(np.argmin(lengths))
                which = f"the anchor of '{names[row]}'" if names else f"anchor {row + 1}"
                raise InputError(f"{which} {self.undefined}", self.remedy)
            result[rows] = moved / lengths
        return result


def mean_of(seen: np.ndarray) -> np.ndarray:
    """The mean (D,) float64 of the rows of seen (n, D), each normalized. Raises InputError for fewer than two."""
    if len(seen) < 2:
        raise InputError(
            f"the expansion is fitted on at least 2 seen anchors, and has {len(seen)}",
            "name more seen classes (--seen N)",
        )
    return np.asarray(sum(unit_rows(seen[rows]).sum(axis=0) for rows in blocks_of(len(seen))) / len(seen))


def check_mean(centre: np.ndarray, where: str) -> np.ndarray:
    """The centre (D,) of an artifact. Raises InputError if it is longer than a mean of unit vectors can be."""
    if not np.abs(centre).max() <= 1 + 1e-6 or not np.linalg.norm(centre) <= 1 + 1e-6:  # the squares of huge values overflow
        raise InputError(f"the centre of the expansion in {where} is no mean of anchors: its length is above 1", REMAKE)
    return centre


def angles_to(axis: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Angles of anchors (C, D) to a unit vector (D,) by atan2, which is accurate near 0, unlike arccos."""
    found = np.empty(len(anchors))
    for rows in blocks_of(len(anchors)):
        unit = unit_rows(anchors[rows])
        cosine = unit @ axis
        sine = np.linalg.norm(unit - cosine[:, None] * axis, axis=1)
        found[rows] = np.arctan2(sine, cosine)
    return found


def one_direction() -> InputError:
    """The error of seen anchors that are all the same."""
    return InputError(
        "all seen anchors point in one direction, so there is nothing to spread",
        "check the class names and the prompt template: the encoder gave every class the same feature",
    )
