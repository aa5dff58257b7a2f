from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value

from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.data.tables import parquet_table
from stages.errors import InputError, UsageError
from tests.stages.data.pictures import class_names, noise, png

FEATURES = Features({"img": Image(), "fine": ClassLabel(names=["cat", "polar_bear", "dog"])})


def table(labels: list[int], *, first: int = 0, features: Features = FEATURES) -> Dataset:
    images = [{"bytes": png(noise(first + at)), "path": None} for at in range(len(labels))]
    return Dataset.from_dict({"img": images, "fine": labels}, features=features)


def plain(path: Path, labels: Any, images: list[Any] | None = None) -> None:
    """A parquet file without the datasets library's features."""
    images = images or [{"bytes": png(noise(at)), "path": f"{at}.png"} for at in range(len(labels))]
    pq.write_table(pa.table({"image": images, "label": labels}), path)


def test_a_parquet_file_is_divided(tmp_path: Path) -> None:
    path = tmp_path / "pets.parquet"
    table([0] * 20 + [2] * 10).to_parquet(path)
    train, test = load_images(ImageRequest(str(path)), side="train"), load_images(ImageRequest(str(path)), side="test")
    assert train.classes == ("cat", "polar_bear", "dog")
    assert train.counts() == [18, 0, 9]
    assert test.counts() == [2, 0, 1]
    assert train.provenance.source == "pets.parquet"


def test_a_folder_of_parquet_shards(tmp_path: Path) -> None:
    table([0, 1]).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    table([2, 0], first=2).to_parquet(tmp_path / "train-00001-of-00002.parquet")
    table([1], first=4).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    train = load_images(ImageRequest(str(tmp_path)), side="train")
    assert train.labels.tolist() == [0, 1, 2, 0]
    for at in range(4):
        np.testing.assert_array_equal(train.images[at].permute(1, 2, 0), np.asarray(noise(at)))
    assert load_images(ImageRequest(str(tmp_path)), side="test").labels.tolist() == [1]
    both = load_images(ImageRequest(str(tmp_path), split="test+train"), side="test")
    assert both.labels.tolist() == [1, 0, 1, 2, 0]
    assert both.provenance.splits == ("test", "train")


def test_rows_are_found_over_row_groups_and_batches(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, 2500).tolist()
    grey = [{"bytes": png(noise(at % 50, 2, 2)), "path": None} for at in range(2500)]
    whole = Dataset.from_dict({"img": grey, "fine": labels}, features=FEATURES)
    whole.to_parquet(tmp_path / "train.parquet", batch_size=700)
    images = load_images(ImageRequest(str(tmp_path), split="train"), side="train", classes=["dog", "Polar Bear"])
    rows = [row for row, label in enumerate(labels) if label]
    assert images.labels.tolist() == [2 - labels[row] for row in rows]
    expected = np.stack([np.asarray(noise(row % 50, 2, 2)).transpose(2, 0, 1) for row in rows])
    np.testing.assert_array_equal(images.images, expected)


def test_other_classes_are_not_decoded(tmp_path: Path) -> None:
    images = [{"bytes": png(noise(0)), "path": None}, {"bytes": b"broken", "path": None}]
    Dataset.from_dict({"img": images, "fine": [0, 1]}, features=FEATURES).to_parquet(tmp_path / "train.parquet")
    assert len(load_images(ImageRequest(str(tmp_path), split="train"), side="train", classes=["cat"])) == 1
    with pytest.raises(InputError, match=r"in row 1 of 'train\.parquet' of the data .* cannot be decoded"):
        load_images(ImageRequest(str(tmp_path), split="train"), side="train", classes=["polar_bear"])


def test_parquet_of_other_writers(tmp_path: Path) -> None:
    path = tmp_path / "pets.parquet"
    plain(path, ["dog", "cat", "dog"])
    assert class_names(ImageRequest(str(path))) == ["cat", "dog"]
    assert load_images(ImageRequest(str(path), split="train"), side="train").labels.tolist() == [1, 0, 1]
    plain(path, pa.array(["dog", "cat", "dog"]).dictionary_encode())
    assert load_images(ImageRequest(str(path), split="train"), side="train").labels.tolist() == [1, 0, 1]
    plain(path, ["a", "b"], [png(noise(0)), png(noise(1))])
    np.testing.assert_array_equal(
        load_images(ImageRequest(str(path), split="train"), side="train").images[1].permute(1, 2, 0), np.asarray(noise(1))
    )


def test_labels_without_names_are_numbers(tmp_path: Path) -> None:
    plain(tmp_path / "train.parquet", [10, 9, 2])
    plain(tmp_path / "test.parquet", [0])
    assert class_names(ImageRequest(str(tmp_path))) == ["0", "2", "9", "10"]
    images = load_images(ImageRequest(str(tmp_path)), side="train")
    assert images.labels.tolist() == [3, 2, 1]
    assert images.provenance.notes == ("classes are named by their number",)


def test_a_corrupt_row_names_the_file_inside_it(tmp_path: Path) -> None:
    plain(tmp_path / "a.parquet", ["x"] * 3, [{"bytes": c, "path": f"{c[:1].hex()}.png"} for c in (b"1", b"2", b"3")])
    with pytest.raises(InputError, match=r"'31\.png' in row 0 of 'a\.parquet'"):
        load_images(ImageRequest(str(tmp_path / "a.parquet"), split="train"), side="train")


def test_rows_without_an_image_are_corrupt(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([None, {"bytes": png(noise(0)), "path": None}], type=kind)
    pq.write_table(pa.table({"image": images, "label": ["a", "b"]}), tmp_path / "a.parquet")
    loaded = load_images(ImageRequest(str(tmp_path / "a.parquet"), split="train", skip_corrupt=True), side="train")
    assert (loaded.counts(), loaded.provenance.skipped_corrupt) == ([0, 1], 1)


def test_rows_without_a_label_are_an_error(tmp_path: Path) -> None:
    table([0, 1, 2]).to_parquet(tmp_path / "train.parquet")
    table([0, -1, -1]).to_parquet(tmp_path / "test.parquet")
    assert len(load_images(ImageRequest(str(tmp_path)), side="train")) == 3
    with pytest.raises(InputError, match=r"split 'test' .* has 2 rows without a label"):
        load_images(ImageRequest(str(tmp_path)), side="test")
    plain(tmp_path / "train.parquet", ["a", None])
    (tmp_path / "test.parquet").unlink()
    with pytest.raises(InputError, match="1 row without a label"):
        load_images(ImageRequest(str(tmp_path)), side="train")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\x93" * 4000])
def test_a_broken_parquet_file_is_named(tmp_path: Path, content: bytes) -> None:
    table([0]).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    (tmp_path / "train-00001-of-00002.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"'train-00001-of-00002\.parquet' cannot be read as parquet"):
        load_images(ImageRequest(str(tmp_path)), side="train")


def test_a_damaged_page_is_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    table([0, 1] * 200).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:4000] = bytes(3996)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"train\.parquet"):
        load_images(ImageRequest(str(path), split="train"), side="train")


def test_files_that_differ_in_columns_are_refused(tmp_path: Path) -> None:
    table([0]).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    plain(tmp_path / "train-00001-of-00002.parquet", ["cat"])
    with pytest.raises(InputError, match="has other columns than"):
        class_names(ImageRequest(str(tmp_path)))


def test_splits_that_differ_in_classes_are_refused(tmp_path: Path) -> None:
    table([0]).to_parquet(tmp_path / "train.parquet")
    other = Features({"img": Image(), "fine": ClassLabel(names=["dog", "cat"])})
    table([0], features=other).to_parquet(tmp_path / "test.parquet")
    with pytest.raises(InputError, match="differ in the classes or type of column 'fine'"):
        class_names(ImageRequest(str(tmp_path)))


def test_a_label_beyond_the_names_is_refused(tmp_path: Path) -> None:
    kind = Features({"img": Image(), "fine": Value("int64")})
    schema = FEATURES.arrow_schema
    pq.write_table(table([0, 7], features=kind).data.table.cast(schema), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="label 7, but names only 3 classes"):
        class_names(ImageRequest(str(tmp_path)))


def test_saved_datasets(tmp_path: Path) -> None:
    whole = DatasetDict({"train": table([0, 1, 2, 2]), "validation": table([2, 0], first=4)})
    whole.save_to_disk(tmp_path / "saved")
    train = load_images(ImageRequest(str(tmp_path / "saved")), side="train", classes=["dog", "cat"])
    assert train.labels.tolist() == [1, 0, 0]
    np.testing.assert_array_equal(train.images[1].permute(1, 2, 0), np.asarray(noise(2)))
    held_out = load_images(ImageRequest(str(tmp_path / "saved")), side="test")
    assert held_out.labels.tolist() == [2, 0]
    assert held_out.provenance.splits == ("validation",)


