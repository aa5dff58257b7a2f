"""The methods of `laat expand`: one table of names, settings that are declared once, and maps to and from artifacts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from stages.errors import UsageError
from stages.expand.centre import Centring
from stages.expand.expansion import Expansion
from stages.expand.paper import PUBLISHED_ANGLE, PaperExpansion
from stages.expand.whiten import SHRINKAGE, Whitening
from stages.files.artifacts import Artifact
from stages.parameters import check, parameter

METHODS: dict[str, type[PaperExpansion] | type[Centring] | type[Whitening]] = {
    kind.method: kind for kind in (PaperExpansion, Centring, Whitening)
}
PREFIX = "expansion."
"""Of the tensors of a set's own map in an artifact."""


@dataclass(frozen=True)
class ExpandSettings:
    """How a map is fitted. Raises UsageError for an option that the method ignores."""

    method: str = parameter(
        PaperExpansion.method,
        "paper (along great circles away from the centre), centre (the mean of the seen anchors subtracted) or whiten (their "
        "principal components scaled to one variance).",
        choices=tuple(METHODS),
    )
    angle: float | None = parameter(
        None,
        "With paper: degrees from the centre that the farthest seen anchor comes to.",
        positive=True,
        below=180,
        unset=f"{PUBLISHED_ANGLE:g}",
    )
    components: int | None = parameter(
        None, "With whiten: how many principal components are kept, the largest first.", at_least=1, unset="all"
    )
    shrinkage: float | None = parameter(
        None,
        "With whiten: how far variances are shrunk to their mean, from 0 (full whitening) to 1 (all components weigh alike).",
        at_least=0,
        at_most=1,
        unset=f"{SHRINKAGE:g}",
    )

    def __post_init__(self) -> None:
        check(self)
        for name in self.given():
            if name not in METHODS[self.method].options:
                owner = next(method for method, kind in METHODS.items() if name in kind.options)
                raise UsageError(
                    f"--{name} has no effect with --method {self.method}", f"add --method {owner}, or leave it out"
                )

    def given(self) -> dict[str, Any]:
        """The options of the methods that were given."""
        return {name: value for name, value in vars(self).items() if name != "method" and value is not None}


def fit_expansion(seen: np.ndarray, settings: ExpandSettings | None = None) -> Expansion:
    """Fit the map of `settings`, by default the published one, on seen anchors (n, D).

    Raises:
        InputError: anchors on which no map can be fitted.
        UsageError: settings that do not fit the anchors.
    """
    chosen = settings or ExpandSettings()
    return METHODS[chosen.method].fit(seen, **chosen.given())


def read_expansion(record: Mapping[str, Any], artifact: Artifact, width: int, where: str, prefix: str = PREFIX) -> Expansion:
    """The map of an artifact.

    Args:
        record: its parameters, checked as `stages.files.anchor_params.Expanded`; without a method it is the published one.
        artifact: with its tensors.
        width: D of the anchors.
        where: name of the file in errors.
        prefix: of the names of its tensors.

    Raises InputError for a tensor that is missing or does not fit.
    """

    def tensor(name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        return artifact.tensor(f"{prefix}{name}", shape).astype(np.float64)

    kind = METHODS[record.get("method", PaperExpansion.method)]
    return kind.restored(tensor("centre", (width,)), record, tensor, where)


def described(record: Mapping[str, Any] | None) -> str:
    """The map of a record for people: method and parameters, of paper the angle that it was fitted with; 'none' for None."""
    if record is None:
        return "none"
    shown = {name: value for name, value in record.items() if name in ("angle", "components", "shrinkage")}
    parts = [str(record.get("method", PaperExpansion.method)), *(f"{name} {value:g}" for name, value in shown.items())]
    if record.get("theta_max") is not None:
        parts.append(f"largest angle to the centre before it: {math.degrees(record['theta_max']):.1f}°")
    return ", ".join(parts)


def expansion_tensors(expansion: Expansion, prefix: str = PREFIX) -> dict[str, np.ndarray]:
    """The tensors of a map for an artifact, float64; its record is `Expansion.to_record`."""
    return {f"{prefix}{name}": value.astype(np.float64) for name, value in expansion.tensors().items()}
