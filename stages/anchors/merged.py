"""Merged anchors: those of several encoders, prompts or sources, concatenated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.parts import MERGED, Part
from stages.classes import match_classes
from stages.cosines import blocks_of, unit_rows
from stages.errors import InputError, UsageError

_LEAST = 1e-6  # share of a part: cosines of float32 anchors do not tell less from nothing
_GROUP = {"seen": "a seen", "val": "a validation", "novel": "a novel"}


def merge_anchors(sets: Sequence[AnchorSet], weights: Sequence[float] = (), names: Sequence[str] = ()) -> AnchorSet:
    """Merge anchors of the same classes, of any widths, raw or expanded.

    The merged anchor of a class is the concatenation of sqrt(w_i) a_i, of unit length, where a_i are its anchors and w_i the
    weights divided by their sum. So the cosine of two merged anchors is the weighted mean of the cosines of the parts.

    Args:
        sets: two or more. The classes have the order of the first.
        weights: of the sets, positive; equal if there are none.
        names: of the sets, for errors.

    Returns:
        raw anchors of the sum of the widths, without lineage.

    Raises:
        UsageError: fewer than two sets, or weights that do not fit them.
        InputError: other classes, or a class that is in different groups.
    """
    weights, names = list(weights) or [1.0] * len(sets), list(names) or [f"set {at + 1}" for at in range(len(sets))]
    if len(sets) < 2:
        raise UsageError("one set of anchors is given, and a merge needs two or more", "name another file of anchors")
    if len(weights) != len(sets):
        raise UsageError(f"{len(weights)} weights are given for {len(sets)} sets of anchors", "give one weight for each")
    if not all(0 < weight < np.inf for weight in weights):
        raise UsageError("a weight is not a finite number above 0", "leave out the anchors that should not count")
    ordered = [sets[0], *(_ordered(one, sets[0], name, names[0]) for one, name in zip(sets[1:], names[1:], strict=True))]
    largest = max(weights)  # the sum of huge weights would not be finite
    total = sum(weight / largest for weight in weights)
    shares = [round(weight / largest / total, 12) for weight in weights]  # 3:1 and 0.3:0.1 are the same merge
    if min(shares) < _LEAST:
        name = names[shares.index(min(shares))]
        raise UsageError(f"the weight of {name} is less than a millionth of the sum, so it would not count", "leave it out")
    return join(ordered, shares)


def join(sets: Sequence[AnchorSet], shares: Sequence[float]) -> AnchorSet:
    """The merged anchors of sets with the same classes in the same order, see `merge_anchors`; `shares` sum to 1."""
    first = sets[0]
    parts = tuple(
        Part(one.origin, share, one.vectors.shape[1], one.expansion, one.parts)
        for one, share in zip(sets, shares, strict=True)
    )  # fmt: skip
    vectors = np.empty((len(first.classes), sum(part.width for part in parts)), np.float32)
    for rows in blocks_of(len(vectors)):
        weighted = [np.sqrt(part.weight) * unit_rows(one.vectors[rows]) for one, part in zip(sets, parts, strict=True)]
        vectors[rows] = unit_rows(np.concatenate(weighted, axis=1))
    origin = {"source": MERGED, "parts": [part.to_record() for part in parts]}
    return AnchorSet(vectors, first.classes, first.groups, origin, parts=parts)


def _ordered(one: AnchorSet, first: AnchorSet, name: str, first_name: str) -> AnchorSet:
    """The set with the classes in the order of the first. Raises InputError for other classes or groups."""
    match_classes(one.classes, first.classes, wanted_from=name, available_from=first_name)
    ordered = one.take(match_classes(first.classes, one.classes, wanted_from=first_name, available_from=name))
    for at, known in enumerate(first.classes):
        own, other = (next(group for group in _GROUP if at in getattr(some.groups, group)) for some in (first, ordered))
        if own != other:
            raise InputError(
                f"'{known}' is {_GROUP[own]} class in {first_name} and {_GROUP[other]} class in {name}",
                "make both with the same --seen and --val, or --seen-file and --val-file; --like makes new classes novel",
            )
    return ordered
