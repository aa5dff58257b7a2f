"""Text: names and files from outside, characters that do not show, and lists and counts for messages."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from stages.errors import InputError

# lone surrogates that do not stand for a byte
_NO_BYTE = re.compile("[\ud800-\udc7f\udd00-\udfff]")
# control characters, line and paragraph separators, marks of direction, and characters without a width
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"} | {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def as_text(name: str) -> str:
    """A name from the system as valid text: each byte that is not UTF-8 is spelled `\\xe9`.

    Records, reports and tables have this spelling; files are opened by the name that the system gave.
    """
    if name.isascii():
        return name
    paired = _NO_BYTE.sub(lambda found: f"\\u{ord(found[0]):04x}", name)
    return paired.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def first_line(error: Exception) -> str:
    """The first line of another library's error message, at most 200 characters; its type where it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")[:200]


def counted(count: int, one: str, several: str = "") -> str:
    """A count and what it counts: 1 class, 2 classes; `several` is by default `one` with an s."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def listed(names: Collection[str], most: int | None = None) -> str:
    """Names in quotes, for a message; beyond `most`, how many more there are."""
    shown = ", ".join(f"'{name}'" for name in list(names)[:most])
    return shown if most is None or len(names) <= most else f"{shown} and {len(names) - most} more"


def is_text(name: str) -> bool:
    """Whether the bytes of a name from the system are UTF-8."""
    try:
        name.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        return False
    return True


def visible(text: str) -> str:
    """Text as one line without characters that a terminal obeys or does not show: each is spelled as Python does, `\\x1b`."""
    if text.isascii() and text.isprintable():  # nearly all
        return text
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), as_text(text))


def texts_in(record: Any, change: Callable[[str], str] = as_text) -> Any:
    """A JSON-able record with each text in it, keys included, changed."""
    if isinstance(record, str):
        return change(record)
    if isinstance(record, dict):
        return {texts_in(key, change): texts_in(value, change) for key, value in record.items()}
    return [texts_in(value, change) for value in record] if isinstance(record, list | tuple) else record


def decode_text(data: bytes, what: str, path: Path | str) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Args:
        data: its content.
        what: the file is, for errors: 'class file'.
        path: of the file.

    Raises InputError for another encoding, with the first line that shows it, and for a binary file.
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data:
        raise InputError(
            f"{what} '{path}' is not UTF-8 text: it is binary, or UTF-16 without a byte order mark", "save it as UTF-8 text"
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data.count(b"\n", 0, error.start)
        line = data.split(b"\n")[before][:60].strip().decode("utf-8", "backslashreplace")
        found = f"line {before + 1} is '{line}'" if encoding == "utf-8" else f"it begins as {encoding.upper()}: {error.reason}"
        again = f"save it as UTF-8, for example with `iconv -f latin1 -t utf-8 {path}` if it is in Latin-1"
        raise InputError(f"{what} '{path}' is not UTF-8 text: {found}", again) from None
