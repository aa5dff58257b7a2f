"""The classes of an attack or an evaluation, and notes on whether they were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.anchors.anchor_set import AnchorSet
from stages.classes import fold, match_classes, read_class_file
from stages.errors import InputError, nearest
from stages.models.classifier import GROUPS, Classifier
from stages.text import as_text

_SEEN = " of seen classes"
_USES = {
    "trained": "were trained on",
    "selected": "were used to select the epoch",
    "calibrated": "were used to fit the calibration",
}
_NOT_HELD_OUT = ": confidences and figures at its bias are not on held-out images"
UNKNOWN = "whether these images were trained on is unknown: the checkpoint was written before laat recorded it"
_IMPORTED = "whether these images were trained on is unknown: the checkpoint was imported from another program"
UNKNOWN_TRAINING = "whether these classes or images were trained on is unknown: the model was not trained with laat"


@dataclass(frozen=True)
class ClassChoice:
    """A group of classes of a checkpoint.

    Attributes:
        name: of the group.
        classes: the names.
        seen: with gzsl, the number of seen classes, the first of `classes`; else 0.

    Raises InputError for fewer than 2 classes.
    """

    name: str
    classes: tuple[str, ...]
    seen: int = 0

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise InputError(
                f"the group '{self.name}' has only the class '{''.join(self.classes)}', and a single candidate is always right",
                "choose a group of at least 2 classes with --classes-from, or add class names",
            )


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
    return ClassChoice(as_text(Path(spec).stem), tuple(anchors.classes[at] for at in found))


def candidates(classifiers: Sequence[Classifier], groups: Sequence[str | None] | None) -> list[ClassChoice]:
    """The chosen groups of classes of one or several models.

    Args:
        classifiers: the groups are those of the first checkpoint; models from elsewhere have none.
        groups: as `choose_classes` takes them; None is the seen and the novel classes together.

    Raises InputError for checkpoints of different classes, models that lack some of the classes, and groups of models that
    have none.
    """
    base = next((one for one in classifiers if not one.origin.foreign), classifiers[0])
    if base.origin.foreign:
        odd = "seen+novel" if groups is None else next((name for name in groups if name in ("novel", "seen", "val")), None)
        if odd is not None:
            raise InputError(
                f"{base.origin.foreign['name']} has no {odd} classes: what it was trained on is unknown",
                "use all of its classes, or name some in a file with --classes-from",
            )
    first = base.anchor_set
    for other in (one.anchor_set for one in classifiers if not one.origin.foreign):
        if [*map(fold, other.classes)] != [*map(fold, first.classes)] or other.groups != first.groups:
            raise InputError("the checkpoints were trained on different classes", "evaluate them one by one")
    if groups is None:
        choices = [seen_and_novel(first)]
    else:
        default = "all" if base.origin.foreign else None
        choices = [choose_classes(first, default if group is None else group) for group in dict.fromkeys(groups)]
    for one in (one for one in classifiers if one.origin.foreign):
        for choice in choices:
            name = str(one.origin.foreign["name"])
            match_classes(choice.classes, one.classes, wanted_from=f"the group '{choice.name}'", available_from=name)
    return choices


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


def leak_notes(classifier: Classifier, choice: ClassChoice, hashes: np.ndarray, labels: np.ndarray) -> list[str]:
    """Notes for classes, compared by name, and images, compared by content, that were trained on or selected the epoch.

    Args:
        classifier: with the record of its training.
        choice: the evaluated group.
        hashes: (N,) int64, of the evaluated images, see `stages.data.image_hashes`.
        labels: (N,) their classes, positions in `choice.classes`.
    """
    if classifier.origin.foreign or not classifier.origin.training.get("imported", {}).get("groups_known", True):
        return [f"{choice.name}: {UNKNOWN_TRAINING}"]
    own = classifier.trained
    groups = {group: {fold(name) for name in own.names(group)} for group in ("seen", "val")}
    names = [fold(name) for name in choice.classes]
    count = {group: sum(name in known for name in names) for group, known in groups.items()}
    if choice.seen:
        notes = _gzsl_notes(choice, names, groups, len(classifier.known.groups.val))
    else:
        uses = {"seen": "were trained on", "val": "were used to select the epoch"}
        notes = [f"{choice.name}: {count[group]} of {len(names)} classes {use}" for group, use in uses.items() if count[group]]
    known = classifier.origin.images
    if not known and classifier.origin.training and any(count.values()):
        return [*notes, f"{choice.name}: {_IMPORTED if 'imported' in classifier.origin.training else UNKNOWN}"]
    sides = {"": labels >= 0}
    if choice.seen:
        sides = {_SEEN: labels < choice.seen, " of novel classes": labels >= choice.seen}
    for use, said in _USES.items():
        met = np.isin(hashes, known.get(use, hashes[:0]))
        for side, mask in sides.items():
            found = int((met & mask).sum())
            if found:
                so = _NOT_HELD_OUT if use == "calibrated" else ": S is not on held-out images" if side == _SEEN else ""
                notes.append(f"{choice.name}: {found:,} of {int(mask.sum()):,} evaluated images{side} {said}{so}")
    return notes


def _gzsl_notes(choice: ClassChoice, names: Sequence[str], groups: Mapping[str, set[str]], val: int) -> list[str]:
    """Notes for seen classes without training, and for novel classes that were used in training."""
    notes = []
    seen, novel = names[: choice.seen], names[choice.seen :]
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
