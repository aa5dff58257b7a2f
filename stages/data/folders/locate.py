"""Recognise DATA: a bundled name, a parquet file or folder, a saved dataset, a folder of class folders, or a hub id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.data.folders.layout import TopFolder, read_top_folders
from stages.data.folders.parquet_folder import parquet_files
from stages.data.folders.walk import PARQUET
from stages.data.request import BUNDLED_DATA
from stages.errors import InputError, UsageError, nearest
from stages.files.strict_json import parse_json
from stages.text import as_text, listed

Kind = Literal["shapes", "parquet", "saved", "folders", "hub"]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MARKERS = {"dataset_dict.json": "splits", "state.json": "_data_files"}  # the file of a saved dataset -> an entry of it
WHAT_DATA_CAN_BE = (
    "give a folder of class folders, a parquet file or a folder of them, a saved dataset, "
    "a hub id such as uoft-cs/cifar100, or bundled images: shapes, shapes:textured or shapes:small"
)


@dataclass(frozen=True)
class Location:
    """Where the data is. `name` is used in records and messages: a base name, a hub id or a bundled name."""

    kind: Kind
    name: str
    path: Path = Path()


def locate(data: str, layout: str | None = None) -> Location:
    """Recognise DATA.

    Args:
        data: what the user named.
        layout: what a folder contains: 'classes', 'splits' or 'tables'; None decides by its contents.

    Raises UsageError when it is empty or has a layout that it cannot have, and InputError when it is none of what DATA can be,
    or could be several.
    """
    if not data:
        raise UsageError("the name of the data is empty", WHAT_DATA_CAN_BE)
    path = Path(data).expanduser()
    if data in BUNDLED_DATA:
        return Location("shapes", _no_folder(data, layout))
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL in it
        is_file = is_folder = False
    name = as_text(path.resolve().name if is_file or is_folder else data)
    if is_file:
        if path.suffix.casefold() in PARQUET:
            return Location("parquet", _no_folder(name, layout), path)
        raise InputError(f"'{data}' is a file, but not a parquet file", WHAT_DATA_CAN_BE)
    if is_folder:
        return Location(_kind_of_folder(path, name, layout), name, path)
    if HUB_ID.fullmatch(data) and not path.parent.exists():
        return Location("hub", _no_folder(data, layout))
    if data.startswith("shapes:"):
        raise UsageError(f"the bundled images have no variant '{data}'", f"the nearest: {nearest(data, BUNDLED_DATA)}")
    raise InputError(f"the data '{data}' does not exist", WHAT_DATA_CAN_BE)


def _no_folder(name: str, layout: str | None) -> str:
    if layout is not None:
        raise UsageError(f"the data '{name}' is no folder", "use --layout with folders only")
    return name


def _kind_of_folder(path: Path, name: str, layout: str | None) -> Kind:
    """What a folder contains.

    Raises InputError when several readings are possible, so that a stray file does not decide, or when `layout` asks for tables
    and there are none.
    """
    if layout in ("classes", "splits"):
        return "folders"
    marker = next((file for file in _MARKERS if (path / file).is_file()), None)
    parquet, _ = parquet_files(path)
    readings: dict[Kind, str] = {}
    if marker is not None and _has_entry(path / marker, _MARKERS[marker]):
        readings["saved"] = f"a saved dataset ('{marker}')"
    if parquet:
        readings["parquet"] = f"tables ('{parquet[0].relative_to(path).as_posix()}')"
    with_images: list[TopFolder] = []
    if layout is None and (readings or marker is not None):
        with_images = [folder for folder in read_top_folders(path)[0] if folder.has_images]
    # a single folder is no set of classes: it has the images that a table names, or pictures for its documentation
    if len(with_images) > 1 or any(folder.names_split and folder.has_inner_images for folder in with_images):
        readings["folders"] = f"images in folders ({listed([folder.name for folder in with_images], 4)})"
    if len(readings) > 1:
        raise InputError(
            f"the folder '{name}' can be read as {' or as '.join(readings.values())}",
            "give the folder or file of the data itself, or choose with --layout tables, --layout classes or --layout splits",
        )
    if not readings and layout == "tables" and marker is None:
        raise InputError(f"the folder '{name}' contains no tables", "give a folder of parquet files, or leave --layout out")
    return next(iter(readings), "folders" if marker is None or with_images else "saved")


def _has_entry(file: Path, key: str) -> bool:
    """Whether a file is a JSON object with this entry."""
    try:
        found = parse_json(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and key in found
