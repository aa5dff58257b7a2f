"""Names that look the same are one class, whatever the data is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.data.sources import open_source
from stages.errors import InputError

NFC, NFD, HIDDEN = "caf\u00e9", "cafe\u0301", "\u200bcat"


def png(level: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def folders(root: Path, **splits: list[str]) -> str:
    for split, names in splits.items():
        for at, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            (root / split / name / "0.png").write_bytes(png(at))
    return str(root)


def test_the_same_class_in_two_splits(tmp_path: Path) -> None:
    data = folders(tmp_path, train=[NFC, "cat"], test=[NFD, HIDDEN])
    assert open_source(ImageRequest(data)).classes == (NFC, "cat")
    for side, split in (("train", "train"), ("test", "test")):
        images = load_images(ImageRequest(data, split=split), side=side, classes=[NFD, "CAT"])  # type: ignore[arg-type]
        assert images.labels.tolist() == [0, 1]


def test_two_folders_of_one_class_are_put_together(tmp_path: Path) -> None:
    images = load_images(
        ImageRequest(folders(tmp_path, train=[NFC, NFD, "cat"], test=["cat", NFD]), split="train"), side="train"
    )
    assert images.classes == (NFC, "cat")
    assert images.labels.tolist() == [0, 0, 1]


def test_both_spellings_give_the_same_data_and_digest(tmp_path: Path) -> None:
    digests = set()
    for at, name in enumerate((NFC, NFD, f"\u2060{NFD}")):
        data = folders(tmp_path / str(at), train=["zebra", name, "cab", "dog"])
        digests.add(load_images(ImageRequest(data, split="train"), side="train").sha256())
        request = ImageRequest(data, split="train")
        digests.add(load_images(request, side="train", classes=["cab", name, "dog", "zebra"]).sha256())
    assert len(digests) == 1


def test_case_alone_is_refused_as_before(tmp_path: Path) -> None:
    where = "the folders 'Cat' in the test split and 'cat' in the train split are the same but for case.*rename them alike"
    with pytest.raises(InputError, match=where):
        open_source(ImageRequest(folders(tmp_path, train=["cat"], test=["Cat"])))


@pytest.mark.parametrize("name", ["\u200b", "\u00a0", "\u200d", "\ufe0f", "\U000e0020"])
def test_a_folder_whose_name_does_not_show_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"name of the class folder '.*' of '.*' does not show; rename"):
        open_source(ImageRequest(folders(tmp_path, train=["cat", name])))


def table(labels: list[Any], kind: Any = None) -> pa.Table:
    cells = [{"bytes": png(at), "path": None} for at in range(len(labels))]
    return pa.table({"image": cells, "label": pa.array(labels, kind)})


def test_a_column_of_names(tmp_path: Path) -> None:
    pq.write_table(table([NFD, "zebra", None, "cafz"]), tmp_path / "train.parquet")
    pq.write_table(table(["zebra\u00a0", NFC, "cafz", NFD]), tmp_path / "test.parquet")
    source = open_source(ImageRequest(str(tmp_path)))
    assert source.classes == ("cafz", NFC, "zebra")
    named = [source.classes[at] for at in source.labels("test")]
    assert named == ["zebra", NFC, "cafz", NFC]
    assert source.image_count("train") == 4


@pytest.mark.parametrize("name", ["", " ", "\u200b", "\u200d"])
@pytest.mark.parametrize("kind", [pa.string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_label_that_does_not_show_is_none(tmp_path: Path, name: str, kind: Any) -> None:
    pq.write_table(table(["cat", name, "dog", None], kind), tmp_path / "train.parquet")
    source = open_source(ImageRequest(str(tmp_path)))
    assert source.classes == ("cat", "dog")
    with pytest.raises(InputError, match="has 2 rows without a label"):
        source.labels("train")


def test_a_named_class_that_does_not_show_is_refused(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "\u200b"])})
    rows = {"image": [{"bytes": png(0), "path": None}], "label": [0]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match="has a class without a name: entry 2"):
        open_source(ImageRequest(str(tmp_path)))


def test_a_column_of_numbers_keeps_their_order(tmp_path: Path) -> None:
    pq.write_table(table([10, 9, 2]), tmp_path / "train.parquet")
    source = open_source(ImageRequest(str(tmp_path)))
    assert source.classes == ("2", "9", "10")
    assert source.labels("train").tolist() == [2, 1, 0]
