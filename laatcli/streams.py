"""The standard streams: none is missing, other characters replace what their encoding lacks, and notes are lost, not runs."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

from stages.text import as_text

_DEGRADED = "laat.degraded"
_PLAIN = {
    **{"±": "+-", "×": "x", "°": " deg", "≥": ">=", "≤": "<=", "→": "->", "←": "<-", "…": "...", "·": ".", "•": "*"},
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    **dict.fromkeys("\u2018\u2019", "'"),
    **dict.fromkeys("\u201c\u201d", '"'),
    **dict.fromkeys("\u00a0\u2009\u202f", " "),
    **dict.fromkeys("─━┄┅┈┉╌╍═╴╶╸╺╼╾", "-"),
    **dict.fromkeys("│┃┆┇┊┋╎╏║╵╷╹╻╽╿", "|"),
    **{chr(corner): "+" for corner in range(0x250C, 0x254C)},
    **{chr(corner): "+" for corner in range(0x2552, 0x2574)},
    **{chr(block): "#" for block in range(0x2580, 0x25A0)},
}


def degraded(text: str) -> str:
    """Text in ASCII: signs and lines by what looks alike, any other character as Python spells it, `\\xe9`."""
    return "".join(_PLAIN.get(sign, sign) for sign in as_text(text)).encode("ascii", "backslashreplace").decode()


def _degrade(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return degraded(error.object[error.start : error.end]), error.end


codecs.register_error(_DEGRADED, _degrade)


class _Optional:
    """A stream of notes: what cannot be written, for example to a full disk, is lost, and the command goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


def prepare_streams() -> None:
    """Let the standard streams degrade what they cannot write. Called once, before anything is printed.

    A stream that was closed, as by `>&-`, becomes the null device: its output is not wanted, and no file that is opened later
    gets its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    sys.stderr = cast(TextIO, _Optional(sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding=stream.encoding if _can_degrade(stream.encoding) else "utf-8", errors=_DEGRADED)


def _can_degrade(encoding: str) -> bool:
    """Whether an encoding takes what is written in place of a character; idna, for example, does not."""
    try:
        return bool("é→".encode(encoding, _DEGRADED))
    except UnicodeError:
        return False


def drop_unwritten() -> None:
    """Keep the interpreter from failing again, at its end, over output that could not be written."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def fitted(text: str, stream: TextIO | Any) -> str:
    """Text as the stream will write it, so that it can be laid out in columns."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, _DEGRADED).decode(encoding)


def is_utf8(stream: TextIO | Any) -> bool:
    """Whether the stream is in UTF-8, which has all characters."""
    return codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name == "utf-8"
