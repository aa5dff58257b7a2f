"""Which classes an attack or an evaluation is about, and what a reader must know about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.anchors.anchor_set import AnchorSet
from stages.classes import match_classes, read_class_file
from stages.errors import InputError, nearest

GROUPS = ("novel", "seen", "val", "all")


@dataclass(frozen=True)
class ClassChoice:
    """A group of classes of a checkpoint: what it is called, and the indices of its classes among the anchors."""

    name: str
    indices: tuple[int, ...]

    def names(self, anchors: AnchorSet) -> list[str]:
        """The class names."""
        return [anchors.classes[at] for at in self.indices]


def choose_classes(anchors: AnchorSet, spec: str | None) -> ClassChoice:
    """The classes that `spec` names.

    Args:
        anchors: a checkpoint's anchors.
        spec: 'novel', 'seen', 'val', 'all', a file of class names, or None: novel if there are any, else seen.

    Raises:
        InputError: a group without classes, or a file with names that the checkpoint does not know (nearest shown).
    """
    if spec is None:
        spec = "novel" if anchors.groups.novel else "seen"
    if spec in GROUPS:
        indices = anchors.groups.of(spec)
        if not indices:
            raise InputError(
                f"the checkpoint has no {spec} classes",
                "choose another group with --classes-from, or say which classes are seen with `laat anchors --seen N`",
            )
        return ClassChoice(spec, tuple(indices))
    if not Path(spec).is_file():
        raise InputError(
            f"'{spec}' is neither a group of classes nor a file of class names",
            f"groups: {', '.join(GROUPS)}; nearest: {nearest(spec, GROUPS, 1)}",
        )
    names = read_class_file(spec)
    found = match_classes(names, anchors.classes, wanted_from=f"'{spec}'", available_from="the checkpoint's anchors")
    return ClassChoice(Path(spec).stem, tuple(found))


def leak_notes(
    anchors: AnchorSet, choices: Sequence[ClassChoice], training: Mapping[str, Any], data: Mapping[str, Any]
) -> list[str]:
    """What a report says when classes, or even images, of an evaluation were trained on or selected the epoch.

    Args:
        anchors: the checkpoint's anchors.
        choices: the groups evaluated.
        training: the checkpoint's training record.
        data: provenance record of the images evaluated.
    """
    notes = []
    trained = training.get("data", {})
    for choice in choices:
        seen = set(choice.indices) & set(anchors.groups.seen)
        val = set(choice.indices) & set(anchors.groups.val)
        if seen:
            notes.append(f"{choice.name}: {len(seen)} of {len(choice.indices)} classes were trained on")
        if val:
            notes.append(f"{choice.name}: {len(val)} of {len(choice.indices)} classes selected the epoch")
        if (seen or val) and _same_images(trained, data):
            notes.append(
                f"{choice.name}: images of these classes were trained on or selected the epoch (same data, same split)"
            )
    return notes


def _same_images(trained: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether training and evaluation can have met the same images, by source, split and division."""
    overlap = set(trained.get("splits", ())) & set(data.get("splits", ()))
    apart = trained.get("divided") and data.get("divided") and trained["divided"] != data["divided"]
    return trained.get("source") == data.get("source") and bool(overlap) and not apart
