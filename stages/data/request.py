"""Which images to read. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.parameters import check, parameter

IMAGES = "Images"
LAYOUTS = ("classes", "splits", "tables")
LAYOUT = "What a folder contains: folders of classes, folders of splits (train, test) with class folders, or tables."
LAYOUT_UNSET = "found by its contents"


@dataclass(frozen=True)
class ImageRequest:
    """Which images to read, from where, and how.

    `data` is a folder of class folders (split into train/ and test/ or not), a parquet file or a folder of them, a saved
    dataset, a hub id or 'shapes', the bundled images. A source with a single split is divided 90/10 by class.

    Raises UsageError for a resize below 1 and an unknown layout.
    """

    data: Any = parameter(
        None, "Folder of class folders, parquet file or folder, saved dataset, hub id (ORG/NAME), or 'shapes'.", panel=IMAGES
    )
    split: str | None = parameter(
        None, "train, test or train+test.", unset="train for training, test for evaluation", panel=IMAGES
    )
    resize: int | None = parameter(
        None, "Resize the shorter side to N pixels and crop the central N x N.", panel=IMAGES, at_least=1
    )
    image_column: str | None = parameter(None, "Column with the images.", unset="found by its type", panel=IMAGES)
    label_column: str | None = parameter(None, "Column with the labels.", unset="found by its type", panel=IMAGES)
    layout: str | None = parameter(None, LAYOUT, unset=LAYOUT_UNSET, panel=IMAGES, choices=LAYOUTS)
    skip_corrupt: bool = parameter(False, "Skip images that cannot be decoded, and count them.", panel=IMAGES)

    def __post_init__(self) -> None:
        check(self)
