"""Whitening: the seen anchors vary equally along every direction that they vary in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from typing_extensions import Self, override

from stages.cosines import blocks_of, unit_rows
from stages.errors import InputError, UsageError
from stages.expand.expansion import MIN_ANGLE, Expansion, Tensors, check_mean, mean_of, one_direction
from stages.files.artifact_record import REMAKE

# that of scikit-learn's ShrunkCovariance
SHRINKAGE = 0.1
# variances that differ by less, relative to each other, are the same but for rounding
_TIE = 1e-6


@dataclass(frozen=True, eq=False)
class Whitening(Expansion):
    """Principal components of the seen anchors, each divided by its standard deviation, which is shrunk to their mean.

    With S (n, D) the seen unit anchors, m their mean, and S - m = U diag(sigma) V^T with the K largest singular values kept:

        v_k = sigma_k^2 / n
        w_k = ((1 - shrinkage) v_k + shrinkage mean(v))^(-1/2)
        a' = V diag(w) V^T (a - m), normalised

    What lies outside the span of V is dropped: nothing of a seen anchor if all components are kept, but a part of most others.
    Shrinkage 0 makes the covariance of the seen anchors the identity on the span (before they are normalised): n anchors in
    general position, n <= D + 1, become a regular simplex. Shrinkage 1 weighs all components alike, which is centring within
    the span.

    Attributes:
        centre: m, (D,) float64.
        directions: V^T, (K, D) float64, orthonormal rows.
        variances: v, (K,) float64, descending.
        shrinkage: in [0, 1].
    """

    directions: np.ndarray
    variances: np.ndarray
    shrinkage: float = SHRINKAGE

    method = "whiten"
    options = ("components", "shrinkage")
    undefined = "does not differ from the mean of the seen anchors in any kept component, so it has no direction after the map"
    remedy = "leave the class out, or use another map: `laat expand --method centre` drops nothing"

    @classmethod
    def fit(cls, seen: np.ndarray, components: int | None = None, shrinkage: float = SHRINKAGE) -> Self:
        """Fit the map on the seen anchors.

        Args:
            seen: (n, D) anchors, n >= 2; rows are normalized again in float64.
            components: K; None is all directions in which the seen anchors differ, at most min(n - 1, D).
            shrinkage: in [0, 1].

        Raises:
            InputError: fewer than two anchors, or anchors in a single direction.
            UsageError: more components than there are, or components that end between two of the same variance.
        """
        mean = mean_of(seen)
        factor = np.empty((0, len(mean)))
        for rows in blocks_of(len(seen)):  # R of the QR decomposition has the singular values and the V of all rows so far
            factor = np.asarray(np.linalg.qr(np.vstack((factor, unit_rows(seen[rows]) - mean)), mode="r"))
        _, sigma, directions = np.linalg.svd(factor, full_matrices=False)
        variances = sigma**2 / len(seen)
        rank = int(np.count_nonzero(np.sqrt(variances) > MIN_ANGLE))  # the rest is rounding of float32 anchors
        if rank == 0:
            raise one_direction()
        kept = rank if components is None else components
        if kept > rank:
            raise UsageError(
                f"--components is {kept}, and the {len(seen)} seen anchors differ in {rank} directions",
                f"choose at most {rank}",
            )
        if kept < rank and variances[kept - 1] - variances[kept] < _TIE * variances[kept - 1]:
            raise UsageError(
                f"--components {kept} ends between two components of the same variance, and which of them is kept is arbitrary",
                "choose another number",
            )
        return cls(mean, directions[:kept].copy(), variances[:kept].copy(), float(shrinkage))

    @property
    @override
    def label(self) -> str:
        return f"whitened components={len(self.variances)} shrinkage={self.shrinkage:g}"

    @override
    def to_record(self) -> dict[str, Any]:
        return {"method": self.method, "components": len(self.variances), "shrinkage": self.shrinkage}

    @override
    def tensors(self) -> dict[str, np.ndarray]:
        return {**super().tensors(), "directions": self.directions, "variances": self.variances}

    @classmethod
    @override
    def restored(cls, centre: np.ndarray, record: Mapping[str, Any], tensors: Tensors, where: str) -> Self:
        count = record["components"]
        directions, variances = tensors("directions", (count, len(centre))), tensors("variances", (count,))
        fits = count <= len(centre) and np.allclose(directions @ directions.T, np.eye(count), rtol=0, atol=1e-6)
        if not fits or not (variances > 0).all():
            raise InputError(f"the components of the expansion in {where} are not orthonormal with a variance each", REMAKE)
        return cls(check_mean(centre, where), directions, variances, record["shrinkage"])

    @override
    def kept_shares(self, anchors: np.ndarray) -> np.ndarray:
        shares = np.empty(len(anchors))
        for rows in blocks_of(len(anchors)):
            unit = unit_rows(anchors[rows])
            whole = ((unit - self.centre) ** 2).sum(axis=1)
            shares[rows] = (self._components(unit) ** 2).sum(axis=1) / np.where(whole == 0, 1.0, whole)
        return shares.clip(0, 1)

    def _weights(self) -> np.ndarray:
        return np.asarray(((1 - self.shrinkage) * self.variances + self.shrinkage * self.variances.mean()) ** -0.5)

    def _components(self, unit: np.ndarray) -> np.ndarray:
        return np.asarray((unit - self.centre) @ self.directions.T)

    @override
    def _moved(self, unit: np.ndarray) -> np.ndarray:
        parts = self._components(unit)
        lost = np.linalg.norm(parts, axis=1, keepdims=True) < MIN_ANGLE
        return np.asarray(np.where(lost, 0.0, parts * self._weights()) @ self.directions)
