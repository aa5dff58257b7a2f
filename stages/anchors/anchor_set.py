"""AnchorSet: class anchors with names, groups and origin, and its artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stages.anchors.parts import Part, part_tensors, read_parts
from stages.classes import ClassGroups, check_unique, spelled
from stages.cosines import blocks_of, row_norms
from stages.errors import InputError
from stages.expand.expansion import Expansion
from stages.expand.methods import expansion_tensors, read_expansion
from stages.files.artifact_record import REMAKE
from stages.files.artifacts import Artifact
from stages.text import counted

KIND = "anchors"


@dataclass(frozen=True)
class AnchorSet:
    """Unit anchors of named classes.

    Attributes:
        vectors: (C, D) float32, unit rows.
        classes: C names; they become as `spelled`.
        groups: which of them are seen, validation, novel.
        origin: source of the vectors (encoder, tag, SHA-256 of weights and architecture, activation, templates …); JSON-able.
        expansion: the fitted map that was applied, or None for raw anchors.
        inputs: lineage.
        parts: of merged anchors.
    """

    vectors: np.ndarray
    classes: tuple[str, ...]
    groups: ClassGroups
    origin: dict[str, Any] = field(default_factory=dict)
    expansion: Expansion | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(map(spelled, self.classes)))

    @property
    def label(self) -> str:
        """'raw', or the label of their expansion."""
        return "raw" if self.expansion is None else self.expansion.label

    def indices(self, group: str) -> list[int]:
        """Indices of the classes of group 'seen', 'val', 'novel' or 'all'."""
        return list(self.groups.of(group))

    def names(self, group: str) -> list[str]:
        """Names of the classes of a group."""
        return [self.classes[at] for at in self.indices(group)]

    def take(self, indices: Sequence[int]) -> AnchorSet:
        """The anchors of the classes at `indices`, in that order."""
        members = [set(group) for group in vars(self.groups).values()]
        groups = [tuple(place for place, at in enumerate(indices) if at in group) for group in members]
        return replace(
            self,
            vectors=self.vectors[list(indices)],
            classes=tuple(self.classes[at] for at in indices),
            groups=ClassGroups(*groups),
        )

    def expanded_by(self, expansion: Expansion) -> AnchorSet:
        """These raw anchors after a fitted map. Raises InputError, naming the class, where the map is undefined."""
        return replace(self, vectors=expansion.apply(self.vectors, np.float32, self.classes), expansion=expansion)

    def to_artifact(self) -> Artifact:
        """The artifact of kind 'anchors'."""
        tensors = {"vectors": self.vectors.astype(np.float32, copy=False)}
        params: dict[str, Any] = {"classes": list(self.classes), "groups": self.groups.to_record(), "origin": self.origin}
        if self.expansion is not None:
            tensors |= expansion_tensors(self.expansion)
            params["expansion"] = self.expansion.to_record()
        tensors |= part_tensors(self.parts)
        return Artifact(KIND, tensors, params, self.inputs)

    @classmethod
    def from_artifact(cls, artifact: Artifact, where: str) -> AnchorSet:
        """The anchors of an artifact, whose record was checked when it was read (see `artifacts.from_bytes`).

        Raises InputError for missing tensors, anchors that are not of unit length, class names that are the same.
        """
        vectors = artifact.tensor("vectors", (None, None)).astype(np.float32, copy=False)
        params = artifact.params
        classes, fitted = tuple(params["classes"]), params.get("expansion")
        if len(classes) != len(vectors):
            raise InputError(
                f"{where} names {counted(len(classes), 'class', 'classes')} for {counted(len(vectors), 'anchor')}", REMAKE
            )
        check_unique(classes, where=where)
        _check_unit(vectors, classes, where)
        expansion = None if fitted is None else read_expansion(fitted, artifact, vectors.shape[1], where)
        groups = ClassGroups.from_record(params["groups"])
        origin = dict(params.get("origin", {}))
        parts = read_parts(origin, vectors.shape[1], artifact, where)
        return cls(vectors, classes, groups, origin, expansion, artifact.inputs, parts)


def _check_unit(vectors: np.ndarray, classes: tuple[str, ...], where: str) -> None:
    """Raise InputError, naming the class, unless every row of vectors (C, D) is of unit length."""
    off = ~(np.abs(row_norms(vectors) - 1) <= 1e-4)
    if off.any():
        name = classes[int(np.argmax(off))]
        raise InputError(
            f"the anchor of '{name}' in {where} does not have unit length",
            "import features with `laat anchors --features FILE`, which normalizes them",
        )


def normalised(features: np.ndarray, classes: tuple[str, ...], where: str) -> np.ndarray:
    """Features (C, D) divided by their L2 norms, float32. Raises InputError, naming the class, for a zero or non-finite row."""
    unit = np.empty(features.shape, np.float32)
    for rows in blocks_of(len(features)):
        values = np.asarray(features[rows], np.float64)
        largest = np.abs(values).max(axis=1, initial=0)
        bad = ~np.isfinite(largest) | (largest == 0)
        if bad.any():
            at = int(np.argmax(bad))
            what = "zero" if largest[at] == 0 else "not finite"
            raise InputError(f"the feature of '{classes[rows][at]}' in {where} is {what}", "export the features again")
        values = np.ldexp(values, -np.frexp(largest)[1][:, None])  # exact, and the squares are in the range of float64
        unit[rows] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit
