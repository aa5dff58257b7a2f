from __future__ import annotations

import os

import pytest

from stages.errors import InputError
from stages.text import as_text, counted, decode_text, is_text, texts_in, visible


def test_a_name_that_is_not_utf_8_has_one_spelling() -> None:
    name = os.fsdecode(b"caf\xe9/\xc3\xa9")
    assert as_text(name) == "caf\\xe9/é"
    assert not is_text(name)
    # how Python hands over UTF-8 where it takes names for ASCII
    assert as_text("caf\udcc3\udca9") == "café"
    assert is_text("caf\udcc3\udca9")
    assert as_text("\ud800x") == "\\ud800x"
    assert not is_text("\ud800x")
    assert texts_in({name: [name, 1, None, (True, "é")]}) == {"caf\\xe9/é": ["caf\\xe9/é", 1, None, [True, "é"]]}


def test_what_a_terminal_obeys_or_does_not_show_is_spelled_out() -> None:
    assert visible("a\x1b[31m\x9b\x07\n\t\u202e\u200b\ufeff\u2028\x7f\udce9") == (
        "a\\x1b[31m\\x9b\\x07\\n\\t\\u202e\\u200b\\ufeff\\u2028\\x7f\\xe9"
    )
    for shown in ("café 猫 👩\u200d🔬 \\n", "نص", "–±→"):
        assert visible(shown) == shown


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_with_a_byte_order_mark_is_read(encoding: str) -> None:
    assert decode_text("café\n猫".encode(encoding), "class file", "x.txt") == "café\n猫"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("dog\ncafé".encode("latin-1"), r"class file 'x.txt' is not UTF-8 text: line 2 is 'caf\\xe9'; .*iconv -f latin1"),
        ("café".encode("utf-16-le"), "is not UTF-8 text: it is binary, or UTF-16 without a byte order mark; save it as UTF-8"),
        (b"\x89PNG\0\0", "is binary, or"),
        (b"\xff\xfea", "is not UTF-8 text: it begins as UTF-16"),
    ],
)
def test_other_text_is_refused_with_what_to_do(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=says):
        decode_text(data, "class file", "x.txt")


@pytest.mark.parametrize(("count", "said"), [(0, "0 classes"), (1, "1 class"), (2, "2 classes")])
def test_a_count_agrees_with_what_it_counts(count: int, said: str) -> None:
    assert counted(count, "class", "classes") == said
    assert counted(count, "row") == f"{count} row{'s' * (count != 1)}"
