"""The parts of merged anchors: where each came from and what was done to it, so that new names are encoded alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from stages.errors import InputError
from stages.expand.expansion import Expansion
from stages.expand.methods import expansion_tensors, read_expansion
from stages.files.artifact_record import REMAKE
from stages.files.artifacts import Artifact

MERGED = "merged"
_PREFIX = "parts."
_NO_MAP = "none"


@dataclass(frozen=True)
class Part:
    """One of the sets that were merged.

    Attributes:
        origin: of its anchors, see `AnchorSet`.
        weight: its share in the cosines of the merged anchors; those of all parts sum to 1.
        width: of its anchors.
        expansion: the map that was applied to it, or None.
        parts: of a set that is merged itself.
    """

    origin: dict[str, Any]
    weight: float
    width: int
    expansion: Expansion | None = None
    parts: tuple[Part, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """JSON-able; the tensors of the map are apart, see `part_tensors`."""
        fitted = None if self.expansion is None else self.expansion.to_record()
        return {"origin": self.origin, "weight": self.weight, "width": self.width, "map": fitted}


class Source(Protocol):
    """What `difference` compares: an `AnchorSet` or a `Part`."""

    @property
    def origin(self) -> dict[str, Any]:
        """See `AnchorSet`."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Of merged anchors."""


class Difference(NamedTuple):
    """What is not the same of two origins, and its values; `merged` if it is how they were merged."""

    what: str
    own: Any
    other: Any
    merged: bool = False


def difference(own: Source, other: Source, keys: Sequence[str]) -> Difference | None:
    """The first of `keys` on which two origins differ, or else the first thing that differs of their parts; None for none."""
    for key in keys:
        # anchors made before the architecture was recorded lack it
        skipped = key == "config_sha256" and not (key in own.origin and key in other.origin)
        if not skipped and own.origin.get(key) != other.origin.get(key):
            return Difference(key, own.origin.get(key), other.origin.get(key))
    if len(own.parts) != len(other.parts):
        return Difference("the number of parts", len(own.parts), len(other.parts), merged=True)
    for number, (one, two) in enumerate(zip(own.parts, other.parts, strict=True), 1):
        found = _of_parts(one, two) or difference(one, two, keys)
        if found is not None:
            return found._replace(what=f"{found.what} of part {number}")
    return None


def _of_parts(own: Part, other: Part) -> Difference | None:
    for key in ("weight", "width"):
        if getattr(own, key) != getattr(other, key):
            return Difference(key, getattr(own, key), getattr(other, key), merged=True)
    if own.expansion is None and other.expansion is None:
        return None
    if own.expansion is not None and own.expansion.same_as(other.expansion):
        return None
    one, two = (_NO_MAP if part.expansion is None else part.expansion.label for part in (own, other))
    return Difference("the map", one, two if one != two else f"{two}, fitted on other anchors", merged=True)


def part_tensors(parts: Sequence[Part], prefix: str = _PREFIX) -> dict[str, Any]:
    """The tensors of the maps of merged parts, for an artifact."""
    tensors: dict[str, Any] = {}
    for at, part in enumerate(parts, 1):
        if part.expansion is not None:
            tensors |= expansion_tensors(part.expansion, f"{prefix}{at}.map.")
        tensors |= part_tensors(part.parts, f"{prefix}{at}.{_PREFIX}")
    return tensors


def read_parts(
    origin: Mapping[str, Any], width: int, artifact: Artifact, where: str, prefix: str = _PREFIX
) -> tuple[Part, ...]:
    """The parts of merged anchors in an artifact; none for other anchors.

    Args:
        origin: checked as `stages.files.anchor_params.AnchorOrigin`.
        width: of the anchors.
        artifact: with the tensors of the maps.
        where: name of the file in errors.
        prefix: of the names of the tensors.

    Raises InputError for tensors that are missing or do not fit, and widths that do not add up.
    """
    records = origin.get("parts") or []
    if records and sum(record["width"] for record in records) != width:
        raise InputError(f"the parts of the merged anchors in {where} do not have their width of {width} together", REMAKE)
    found = []
    for at, record in enumerate(records, 1):
        inner = read_parts(record["origin"], record["width"], artifact, where, f"{prefix}{at}.{_PREFIX}")
        fitted = record.get("map")
        if fitted is not None:
            fitted = read_expansion(fitted, artifact, record["width"], where, f"{prefix}{at}.map.")
        found.append(Part(dict(record["origin"]), record["weight"], record["width"], fitted, inner))
    return tuple(found)


def provenance(origin: Mapping[str, Any]) -> str:
    """Where anchors come from, to follow "the anchors": 'come from random', 'are merged'."""
    return "are merged" if origin.get("parts") else f"come from {origin.get('source') or 'an unknown source'}"


def leaves(origin: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The origins of the parts of merged anchors, of which none is merged; of other anchors their own origin."""
    parts = origin.get("parts")
    return [leaf for part in parts for leaf in leaves(part["origin"])] if parts else [origin]


def encoders_of(origin: Mapping[str, Any]) -> str:
    """The names of the text encoders of anchors, for messages."""
    return " and ".join(dict.fromkeys(str(leaf.get("model", "the encoder")) for leaf in leaves(origin)))
