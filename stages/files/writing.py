"""Writing files so that they are whole or not there at all.

Temporary files and folders are made beside their targets and locked while they are written. A killed writer leaves its own
behind without the lock, so the next writer of the same target can tell and remove it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stages.errors import MissingError
from stages.files.reading import STDIO

if sys.platform != "win32":
    import fcntl

_BLOCK = 1 << 20
_NAME_BYTES = 200  # of the target's name: with dots, random letters and the ending, a file name has at most 255


def write_file(path: Path | str, data: bytes) -> None:
    """Write a file atomically, with permissions of the user's umask; devices and pipes are written directly.

    A link stays a link: the file that it names is written.

    Raises MissingError (no space, read-only, a folder with that name).
    """
    write_files({Path(path): data})


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write several files like `write_file`, renaming them once all are on the disk.

    A file that has these bytes already is left alone and keeps its time of modification, so that `make` does not remake what
    depends on it.

    Raises MissingError, naming the file that cannot be written.
    """
    staged: list[tuple[BinaryIO, Path, Path]] = []
    place = Path()
    try:
        for place, data in files.items():
            if is_device(place):
                continue
            target = _target(place)
            if has_bytes(target, data):
                remove_abandoned(target)
            else:
                staged.append((*stage_bytes(target, data), target))
        for place, data in files.items():
            if is_device(place):
                place.write_bytes(data)
        while staged:
            file, temporary, place = staged[0]
            os.replace(temporary, place)
            sync_folder(place.parent)
            staged.pop(0)
            file.close()
    except OSError as error:
        raise _unwritable(place, error) from None
    finally:
        for file, temporary, _ in staged:
            temporary.unlink(missing_ok=True)
            file.close()


@contextmanager
def streamed_file(path: Path | str) -> Iterator[BinaryIO]:
    """A file that is written bit by bit and takes its place when the context ends without an error; else nothing changes.

    Permissions, links, devices and pipes are as for `write_file`. Raises MissingError when it cannot be written.
    """
    path = Path(path)
    with ExitStack() as ending:
        try:
            if is_device(path):
                yield ending.enter_context(path.open("wb"))
                return
            target = _target(path)
            file, temporary = stage_bytes(target, b"")
            ending.callback(temporary.unlink, missing_ok=True)
            ending.enter_context(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, target)
            sync_folder(target.parent)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> MissingError:
    reason = obstacle(path) or error.strerror or error
    return MissingError(f"cannot write '{path}': {reason}", "free some space or choose another place with -o / --out")


def check_writable(path: Path | str) -> None:
    """Raise MissingError if `path` cannot be written, before the work starts."""
    path = Path(path)
    if str(path) == STDIO or (is_device(path) and os.access(path, os.W_OK)):
        return
    why = "a folder is in the way" if os.path.isdir(path) else obstacle(_target(path))
    if why:
        raise MissingError(f"cannot write '{path}': {why}", "choose another place with -o / --out")


def obstacle(path: Path) -> str:
    """Why nothing can be made at `path`, for example a file where it needs a folder; empty if nothing is in the way."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:  # for example a name that is too long
        return error.strerror or str(error)
    folder = path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        return f"'{folder}' is not a folder"
    return "" if os.access(folder, os.W_OK) else "the folder is not writable"


def _target(path: Path) -> Path:
    """The file that a link names, also one that is not there yet; any other path as it is."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def is_device(path: Path) -> bool:
    """Whether `path` is a device or a pipe, such as /dev/null."""
    return os.path.exists(path) and not path.is_file() and not path.is_dir()