def test_a_saved_selection_keeps_its_order(tmp_path: Path) -> None:
    table([0, 1, 2, 1]).select([3, 0, 2]).save_to_disk(tmp_path / "saved")
    images = load_images(ImageRequest(str(tmp_path / "saved"), split="train"), side="train")
    assert images.labels.tolist() == [1, 0, 2]
    np.testing.assert_array_equal(images.images[0].permute(1, 2, 0), np.asarray(noise(3)))
    assert load_images(ImageRequest(str(tmp_path / "saved")), side="train").provenance.divided == "train"


def test_a_broken_saved_dataset_is_named(tmp_path: Path) -> None:
    table([0]).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "data-00000-of-00001.arrow").write_bytes(b"broken")
    with pytest.raises(InputError, match="the saved dataset 'saved' cannot be read"):
        class_names(ImageRequest(str(tmp_path / "saved")))


@pytest.mark.parametrize("name", [["dog"], 7, "\ud800"])
def test_class_names_that_are_not_text_are_refused(tmp_path: Path, name: object) -> None:
    table([0]).save_to_disk(tmp_path / "saved")
    path = tmp_path / "saved" / "dataset_info.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    next(one for one in record["features"].values() if "names" in one)["names"][1] = name
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match=r"class name 1 of the data 'saved' is not text|cannot be read"):
        class_names(ImageRequest(str(tmp_path / "saved")))


def test_cells_outside_of_a_saved_file_are_refused(tmp_path: Path) -> None:
    """Arrow would read whatever is in memory there, or end the process."""
    table([0, 1]).save_to_disk(tmp_path / "saved")
    file = tmp_path / "saved" / "data-00000-of-00001.arrow"
    size = len(png(noise(0)))
    whole, offset = file.read_bytes(), size.to_bytes(4, "little")
    assert whole.count(bytes(4) + offset) >= 1  # the images begin at 0 and after the first one
    file.write_bytes(whole.replace(bytes(4) + offset, bytes(4) + (2**30).to_bytes(4, "little")))
    with pytest.raises(InputError, match=r"the data of split 'train' are damaged .*, in 'data-00000-of-00001\.arrow'"):
        class_names(ImageRequest(str(tmp_path / "saved")))


def test_a_saved_dataset_without_a_split_is_named(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": []}', encoding="utf-8")
    with pytest.raises(InputError, match="the saved dataset 'saved' has no split"):
        class_names(ImageRequest(str(tmp_path / "saved")))


def test_the_metadata_of_a_column_is_never_asked_for(tmp_path: Path) -> None:
    """pyarrow aborts the process where they are damaged: what is asked for here has nothing but the size of a row group."""
    (tmp_path / "f").write_bytes(b"x")
    assert parquet_table._unpacked_bytes(SimpleNamespace(total_byte_size=10), tmp_path / "f") == 10


def test_two_label_columns(tmp_path: Path) -> None:
    features = Features({**FEATURES, "coarse": ClassLabel(names=["pet", "wild"])})
    images = [{"bytes": png(noise(at)), "path": None} for at in range(3)]
    both = Dataset.from_dict({"img": images, "fine": [0, 1, 2], "coarse": [0, 1, 0]}, features=features)
    both.to_parquet(tmp_path / "train.parquet")
    root = str(tmp_path)
    with pytest.raises(UsageError, match=r"'fine', 'coarse'.*--label-column"):
        class_names(ImageRequest(root))
    assert class_names(ImageRequest(root, label_column="coarse")) == ["pet", "wild"]
    chosen = load_images(ImageRequest(root, split="train"), side="train", classes=["pet", "wild"])
    assert chosen.labels.tolist() == [0, 1, 0]
    assert chosen.provenance.notes == ("labels are the column 'coarse'",)
    assert load_images(ImageRequest(root, split="train", label_column="fine"), side="train").labels.tolist() == [0, 1, 2]


def test_settings_of_the_library_are_put_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table([0, 1]).save_to_disk(tmp_path / "saved")
    before = datasets.utils.are_progress_bars_disabled(), datasets.utils.logging.get_verbosity()
    capfd.readouterr()
    load_images(ImageRequest(str(tmp_path / "saved"), split="train"), side="train")
    assert (datasets.utils.are_progress_bars_disabled(), datasets.utils.logging.get_verbosity()) == before
    assert capfd.readouterr() == ("", "")
