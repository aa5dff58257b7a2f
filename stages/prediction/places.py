"""Where copies and pictures of images are written, checked before anything is loaded. No torch."""

from __future__ import annotations

import mimetypes
import os
from pathlib import Path

from stages.errors import MissingError, UsageError
from stages.files.writing import obstacle
from stages.reports.figures import PICTURES

SORT_INTO, SAVE_ATTACKED = "--sort-into", "--save-attacked"


def check_folder(folder: Path, option: str, *, force: bool) -> None:
    """Raise MissingError for a folder that cannot be made, UsageError for one that is not empty, unless `force`."""
    if not os.path.lexists(folder) and mimetypes.guess_type(folder.name)[0] is not None:
        fix = f"name a folder{', or FILE.png' if option == SAVE_ATTACKED else ''}"
        raise UsageError(f"'{folder}' is the name of a file, and {option} writes a folder", fix)
    in_the_way = os.path.lexists(folder) and not folder.is_dir()
    why = "a file is in the way" if in_the_way else obstacle(Path(os.path.realpath(folder)))
    if why:
        raise MissingError(f"cannot write '{folder}': {why}", f"choose another place with {option}")
    if not force and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"'{folder}' is not empty", f"choose another place with {option}, or add to it with --force")


def is_sheet(place: Path) -> bool:
    """Whether `place` names one picture, not a folder, by its suffix."""
    return place.suffix.lower().removeprefix(".") in PICTURES


def check_attacked_place(place: Path, *, force: bool) -> None:
    """Raise UsageError for a folder that is not empty, unless `force`; MissingError for one that cannot be made."""
    if not is_sheet(place):
        check_folder(place, SAVE_ATTACKED, force=force)
