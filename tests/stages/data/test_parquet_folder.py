"""Which split each parquet file of a folder belongs to, and which other files are beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.data.folders.locate import locate
from stages.data.folders.parquet_folder import parquet_splits
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.data.sources import open_source
from stages.data.summary import summary_of
from stages.errors import InputError
from tests.stages.data.test_locate import touch
from tests.stages.data.test_table_source import table


def names(root: Path) -> dict[str, list[str]]:
    splits = parquet_splits(root)
    return {split: [file.relative_to(root).as_posix() for file in files] for split, files in splits.items()}


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (
            ["train-00001-of-00002.parquet", "train-00000-of-00002.parquet", "test-00000-of-00001.parquet"],
            {
                "test": ["test-00000-of-00001.parquet"],
                "train": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
            },
        ),
        (["data/train-00000-of-00001.parquet", "README.md"], {"train": ["data/train-00000-of-00001.parquet"]}),
        (["train/0.parquet", "test/0.parquet"], {"test": ["test/0.parquet"], "train": ["train/0.parquet"]}),
        (["x/train/0.parquet", "x/val/0.parquet"], {"train": ["x/train/0.parquet"], "validation": ["x/val/0.parquet"]}),
        (["b.parquet", "a.parquet"], {"train": ["a.parquet", "b.parquet"]}),
        (["train.parquet", "more.parquet"], {"more": ["more.parquet"], "train": ["train.parquet"]}),
        (
            ["lab-test-images-train.parquet", "lab-test-images-test.parquet"],
            {"test": ["lab-test-images-test.parquet"], "train": ["lab-test-images-train.parquet"]},
        ),
        (["test/part/0.parquet", "train/part/0.parquet"], {"test": ["test/part/0.parquet"], "train": ["train/part/0.parquet"]}),
        (
            ["default/train/0000.parquet", "default/test/0000.parquet", ".cache/0.parquet"],
            {"test": ["default/test/0000.parquet"], "train": ["default/train/0000.parquet"]},
        ),
        (["train(1).parquet", "test(1).parquet"], {"test": ["test(1).parquet"], "train": ["train(1).parquet"]}),
        (["trainset.parquet", "testset.parquet"], {"test": ["testset.parquet"], "train": ["trainset.parquet"]}),
        (["trainTest.parquet", "trainTrain.parquet"], {"test": ["trainTest.parquet"], "train": ["trainTrain.parquet"]}),
        (
            ["CIFARTrain[0].parquet", "CIFARTest[0].parquet"],
            {"test": ["CIFARTest[0].parquet"], "train": ["CIFARTrain[0].parquet"]},
        ),
        (["a&train@2.parquet", "a+TEST,2.parquet"], {"test": ["a+TEST,2.parquet"], "train": ["a&train@2.parquet"]}),
        (["train_set/0.parquet", "val2017/0.parquet"], {"train": ["train_set/0.parquet"], "validation": ["val2017/0.parquet"]}),
        (["contest-0.parquet", "contest-1.parquet"], {"train": ["contest-0.parquet", "contest-1.parquet"]}),
        (["a/b/c/d/train.pq"], {"train": ["a/b/c/d/train.pq"]}),
    ],
)
def test_parquet_files_are_sorted_into_splits(tmp_path: Path, files: list[str], splits: dict[str, list[str]]) -> None:
    touch(tmp_path, *files)
    assert names(tmp_path) == splits
    assert locate(str(tmp_path)).kind == "parquet"


@pytest.mark.parametrize("name", ["train-test.parquet", "test/train-0.parquet", "train/test/0.parquet", "eval/val.parquet"])
def test_two_splits_in_one_path_are_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "x/" + name)
    with pytest.raises(InputError, match="names two splits") as caught:
        parquet_splits(tmp_path / "x")
    if "/" in name:
        assert len(parquet_splits(Path(caught.value.fix.partition("give --data ")[2]))) == 1
    assert len(parquet_splits(tmp_path / "x" / name)) == 1


@pytest.mark.parametrize("files", [["mytrain", "mytest"], ["images", "xval"], ["train", "train-mytest"]])
def test_a_name_that_may_be_a_split_is_refused_where_all_would_be_divided(tmp_path: Path, files: list[str]) -> None:
    touch(tmp_path, *(f"{file}.parquet" for file in files))
    with pytest.raises(InputError, match=r"may name a split: '(mytrain|mytest|xval)'; write it as a word of its own"):
        parquet_splits(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        ["train.parquet", "train (copy).parquet"],
        ["train.parquet", "train - Copy (2).parquet"],
        ["train.parquet", "train(1).parquet"],
        ["train.parquet", "train.bak.parquet"],
        ["train.parquet", "train-00000-of-00001.parquet"],
        ["train.parquet", "train.pq"],
        ["train.parquet", "Train_Set.parquet"],
        ["train.parquet", "data/train.parquet"],
        ["a.parquet", "a (copy).parquet"],
        ["test.parquet", "__test.parquet"],
        ["my-eval.parquet", "my-test.parquet"],
        ["val/0.parquet", "validation/1.parquet"],
    ],
)
def test_two_versions_of_a_split_are_refused(tmp_path: Path, files: list[str]) -> None:
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=r"are two versions of the (train|test|validation) split; keep one of them"):
        parquet_splits(tmp_path)


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    for name, labels in (("a", [0, 1]), ("b", [0, 2]), ("c", [0, 1])):
        table(labels).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(InputError, match=r"'a\.parquet' and 'c\.parquet' .* two versions of the train split"):
        parquet_splits(tmp_path)


def test_a_file_that_is_gone_is_reported_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").symlink_to("nowhere")
    assert names(tmp_path) == {"train": ["train.parquet"]}
    with pytest.raises(InputError, match=r"train\.parquet"):
        open_source(ImageRequest(str(tmp_path)))


def test_several_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "cifar10/train.parquet", "cifar100/train.parquet")
    with pytest.raises(InputError, match="several data sets: cifar10, cifar100"):
        parquet_splits(tmp_path)


def test_a_table_above_others_does_not_hide_them(tmp_path: Path) -> None:
    touch(tmp_path, "index.parquet", "images/train.parquet")
    with pytest.raises(InputError, match=r"several data sets: \., images"):
        parquet_splits(tmp_path)


def test_other_files_and_missing_shards_are_told(tmp_path: Path) -> None:
    table([0, 1]).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    table([1]).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    touch(tmp_path, "README.md", ".gitattributes", "old/notes.txt")
    images = load_images(ImageRequest(str(tmp_path)), side="train")
    assert ": 4 files, 3 classes, 2 images of 8x8, levels " in summary_of(images)
    assert summary_of(images).endswith("; 3 files passed over: 1 hidden, 2 not a parquet file; other splits: test")
    assert images.provenance.notes == ("'train' has 1 of 2 files",)


@pytest.mark.parametrize("other", ["train-00000-of-00002", "train-00000-of-00001-a1b2", "train-00001-of-00003"])
def test_shards_of_two_versions_are_refused(tmp_path: Path, other: str) -> None:
    (tmp_path / "pets").mkdir()
    for at, name in enumerate(("train-00000-of-00001", other)):
        table([0, at]).to_parquet(tmp_path / "pets" / f"{name}.parquet")
    with pytest.raises(InputError, match="'train-…' in 'pets' do not belong together"):
        open_source(ImageRequest(str(tmp_path / "pets")))
