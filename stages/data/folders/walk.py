"""The files below a folder: those that are wanted, and how many are passed over for which reason."""

from __future__ import annotations

import errno
import os
import re
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stages.data.decoding.cache import SUBFOLDER
from stages.data.decoding.metadata import JPEG, PNG
from stages.data.decoding.rgb import SUFFIXES, formats
from stages.errors import InputError

# Folders that operating systems and network drives create; some contain thumbnails.
_SYSTEM = re.compile(
    r"__macosx|network trash folder|temporary items"  # macOS
    r"|\$recycle\.bin|recycler|system volume information|found\.\d{3}"  # Windows
    r"|@eadir|@tmp|@syno\w*|[@#]recycle|[@#~](recently-)?snapshots?|@__thumb"  # Synology, QNAP, NetApp
    r"|lost\+found|__pycache__|node_modules|" + re.escape(SUBFOLDER),
    re.IGNORECASE,
)
_NO_DISKS = ("/proc", "/sys", "/dev")  # the system's own tables, without an end
PARQUET = (".parquet", ".pq")
# What editors and copying programs add to a name for a second copy of the file.
_BACKUP = re.compile(r".*(~\d*|\.(bak|backup|orig|old|save|tmp|temp)\d*)|#.*#", re.IGNORECASE | re.DOTALL)

Reject = Callable[["os.DirEntry[str]"], str]


class Listing(NamedTuple):
    """One folder: the wanted files and the folders in it (sorted names), and the number of other files by reason."""

    files: list[str]
    folders: list[str]
    links: list[str]
    passed: Counter[str]


class Found(NamedTuple):
    """The wanted files below a folder (sorted relative paths with /), and the number of other files by reason."""

    files: list[str]
    passed: Counter[str]


def why_no_image(entry: os.DirEntry[str]) -> str:
    """Why a file is not read as an image; '' when it is one: by its suffix, or by its content when the suffix is unknown."""
    suffix = os.path.splitext(entry.name)[1].casefold()
    if suffix in SUFFIXES:  # also a pipe or a link to nothing of that name, which decoding reports
        return ""
    return _why_no_file(entry) or _why_no_content(entry.path, suffix) or ("backup" if _BACKUP.fullmatch(entry.name) else "")


def why_no_parquet(entry: os.DirEntry[str]) -> str:
    """Why a file is not read as parquet; '' when it is, by its suffix."""
    if os.path.splitext(entry.name)[1].casefold() in PARQUET:
        return _why_no_file(entry)
    return "not a parquet file"


def list_folder(path: Path, reject: Reject) -> Listing:
    """Look at one folder.

    Args:
        path: the folder.
        reject: the reason to pass over a file, '' to take it. It is called with what is no folder and not hidden.

    Raises InputError when the folder cannot be read.
    """
    found = Listing([], [], [], Counter())
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                _sort_in(entry, found, reject)
    except OSError as error:
        raise InputError(f"the folder '{path}' cannot be read ({error.strerror})", "check its permissions") from None
    for names in found[:3]:
        names.sort()
    return found


def walk(top: Path, reject: Reject, above: Sequence[Path] = ()) -> Found:
    """All wanted files below a folder. Links to folders are followed, but no folder is read twice.

    Args:
        top: the folder.
        reject: as for `list_folder`.
        above: folders that contain `top`, the whole data first; links into the data are not followed.

    Raises InputError when a folder cannot be read.
    """
    found = Found([], Counter())
    for inside, listing, _ in walk_each(top, reject, above):
        found.files.extend(inside + name for name in listing.files)
        found.passed.update(listing.passed)
    found.files.sort()
    return found


