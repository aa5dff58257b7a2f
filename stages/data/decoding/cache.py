"""The disk cache: decoded pixels, scans and unpacked images of earlier runs.

Its folder is $LAAT_CACHE, else $XDG_CACHE_HOME/laat, else ~/.cache/laat; LAAT_CACHE='' or 'off' disables it. Entries are files
of one subfolder with names such as pixels-<16 hex>-<64 hex>.st: a digest of how images were read, and one of the content of
these images. No path, size or time of a file counts, so an entry is right or not found, on every file system. Other files are
never counted or removed, and symbolic links are not followed.

A full disk, a damaged entry or a missing permission is never an error: the content is computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

DECODER = 3  # increase it when decoding gives other pixels
TOTAL_BYTES = 20 * 2**30  # of all entries; the least recently used are removed first
PIXEL_BYTES = 4 * 2**30  # larger image sets are not cached
MIN_SECONDS = 0.5  # what takes less time to compute is not cached
SUBFOLDER = "images-v1"  # entries of earlier versions lie beside it, named by path, size and time
_ABANDONED_SECONDS = 24 * 3600.0
_PART = ".part"
_OWN = re.compile(r"(pixels|scan|images)-[0-9a-f]{16}(-[0-9a-f]{64}\.(st|arrow)|\.lock)")
_INCOMPLETE = re.compile(rf"\.(pixels|scan|images)-[0-9a-f]{{16}}\.\w{{8}}{re.escape(_PART)}")


def cache_folder() -> Path | None:
    """The folder of the entries; None when the cache is disabled."""
    given = os.environ.get("LAAT_CACHE")
    if given is not None and given.strip().casefold() in ("", "off"):
        return None
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(given).expanduser() if given is not None else (Path(base) if base else Path.home() / ".cache") / "laat"
    except RuntimeError:  # no home
        return None
    return folder / SUBFOLDER


def entry_group(kind: str, **facts: Any) -> str:
    """The first part of the names of entries that were read in the same way.

    Args:
        kind: 'pixels', 'scan' or 'images'.
        facts: what an entry depends on besides the content of images, JSON-able.
    """
    from PIL import __version__ as pillow

    digest = hashlib.sha256(json.dumps([DECODER, pillow, facts], sort_keys=True).encode())
    return f"{kind}-{digest.hexdigest()[:16]}"


def find_name(group: str | None, digest: Callable[[], str | None]) -> str | None:
    """The name of the entry for content with this digest, which is computed only if the group has entries; None otherwise."""
    folder = cache_folder()
    if folder is None or group is None:
        return None
    try:
        if not any(name.startswith(f"{group}-") for name in os.listdir(folder)):
            return None
    except OSError:
        return None
    return entry_name(group, digest())


def entry_name(group: str | None, digest: str | None) -> str | None:
    """The name of an entry: its group, and the digest of the content of the images; None when either is None."""
    return None if group is None or digest is None else f"{group}-{digest}"


def arrays_digest(*arrays: np.ndarray) -> str:
    """SHA-256 (hex) over dtype, shape and content of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def load_tensors(name: str | None, keys: set[str]) -> dict[str, np.ndarray] | None:
    """The tensors of an entry; None when there is none, it is damaged, renamed or has other keys."""
    path = find_file(name, ".st")
    if path is None:
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            tensors = {key: file.get_tensor(key) for key in sorted(file.keys())}
            sound = set(tensors) == keys and file.metadata() == _seal(name, tensors)
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, MemoryError):
        return None
    return tensors if sound else None


def save_tensors(name: str | None, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors as an entry, if possible."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file as save

    if name is None:
        return
    ordered = {key: np.ascontiguousarray(tensors[key]) for key in sorted(tensors)}

    def write(path: Path) -> str:
        try:
            save(ordered, path, _seal(name, ordered))
        except SafetensorError as error:  # a full disk, too
            raise OSError(str(error)) from error
        return name

    with suppress(MemoryError):
        save_file(name.rpartition("-")[0], ".st", write)


def find_file(name: str | None, suffix: str) -> Path | None:
    """The file of an entry; None when there is none."""
    folder = cache_folder()
    if folder is None or name is None:
        return None
    path = folder / f"{name}{suffix}"
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        os.utime(path)  # the time of last use
    except PermissionError:  # a cache that others fill
        pass
    except OSError:
        return None
    return path


def save_file(group: str, suffix: str, write: Callable[[Path], str]) -> Path | None:
    """Have `write` fill the file of an entry and return its name, under which it then appears.

    Returns None when it cannot be written.
    """
    folder = cache_folder()
    if folder is None:
        return None
    with ExitStack() as cleanup:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{group}.", suffix=_PART)
            cleanup.callback(Path(temporary).unlink, missing_ok=True)
            os.close(handle)
            path = folder / f"{write(Path(temporary))}{suffix}"
            os.replace(temporary, path)
        except OSError:
            return None
    _trim(folder, path)
    return path


@contextmanager
def locked(group: str | None) -> Iterator[None]:
    """Hold a lock, so that no other process on this machine computes the same entry. No lock where the system has none."""
    from filelock import FileLock

    folder = cache_folder()
    with ExitStack() as held:
        if folder is not None and group is not None:
            with suppress(OSError, NotImplementedError):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                held.enter_context(FileLock(folder / f"{group}.lock"))
        yield


def _seal(name: str | None, tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The metadata of an entry, which fit this name and content only."""
    return {"sha256": hashlib.sha256(f"{name} {arrays_digest(*tensors.values())}".encode()).hexdigest()}


def _trim(folder: Path, newest: Path) -> None:
    """Remove the least recently used entries until the rest fits, and files that killed processes left incomplete."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            if not (_OWN.fullmatch(path.name) or _INCOMPLETE.fullmatch(path.name)):
                continue
            with suppress(OSError):
                about = path.lstat()
                if stat.S_ISREG(about.st_mode):
                    found.append((about.st_mtime, about.st_size, path))
    total = sum(size for _, size, _ in found)
    for used, size, path in sorted(found):
        abandoned = path.suffix in (_PART, ".lock") and time.time() - used > _ABANDONED_SECONDS
        if abandoned or (total > TOTAL_BYTES and path != newest and path.suffix in (".st", ".arrow")):
            with suppress(OSError):
                path.unlink()
                total -= size