def new_part(target: Path, *, folder: bool = False, before: Callable[[Path], None] = lambda part: None) -> tuple[int, Path]:
    """Create an empty temporary file, or folder, beside `target`; parts of dead writers are removed.

    Args:
        target: what it will become.
        folder: whether it is a folder.
        before: called with each part of a dead writer before it is removed.

    Returns its descriptor, which holds the lock until it is closed, and its path. Raises OSError.
    """
    remove_abandoned(target, before)
    make = tempfile.mkdtemp if folder else _new_file
    while True:
        part = Path(make(dir=target.parent, prefix=_prefix(target), suffix=".part"))
        with suppress(FileNotFoundError):
            descriptor = os.open(part, os.O_RDONLY if folder else os.O_RDWR)
            with suppress(OSError):  # a file system without locks: nobody removes it
                _lock(descriptor)
            if os.fstat(descriptor).st_nlink:  # not taken for an abandoned one before it was locked
                return descriptor, part
            os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have renamed files of a folder survive a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _new_file(**place: object) -> str:
    descriptor, name = tempfile.mkstemp(**place)  # type: ignore[call-overload]
    os.close(descriptor)
    mask = os.umask(0)
    os.umask(mask)
    try:
        os.chmod(name, 0o666 & ~mask)  # those of an ordinary file; mkstemp gives them to the owner alone
    except BaseException:
        os.unlink(name)
        raise
    return str(name)


def _prefix(target: Path) -> str:
    return f".{os.fsdecode(os.fsencode(target.name)[:_NAME_BYTES])}."


def _parts_of(target: Path) -> list[Path]:
    name = re.compile(rf"{re.escape(_prefix(target))}\w{{8}}\.part")
    with suppress(OSError), os.scandir(target.parent) as entries:
        return [Path(entry.path) for entry in entries if name.fullmatch(entry.name) and not entry.is_symlink()]
    return []


def _remove_if_abandoned(part: Path, before: Callable[[Path], None]) -> None:
    """Remove a part whose writer is dead; others, and those that cannot be removed, stay."""
    with suppress(OSError):
        descriptor = os.open(part, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        try:
            _lock(descriptor)
            before(part)
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Raises OSError when another process has the lock, or the system has none."""
    if sys.platform == "win32":
        raise OSError("no locks")
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_abandoned(target: Path, before: Callable[[Path], None] = lambda part: None) -> None:
    """Remove the parts of dead writers of `target`; `before` is called with each."""
    for old in _parts_of(target):
        _remove_if_abandoned(old, before)


def has_bytes(path: Path, data: bytes) -> bool:
    """Whether the file at `path` has exactly these bytes; read up to the first block that differs."""
    try:
        if path.stat().st_size != len(data):
            return False
        with path.open("rb") as file:
            return all(file.read(_BLOCK) == data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK))
    except OSError:  # missing, a folder or unreadable: writing it raises the error
        return False


def stage_bytes(path: Path, data: bytes) -> tuple[BinaryIO, Path]:
    """Write `data` to a temporary file beside `path` and flush it to the disk; the file stays open, which keeps its lock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(21, "a folder is in the way")
    descriptor, temporary = new_part(path)
    file = os.fdopen(descriptor, "wb")
    try:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    except BaseException:
        temporary.unlink(missing_ok=True)
        with suppress(OSError):  # what could not be written
            file.close()
        raise
    return file, temporary


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """An empty temporary folder beside `target`, for files that other libraries write; removed afterwards.

    Raises MissingError for what cannot be written in it or beside it.
    """
    part: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, part = new_part(target, folder=True)
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)
            os.close(descriptor)
    except OSError as error:
        raise _unwritable(target, error) from None


def move_files(folder: Path, place: Path, *, last: str, known: Collection[str] = ()) -> None:
    """Move every file of `folder` into the folder `place`, once all are on the disk.

    Args:
        folder: with files only.
        place: is made where it is missing.
        last: the file that the others belong to, which is moved after them.
        known: files that are removed from `place` first.

    Raises OSError.
    """
    place.mkdir(exist_ok=True)
    files = sorted(folder.iterdir(), key=lambda file: (file.name == last, file.name))
    for file in files:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
    for name in known:
        (place / name).unlink(missing_ok=True)
    for file in files:
        os.replace(file, place / file.name)
    sync_folder(place)
