"""Images in class folders: DATA/cat/1.png, or DATA/train/cat/1.png and DATA/test/cat/2.png."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stages.classes import check_unique
from stages.data.decode import SUFFIXES
from stages.data.encoded import Encoded
from stages.data.source import Source
from stages.data.splits import KEYWORDS
from stages.errors import InputError


class FolderSource(Source):
    """A folder of class folders, split or not; without splits it has the one split 'train'.

    The classes are the names of the class folders, sorted. Hidden files and files without an image suffix are ignored.
    """

    def __init__(self, path: Path, name: str) -> None:
        """Raises InputError when there are no class folders, or when class and split folders are mixed."""
        self.name = name
        self._root = path
        by_split = _class_folders_by_split(path, name)
        self.splits = tuple(by_split)
        self.classes = tuple(sorted({folder.name for folders in by_split.values() for folder in folders}))
        check_unique(self.classes, where=f"the data '{name}'")
        number = {folder: at for at, folder in enumerate(self.classes)}
        self._files: dict[str, list[str]] = {}  # relative paths, which take less memory
        self._labels: dict[str, np.ndarray] = {}
        for split, folders in by_split.items():
            found = [(image, number[folder.name]) for folder in folders for image in _images_under(folder)]
            self._files[split] = [image.relative_to(path).as_posix() for image, _ in found]
            self._labels[split] = np.array([label for _, label in found], dtype=np.int64)
        if not any(self._files.values()):
            raise InputError(f"the folder '{name}' has no images", "put the images into one folder per class")

    def labels(self, split: str) -> np.ndarray:
        """See `Source`."""
        return self._labels[split]

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """See `Source`."""
        files = self._files[split]
        for row in rows:
            yield Encoded(f"'{files[row]}'", self._root / files[row])


def _class_folders_by_split(path: Path, name: str) -> dict[str, list[Path]]:
    folders = _subfolders(path)
    direct = {folder: _has_image(folder) for folder in folders}
    is_split = {
        folder: folder.name.casefold() in KEYWORDS and not direct[folder] and bool(_subfolders(folder)) for folder in folders
    }
    if not folders:
        what = "images, but not in class folders" if _has_image(path) else "no class folders"
        raise InputError(f"the folder '{name}' has {what}", "put the images into one folder per class")
    if not any(is_split.values()):
        return {"train": folders}
    strays = [folder.name for folder in folders if direct[folder]]
    if strays:
        split = next(folder.name for folder in folders if is_split[folder])
        raise InputError(
            f"the folder '{name}' mixes split folders ('{split}') and class folders ('{strays[0]}')",
            "keep class folders inside train/ and test/, or remove the split folders",
        )
    by_split: dict[str, list[Path]] = {}
    for folder in folders:
        split = KEYWORDS.get(folder.name.casefold(), folder.name)
        if split in by_split:
            raise InputError(f"the folder '{name}' has the {split} split twice ('{folder.name}')", "keep one of them")
        by_split[split] = _subfolders(folder)
    return {split: inner for split, inner in by_split.items() if inner}


def _subfolders(path: Path) -> list[Path]:
    try:
        return sorted(entry for entry in path.iterdir() if entry.is_dir() and not _hidden(entry.name))
    except PermissionError:
        raise InputError(f"the folder '{path}' cannot be read", "check its permissions") from None


def _has_image(path: Path) -> bool:
    return any(_is_image(entry.name) and entry.is_file() for entry in path.iterdir())


def _images_under(folder: Path) -> list[Path]:
    """Image files of a class folder and of the folders in it, in the order of their paths."""
    found: list[Path] = []
    for inside, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [Path(inside) / file for file in files if _is_image(file)]
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def _is_image(name: str) -> bool:
    return not _hidden(name) and os.path.splitext(name)[1].casefold() in SUFFIXES


def _hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("__") and name != "__")
