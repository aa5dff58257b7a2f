"""Reading files and pipes that may be missing, endless or of another kind."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from stages.errors import InputError

STDIO = "-"
_PIPE_BYTES = 256 * 2**20


def read_pipe(stream: BinaryIO) -> bytes:
    """All bytes of a pipe. Raises InputError when there are more than 256 MiB."""
    return _at_most(stream, _PIPE_BYTES, "the pipe")


def read_file(path: Path | str, *, most: int | None = None, of_pipe: Callable[[BinaryIO], bytes] = read_pipe) -> bytes:
    """The bytes of a file.

    Args:
        path: of it.
        most: bytes that are read; None reads a file of any size.
        of_pipe: reads a pipe, which may have no end.

    Raises InputError with the reason if it cannot be read, is a device, or has more bytes than that.
    """
    try:
        with open(path, "rb") as file:
            kind = os.fstat(file.fileno()).st_mode
            if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):  # /dev/zero has no end
                raise InputError(f"'{path}' is a device, expected a file", "name a file, or a pipe")
            if most is not None:
                return _at_most(file, most, f"'{path}'")
            return file.read() if stat.S_ISREG(kind) else of_pipe(file)
    except FileNotFoundError:
        raise InputError(f"'{path}' does not exist", "check the path, or make the file first") from None
    except IsADirectoryError:
        raise InputError(f"'{path}' is a folder, expected a file", "name the file inside it") from None
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror}", "check the path and its permissions") from None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return sha256_of_stream(file)


def sha256_of_stream(file: BinaryIO) -> str:
    """The SHA-256 of what follows in `file`, hexadecimal. Raises OSError."""
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


def _at_most(stream: BinaryIO, most: int, where: str) -> bytes:
    data = stream.read(most + 1)
    if len(data) > most:
        raise InputError(f"{where} has more than {most / 2**20:.0f} MiB", "check that this is the file that you mean")
    return data
