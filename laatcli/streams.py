"""The standard streams: they write what their encoding lacks in other characters, and lose notes rather than fail."""

from __future__ import annotations

import codecs
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
    """Let the standard streams degrade what they cannot write. Called once, before anything is printed."""
    if sys.stderr is not None:
        sys.stderr = cast(TextIO, _Optional(sys.stderr))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors=_DEGRADED)


def fitted(text: str, stream: TextIO | Any) -> str:
    """Text as the stream will write it, so that it can be laid out in columns."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, _DEGRADED).decode(encoding)


def is_utf8(stream: TextIO | Any) -> bool:
    """Whether the stream is in UTF-8, which has all characters."""
    return codecs.lookup(getattr(stream, "encoding", None) or "utf-8").name == "utf-8"
