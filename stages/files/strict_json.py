"""JSON of files, read strictly: finite numbers, integers of 64 bits, valid text, bounded depth, every key once."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NoReturn

MAX_DEPTH = 100
_MOST_DIGITS = 20


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text in UTF-8.

    Raises ValueError with the reason, one that completes "FILE is damaged: …": not JSON, NaN or Infinity, a number or an
    integer out of range, half a surrogate pair or a NUL in a text, more than `MAX_DEPTH` levels, a key given twice.
    """
    if not isinstance(data, bytes | str):
        raise ValueError("it is not JSON")
    try:
        text = data if isinstance(data, str) else data.decode()
        value = json.loads(
            text, parse_constant=_refuse, parse_float=_finite, parse_int=_bounded, object_pairs_hook=_with_keys_once
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("it is not JSON") from None
    check_values(value)
    return value


def parse_json_object(data: bytes | str) -> dict[str, Any]:
    """As `parse_json`, for an object. Raises ValueError for another value, too."""
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def check_text(text: str) -> None:
    """Raise ValueError with the reason for a text that cannot be written or be part of a path, TypeError for another value."""
    if not isinstance(text, str):
        raise TypeError(f"it is {str(text)[:40]}")
    if "\0" in text:
        raise ValueError(f"the text {_short(text)} has a NUL character in it")
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"the text {_short(text)} has half a surrogate pair in it")


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} levels deep"


def check_values(value: Any) -> None:
    """Raise ValueError with the reason for what `parse_json` refuses, anywhere in a value of dicts and lists."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inside: list[Any] = []
        for one in level:
            if isinstance(one, str):
                check_text(one)
            elif isinstance(one, int) and not -(2**63) <= one < 2**63:
                raise ValueError(f"the integer {_cut(str(one))} has more than 64 bits")
            elif isinstance(one, Mapping):
                inside += one.keys()
                inside += one.values()
            elif isinstance(one, list):
                inside += one
        if not inside:
            return
        level = inside
    raise ValueError(_TOO_DEEP)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(_cut(text))


def _bounded(text: str) -> int:
    if len(text) > _MOST_DIGITS:  # Python refuses to read thousands
        raise ValueError(f"the integer {_cut(text)} has more than 64 bits")
    return int(text)


def _with_keys_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the entry {_short(twice)} is given twice")
    return found


def _short(text: str) -> str:
    return ascii(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
