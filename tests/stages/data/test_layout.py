"""Whether the folders of an image folder are classes or splits."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.data.request import ImageRequest
from stages.data.sources import open_source
from stages.errors import InputError, UsageError
from tests.stages.data.pictures import noise


def place(root: Path, *files: str) -> Path:
    """A picture, or a folder where the name ends with /, or text for .txt."""
    for at, name in enumerate(files):
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if name.endswith(".txt"):
            path.write_text("text")
        elif not name.endswith("/"):
            noise(at).save(path)
    return root


def read(root: Path, layout: str | None = None) -> dict[str, dict[str, int]]:
    """split -> class -> number of images, without classes that have none."""
    source = open_source(ImageRequest(str(root), layout=layout))
    found = {}
    for split in source.splits:
        labels = source.labels(split).tolist()
        found[split] = {name: labels.count(at) for at, name in enumerate(source.classes) if at in labels}
    return found


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["bus/1.png", "train/1.png", "truck/1.png"], {"train": {"bus": 1, "train": 1, "truck": 1}}),
        (["bus/1.png", "test/1.png", "train/1.png"], {"train": {"bus": 1, "test": 1, "train": 1}}),
        (["test tube/1.png", "bus/1.png"], {"train": {"bus": 1, "test tube": 1}}),
        (["training_set/red/1.png", "test_set/red/1.png"], {"test": {"red": 1}, "train": {"red": 1}}),
        (["train2017/red/1.png", "Val (2017)/red/1.png"], {"train": {"red": 1}, "validation": {"red": 1}}),
        (["trainImages/red/1.png", "testset/red/1.png"], {"test": {"red": 1}, "train": {"red": 1}}),
        (["n1/images/1.png", "n2/images/1.png"], {"train": {"n1": 1, "n2": 1}}),
        (["bus/red/1.png", "bus/2.png", "truck/1.png"], {"train": {"bus": 2, "truck": 1}}),
        (["bus/1.png", "train/1.png", "train/steam/2.png"], {"train": {"bus": 1, "train": 2}}),
        (["train/cat/1.png", "train/dog/1.png"], {"train": {"cat": 1, "dog": 1}}),
        (["train/cat/1.png", "val/cat/1.png"], {"train": {"cat": 1}, "validation": {"cat": 1}}),
        (
            ["train/cat/1.png", "val/dog/1.png", "test/owl/1.png"],
            {"test": {"owl": 1}, "train": {"cat": 1}, "validation": {"dog": 1}},
        ),
        (["Train/cat/a/1.png", "TEST/cat/1.png"], {"test": {"cat": 1}, "train": {"cat": 1}}),
        (["train/cat/1.png", "test/cat/"], {"test": {}, "train": {"cat": 1}}),
        (["train/cat/1.png", "test/", "cover.png", "notes.txt"], {"train": {"cat": 1}}),
        (["train/train/1.png", "train/bus/1.png", "test/bus/1.png"], {"test": {"bus": 1}, "train": {"bus": 1, "train": 1}}),
        (["cat/1.png", "docs/notes.txt"], {"train": {"cat": 1}}),
        (["__cat/1.png", "dog/1.png"], {"train": {"__cat": 1, "dog": 1}}),
        (["cat/train/1.png", "dog/2.png"], {"train": {"cat": 1, "dog": 1}}),
    ],
)
def test_a_clear_layout_is_read(tmp_path: Path, files: list[str], expected: dict[str, dict[str, int]]) -> None:
    assert read(place(tmp_path, *files)) == expected


@pytest.mark.parametrize(
    ("files", "classes", "splits"),
    [
        (
            ["train/steam/1.png", "train/diesel/1.png", "bus/red/1.png", "truck/big/1.png"],
            {"train": {"bus": 1, "train": 2, "truck": 1}},
            {"bus": {"red": 1}, "train": {"diesel": 1, "steam": 1}, "truck": {"big": 1}},
        ),
        (
            ["train/cat/1.png", "test/cat/1.png", "docs/notes.txt"],
            {"train": {"test": 1, "train": 1}},
            {"test": {"cat": 1}, "train": {"cat": 1}},
        ),
        (["train/cat/1.png", "docs/"], {"train": {"train": 1}}, {"train": {"cat": 1}}),
        (
            ["train/cat/1.png", "test/1.png"],  # a test split without labels
            {"train": {"test": 1, "train": 1}},
            {"train": {"cat": 1}},
        ),
        (["train/cat/1.png", "dog/1.png"], {"train": {"dog": 1, "train": 1}}, {"train": {"cat": 1}}),
        (
            ["train/cat/1.png", "train/cover.png", "test/cat/1.png"],
            {"train": {"test": 1, "train": 2}},
            {"test": {"cat": 1}, "train": {"cat": 1}},
        ),
    ],
)
def test_a_mixed_layout_is_refused_unless_chosen(
    tmp_path: Path, files: list[str], classes: dict[str, dict[str, int]], splits: dict[str, dict[str, int]]
) -> None:
    root = place(tmp_path / "zoo", *files)
    with pytest.raises(InputError, match=r"'zoo' can be read as the classes '.*' or as the splits '.*--layout"):
        read(root)
    assert read(root, "classes") == classes
    assert read(root, "splits") == splits


@pytest.mark.parametrize(
    "files",
    [
        ["fold1/red/1.png", "fold1/green/1.png", "fold2/green/1.png", "fold2/red/1.png"],
        ["seen/red/1.png", "seen/green/1.png", "seen/blue/1.png", "unseen/red/1.png", "unseen/green/1.png", "docs/a.txt"],
        ["cifar-train/red/1.png", "cifar-test/green/1.png"],  # may be zero-shot data
    ],
)
def test_folders_like_splits_are_refused_unless_chosen(tmp_path: Path, files: list[str]) -> None:
    root = place(tmp_path / "zoo", *files)
    with pytest.raises(InputError, match=r"as the classes '.*' or as the splits '.*' of the classes '.*--layout"):
        read(root)
    assert len(read(root, "classes")) == 1
    assert len(read(root, "splits")) == 2


@pytest.mark.parametrize("files", [["test/1.png", "train/1.png"], ["my test/1.png", "my train/2.png"], ["testset/1.png"]])
def test_splits_without_class_folders_are_refused_unless_chosen(tmp_path: Path, files: list[str]) -> None:
    root = place(tmp_path / "zoo", *files)
    with pytest.raises(InputError, match=r"or as the splits '.*', whose images have no class.*--layout classes"):
        read(root)
    assert list(read(root, "classes")) == ["train"]


def test_both_readings_are_named(tmp_path: Path) -> None:
    root = place(tmp_path / "rail", "train/steam/1.png", "bus/red/1.png", "truck/big/1.png")
    with pytest.raises(InputError) as caught:
        read(root)
    assert str(caught.value) == (
        "the folder 'rail' can be read as the classes 'bus', 'train', 'truck' or as the splits 'train' of the classes 'steam'; "
        "choose with --layout classes or --layout splits, or remove the folders that do not belong to the data"
    )


def test_splits_inside_classes_are_refused(tmp_path: Path) -> None:
    root = place(tmp_path / "zoo", "cat/train/1.png", "cat/test/2.png", "dog/train/1.png", "dog/test/1.png")
    with pytest.raises(InputError, match=r"'cat' of 'zoo' contains the splits 'test', 'train'.*--layout classes"):
        read(root)
    assert read(root, "classes") == {"train": {"cat": 2, "dog": 2}}


@pytest.mark.parametrize("inner", ["train", "training_set", "deeper/test2017"])
def test_splits_in_the_only_folder_are_refused(tmp_path: Path, inner: str) -> None:
    root = place(tmp_path / "zoo", f"cifar/{inner}/red/1.png", f"cifar/{inner}/green/1.png", "docs/notes.txt")
    with pytest.raises(InputError, match=r"'cifar' of 'zoo' contains the splits '.*; give --data .*zoo/cifar(/deeper)?, "):
        read(root)
    assert read(root, "classes") == {"train": {"cifar": 2}}


def test_files_that_belong_to_no_split_are_counted(tmp_path: Path) -> None:
    root = place(tmp_path, "train/cat/1.png", "test/cat/1.png", "train/1.png", "docs/notes.txt", "extra/1.png")
    source = open_source(ImageRequest(str(root), layout="splits"))
    assert source.contents(["train"]).passed_over == {"not an image": 1, "outside a class folder": 2}
    assert source.contents(["test"]).passed_over == {"not an image": 1, "outside a class folder": 1}


def test_a_class_folder_without_an_image_is_told(tmp_path: Path) -> None:
    root = place(tmp_path, "cat/1.png", "docs/notes.txt")
    assert open_source(ImageRequest(str(root))).notes == ("class folders without an image: 'docs'",)


def test_an_unknown_layout(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown --layout 'flat'; choose one of classes, splits, tables"):
        ImageRequest(str(tmp_path), layout="flat")
