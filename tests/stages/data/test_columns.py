from __future__ import annotations

import pytest
from datasets import ClassLabel, Features, Image, Value

from stages.data.tables.columns import image_column, label_column
from stages.errors import InputError, UsageError

RAW = {"bytes": Value("binary"), "path": Value("string")}
PETS = ClassLabel(names=["cat", "dog"])
KINDS = ClassLabel(names=["mammal", "bird"])


def test_columns_are_found_by_type() -> None:
    features = Features({"id": Value("int64"), "pic": Image(), "thumb": Value("binary"), "pet": PETS})
    assert image_column(features, None, source="x") == "pic"
    assert label_column(features, None, source="x") == "pet"


@pytest.mark.parametrize("raw", [RAW, Value("binary"), Value("large_binary")])
def test_encoded_bytes_without_a_type_are_images(raw: object) -> None:
    features = Features({"content": raw, "name": Value("string")})
    assert image_column(features, None, source="x") == "content"
    assert label_column(features, None, source="x") == "name"


def test_an_integer_column_can_be_the_label() -> None:
    features = Features({"image": Image(), "score": Value("float32"), "y": Value("uint8")})
    assert label_column(features, None, source="x") == "y"


def test_named_columns_win() -> None:
    features = Features({"a": Image(), "b": Image(), "one": PETS, "two": KINDS, "id": Value("int32")})
    assert image_column(features, "b", source="x") == "b"
    assert label_column(features, "two", source="x") == "two"
    assert label_column(features, "id", source="x") == "id"


def test_of_several_typed_labels_the_one_with_the_classes_is_taken() -> None:
    features = Features({"image": Image(), "one": PETS, "two": KINDS})
    assert label_column(features, None, source="x", wanted=["Bird"]) == "two"
    with pytest.raises(UsageError, match=r"'one', 'two'.*--label-column"):
        label_column(features, None, source="x", wanted=["cow"])


def test_ambiguity_lists_the_candidates() -> None:
    features = Features({"a": Image(), "b": Image(), "one": PETS, "two": KINDS})
    with pytest.raises(UsageError, match=r"'x' has several image columns: 'a', 'b'; .*--image-column"):
        image_column(features, None, source="x")
    with pytest.raises(UsageError, match=r"several label columns: 'one', 'two'; .*--label-column"):
        label_column(features, None, source="x")
    with pytest.raises(UsageError, match="'id', 'name'"):
        label_column(Features({"id": Value("int64"), "name": Value("string")}), None, source="x")


def test_a_named_column_that_is_missing_or_of_another_kind() -> None:
    features = Features({"image": Image(), "label": PETS, "day": Value("date32")})
    with pytest.raises(UsageError, match="no column 'picture'; choose --image-column from 'image', 'label', 'day'"):
        image_column(features, "picture", source="x")
    with pytest.raises(UsageError, match=r"'label' of the data 'x' does not contain images.*--image-column from 'image'"):
        image_column(features, "label", source="x")
    with pytest.raises(UsageError, match=r"'day' of the data 'x' does not contain labels \(date32\).*'label'"):
        label_column(features, "day", source="x")


def test_data_without_such_a_column() -> None:
    with pytest.raises(InputError, match=r"no image column, only 'text' \(string\)"):
        image_column(Features({"text": Value("string")}), None, source="x")
    with pytest.raises(InputError, match="no label column"):
        label_column(Features({"image": Image()}), None, source="x")
