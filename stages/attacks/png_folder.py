"""Images as PNG files in class folders, as `--data` reads them: DIR/red_circle/00007.png. No torch."""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.errors import InputError, MissingError, UsageError
from stages.files.writing import has_bytes, new_part, obstacle, sync_folder

_ELSEWHERE = "choose another place with --png"
# white space, and characters that some file systems do not allow; `laat` reads `_` as a space
_AWKWARD = re.compile(r"[\s/\\:*?\"<>|\x00-\x1f]+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows
_NAME_BYTES = 255
_NAME = re.compile(r"[0-9]+\.png")


def check_png_folder(folder: Path, *, force: bool) -> None:
    """Check that `folder` can be written.

    Raises:
        UsageError: it is not empty, and `force` is not given; or it has other files than `write_png_folder` writes.
        MissingError: it is not a folder, or cannot be created.
    """
    in_the_way = os.path.exists(folder) and not folder.is_dir()
    why = "a file is in the way" if in_the_way else obstacle(Path(os.path.realpath(folder)))
    if why:
        raise MissingError(f"cannot write '{folder}': {why}", _ELSEWHERE)
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not force:
        raise _not_empty(folder)
    for entry in folder.iterdir():
        strays = [entry] if entry.is_symlink() or not entry.is_dir() else [f for f in entry.iterdir() if not _is_ours(f)]
        if strays:
            raise UsageError(f"'{folder}' has other files than images of an attack: '{strays[0].name}'", _ELSEWHERE)


def _not_empty(folder: Path) -> UsageError:
    return UsageError(f"'{folder}' is not empty", f"{_ELSEWHERE}, or replace the images in it with --force")


def _is_ours(file: Path) -> bool:
    return bool(_NAME.fullmatch(file.name)) and file.is_file() and not file.is_symlink()


def folder_names(classes: Sequence[str], option: str = "--png") -> list[str]:
    """One folder name per class, unique even if case is ignored: red_circle for 'red circle'; `option` asked for them.

    Raises InputError if two classes would share a folder, or a name is too long for one.
    """
    found: dict[str, str] = {}
    names = []
    for name in classes:
        folder = unicodedata.normalize("NFC", _AWKWARD.sub("_", name)).strip("._") or "_"
        if _RESERVED.fullmatch(folder):
            folder = f"{folder}_"  # read as a space, so the name stays the same class
        if len(os.fsencode(folder)) > _NAME_BYTES:
            raise InputError(f"the class name '{folder[:40]}…' is too long for a folder", f"leave {option} out, or shorten it")
        other = found.setdefault(folder.casefold(), name)
        if other != name:
            raise InputError(f"the classes '{other}' and '{name}' would share the folder '{folder}'", f"leave {option} out")
        names.append(folder)
    return names


def write_png_folder(
    folder: Path,
    images: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    force: bool,
    rows: np.ndarray | None = None,
) -> None:
    """Write one 8-bit PNG per image: FOLDER/<class>/<row>.png.

    The folder is replaced once all images are written. It stays unchanged after an error, or if it has the same images.

    Args:
        folder: see `check_png_folder`.
        images: (N, 3, H, W) uint8.
        labels: (N,), positions in `classes`.
        classes: their names.
        force: replace other images in the folder.
        rows: (N,), the row of each image in its source (see `SourceRows.index`), from 0; None numbers the images.

    Raises:
        UsageError, MissingError: as `check_png_folder`, or no space left.
        InputError: as `folder_names`.
    """
    from PIL import Image

    check_png_folder(folder, force=True)
    names = folder_names(classes)
    place = folder.resolve()  # a link to a folder stays a link
    rows = np.arange(len(images)) if rows is None else rows
    width = max(5, len(str(rows.max(initial=0))))
    made: Path | None = None
    descriptor = -1
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor, made = new_part(place, folder=True, before=lambda part: _put_back(part, place))
        home = made / "new"
        home.mkdir()
        for label in np.unique(labels):
            (home / names[label]).mkdir()
        for row, image, label in zip(rows.tolist(), images, labels, strict=True):
            png = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
            png.save(home / names[label] / f"{row:0{width}}.png")
        if place.exists() and any(place.iterdir()):
            if _same_images(place, home):  # the process that made them was killed after its work
                return
            if not force:
                raise _not_empty(folder)
        if place.exists():
            os.replace(place, made / "old")
        os.replace(home, place)
        sync_folder(place.parent)
    except OSError as error:
        raise MissingError(f"cannot write '{folder}': {error.strerror or error}", f"free some space or {_ELSEWHERE}") from None
    finally:
        if made is not None:
            _put_back(made, place)
            shutil.rmtree(made, ignore_errors=True)
            os.close(descriptor)


def _same_images(one: Path, two: Path) -> bool:
    names, others = ({path.relative_to(folder) for path in folder.rglob("*.png")} for folder in (one, two))
    return names == others and all(has_bytes(one / name, (two / name).read_bytes()) for name in names)


def _put_back(part: Path, place: Path) -> None:
    """Put back the images that were moved away, unless new ones are in their place."""
    if (part / "old").exists() and not place.exists():
        os.replace(part / "old", place)
