"""How a classifier is exported, and whether there is room for its files. Needs no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stages.clip_weights import CONFIG, WEIGHTS
from stages.errors import MissingError, UsageError
from stages.files.reading import STDIO
from stages.files.writing import check_writable
from stages.parameters import check, parameter

FORMATS = ("onnx", "pt2", "open_clip", "torch")
FOLDERS = ("open_clip", "torch")
ANCHORS = "anchors.st"
IN_FOLDERS = frozenset([ANCHORS, CONFIG, WEIGHTS, "laat.json", "config.json", "model.safetensors"])
_OUTPUT = "Output"


@dataclass(frozen=True)
class ExportOptions:
    """What is written.

    Raises UsageError for an unknown format or kind of pixels.
    """

    format: str | None = parameter(
        None,
        "onnx, pt2 (torch.export), open_clip (a folder that open_clip loads) or torch (a folder with weights and a JSON file).",
        unset="by the ending: .onnx, .pt2; a folder: open_clip for clip: towers, else torch",
        panel=_OUTPUT,
        choices=FORMATS,
    )
    pixels: str = parameter(
        "uint8", "Images that an onnx or pt2 file takes: uint8 (0 to 255) or float ([0, 1]).", panel=_OUTPUT,
        choices=("uint8", "float"),
    )  # fmt: skip
    text_tower: str | None = parameter(
        None,
        "For open_clip: the model whose text tower encoded the anchors: NAME/TAG, NAME/FILE.safetensors or local-dir:PATH.",
        unset="as the anchors say",
        panel=_OUTPUT,
    )
    tolerance: float | None = parameter(
        None,
        "Largest difference of a logit that is allowed between the model and what was written.",
        unset="1e-4; with a logit scale above 10, 1e-5 times the scale",
        positive=True,
    )
    force: bool = parameter(False, "Replace files of an earlier export.", panel=_OUTPUT)

    def __post_init__(self) -> None:
        check(self)

    def format_of(self, path: Path) -> str | None:
        """The format of what is written at `path`; None is a folder in the format that fits the model.

        Raises UsageError for an ending that says nothing, or another format than the one that is asked for.
        """
        ending = path.suffix.lower().removeprefix(".")
        if self.format is not None:
            if ending in ("onnx", "pt2") and ending != self.format:
                raise UsageError(
                    f"--format is {self.format}, and '{path}' ends in '{path.suffix}'", "change the name, or leave --format out"
                )
            return self.format
        if ending in ("onnx", "pt2"):
            return ending
        if ending and not path.is_dir():
            raise UsageError(
                f"no export format has files that end in '{path.suffix}'",
                "name a file that ends in .onnx or .pt2, or a folder; or give --format",
            )
        return None

    def check_fits(self, form: str) -> None:
        """Raise UsageError for an option that has no effect in a format."""
        if form in FOLDERS and self.pixels != "uint8":
            raise UsageError(f"--pixels has no effect with the format {form}", "leave it out: weights take no images")
        if form != "open_clip" and self.text_tower is not None:
            raise UsageError(f"--text-tower has no effect with the format {form}", "leave it out, or add --format open_clip")


def check_place(path: Path, form: str | None, *, force: bool) -> None:
    """Check that an export can be written.

    Args:
        path: its file or folder.
        form: see `ExportOptions.format_of`.
        force: replace the files of another export.

    Raises UsageError for files that exist, MissingError for a place that cannot be written or a package that is missing.
    """
    if str(path) == STDIO:
        raise UsageError("an export is several files and cannot go to standard output", "name a file with -o")
    if form == "onnx":
        _require_onnx()
    if form in ("onnx", "pt2"):
        check_writable(path)
        for file in (path, path.with_name(f"{path.name}.data")):
            if os.path.lexists(file) and not force:
                raise in_the_way(file)
        return
    if os.path.lexists(path) and not path.is_dir():
        raise MissingError(f"cannot write '{path}': a file is in the way", "choose another folder with -o")
    if not path.is_dir():
        check_writable(path)
        return
    names = sorted(entry.name for entry in path.iterdir())
    if names and not force:
        raise UsageError(f"the folder '{path}' is not empty", "choose another folder with -o, or replace it with --force")
    strays = [name for name in names if name not in IN_FOLDERS]
    if strays:
        raise UsageError(f"the folder '{path}' has a file that is not of an export: '{strays[0]}'", "choose another with -o")


def in_the_way(file: Path) -> UsageError:
    """The error for a file that exists."""
    return UsageError(f"'{file}' exists", "choose another name with -o, or replace it with --force")


def _require_onnx() -> None:
    """Raise MissingError unless what writes and runs ONNX files is installed."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise MissingError(f"writing an ONNX file needs {' and '.join(missing)}", "pip install 'laat[export]'")
