"""How a MODEL is opened: its class names, anchors and architecture. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages.anchors.bundled import BUNDLED_LISTS, bundled_classes
from stages.classes import check_unique, read_class_file, spelled
from stages.errors import UsageError
from stages.parameters import check, parameter, same_parameter

CLASSES, MODEL = "Classes", "Model"  # the panels of --help
_CLASSES = "Class names: a file with one per line, or 'shapes', 'cifar-fs' or 'fc100'."
DEMO = "demo"  # the MODEL that comes with the package


def split_names(text: str) -> tuple[str, ...]:
    """The names in 'okapi, pagoda'. Raises UsageError for an empty one."""
    names = tuple(spelled(name) for name in text.split(","))
    if not all(names):
        raise UsageError(f"--names '{text}' has an empty name", "write the names with commas between them: okapi,pagoda")
    return names


@dataclass(frozen=True)
class ImportedModel:
    """Which classes a model from elsewhere has, and what it is built from.

    Attributes:
        classes, names: the class names: a file or a bundled list, or the names themselves.
        template, templates: the prompts of a model with a text tower.
        anchors: an anchors file, instead of names.
        architecture: of the weights; None recognizes it where it can be.

    Raises UsageError where the classes are given twice, or prompts with anchors.
    """

    classes: str | None = parameter(None, _CLASSES, panel=CLASSES, places=BUNDLED_LISTS)
    names: Sequence[str] | None = parameter(
        None, "Class names, with commas between them: okapi,pagoda.", panel=CLASSES, parse=split_names
    )
    anchors: Path | None = parameter(
        None, "Anchors file: with --as laat the training anchors, else anchors instead of class names.", panel=CLASSES
    )
    template: list[str] | None = parameter(
        None,
        "Prompt with {} for the class name, for a CLIP model; repeatable.",
        unset="This is a photo of a {}",
        panel=CLASSES,
    )
    templates: str | None = parameter(
        None,
        "For a CLIP model: 'openai' (CLIP's ImageNet templates) or a file with one template per line.",
        panel=CLASSES,
        places=("openai",),
    )
    architecture: str | None = parameter(
        None,
        "With --as laat conv4-WIDTH or resnet12, else the CLIP model that was fine-tuned: clip:NAME/TAG, "
        "clip:local-dir:PATH or clip:hf-hub:ORG/NAME.",
        unset="recognized from the shapes, except with --as open_clip",
        panel=MODEL,
    )

    def __post_init__(self) -> None:
        check(self)
        given = [option for option in ("classes", "names", "anchors") if getattr(self, option) is not None]
        if len(given) > 1:
            raise UsageError(f"the classes are given twice, by --{given[0]} and by --{given[1]}", "leave one of them out")
        for option in ("template", "templates"):
            if self.anchors is not None and getattr(self, option) is not None:
                raise UsageError(f"--{option} cannot be combined with --anchors", "leave it out: anchors have their prompts")

    @property
    def group(self) -> str | None:
        """The group of classes that is used unless another is named: all the names that are given; None if none are."""
        return None if self.classes is None and self.names is None else "all"

    @property
    def files(self) -> list[tuple[str, Path | str | None]]:
        """The options that may name a file, and what they name."""
        return [("--anchors", self.anchors), ("--classes", self.classes), ("--templates", self.templates)]

    def read_names(self) -> tuple[list[str], str] | None:
        """The class names and where they are from, for errors; None if none are given. Raises UsageError and InputError."""
        if self.names is not None:
            if not self.names:
                raise UsageError("no class names are given", "name at least one, such as okapi")
            check_unique(self.names, where="--names")
            return list(self.names), "--names"
        if self.classes in BUNDLED_LISTS:
            return bundled_classes(self.classes)[0], f"'{self.classes}'"
        return None if self.classes is None else (read_class_file(self.classes), f"'{self.classes}'")


@dataclass(frozen=True)
class ModelRequest(ImportedModel):
    """As `ImportedModel`, for any model.

    Attributes:
        architecture: of bare weights.
        backbone: import path of the backbone that a checkpoint was trained with.
    """

    classes: str | None = same_parameter(
        ImportedModel, "classes", help=f"{_CLASSES} A checkpoint encodes them as its training anchors."
    )
    anchors: Path | None = same_parameter(
        ImportedModel, "anchors", help="Use the anchors in this file, from the model's text encoder."
    )
    architecture: str | None = same_parameter(
        ImportedModel,
        "architecture",
        help="Architecture of bare weights: clip:NAME, clip:NAME/TAG (with that model's text tower), conv4-WIDTH, resnet12 or "
        "timm:NAME.",
        unset="",
    )
    backbone: str | None = parameter(
        None, "Import your own backbone that the checkpoint was trained with: package.module:factory.", panel=MODEL
    )
