"""The classes of an attack or an evaluation, and notes on whether they were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.anchors.anchor_set import AnchorSet
from stages.classes import fold, match_classes, read_class_file
from stages.data.source_rows import UNNAMED
from stages.errors import InputError, nearest
from stages.models.classifier import GROUPS, Classifier


@dataclass(frozen=True)
class ClassChoice:
    """A group of classes of a checkpoint.

    Attributes:
        name: of the group.
        classes: the names.
        seen: with gzsl, the number of seen classes, the first of `classes`; else 0.
    """

    name: str
    classes: tuple[str, ...]
    seen: int = 0


def choose_classes(anchors: AnchorSet, spec: str | None) -> ClassChoice:
    """The classes selected by `spec`.

    Args:
        anchors: a checkpoint's anchors.
        spec: 'novel', 'seen', 'val', 'all', a file of class names, or None: novel if there are any, else seen.

    Raises:
        InputError: a group without classes, or a file with unknown class names (nearest shown).
    """
    if spec is None:
        spec = "novel" if anchors.groups.novel else "seen"
    if spec in GROUPS:
        names = tuple(anchors.names(spec))
        if not names:
            raise InputError(
                f"the checkpoint has no {spec} classes",
                "choose another group with --classes-from, or set the seen classes with `laat anchors --seen N`",
            )
        return ClassChoice(spec, names)
    if not Path(spec).is_file():
        raise InputError(
            f"'{spec}' is neither a group of classes nor a file of class names",
            f"groups: {', '.join(GROUPS)}; nearest: {nearest(spec, GROUPS, 1)}",
        )
    found = match_classes(
        read_class_file(spec), anchors.classes, wanted_from=f"'{spec}'", available_from="the checkpoint's anchors"
    )
    return ClassChoice(Path(spec).stem, tuple(anchors.classes[at] for at in found))


def seen_and_novel(anchors: AnchorSet) -> ClassChoice:
    """The candidates of the gzsl protocol: seen classes, then novel ones. Raises InputError if a group is empty."""
    seen, novel = anchors.names("seen"), anchors.names("novel")
    for name, classes in (("seen", seen), ("novel", novel)):
        if not classes:
            raise InputError(
                f"the checkpoint has no {name} classes, and --protocol gzsl needs seen and novel classes",
                "give anchors of more classes with --anchors, or use --protocol all-way",
            )
    return ClassChoice("seen+novel", (*seen, *novel), seen=len(seen))


def leak_notes(classifier: Classifier, choices: Sequence[ClassChoice], data: Mapping[str, Any]) -> list[str]:
    """Notes for classes, compared by name, and images that were trained on or used to select the epoch.

    Args:
        classifier: with the record of its training.
        choices: the evaluated groups.
        data: provenance record of the evaluated images.
    """
    notes = []
    own = classifier.trained
    groups = {group: {fold(name) for name in own.names(group)} for group in ("seen", "val")}
    for choice in choices:
        names = [fold(name) for name in choice.classes]
        used = {name for name in names[: choice.seen or None] if any(name in known for known in groups.values())}
        same = bool(used) and _same_images(classifier.origin.training.get("data", {}), data, used)
        count = {group: sum(name in known for name in names) for group, known in groups.items()}
        if choice.seen:
            notes += _gzsl_notes(choice, names, groups, len(classifier.known.groups.val), same=same)
            continue
        if count["seen"]:
            notes.append(f"{choice.name}: {count['seen']} of {len(names)} classes were trained on")
        if count["val"]:
            notes.append(f"{choice.name}: {count['val']} of {len(names)} classes were used to select the epoch")
        if same:
            notes.append(f"{choice.name}: images of these classes were used in training (same data, same split)")
    return notes


def _gzsl_notes(
    choice: ClassChoice, names: Sequence[str], groups: Mapping[str, set[str]], val: int, *, same: bool
) -> list[str]:
    """Notes for seen classes with training images or without training, and for novel classes that were used in training."""
    notes = []
    seen, novel = names[: choice.seen], names[choice.seen :]
    if same:
        notes.append(
            f"{choice.name}: S is not on held-out images: those of the seen classes were used in training "
            "(same data, same split)"
        )
    untrained = sum(name not in groups["seen"] for name in seen)
    if untrained:
        notes.append(f"{choice.name}: {untrained} of the {len(seen)} seen classes were not trained on")
    for group, use in (("seen", "were trained on"), ("val", "were used to select the epoch")):
        used = sum(name in groups[group] for name in novel)
        if used:
            notes.append(f"{choice.name}: {used} of the {len(novel)} novel classes {use}")
    if val:
        notes.append(f"{choice.name}: the {val} validation classes are not candidates")
    return notes


def _same_images(trained: Mapping[str, Any], data: Mapping[str, Any], used: set[str]) -> bool:
    """Whether training and evaluation may share images of the classes `used` (folded names): same source, overlapping splits,
    and not the two parts of a division of these classes."""
    overlap = set(trained.get("splits", ())) & set(data.get("splits", ())) - {UNNAMED}
    apart = trained.get("divided") and data.get("divided") and trained["divided"] != data["divided"]
    divided = {fold(name) for name in data.get("divided_classes", used)}
    return trained.get("source") == data.get("source") and bool(overlap) and not (apart and used <= divided)
