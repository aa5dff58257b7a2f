"""Mutations of JSON that know its structure, also into texts that `json.dumps` does not write."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

# one of these stands for any value; as JSON text, so that what Python refuses to write can be written
HOSTILE = (
    *("null", "true", "false", "0", "-1", "1", "0.5", "-0.0", "2", "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1e-320"),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "1e18",
        "1" * 30,
        "9" * 5000,
        "2147483648",
        "0.999999",
    ),
    *(
        '""',
        '" "',
        '"a"',
        '"\\ud800"',
        '"\\udcff.png"',
        '"\\u0000"',
        '"a\\u0000b"',
        '"\\u2028"',
        '"\\u001b[31m"',
        '"é"',
        '"[/]"',
    ),
    *(
        '"../../etc/passwd"',
        '"/dev/zero"',
        '"/dev/null"',
        '"."',
        '""',
        json.dumps("x" * 5000),
        '"8/0"',
        '"nan"',
        '"linf"',
        '"demo"',
    ),
    *("[]", "{}", "[null]", "[[]]", "[0]", "[1, 2, 3]", '["a", "a"]', '{"a": 1}', '{"": {}}', "[1.5]", "[true]", '[{"a": []}]'),
    *("[" * 90 + "]" * 90, "[" * 5000 + "]" * 5000, '{"a":' * 300 + "1" + "}" * 300, "[" * 100_000 + "]" * 100_000),
)
_MARK = "@@hostile@@"


def mutated_json(value: Any, draw: random.Random, *, often: int = 1) -> str:
    """The JSON text of `value` with 1 to `often` mutations."""
    value = copy.deepcopy(value)
    raw: list[tuple[str, str]] = []
    for number in range(draw.randint(1, often)):
        value = _mutate(value, draw, raw, f"{_MARK}{number}")
    text = json.dumps(value, ensure_ascii=draw.random() < 0.5)
    for mark, new in raw:
        text = text.replace(mark, new)
    return text


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key)."""
    found, waiting = [], [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (dict, list)):
            keys = list(one) if isinstance(one, dict) else range(len(one))
            found += [(one, key) for key in keys]
            waiting += [one[key] for key in keys]
    return found


def _mutate(value: Any, draw: random.Random, raw: list[tuple[str, str]], mark: str) -> Any:
    places = _places(value)
    how = draw.choice(("replace", "replace", "replace", "number", "delete", "duplicate", "rename", "swap", "grow", "whole"))
    if how == "whole" and draw.random() < 0.8:
        how = "replace"
    if how == "whole" or not places:
        raw.append((f'"{mark}"', draw.choice(HOSTILE)))
        return mark
    # a container's own entries are as likely as all entries of its largest list
    container, key = draw.choice(places)
    if draw.random() < 0.5:
        container = draw.choice([one for one, _ in {id(one): (one, 0) for one, _ in places}.values()])
        key = draw.choice(list(container) if isinstance(container, dict) else range(len(container)))
    old = container[key]
    if how == "number" and isinstance(old, (int, float)) and not isinstance(old, bool):
        container[key] = draw.choice((-old, old + 1, old - 1, old * 2, old / 2, old * 1e6, old + 1e-7, float(old), str(old)))
    elif how == "delete":
        del container[key]
    elif how == "duplicate" and isinstance(container, dict):
        container[mark] = 0
        raw.append((f'"{mark}": 0', f"{json.dumps(key)}: {draw.choice((json.dumps(old), draw.choice(HOSTILE)))}"))
    elif how == "rename" and isinstance(container, dict):
        container[draw.choice(("", "a", key.upper(), f"{key} ", f"{key}\0", "__class__"))] = container.pop(key)
    elif how == "swap":
        other, place = draw.choice(places)
        container[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(old)
    elif how == "grow" and isinstance(container, list):
        container.insert(key, copy.deepcopy(draw.choice(container)))
    else:
        container[key] = mark
        raw.append((f'"{mark}"', draw.choice(HOSTILE)))
    return value


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """`data` with flipped bits, cut, grown, or with a part overwritten, removed or repeated."""
    found = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 8))):
        at = draw.randrange(len(found) + 1)
        end = min(len(found), at + draw.choice((1, 1, 2, 4, 8, 64)))
        how = draw.randrange(8)
        if how <= 2 and at < len(found):
            found[at] ^= 1 << draw.randrange(8)
        elif how == 3:
            del found[at:]
        elif how == 4:
            found[at:end] = draw.choice((b"\0", b"\xff", b"\x7f", b"9", b"\n", b"\x80")) * (end - at)
        elif how == 5:
            del found[at:end]
        elif how == 6:
            found[at:at] = found[at:end] * draw.choice((1, 2, 50))
        else:
            found[at:at] = draw.randbytes(end - at)
    return bytes(found)
