from __future__ import annotations

import json

import pytest

from stages.files.strict_json import MAX_DEPTH, check_values, parse_json, parse_json_object


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[1, 2", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not JSON"),
        ("NaN", "NaN is not a finite number"),
        ('{"a": [-Infinity]}', "-Infinity is not a finite number"),
        ("[1e999]", "1e999 is not a finite number"),
        ("[-1e999]", "-1e999 is not a finite number"),
        (f"[{2**63}]", "integer 9223372036854775808 has more than 64 bits"),
        (f"[{-(2**63) - 1}]", "integer -9223372036854775809 has more than 64 bits"),
        ("9" * 10_000, "integer 9{40}... has more than 64 bits"),
        (r'["\ud800"]', r"text '\\ud800' has half a surrogate pair"),
        (r'{"a\udcff.png": 1}', "half a surrogate pair"),
        (r'["a\u0000b"]', r"text 'a\\x00b' has a NUL"),
        ('{"a": 1, "b": 2, "a": 3}', "entry 'a' is given twice"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "more than 100 levels"),
        ('{"a":' * 101 + "1" + "}" * 101, "more than 100 levels"),
        ("[" * 100_000, "more than 100 levels"),
    ],
)
def test_what_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


@pytest.mark.parametrize(
    "value", [2**63 - 1, -(2**63), 1e308, 5e-324, "\U0001f34e \u2028", [], {}, None, True, {"": {"a": [0.5]}}]
)
def test_what_is_read_as_it_was_written(value: object) -> None:
    for ascii_only in (True, False):
        assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


def test_the_deepest_that_is_read() -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(parse_json(text)) == text


def test_an_object_is_asked_for() -> None:
    assert parse_json_object('{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="not a JSON object"):
        parse_json_object("[1]")


def test_values_of_another_format_are_checked_alike() -> None:
    check_values({"a": [float("inf"), "text"]})  # TOML has it
    with pytest.raises(ValueError, match="NUL"):
        check_values({"a": ["\0"]})
