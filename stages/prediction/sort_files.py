"""Copies of images in folders by predicted class. No torch."""

from __future__ import annotations

import filecmp
import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stages.attacks.png_folder import folder_names
from stages.errors import MissingError
from stages.prediction.places import SORT_INTO, check_folder


class SortedCopies:
    """Copies of files in a folder per class: FOLDER/red_circle/photo.png.

    No file is moved, replaced or removed. A second file of the same name becomes photo-2.png; a copy with the same name and
    content that is there already is kept.

    Args:
        folder: must be empty or missing, unless `force` is given.
        classes: the class names; a folder is made when its first image comes.
        force: add to a folder that is not empty.

    Attributes:
        folder: see above.
        copied, kept: number of files that were copied, and that were there already.

    Raises:
        UsageError: a folder that is not empty.
        InputError: classes that would share a folder, see `folder_names`.
        MissingError: a place that cannot be written.
    """

    def __init__(self, folder: Path, classes: Sequence[str], *, force: bool = False) -> None:
        check_folder(folder, SORT_INTO, force=force)
        self.folder = folder
        self._names = dict(zip(classes, folder_names(classes, SORT_INTO), strict=True))
        self._next: dict[Path, int] = {}  # of names that were taken
        self.copied = self.kept = 0

    def add(self, path: str, name: str) -> None:
        """Copy a file into the folder of the class `name`. Raises MissingError."""
        home = self.folder / self._names[name]
        try:
            home.mkdir(parents=True, exist_ok=True)
            made, part = tempfile.mkstemp(dir=home, prefix=".", suffix=".part")
            os.close(made)
            try:
                shutil.copy2(path, part)
                self._place(Path(part), home / os.path.basename(path))
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(part)
        except OSError as error:
            raise MissingError(
                f"cannot copy '{path}' to '{home}': {error.strerror or error}", f"choose another place with {SORT_INTO}"
            ) from None

    def _place(self, part: Path, target: Path) -> None:
        """Give the copy its name, or the next one that is free."""
        number = self._next.get(target, 1)
        while True:
            place = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
            if _placed(part, place):
                self.copied += 1
                break
            if place.is_file() and filecmp.cmp(part, place, shallow=False):
                self.kept += 1
                break
            number += 1
        if number > 1:
            self._next[target] = number + 1


def _placed(part: Path, place: Path) -> bool:
    """Give a file a name that no other has; False if one has it. Raises OSError."""
    try:
        os.link(part, place)  # fails where a file is, unlike a rename
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if os.path.lexists(place):
            return False
        os.rename(part, place)
    return True
