"""The disk cache: decoded pixels, scans and unpacked images of earlier runs.

The folder is $LAAT_CACHE, else $XDG_CACHE_HOME/laat, else ~/.cache/laat. LAAT_CACHE='' or 'off' disables it. The name of an
entry is a digest of everything that its content depends on, including path, size and time of each source file. A full disk, a
damaged entry or a missing permission is never an error: the content is computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

DECODER = 1  # increase it when decoding gives other pixels
TOTAL_BYTES = 20 * 2**30  # of all entries; the least recently used are removed first
PIXEL_BYTES = 4 * 2**30  # larger image sets are not cached
MIN_SECONDS = 0.5  # what takes less time to compute is not cached
_ABANDONED_SECONDS = 24 * 3600.0
_PART = ".part"


def cache_folder() -> Path | None:
    """The folder of the cache; None when it is disabled."""
    given = os.environ.get("LAAT_CACHE")
    if given is not None:
        return None if given.strip().casefold() in ("", "off") else Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "laat"
    except RuntimeError:  # no home
        return None


def entry_name(kind: str, files: Sequence[Path], **facts: Any) -> str | None:
    """The name of an entry.

    Args:
        kind: of the entry, the first part of its name.
        files: the source files.
        facts: what else the content depends on, JSON-able.

    Returns:
        None when a file cannot be looked at.
    """
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


def load_tensors(name: str | None, keys: set[str]) -> dict[str, np.ndarray] | None:
    """The tensors of an entry; None when there is none, it is damaged or has other keys."""
    path = find_file(name, ".st")
    if path is None:
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            sound = set(tensors) == keys and file.metadata() == {"sha256": digest_of(*tensors.values())}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, MemoryError):
        return None
    return tensors if sound else None


def save_tensors(name: str | None, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors as an entry, if possible."""
    from safetensors.numpy import save_file as save

    ordered = {key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}
    metadata = {"sha256": digest_of(*ordered.values())}
    with suppress(MemoryError):
        save_file(name, ".st", lambda path: save(ordered, path, metadata))


def find_file(name: str | None, suffix: str) -> Path | None:
    """The file of an entry; None when there is none."""
    path = _path(name, suffix)
    if path is None or not path.is_file():
        return None
    with suppress(OSError):
        os.utime(path)  # the time of last use
    return path


def save_file(name: str | None, suffix: str, write: Callable[[Path], None]) -> Path | None:
    """Have `write` fill the file of an entry, which appears when it is complete. Returns None when it cannot be written."""
    from safetensors import SafetensorError

    path = _path(name, suffix)
    if path is None:
        return None
    with ExitStack() as cleanup:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
            cleanup.callback(Path(temporary).unlink, missing_ok=True)
            os.close(handle)
            write(Path(temporary))
            os.replace(temporary, path)
        except (OSError, SafetensorError):  # safetensors reports a full disk as an error of its own
            return None
    _trim(path.parent, path)
    return path


@contextmanager
def locked(name: str | None) -> Iterator[None]:
    """Hold a lock, so that no other process on this machine computes the same entry. No lock where the system has none."""
    from filelock import FileLock

    path = _path(name, ".lock")
    with ExitStack() as held:
        if path is not None:
            with suppress(OSError, NotImplementedError):
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                held.enter_context(FileLock(path))
        yield


def _path(name: str | None, suffix: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None or name is None else folder / f"{name}{suffix}"


def _trim(folder: Path, newest: Path) -> None:
    """Remove the least recently used entries until the rest fits, and files that killed processes left incomplete."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                found.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in found)
    for used, size, path in sorted(found):
        abandoned = path.suffix in (_PART, ".lock") and time.time() - used > _ABANDONED_SECONDS
        if abandoned or (total > TOTAL_BYTES and path != newest and path.suffix in (".st", ".arrow")):
            with suppress(OSError):
                path.unlink()
                total -= size
