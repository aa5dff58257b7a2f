"""The class names of a data set of a benchmark, and which label of the data each belongs to. Needs no torch.

A class-name file has one name per line. Where the data use another name, the line is `NAME IN THE DATA => name`. Lines
belong to labels by name, so that their order does not matter; by their order only where the data have numbers for names, or
where the benchmark says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stages.anchors.bundled import BUNDLED_LISTS, bundled_classes
from stages.benchmark.spec import DataSet
from stages.classes import ClassGroups, check_unique, fold, spelled
from stages.errors import InputError, UsageError, nearest
from stages.files.text_lists import read_list

IMAGENET = "open_clip:imagenet"
"""The class names of ImageNet-1k as the installed open_clip has them, in the order of the WordNet ids."""
_ARROW = "=>"


@dataclass(frozen=True)
class ClassNames:
    """Names in their order.

    Attributes:
        own: what the data call each class.
        names: what the class is called in prompts and reports.
        groups: seen, validation and novel ones; None without groups.
        where: where they are from, for errors.
    """

    own: tuple[str, ...]
    names: tuple[str, ...]
    groups: ClassGroups | None
    where: str


def read_class_names(one: DataSet) -> ClassNames | None:
    """The class names that a benchmark gives; None where those of the data count.

    Raises UsageError for a group of names that have none, InputError for a file that is no such list.
    """
    if one.classes is None:
        found = None
    elif one.classes in BUNDLED_LISTS:
        names, groups = bundled_classes(one.classes)
        found = ClassNames(tuple(names), tuple(names), groups, f"the list '{one.classes}'")
    elif one.classes == IMAGENET:
        names = imagenet_names()
        found = ClassNames(tuple(names), tuple(names), None, IMAGENET)
    else:
        found = _read_file(one.folder / Path(one.classes).expanduser())
    if one.group != "all" and (found is None or found.groups is None):
        fix = f"leave group out, or use classes that have groups: {', '.join(BUNDLED_LISTS)}"
        raise UsageError(f"the data set '{one.name}' has the group '{one.group}', and its class names have no groups", fix)
    return found


def imagenet_names() -> list[str]:
    """The 1000 names of open_clip; where two classes share one, the second has that of torchvision's weights."""
    from open_clip import IMAGENET_CLASSNAMES
    from torchvision.models import ResNet50_Weights

    others = ResNet50_Weights.DEFAULT.meta["categories"]
    found: list[str] = []
    for at, name in enumerate(IMAGENET_CLASSNAMES):
        shared = IMAGENET_CLASSNAMES.count(name) > 1
        found.append(others[at] if shared else name)
    return found


def matched(one: DataSet, given: ClassNames | None, classes: Sequence[str], source: str) -> tuple[list[str], list[str]]:
    """The candidates: what the data call them, and their names in prompts and reports, both in the order of the list.

    Args:
        one: the data set.
        given: its class names of the benchmark.
        classes: those of the data, by label.
        source: name of the data.

    Raises InputError: names and labels differ in number, names that are not in the data (nearest shown), or data that have
    only numbers for names where the benchmark gives none.
    """
    numbered = all(name.isdecimal() for name in classes)
    if given is None:
        if numbered:
            raise InputError(
                f"the classes of the data '{source}' are numbers, which mean nothing to a text encoder",
                f"name them with classes = \"FILE\" in the data set '{one.name}', one per line in their order",
            )
        return list(classes), list(classes)
    kept = range(len(given.names)) if given.groups is None else given.groups.of(one.group)
    if len(classes) == len(kept) and not numbered:  # data of the group alone
        given = replace(given, own=tuple(given.own[at] for at in kept), names=tuple(given.names[at] for at in kept))
        kept = range(len(classes))
    if len(given.names) != len(classes):
        raise InputError(
            f"{given.where} has {len(given.names)} class names and the data '{source}' {len(classes)} classes",
            "list every class of the data once, one per line",
        )
    if one.match == "order" or (numbered and given.own == given.names):
        own = _by_number(classes, source) if numbered else _by_order(given, classes, source)
    else:
        own = _by_name(given, classes, source)
    return [own[at] for at in kept], [given.names[at] for at in kept]


def _by_number(classes: Sequence[str], source: str) -> list[str]:
    ordered = sorted(classes, key=int)
    if [int(name) for name in ordered] != list(range(len(ordered))):
        raise InputError(
            f"the classes of the data '{source}' are the numbers {ordered[0]} to {ordered[-1]}, not 0 to {len(ordered) - 1}",
            f"write 'NUMBER {_ARROW} name' in each line of the class-name file",
        )
    return ordered


def _by_order(given: ClassNames, classes: Sequence[str], source: str) -> list[str]:
    """The labels in their order. Raises InputError where the data have a name of the list for another label."""
    labels = {fold(name): label for label, name in enumerate(classes)}
    for label, names in enumerate(zip(given.own, given.names, strict=True)):
        other = next((name for name in names if labels.get(fold(name), label) != label), None)
        if other is not None:
            raise InputError(
                f"{given.where} has '{other}' as name {label + 1}, and the data '{source}' as class {labels[fold(other)] + 1}: "
                "their orders differ",
                'bring the classes of the data into the order of the list, or leave match = "order" out: names then decide',
            )
    return list(classes)


def _by_name(given: ClassNames, classes: Sequence[str], source: str) -> list[str]:
    at = {fold(name): name for name in classes}
    found = [at.get(fold(own)) or at.get(fold(name)) for own, name in zip(given.own, given.names, strict=True)]
    missing = next((own for own, data in zip(given.own, found, strict=True) if data is None), None)
    if missing is not None:
        raise InputError(
            f"'{missing}' of {given.where} is no class of the data '{source}' (nearest: {nearest(missing, classes)})",
            f"write 'NAME IN THE DATA {_ARROW} {missing}' in that line, or match = \"order\" if line 1 is label 0, and so on",
        )
    names = [name for name in found if name is not None]
    check_unique(names, where=f"{given.where}, in the names of the data")
    return names


def _read_file(path: Path) -> ClassNames:
    own, names = [], []
    lines = read_list(path, "class-name file", "class name")
    for number, line in lines:
        left, arrow, right = line.partition(_ARROW)
        if arrow and not (spelled(left) and spelled(right)):
            raise InputError(f"line {number} of '{path}' has no name on one side of {_ARROW}", "write both names")
        own.append(spelled(left))
        names.append(spelled(right if arrow else left))
    if len(names) < 2:
        raise InputError(f"class-name file '{path}' has fewer than two classes", "write one class name per line into it")
    for one in (own, names):
        check_unique(one, where=f"'{path}'", lines=[number for number, _ in lines])
    return ClassNames(tuple(own), tuple(names), None, f"'{path.name}'")
