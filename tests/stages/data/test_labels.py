"""Label columns of every type: read where their meaning is clear, otherwise refused by name and type."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from stages.data.load import load_images, open_images
from stages.data.request import ImageRequest
from stages.errors import InputError, LaatError
from tests.stages.data.pictures import noise, png

PNGS = [png(noise(at)) for at in range(4)]
TEXT = ["dog", "cat"] * 2
TEXTS = {kind: pa.array(TEXT, kind) for kind in (pa.string(), pa.large_string(), pa.string_view())}
CLEAR = {
    **{str(kind): (array, ["cat", "dog"]) for kind, array in TEXTS.items()},
    "dictionary": (pa.array(TEXT).dictionary_encode(), ["cat", "dog"]),
    "large dictionary": (pa.array(TEXT, pa.large_string()).dictionary_encode(), ["cat", "dog"]),
    "dictionary of numbers": (pa.array([10, 9] * 2).dictionary_encode(), ["9", "10"]),
    "int8": (pa.array([10, -9] * 2, pa.int8()), ["-9", "10"]),
    "uint64": (pa.array([2**64 - 1, 9] * 2, pa.uint64()), ["9", str(2**64 - 1)]),
    "bool": (pa.array([True, False] * 2), ["False", "True"]),
    "float16": (pa.array(np.array([10, 9] * 2, np.float16)), ["9", "10"]),
    "float32": (pa.array([10, 9] * 2, pa.float32()), ["9", "10"]),
    "float64": (pa.array([10.0, 9.0] * 2), ["9", "10"]),
    "decimal": (pa.array([Decimal("10.00"), Decimal("9.00")] * 2), ["9", "10"]),
}
LATIN_1 = pa.array([b"ok", b"\xff\xfe"] * 2).view(pa.string())
UNCLEAR = {
    "fraction": (pa.array([0.5, 1.0] * 2), "the column 'label' of the data 't.parquet' has the value 0.5, which is no whole"),
    "decimal fraction": (pa.array([Decimal("1.5"), Decimal("1.0")] * 2), "has the value 1.5, which is no whole"),
    "infinity": (pa.array([float("inf"), 1.0] * 2), "has the value inf, which is no whole"),
    "large float": (pa.array([1e20, 1.0] * 2), r"has the value 1e\+20, which is no whole"),
    "NaN alone": (pa.array([float("nan")] * 4), "the column 'label' of the data 't.parquet' has no label"),
    "null alone": (pa.array([None] * 4, pa.string()), "has no label"),
    "blank text": (pa.array(["", " "] * 2), "has no label"),
    "Latin-1": (LATIN_1, r"'label' of the data 't\.parquet' in row 1 of split 'train' has text that is not UTF-8 \(b'\\xff"),
    "Latin-1 dictionary": (LATIN_1.dictionary_encode(), "in row 1 of split 'train' has text that is not UTF-8"),
    "NaN": (pa.array([float("nan"), 1.0] * 2), "2 rows without a label"),
    "null": (pa.array([None, True] * 2), "2 rows without a label"),
    "nulls": (pa.nulls(4), r"\(null\).*a label is text, a whole number"),
    "list": (pa.array([["a"], ["b"]] * 2), r"\(list of string\).*a label is text, a whole number"),
    "one-hot": (pa.array([[0, 1], [1, 0]] * 2, pa.list_(pa.int64(), 2)), r"\(list of int64\).*a label is text"),
    "struct": (pa.array([{"name": "a"}] * 4), r"\({name: string}\).*a label is text"),
    "bytes": (pa.array([b"a", b"b"] * 2), r"\(binary\).*a label is text"),
    "date": (pa.array([datetime.date(2020, 1, 1)] * 4), r"\(date32\).*a label is text"),
    "map": (pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int64())), r"\(map<string, int64.*a label is text"),
}
IMAGE = pa.array([{"bytes": one, "path": None} for one in PNGS], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def table_of(path: Path, label: Any, image: Any = IMAGE) -> ImageRequest:
    pq.write_table(pa.table({"image": image, "label": label}), path)
    return ImageRequest(str(path), split="train")


@pytest.mark.parametrize(("label", "classes"), CLEAR.values(), ids=CLEAR)
def test_labels_of_clear_types_are_read(tmp_path: Path, label: Any, classes: list[str]) -> None:
    for data in (table_of(tmp_path / "t.parquet", label).data, Dataset(pa.table({"image": IMAGE, "label": label}))):
        images = load_images(ImageRequest(data, label_column="label"), side="train", classes=classes, divided=[])
        assert images.classes == tuple(classes)
        assert images.labels.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize(("label", "says"), UNCLEAR.values(), ids=UNCLEAR)
@pytest.mark.parametrize("named", [None, "label"])
def test_labels_of_other_types_are_refused_by_name_and_type(tmp_path: Path, label: Any, says: str, named: str | None) -> None:
    table_of(tmp_path / "t.parquet", label)
    with pytest.raises(LaatError, match=says):
        load_images(ImageRequest(str(tmp_path / "t.parquet"), split="train", label_column=named), side="train")


def test_text_and_integers_precede_other_types(tmp_path: Path) -> None:
    tags = pa.array([[("a", 1)]] * 4, pa.map_(pa.string(), pa.int64()))
    columns = {"image": IMAGE, "score": [0.5, 0.25, 1.0, 2.0], "checked": [True] * 4, "name": TEXT, "tags": tags}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert load_images(ImageRequest(str(tmp_path / "t.parquet"), split="train"), side="train").classes == ("cat", "dog")


@pytest.mark.parametrize("names", [("train-0", "train-1"), ("train", "test")])
@pytest.mark.parametrize(("one", "two"), [("string", "large_string"), ("dictionary", "string_view"), ("int8", "float64")])
def test_types_of_one_meaning_go_together(tmp_path: Path, names: tuple[str, str], one: str, two: str) -> None:
    large = pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])
    table_of(tmp_path / f"{names[0]}.parquet", CLEAR[one][0])
    table_of(tmp_path / f"{names[1]}.parquet", CLEAR[two][0], IMAGE.cast(large))
    split = "train" if "train-0" in names else "test+train"
    for cache in ("ram", "none"):
        images, _ = open_images(ImageRequest(str(tmp_path), split=split), side="train", cache=cache)
        names_of = sorted({*CLEAR[one][1], *CLEAR[two][1]}, key=lambda name: int(name) if one == "int8" else name)
        assert images.classes == tuple(names_of)
        assert len(images) == 8


@pytest.mark.parametrize("names", [("train-0", "train-1"), ("test", "train")])
@pytest.mark.parametrize(("one", "two"), [("string", "int8"), ("bool", "int8"), ("string", "bool")])
def test_types_of_other_meanings_do_not(tmp_path: Path, names: tuple[str, str], one: str, two: str) -> None:
    table_of(tmp_path / f"{names[0]}.parquet", CLEAR[one][0])
    table_of(tmp_path / f"{names[1]}.parquet", CLEAR[two][0])
    with pytest.raises(LaatError, match=f"'label'.*{one}.*{two}|'label'.*{two}.*{one}"):
        load_images(ImageRequest(str(tmp_path)), side="train")


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), "dictionary"])
def test_images_of_all_types_of_bytes(tmp_path: Path, kind: Any) -> None:
    column = pa.array(PNGS).dictionary_encode() if kind == "dictionary" else pa.array(PNGS, kind)
    request = table_of(tmp_path / "t.parquet", TEXT, column)
    for cache in ("ram", "none"):
        assert len(open_images(request, side="train", cache=cache)[0]) == 4
        assert len(open_images(request, side="train", cache=cache, classes=["cat"])[0]) == 2


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([list(one) for one in PNGS], pa.list_(pa.uint8())), "list of uint8"),
        (pa.array([one.ljust(400, b"\0") for one in PNGS], pa.binary(400)), r"fixed_size_binary\[400\]"),
        (pa.array([[{"bytes": one}] for one in PNGS]), "list of {bytes: binary}"),
        (pa.array([1.5] * 4), "float64"),
    ],
)
def test_images_of_other_types_are_refused_by_name_and_type(tmp_path: Path, column: Any, kind: str) -> None:
    request = table_of(tmp_path / "t.parquet", TEXT, column)
    with pytest.raises(LaatError, match=rf"'image' \({kind}\).*an image is the content of an image file: .*binary"):
        load_images(request, side="train")


def test_a_path_that_is_not_utf8_is_refused_by_column_and_row(tmp_path: Path) -> None:
    paths = pa.array([b"1.png", b"2.png", b"\xff.png", b"4.png"]).view(pa.string())
    request = table_of(tmp_path / "t.parquet", TEXT, pa.StructArray.from_arrays([pa.array(PNGS), paths], ["bytes", "path"]))
    for data in (request.data, Dataset(pq.read_table(tmp_path / "t.parquet"))):
        for cache in ("ram", "none"):
            with pytest.raises(InputError, match=r"the column 'image' .* in row 2 of .* text that is not UTF-8 \(b'\\xff"):
                open_images(ImageRequest(data, split="train"), side="train", cache=cache)


@pytest.mark.parametrize("twice", ["image", "label", "id"])
def test_columns_of_one_name_are_refused(tmp_path: Path, twice: str) -> None:
    columns = {"image": IMAGE, "label": pa.array(TEXT), "id": pa.array([1, 2, 3, 4])}
    names = [*columns, twice]
    pq.write_table(pa.Table.from_arrays([columns[name] for name in names], names), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=f"'t.parquet' has several columns '{twice}'"):
        load_images(ImageRequest(str(tmp_path / "t.parquet"), split="train"), side="train")


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the column 'label' of the data .* has no label"):
        load_images(table_of(tmp_path / "t.parquet", pa.array([], pa.string()), IMAGE[:0]), side="train")
