"""Images as PNG files in class folders, as `--data` reads them: DIR/red_circle/00007.png. Importing this needs no torch."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.errors import InputError, MissingError, UsageError

_ELSEWHERE = "choose another place with --png"
# not in a file name on one system or another, and white space; `laat` reads `_` as a space
_AWKWARD = re.compile(r"[\s/\\:*?\"<>|\x00-\x1f]+")
_NAME = re.compile(r"[0-9]+\.png")


def check_picture_folder(folder: Path, *, force: bool) -> None:
    """Refuse a folder that must not be written to, before the work begins.

    With `force` a folder is replaced that holds nothing but pictures as `write_pictures` leaves them, and no other: a
    folder of other files was hardly meant.

    Raises:
        UsageError: there are files in it, and no `force`; or other files than pictures.
        MissingError: it is no folder, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise MissingError(f"cannot write '{folder}': a file is in the way", _ELSEWHERE)
    parent = folder.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise MissingError(f"cannot write '{folder}': the folder is not writable", _ELSEWHERE)
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not force:
        raise UsageError(f"'{folder}' is not empty", f"{_ELSEWHERE}, or replace the pictures in it with --force")
    for entry in folder.iterdir():
        strays = [entry] if entry.is_symlink() or not entry.is_dir() else [f for f in entry.iterdir() if not _is_ours(f)]
        if strays:
            raise UsageError(f"'{folder}' holds more than pictures of an attack: '{strays[0].name}'", _ELSEWHERE)


def _is_ours(file: Path) -> bool:
    return bool(_NAME.fullmatch(file.name)) and file.is_file() and not file.is_symlink()


def folder_names(classes: Sequence[str]) -> list[str]:
    """One folder name a class, unlike each other even where case is ignored: 'red circle' is in red_circle.

    Raises InputError when two classes would share one, or none is left of a name.
    """
    found: dict[str, str] = {}
    names = []
    for name in classes:
        folder = _AWKWARD.sub("_", name).strip("._") or "_"
        other = found.setdefault(folder.casefold(), name)
        if other != name:
            raise InputError(f"the classes '{other}' and '{name}' would share the folder '{folder}'", "leave --png out")
        names.append(folder)
    return names


def write_pictures(folder: Path, images: np.ndarray, labels: np.ndarray, classes: Sequence[str], *, force: bool) -> None:
    """Write one 8-bit PNG an image: FOLDER/<class>/<number>.png, the number its place in the set, from 0.

    They are written beside the folder and take its name when all are there; a failure leaves what stood there before.

    Args:
        folder: where to; see `check_picture_folder`.
        images: (N, 3, H, W) uint8.
        labels: (N,) into `classes`.
        classes: the names.
        force: replace pictures that lie there.

    Raises:
        UsageError, MissingError: as `check_picture_folder`, and no space.
        InputError: class names that are the same as folder names.
    """
    from PIL import Image

    check_picture_folder(folder, force=force)
    names = folder_names(classes)
    # a link to a folder stays a link
    place = folder.resolve()
    width = max(5, len(str(max(len(images) - 1, 0))))
    made: Path | None = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.", suffix=".part"))
        home = made / "new"
        home.mkdir()
        for label in np.unique(labels):
            (home / names[label]).mkdir()
        for at, (image, label) in enumerate(zip(images, labels, strict=True)):
            picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
            picture.save(home / names[label] / f"{at:0{width}}.png")
        if place.exists():
            os.replace(place, made / "old")
        os.replace(home, place)
    except OSError as error:
        raise MissingError(f"cannot write '{folder}': {error.strerror or error}", f"free some space or {_ELSEWHERE}") from None
    finally:
        if made is not None:
            if (made / "old").exists() and not place.exists():
                os.replace(made / "old", place)
            shutil.rmtree(made, ignore_errors=True)
