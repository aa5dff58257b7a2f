"""The classes of `laat anchors`: their names, from a file, a list, the command line or images, and their groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from laatcli import options
from laatcli.console import Console
from laatcli.options import CLASSES
from stages.anchors.bundled import BUNDLED_LISTS, bundled_classes
from stages.classes import ClassGroups, check_unique, fold, read_class_file
from stages.data.request import BUNDLED_DATA, LAYOUT, LAYOUT_UNSET, LAYOUTS, ImageRequest
from stages.errors import UsageError
from stages.exchange.model_request import ModelRequest
from stages.parameters import parameter, same_parameter


@dataclass(frozen=True)
class ClassNames:
    """The class names and their groups."""

    classes: str | None = parameter(
        None,
        "File with one class name per line ('# ' begins a comment), or 'shapes', 'cifar-fs' or 'fc100'.",
        panel=CLASSES,
        places=BUNDLED_LISTS,
    )
    names: Sequence[str] | None = same_parameter(ModelRequest, "names")
    data: str | None = parameter(
        None,
        "Take the class names of these images, see `laat train --help`.",
        panel=CLASSES,
        places=(*BUNDLED_LISTS, *BUNDLED_DATA),
    )
    label_column: str | None = parameter(None, "Column with the labels of --data.", unset="found by its type", panel=CLASSES)
    layout: str | None = parameter(None, LAYOUT, unset=LAYOUT_UNSET, panel=CLASSES, choices=LAYOUTS)
    seen: int | None = parameter(None, "The first N classes are seen.", unset="all", panel=CLASSES, at_least=1)
    val: int = parameter(0, "The next N classes are validation classes.", panel=CLASSES, at_least=0)
    seen_file: Path | None = parameter(None, "File with the names of the seen classes.", panel=CLASSES)
    val_file: Path | None = parameter(None, "File with the names of the validation classes.", panel=CLASSES)

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.classes, self.names, self.data)) != 1:
            raise UsageError(
                "give the class names with one of --classes FILE, --names and --data DATA",
                "for example `laat anchors --classes classes.txt`",
            )
        seen_twice = self.seen is not None and self.seen_file
        if seen_twice or (self.val and (self.val_file or self.seen_file)):
            raise UsageError("the groups are given twice", "use --seen and --val, or --seen-file and --val-file")

    def files(self) -> list[options.Place]:
        """The files that may be read."""
        return [
            *(("--classes", self.classes), ("--data", self.data)),
            *(("--seen-file", self.seen_file), ("--val-file", self.val_file)),
        ]

    def read(self, console: Console) -> tuple[list[str], ClassGroups]:
        """The names and the groups; prints what was read of images. Raises UsageError, InputError and MissingError."""
        data = "shapes" if self.data in BUNDLED_DATA else self.data  # the variants have the same classes
        bundled = next((name for name in BUNDLED_LISTS if name in (self.classes, data)), None)
        groups = None
        if bundled:
            names, groups = bundled_classes(bundled)
        elif self.names is not None:
            check_unique(self.names, where="--names")
            names = list(self.names)
        elif self.classes is not None:
            names = read_class_file(self.classes)
        else:
            from stages.data.sources import open_source
            from stages.data.summary import classes_summary_of

            images = open_source(ImageRequest(self.data, label_column=self.label_column, layout=self.layout))
            console.note(classes_summary_of(images))
            names = list(images.classes)
        if self.seen_file or self.val_file:
            vals = read_class_file(self.val_file) if self.val_file else []
            seens = read_class_file(self.seen_file) if self.seen_file else _others(names, vals)
            seen_from = f"'{self.seen_file}'" if self.seen_file else f"what '{self.val_file}' leaves"
            groups = ClassGroups.from_names(names, seens, vals, seen_from=seen_from, val_from=f"'{self.val_file}'")
        elif groups is None or self.seen is not None or self.val:
            groups = ClassGroups.from_counts(len(names), self.seen, self.val)
        return names, groups


def _others(names: list[str], vals: list[str]) -> list[str]:
    folded = {fold(name) for name in vals}
    return [name for name in names if fold(name) not in folded]
