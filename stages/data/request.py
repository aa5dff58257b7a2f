"""Which images to read. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stages.parameters import check, parameter, same_parameter

IMAGES = "Images"
MAX_PIXELS = 90_000_000
BUNDLED_DATA = ("shapes", "shapes:textured", "shapes:small")
"""The bundled images and their variants (`stages.data.shapes.LOOKS`)."""
LAYOUTS = ("classes", "splits", "tables")
LAYOUT = "What a folder contains: classes (one folder per class), splits (train, test with class folders in them), or tables."
LAYOUT_UNSET = "found by its contents"


@dataclass(frozen=True)
class DecodeOptions:
    """How images are decoded.

    Attributes:
        resize: bring the shorter side to this many pixels (bicubic, antialiased) and crop the centre square; None: no resizing.
        max_pixels: images of more pixels are refused before they are decoded.
        white: the value of white in images of more than 8 bits; None: what the file declares, else 65535 for 16 bits.
    """

    resize: int | None = parameter(
        None,
        "Resize the shorter side to N pixels and crop the central N x N.",
        unset="the size that the model takes",
        panel=IMAGES,
        at_least=1,
    )
    max_pixels: int = parameter(
        MAX_PIXELS, "Refuse images of more pixels than this, before they are decoded.", panel=IMAGES, at_least=1, below=2**63
    )
    white: float | None = parameter(
        None,
        "Value of white in images of more than 8 bits.",
        unset="as in training, else what the file declares, else 65535 for 16 bits",
        panel=IMAGES,
        positive=True,
        below=2.0**64,
    )


@dataclass(frozen=True)
class ImageRequest:
    """Which images to read, from where, and how.

    `data` is a folder of class folders (split into train/ and test/ or not), a parquet file or a folder of them, a saved
    dataset, a hub id, or bundled images (`BUNDLED_DATA`). A source with a single split is divided 90/10 by class.

    Raises UsageError for a resize, max_pixels or white that is not above 0, and an unknown layout.
    """

    data: Any = parameter(
        None,
        "Folder of class folders, parquet file or folder, saved dataset, hub id (ORG/NAME), or bundled: shapes, or "
        "shapes:textured or shapes:small, the same classes in other images.",
        panel=IMAGES,
        places=BUNDLED_DATA,
    )
    split: str | None = parameter(
        None, "train, test or train+test.", unset="train for training and calibration, test for evaluation", panel=IMAGES
    )
    resize: int | None = same_parameter(DecodeOptions, "resize", unset="")
    image_column: str | None = parameter(None, "Column with the images.", unset="found by its type", panel=IMAGES)
    label_column: str | None = parameter(None, "Column with the labels.", unset="found by its type", panel=IMAGES)
    layout: str | None = parameter(None, LAYOUT, unset=LAYOUT_UNSET, panel=IMAGES, choices=LAYOUTS)
    skip_corrupt: bool = parameter(False, "Skip images that cannot be opened or decoded, and count them.", panel=IMAGES)
    max_pixels: int = same_parameter(DecodeOptions, "max_pixels")
    white: float | None = same_parameter(DecodeOptions, "white")

    @property
    def decoding(self) -> DecodeOptions:
        """How images are decoded."""
        return DecodeOptions(self.resize, self.max_pixels, self.white)

    def __post_init__(self) -> None:
        check(self)

    def as_in(self, training: Mapping[str, Any]) -> ImageRequest:
        """With the size and the value of white of a training, a checkpoint's record, where the request has none of its own."""
        white = training.get("data", {}).get("white") if self.white is None else self.white
        return replace(self, resize=training.get("resize") if self.resize is None else self.resize, white=white)
