from __future__ import annotations

from pathlib import Path

import pytest

from stages.data.locate import Location, locate, parquet_splits
from stages.errors import InputError, UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_kinds(tmp_path: Path) -> None:
    touch(tmp_path, "a.parquet", "tables/train.parquet", "saved/state.json", "dict/dataset_dict.json", "cls/cat/1.png")
    kinds = {name: locate(name).kind for name in ("a.parquet", "tables", "saved", "dict", "cls", "shapes", "org/name")}
    assert kinds == {
        "a.parquet": "parquet",
        "tables": "parquet",
        "saved": "saved",
        "dict": "saved",
        "cls": "folders",
        "shapes": "shapes",
        "org/name": "hub",
    }


def test_the_name_is_no_path_of_the_machine(tmp_path: Path) -> None:
    touch(tmp_path, "deep/zoo/cat/1.png")
    assert locate(str(tmp_path / "deep" / "zoo") + "/").name == "zoo"
    assert locate("deep/zoo/cat/..").name == "zoo"


def test_a_local_folder_wins_over_the_hub(tmp_path: Path) -> None:
    touch(tmp_path, "org/name/cat/1.png")
    assert locate("org/name") == Location("folders", "name", Path("org/name"))


def test_a_folder_called_shapes_is_reached_by_its_path(tmp_path: Path) -> None:
    touch(tmp_path, "shapes/cat/1.png")
    assert locate("shapes").kind == "shapes"
    assert locate("./shapes").kind == "folders"


@pytest.mark.parametrize("data", ["nowhere", "/no/where", "a/b/c", "org/na me", "../x", "x" * 5000, "a\0b"])
def test_what_does_not_exist_is_told_with_what_data_can_be(data: str) -> None:
    with pytest.raises(InputError, match="does not exist; give a folder of class folders, a parquet file"):
        locate(data)


def test_a_misspelt_folder_inside_a_local_one_is_no_hub_id(tmp_path: Path) -> None:
    touch(tmp_path, "photos/cats/1.png")
    with pytest.raises(InputError, match="'photos/cast' does not exist"):
        locate("photos/cast")


def test_another_file_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "photos.zip")
    with pytest.raises(InputError, match=r"'photos\.zip' is a file, but not a parquet"):
        locate("photos.zip")


def test_no_name_at_all() -> None:
    with pytest.raises(UsageError, match="empty"):
        locate("")


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
    ],
)
def test_parquet_files_are_sorted_into_splits(tmp_path: Path, files: list[str], splits: dict[str, list[str]]) -> None:
    touch(tmp_path, *files)
    assert names(tmp_path) == splits
    assert locate(str(tmp_path)).kind == "parquet"


def test_several_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "cifar10/train.parquet", "cifar100/train.parquet")
    with pytest.raises(InputError, match="several data sets: cifar10, cifar100"):
        parquet_splits(tmp_path)
