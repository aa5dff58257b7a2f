"""Images in class folders: DATA/cat/1.png, or DATA/train/cat/1.png and DATA/test/cat/2.png."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from stages.classes import fold, is_blank, spelled
from stages.data.decoding.encoded import Encoded
from stages.data.folders.layout import read_image_folder
from stages.data.source import Source
from stages.data.source_rows import portable
from stages.errors import InputError
from stages.text import as_text, is_text, listed


class FolderSource(Source):
    """A folder of class folders, split or not; without splits it has the one split 'train'.

    The classes are the names of the class folders, sorted. Folders whose names differ only in invisible ways (see
    `stages.classes.spelled`) are one class.
    """

    def __init__(self, path: Path, name: str, layout: str | None = None) -> None:
        """See `read_image_folder`; also raises InputError when there is no image."""
        self.name = name
        self._root = path
        found = read_image_folder(path, name, layout)
        self.splits = tuple(found.classes)
        self.passed_over = found.passed_over
        _check_names(found.classes, name)
        by_class = {split: _by_class(folders) for split, folders in found.classes.items()}
        self.classes = tuple(sorted({one for folders in by_class.values() for one in folders}))
        number = {one: at for at, one in enumerate(self.classes)}
        self._files: dict[str, list[str]] = {}  # relative paths, which take less memory
        self._labels: dict[str, np.ndarray] = {}
        for split, folders in by_class.items():
            self._files[split] = [file for files in folders.values() for file in files]
            labels = [number[one] for one, files in folders.items() for _ in files]
            self._labels[split] = np.array(labels, dtype=np.int64)
        if not any(self._files.values()):
            passed = sum(found.passed_over.values(), Counter[str]())
            only = ", only " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(passed.items())) if passed else ""
            raise InputError(f"the folder '{name}' has no images{only}", "put the images into one folder per class")
        filled = np.unique(np.concatenate(list(self._labels.values())))
        empty = [one for at, one in enumerate(self.classes) if at not in filled]
        self.notes = (f"class folders without an image: {listed(empty, 4)}",) if empty else ()

    def labels(self, split: str) -> np.ndarray:
        """See `Source`."""
        return self._labels[split]

    def file_count(self, split: str) -> int:
        """See `Source`."""
        return len(self._files[split])

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """See `Source`."""
        files = self._files[split]
        for row in rows:
            yield Encoded(f"'{files[row]}'", self._root / files[row])

    def keys(self, split: str, rows: np.ndarray) -> list[str]:
        """See `Source`: the paths inside the folder."""
        return [portable(self._files[split][row]) for row in rows]


def _check_names(found: Mapping[str, Mapping[str, Sequence[str]]], name: str) -> None:
    """Raise InputError where a class folder has no name in text that shows, or two differ in what `fold` ignores only."""
    first: dict[str, tuple[str, str]] = {}
    for split, folders in found.items():
        for folder in folders:
            if not is_text(folder):
                raise InputError(
                    f"the name of the class folder '{folder}' of '{name}' is not UTF-8",
                    f"rename it; in Latin-1 it reads '{os.fsencode(folder).decode('latin-1')}'",
                )
            if is_blank(folder):
                raise InputError(f"the name of the class folder {folder!a} of '{name}' does not show", "rename the folder")
            other, before = first.setdefault(fold(folder), (folder, split))
            if spelled(other) != spelled(folder):
                where = f" in the {before} split" if before != split else ""
                raise InputError(
                    f"the data '{name}' has a class twice: the folders '{other}'{where} and '{folder}' in the {split} split "
                    "are the same but for case, '_', spaces and characters that do not show",
                    "rename them alike where they are one class, and otherwise rename one of them",
                )


def _by_class(folders: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The files of each class, sorted by class; of those of its folders."""
    found: dict[str, list[str]] = {}
    for folder in sorted(folders, key=lambda name: (spelled(name), name)):
        found.setdefault(spelled(as_text(folder)), []).extend(folders[folder])
    return found
