"""Recognise DATA: a bundled name, a parquet file or folder, a saved dataset, a folder of class folders, or a hub id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.data.splits import KEYWORDS, split_of_stem
from stages.errors import InputError, UsageError

Kind = Literal["shapes", "parquet", "saved", "folders", "hub"]
BUNDLED = "shapes"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
PARQUET = (".parquet", ".pq")
WHAT_DATA_CAN_BE = (
    "give a folder of class folders, a parquet file or a folder of them, a saved dataset, "
    "a hub id such as uoft-cs/cifar100, or the bundled name shapes"
)


@dataclass(frozen=True)
class Location:
    """Where the data is. `name` is used in records and messages: a base name, a hub id or a bundled name."""

    kind: Kind
    name: str
    path: Path = Path()


def locate(data: str) -> Location:
    """Recognise DATA. Raises UsageError when it is empty and InputError when it is none of what DATA can be."""
    if not data:
        raise UsageError("the name of the data is empty", WHAT_DATA_CAN_BE)
    if data == BUNDLED:
        return Location("shapes", BUNDLED)
    path = Path(data).expanduser()
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL in it
        is_file = is_folder = False
    name = path.resolve().name if is_file or is_folder else data
    if is_file:
        if path.suffix.casefold() in PARQUET:
            return Location("parquet", name, path)
        raise InputError(f"'{data}' is a file, but not a parquet file", WHAT_DATA_CAN_BE)
    if is_folder:
        return Location(_kind_of_folder(path), name, path)
    if HUB_ID.fullmatch(data) and not path.parent.exists():
        return Location("hub", data)
    raise InputError(f"the data '{data}' does not exist", WHAT_DATA_CAN_BE)


def parquet_splits(path: Path) -> dict[str, list[Path]]:
    """The parquet files of each split, in the order of their names.

    The split comes from the file's name ('train-00000-of-00002.parquet'), else from its folder's ('test/0000.parquet'). Files
    without a split in their name are `train` when no file has one, and a split of their own name otherwise.

    Raises InputError when the folder contains several data sets.
    """
    if path.is_file():
        return {split_of_stem(path.stem) or "train": [path]}
    files = _parquet_files(path)
    named = {file: split_of_stem(file.stem) or KEYWORDS.get(file.parent.name.casefold()) for file in files}
    homes = sorted({_home(file.relative_to(path).parent) for file in files})
    if len(homes) > 1:
        raise InputError(
            f"the folder '{path.name}' contains several data sets: {', '.join(homes)}", "give the folder of one of them"
        )
    splits: dict[str, list[Path]] = {}
    for file, split in named.items():
        splits.setdefault(split or (file.stem if any(named.values()) else "train"), []).append(file)
    return splits


def _kind_of_folder(path: Path) -> Kind:
    if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
        return "saved"
    return "parquet" if _parquet_files(path) else "folders"


def _parquet_files(path: Path) -> list[Path]:
    """Parquet files in the folder, or else in its subfolders down to <configuration>/<split>/."""
    for pattern in ("*", "*/*", "*/*/*"):
        found = [file for file in path.glob(pattern) if file.suffix.casefold() in PARQUET and file.is_file()]
        found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
        if found:
            return sorted(found)
    return []


def _home(folder: Path) -> str:
    """The folder without parts such as 'data' or a split name; different for different data sets."""
    return "/".join(part for part in folder.parts if part != "data" and part.casefold() not in KEYWORDS) or "."
