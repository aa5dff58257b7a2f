"""Which classes an attack or an evaluation is about, and what a reader must know about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.anchors.anchor_set import AnchorSet
from stages.classes import fold, match_classes, read_class_file
from stages.data.python_data import UNNAMED
from stages.errors import InputError, nearest
from stages.models.classifier import GROUPS, Classifier


@dataclass(frozen=True)
class ClassChoice:
    """A group of classes of a checkpoint.

    Attributes:
        name: of the group.
        classes: the names.
        seen: how many of them, the first ones, are seen classes that compete with novel ones; else 0.
    """

    name: str
    classes: tuple[str, ...]
    seen: int = 0


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
        names = tuple(anchors.names(spec))
        if not names:
            raise InputError(
                f"the checkpoint has no {spec} classes",
                "choose another group with --classes-from, or say which classes are seen with `laat anchors --seen N`",
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
    """The candidates of the generalized protocol: the seen classes, then the novel ones.

    Raises InputError when one of the two groups has no class.
    """
    seen, novel = anchors.names("seen"), anchors.names("novel")
    for name, classes in (("seen", seen), ("novel", novel)):
        if not classes:
            raise InputError(
                f"the checkpoint has no {name} classes, and --protocol gzsl is about seen and novel ones together",
                "give anchors of more classes with --anchors, or use --protocol all-way",
            )
    return ClassChoice("seen+novel", (*seen, *novel), seen=len(seen))


def leak_notes(classifier: Classifier, choices: Sequence[ClassChoice], data: Mapping[str, Any]) -> list[str]:
    """What a report says when classes, or even images, of an evaluation were trained on or selected the epoch.

    Classes are the same when their names are.

    Args:
        classifier: whose training is looked at.
        choices: the groups evaluated.
        data: provenance record of the images evaluated.
    """
    notes = []
    own = classifier.trained
    groups = {group: {fold(name) for name in own.names(group)} for group in ("seen", "val")}
    same = _same_images(classifier.origin.training.get("data", {}), data)
    for choice in choices:
        names = [fold(name) for name in choice.classes]
        count = {part: sum(name in known for name in names) for part, known in groups.items()}
        if choice.seen:
            notes += _gzsl_notes(choice, names, groups, len(classifier.known.groups.val), same=same)
            continue
        if count["seen"]:
            notes.append(f"{choice.name}: {count['seen']} of {len(names)} classes were trained on")
        if count["val"]:
            notes.append(f"{choice.name}: {count['val']} of {len(names)} classes selected the epoch")
        if (count["seen"] or count["val"]) and same:
            notes.append(
                f"{choice.name}: images of these classes were trained on or selected the epoch (same data, same split)"
            )
    return notes


def _gzsl_notes(
    choice: ClassChoice, names: Sequence[str], groups: Mapping[str, set[str]], val: int, *, same: bool
) -> list[str]:
    """That seen classes were trained on is what they are; what may not be so is that their images were, or novel classes."""
    notes = []
    seen, novel = names[: choice.seen], names[choice.seen :]
    if same:
        notes.append(
            f"{choice.name}: S is not on held-out images: those of the seen classes were trained on or selected the epoch "
            "(same data, same split)"
        )
    unlearnt = sum(name not in groups["seen"] for name in seen)
    if unlearnt:
        notes.append(f"{choice.name}: {unlearnt} of the {len(seen)} seen classes were not trained on")
    for part, said in (("seen", "were trained on"), ("val", "selected the epoch")):
        met = sum(name in groups[part] for name in novel)
        if met:
            notes.append(f"{choice.name}: {met} of the {len(novel)} novel classes {said}")
    if val:
        notes.append(f"{choice.name}: the {val} validation classes are no candidates")
    return notes


def _same_images(trained: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """Whether training and evaluation can have met the same images, by source, split and division."""
    overlap = set(trained.get("splits", ())) & set(data.get("splits", ())) - {UNNAMED}
    apart = trained.get("divided") and data.get("divided") and trained["divided"] != data["divided"]
    return trained.get("source") == data.get("source") and bool(overlap) and not apart
