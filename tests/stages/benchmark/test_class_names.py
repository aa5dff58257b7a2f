"""Which label of the data each class name of a benchmark belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.benchmark.class_names import IMAGENET, imagenet_names, matched, read_class_names
from stages.benchmark.spec import DataSet
from stages.data.shapes import SEEN, shape_classes
from stages.errors import InputError


def pairs(lines: str, classes: list[str], tmp_path: Path, match: str = "name") -> dict[str, str]:
    """What the data call each candidate -> its name."""
    (tmp_path / "names.txt").write_text(lines)
    one = DataSet("d", "x", classes="names.txt", match=match, folder=tmp_path)
    own, names = matched(one, read_class_names(one), classes, "data")
    return dict(zip(own, names, strict=True))


def test_names_of_the_data_count_where_none_are_given() -> None:
    assert matched(DataSet("d", "x"), None, ["b", "a"], "data") == (["b", "a"], ["b", "a"])


def test_lines_belong_to_labels_by_name_in_any_order(tmp_path: Path) -> None:
    lines = "SeaLake => lake or sea\nforest\nAnnual_Crop => farm land\n"
    found = pairs(lines, ["Annual Crop", "Forest", "SeaLake"], tmp_path)
    assert found == {"SeaLake": "lake or sea", "Forest": "forest", "Annual Crop": "farm land"}


def test_data_that_use_the_names_themselves_match_too(tmp_path: Path) -> None:
    lines = "n1 => crate\nn2 => lion\n"
    assert pairs(lines, ["lion", "crate"], tmp_path) == {"crate": "crate", "lion": "lion"}


def test_numbers_are_labels_whatever_the_order_of_the_data(tmp_path: Path) -> None:
    classes = [str(number) for number in (0, 1, 10, 2, 3, 4, 5, 6, 7, 8, 9)]  # as folders are sorted
    found = pairs("\n".join(f"name {number}" for number in range(11)), classes, tmp_path)
    assert found == {str(number): f"name {number}" for number in range(11)}
    assert pairs("7 => seven\n9 => nine\n", ["9", "7"], tmp_path) == {"7": "seven", "9": "nine"}


def test_names_by_order_where_the_benchmark_says_so(tmp_path: Path) -> None:
    assert pairs("first\nsecond\n", ["x", "y"], tmp_path, "order") == {"x": "first", "y": "second"}

    assert pairs("a\nsecond\n", ["A", "y"], tmp_path, "order") == {"A": "a", "y": "second"}
    assert pairs("b\na\n", ["0", "1"], tmp_path, "order") == {"0": "b", "1": "a"}


@pytest.mark.parametrize("lines", ["b\na\n", "new\na\n", "b => new\nother\n"])
def test_an_order_that_the_names_of_the_data_deny_is_refused(lines: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="their orders differ"):
        pairs(lines, ["a", "b"], tmp_path, "order")


def test_the_classes_of_imagenet_sorted_by_name_are_refused() -> None:
    one = DataSet("imagenet", "x", classes=IMAGENET, match="order")
    given = read_class_names(one)
    with pytest.raises(InputError, match="their orders differ"):
        matched(one, given, sorted(imagenet_names()), "copy")
    ids = [f"n{number:08}" for number in range(1000)]
    assert matched(one, given, ids, "copy") == (ids, imagenet_names())


def test_a_group_of_a_bundled_list() -> None:
    one = DataSet("d", "shapes", classes="shapes", group="novel")
    own, names = matched(one, read_class_names(one), shape_classes(), "shapes")
    assert own == names == list(shape_classes()[SEEN:])


def test_data_may_have_the_classes_of_the_group_alone() -> None:
    one = DataSet("d", "x", classes="shapes", group="novel")
    given, novel = read_class_names(one), list(shape_classes()[SEEN:])
    assert matched(one, given, sorted(novel), "copy") == (novel, novel)
    with pytest.raises(InputError, match="is no class of the data"):
        matched(one, given, [*novel[1:], shape_classes()[0]], "copy")
    with pytest.raises(InputError, match="has 64 class names and the data 'copy' 16 classes"):
        matched(one, given, [str(number) for number in range(len(novel))], "copy")


@pytest.mark.parametrize(
    ("lines", "classes", "says"),
    [
        ("a\nb\nc\n", ["a", "b"], "'names.txt' has 3 class names and the data 'data' 2 classes"),
        ("a\nboat\n", ["a", "boot"], "'boat' of 'names.txt' is no class of the data 'data' \\(nearest: 'boot'"),
        ("a => b\nb\n", ["a", "b"], "twice"),
        ("a => x\nx => a\n", ["a", "c"], "is no class of the data|twice"),
        ("a\nb\n", ["1", "2"], "are the numbers 1 to 2, not 0 to 1"),
        ("a => \nb\n", ["a", "b"], "line 1 of .* has no name on one side"),
        ("a\n", ["a"], "fewer than two classes"),
        ("a\nA\n", ["a", "b"], "a class twice"),
    ],
)
def test_what_is_refused(lines: str, classes: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        pairs(lines, classes, tmp_path)


def test_numbers_without_names_are_refused() -> None:
    with pytest.raises(InputError, match="numbers, which mean nothing to a text encoder; name them with classes"):
        matched(DataSet("d", "x"), None, ["0", "1"], "data")
