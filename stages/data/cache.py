"""What is slow to make from data and kept on disk for the next run: decoded pixels, their sums, encoded images in reach.

The folder is $LAAT_CACHE, else $XDG_CACHE_HOME/laat, else ~/.cache/laat. LAAT_CACHE set to nothing or to 'off' keeps nothing.
An entry's name is a digest of all that its content follows from (path, size and time of each source file among it), so an entry
is right or it is not found. Whatever goes wrong here (a full disk, a damaged file, no permission) costs time and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

DECODER = 1  # to be raised when decoding gives other pixels
TOTAL_BYTES = 20 * 2**30  # of all entries; the least recently used go first
PIXEL_BYTES = 4 * 2**30  # of the decoded pixels of one set; more is decoded anew every time
WORTH_SECONDS = 0.5  # what is made sooner is not kept
_ABANDONED_SECONDS = 24 * 3600.0
_PART = ".part"


def cache_folder() -> Path | None:
    """Where entries are kept; None when nothing is to be kept."""
    given = os.environ.get("LAAT_CACHE")
    if given is not None:
        return None if given.strip().casefold() in ("", "off") else Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "laat"
    except RuntimeError:  # no home
        return None


def entry_name(kind: str, files: Sequence[Path] | None, **facts: Any) -> str | None:
    """The name of an entry.

    Args:
        kind: of the entry, the first part of its name.
        files: what it is made from; None when that lies in no file.
        facts: what else it follows from, JSON-able.

    Returns:
        None when there is nothing to know it by: no files, or one that cannot be looked at.
    """
    if files is None:
        return None
    from PIL import __version__ as pillow

    digest = hashlib.sha256(json.dumps([DECODER, pillow, facts], sort_keys=True).encode())
    try:
        for file in files:
            found = file.stat()
            digest.update(f"\n{file.absolute()}\0{found.st_size}\0{found.st_mtime_ns}".encode("utf-8", "surrogateescape"))
    except OSError:
        return None
    return f"{kind}-{digest.hexdigest()[:40]}"


def digest_of(*arrays: np.ndarray) -> str:
    """SHA-256 (hex) over dtype, shape and content of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def fetch_tensors(name: str | None) -> dict[str, np.ndarray] | None:
    """The tensors of an entry; None when it is not there or not whole."""
    path = _path(name, ".st")
    if path is None or not path.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            sound = file.metadata() == {"sha256": digest_of(*tensors.values())}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, MemoryError):
        return None
    if not sound:
        return None
    _used(path)
    return tensors


def keep_tensors(name: str | None, tensors: Mapping[str, np.ndarray]) -> None:
    """Keep tensors as an entry, if that can be done."""
    from safetensors.numpy import save_file

    ordered = {key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}
    metadata = {"sha256": digest_of(*ordered.values())}
    with suppress(MemoryError):
        keep_file(name, ".st", lambda path: save_file(ordered, path, metadata))


def keep_file(name: str | None, suffix: str, write: Callable[[Path], None]) -> Path | None:
    """Have `write` fill the file of an entry; nobody sees it half-written. None when it cannot be kept."""
    from safetensors import SafetensorError

    path = _path(name, suffix)
    if path is None:
        return None
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
        os.close(handle)
        write(Path(temporary))
        os.replace(temporary, path)
        temporary = ""
    except (OSError, SafetensorError):  # safetensors reports a full disk as an error of its own
        return None
    finally:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
    _trim(path.parent, path)
    return path


def fetch_file(name: str | None, suffix: str) -> Path | None:
    """The file of an entry; None when it is not there."""
    path = _path(name, suffix)
    if path is None or not path.is_file():
        return None
    _used(path)
    return path


@contextmanager
def one_at_a_time(name: str | None) -> Iterator[None]:
    """Within: no other process of this machine makes the same entry. Without locks on this system: nothing."""
    path = _path(name, ".lock")
    try:
        import fcntl

        if path is None:
            raise FileNotFoundError
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = path.open("wb")
    except (ImportError, OSError):
        yield
        return
    with file:
        with suppress(OSError):  # file systems without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _path(name: str | None, suffix: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None or name is None else folder / f"{name}{suffix}"


def _used(path: Path) -> None:
    with suppress(OSError):
        os.utime(path)


def _trim(folder: Path, newest: Path) -> None:
    """Remove what was not used for longest until the rest fits, and what killed processes left half-written."""
    with suppress(OSError):
        found = []
        for path in folder.iterdir():
            with suppress(OSError):
                found.append((path.stat().st_mtime, path.stat().st_size, path))
        now = time.time()
        total = sum(size for _, size, _ in found)
        for used, size, path in sorted(found):
            abandoned = path.suffix in (_PART, ".lock") and now - used > _ABANDONED_SECONDS
            if abandoned or (total > TOTAL_BYTES and path != newest and path.suffix in (".st", ".arrow")):
                with suppress(OSError):
                    path.unlink()
                    total -= size
