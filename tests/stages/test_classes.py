from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.classes import ClassGroups, check_unique, fold, match_classes, read_class_file, spelled
from stages.errors import InputError, UsageError


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "classes.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("name", ["sea_lion", "Sea Lion", "  SEA\tlion ", "sea__lion", "sea _ lion"])
def test_folding(name: str) -> None:
    assert fold(name) == "sea lion"


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("name", "as_spelled"),
    [
        (NFD, NFC),
        ("caf\u200be\u200b\u0301", NFC),  # composed once nothing is in between
        ("\u200bcat", "cat"),
        *((f"c{one}at", "cat") for one in "\u00ad\u200b\u200c\u200d\u200e\u2060\ufeff\x07"),
        *((f" sea{one}{one}lion{one}", "sea lion") for one in "\u00a0\u2003\u2009\u202f\u3000\u2800\t"),
        ("m\u00b2", "m\u00b2"),  # what NFKC would make of it is another name
        ("\u0645\u06cc\u200c\u062e\u0648", "\u0645\u06cc\u200c\u062e\u0648"),  # a joiner that Persian spelling needs
        ("\u200b \ufeff", ""),
        ("Sea_lion", "Sea_lion"),
    ],
)
def test_names_that_look_the_same_have_one_spelling(name: str, as_spelled: str) -> None:
    assert spelled(name) == spelled(as_spelled) == as_spelled
    assert fold(name) == fold(as_spelled)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u0130", "i\u0307"),
        ("\u01f0", "J\u030c"),
        ("STRASSE", "stra\u00dfe"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u062e"),
    ],
)
def test_case_and_accents_fold_together(one: str, other: str) -> None:
    assert fold(one) == fold(other)


def test_names_that_look_different_stay_apart() -> None:
    names = ["m2", "m\u00b2", "caf\u00e9", "cafe", "\u00bd", "1/2", "\u0410", "A"]
    assert len({fold(name) for name in names}) == len(names)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=12))
def test_spelling_twice_is_spelling_once(name: str) -> None:
    assert spelled(spelled(name)) == spelled(name)
    assert fold(spelled(name)) == fold(name)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=12))
def test_folding_twice_is_folding_once(name: str) -> None:
    assert fold(fold(name)) == fold(name)


def test_a_class_file(tmp_path: Path) -> None:
    path = written(tmp_path, "# animals\n\n  bear \r\nsea_lion\n\t\n#1 dad  mug\nC# major\n")
    assert read_class_file(path) == ["bear", "sea_lion", "#1 dad mug", "C# major"]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert read_class_file(written(tmp_path, b"\xef\xbb\xbfbear\nwolf")) == ["bear", "wolf"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no class"),
        ("\n  \n# only a comment\n", "has no class"),
        (b"\x89PNG\r\n\x1a\n\xff", "not UTF-8 text"),
        (b"bear\0wolf", "is binary"),
    ],
)
def test_a_class_file_without_names(content: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_class_file(written(tmp_path, content))


def test_spellings_of_one_name_in_a_class_file(tmp_path: Path) -> None:
    assert read_class_file(written(tmp_path, f"\u200b\n{NFD}\n\ufeff# animals\nsea\u00a0lion")) == [NFC, "sea lion"]
    with pytest.raises(InputError, match=r"has a class twice: lines 1 .* and 2 .* are the same but for case"):
        read_class_file(written(tmp_path, f"{NFD}\n{NFC}"))


def test_a_class_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_class_file(tmp_path / "none.txt")
    with pytest.raises(InputError, match="is a folder"):
        read_class_file(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_class_file(written(tmp_path, "bear") / "below.txt")


def test_duplicates_are_named_with_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "# animals\nbear\nSea Lion\n\nwolf\nsea_lion\n")
    with pytest.raises(InputError, match=r"lines 3 \('Sea Lion'\) and 6 \('sea_lion'\) are the same"):
        read_class_file(path)


def test_duplicates_in_a_list_are_named_with_their_places() -> None:
    with pytest.raises(InputError, match=r"the data has a class twice: entries 1 \('a b'\) and 3 \('A_b'\)"):
        check_unique(["a b", "c", "A_b"], where="the data")
    check_unique(["a b", "c", "ab"], where="the data")


def test_matching_ignores_case_and_underscores_and_keeps_the_order() -> None:
    names = ["sea lion", "bear", "Wolf"]
    assert match_classes(["WOLF", "sea_lion"], names, wanted_from="a", available_from="b") == [2, 0]
    assert match_classes([], names, wanted_from="a", available_from="b") == []


def test_names_without_a_partner_are_listed_with_the_nearest() -> None:
    names = ["bear", "wolf", "sea lion"]
    with pytest.raises(InputError, match="2 of the 3 classes of the anchors are not in the data") as caught:
        match_classes(["bear", "woolf", "sealion"], names, wanted_from="the anchors", available_from="the data")
    assert "'woolf' (nearest: 'wolf'" in caught.value.what
    assert "'sealion' (nearest: 'sea lion'" in caught.value.what
    assert "bear' (nearest" not in caught.value.what
    assert caught.value.fix.startswith("rename the classes")
    with pytest.raises(InputError, match="1 of the 1 class of the anchors is not in the data"):
        match_classes(["woolf"], names, wanted_from="the anchors", available_from="the data")


def test_a_long_list_of_missing_names_is_cut() -> None:
    with pytest.raises(InputError, match=r"9 of the 9 .* and 4 more; they have no class in common"):
        match_classes([f"x{i}" for i in range(9)], ["bear"], wanted_from="a", available_from="b")


def test_groups_from_counts() -> None:
    groups = ClassGroups.from_counts(6, 3, 1)
    assert (groups.seen, groups.val, groups.novel) == ((0, 1, 2), (3,), (4, 5))
    assert ClassGroups.from_counts(3, None) == ClassGroups((0, 1, 2))
    assert ClassGroups.from_counts(3, None, 1) == ClassGroups((0, 1), (2,))
    assert groups.of("all") == (0, 1, 2, 3, 4, 5)
    assert [groups.of(name) for name in ("seen", "val", "novel")] == [(0, 1, 2), (3,), (4, 5)]


@pytest.mark.parametrize(("seen", "val"), [(0, 0), (-1, 0), (7, 0), (5, 2), (3, -1), (None, 6)])
def test_counts_that_do_not_fit(seen: int | None, val: int) -> None:
    with pytest.raises(UsageError, match="do not fit 6 classes"):
        ClassGroups.from_counts(6, seen, val)


def test_groups_from_names() -> None:
    names = ["bear", "wolf", "sea lion", "fox"]
    assert ClassGroups.from_names(names, ["SEA_LION", "bear"], ["fox"]) == ClassGroups((0, 2), (3,), (1,))
    with pytest.raises(InputError, match="'fox' is in both"):
        ClassGroups.from_names(names, ["fox", "bear"], ["Fox"])
    with pytest.raises(InputError, match="has no class"):
        ClassGroups.from_names(names, [])
    with pytest.raises(
        InputError, match=r"1 of the 1 class of the seen file is not in the class names: 'volf' \(nearest: 'wolf'"
    ):
        ClassGroups.from_names(names, ["volf"])


def test_the_record_of_groups_reads_back() -> None:
    groups = ClassGroups.from_counts(6, 3, 1)
    assert ClassGroups.from_record(groups.to_record()) == groups
