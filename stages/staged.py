"""Temporary files and folders beside their targets, locked while they are written.

A killed writer leaves its own behind without the lock, so the next writer of the same target can tell and remove it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_NAME_BYTES = 200  # of the target's name: with dots, random letters and the ending, a file name has at most 255


def new_part(target: Path, *, folder: bool = False, before: Callable[[Path], None] = lambda part: None) -> tuple[int, Path]:
    """Create an empty temporary file, or folder, beside `target`; parts of dead writers are removed.

    Args:
        target: what it will become.
        folder: whether it is a folder.
        before: called with each part of a dead writer before it is removed.

    Returns its descriptor, which holds the lock until it is closed, and its path. Raises OSError.
    """
    for old in _parts_of(target):
        _remove_if_abandoned(old, before)
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