def walk_each(
    top: Path,
    reject: Reject,
    above: Sequence[Path] = (),
    list_one: Callable[[Path, Reject], Listing] = list_folder,
) -> Iterator[tuple[str, Listing, int]]:
    """The folders below a folder, one by one, as `walk` reads them: a folder before those in it, and these by name.

    Args:
        top, reject, above: as for `walk`.
        list_one: looks at one folder.

    Yields:
        A folder's path below `top` with a slash at its end ('' for `top`), what is in it, and how many folders wait.

    Raises InputError when a folder cannot be read.
    """
    read = {_identity(folder) for folder in above}
    waiting = deque([""])
    while waiting:
        inside = waiting.popleft()
        identity = _identity(top / inside)
        if identity in read or (inside and above and _leads_into(top / inside, above[0])):
            yield inside, Listing([], [], [], Counter({"linked to a folder that is read already": 1})), len(waiting)
            continue
        read.add(identity)
        listing = list_one(top / inside, reject)
        waiting.extendleft(f"{inside}{name}/" for name in reversed(listing.folders))
        waiting.extend(f"{inside}{name}/" for name in listing.links)  # after all real folders
        yield inside, listing, len(waiting)


def _sort_in(entry: os.DirEntry[str], found: Listing, reject: Reject) -> None:
    hidden = "hidden" if entry.name.startswith(".") else ""
    if _is(entry.is_dir):
        hidden = hidden or ("in a system folder" if _SYSTEM.fullmatch(entry.name) else "")
        hidden = hidden or ("linked to a folder above it or of the system" if _leads_out(entry) else "")
        if hidden:
            found.passed[hidden] += 1 if entry.is_symlink() else sum(len(files) for *_, files in os.walk(entry.path))
        else:
            (found.links if entry.is_symlink() else found.folders).append(entry.name)
    elif reason := hidden or reject(entry):
        found.passed[reason] += 1
    else:
        found.files.append(entry.name)


def _is(ask: Callable[[], bool]) -> bool:
    try:
        return ask()
    except OSError:  # links in a circle
        return False


def _why_no_file(entry: os.DirEntry[str]) -> str:
    """Why an entry must not be opened; '' for a file, and for a link to nothing, whose opening fails."""
    broken = entry.is_symlink() and not os.path.exists(entry.path)
    return "" if broken or _is(entry.is_file) else "not a regular file"


def _leads_out(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link to a folder that contains it, such as /, or to the system's own tables."""
    if not entry.is_symlink():
        return False
    target = Path(os.path.realpath(entry.path))
    home = Path(os.path.realpath(os.path.dirname(entry.path)))
    return home.is_relative_to(target) or any(target.is_relative_to(system) for system in _NO_DISKS)


def _leads_into(folder: Path, data: Path) -> bool:
    """Whether a folder is a link to a folder in `data` that is read itself."""
    if not folder.is_symlink():
        return False
    found, root = folder.resolve(), data.resolve()
    parts = found.relative_to(root).parts if found.is_relative_to(root) else (".outside",)
    return not any(part.startswith(".") or _SYSTEM.fullmatch(part) for part in parts)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        found = folder.stat()
    except OSError as error:
        raise InputError(f"the folder '{folder}' cannot be read ({error.strerror})", "check its permissions") from None
    return found.st_dev, found.st_ino


def _why_no_content(path: str, suffix: str) -> str:
    """Why a file is not an image by its content; '' when it is."""
    from PIL import Image

    try:
        with open(path, "rb") as file:
            if not file.read(1):
                return "empty"
            file.seek(0)
            if _begins_as_image(file):
                return ""
    except OSError as error:
        return "linked to nothing" if error.errno in (errno.ENOENT, errno.ELOOP) else "unreadable"
    return "in an unsupported format" if suffix in Image.registered_extensions() else "not an image"


def _begins_as_image(file: BinaryIO) -> bool:
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(file, formats=_formats())
    except Image.DecompressionBombError:  # decoding says that it is too large
        return True
    except Exception:  # Pillow's readers raise nearly anything on other files, and on odd metadata
        file.seek(0)
        return file.read(len(PNG)).startswith((PNG, JPEG))
    return True


@cache
def _formats() -> list[str]:
    from PIL import Image

    return [name for name in formats() if Image.OPEN[name][1] is not None]  # MPO begins as JPEG
