"""Images that are not decoded yet."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_BINARY"))
UNREADABLE = bytes(32)  # in place of the fingerprint of an image that cannot be opened


@dataclass(frozen=True)
class Encoded:
    """One image, not decoded.

    Attributes:
        where: names it in messages.
        content: its bytes, its path, pixels uint8 (H, W, 3) where there is nothing to decode, or None if absent.
        undeclared: of pixels: whether they had more than 8 bits and nothing says which value is white.
    """

    where: str
    content: bytes | Path | str | np.ndarray | None
    undeclared: bool = False

    def read(self) -> bytes | np.ndarray:
        """The bytes or pixels; b'' if absent. Raises OSError when its file cannot be read."""
        if isinstance(self.content, Path | str):
            return read_file(self.content)
        return b"" if self.content is None else self.content


def read_file(path: Path | str) -> bytes:
    """The bytes of a regular file. Raises OSError, and does not wait, for a pipe, a device or a folder.

    With few system calls: a data set is read whole each time it is opened, since its content names what is cached.
    """
    handle = os.open(path, _FLAGS)
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        parts = [os.read(handle, about.st_size + 1)]
        if len(parts[0]) != about.st_size:  # it changes, is very large, or has no size, as in /proc
            while parts[-1]:
                parts.append(os.read(handle, 1 << 20))
        return b"".join(parts)
    finally:
        os.close(handle)


def fingerprint(content: bytes | np.ndarray) -> bytes:
    """SHA-256 of the content of one image, 32 bytes."""
    return hashlib.sha256(content if isinstance(content, bytes) else np.ascontiguousarray(content).data).digest()
