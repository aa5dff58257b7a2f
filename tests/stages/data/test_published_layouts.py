"""Trees of well-known data sets, repositories and network drives: read at the level of the classes, or refused by name."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from stages.errors import InputError
from tests.stages.data.test_layout import place, read

CLASSES = {"train": {"cat": 1, "dog": 1}}
READ: dict[str, tuple[str, dict[str, dict[str, int]]]] = {
    "Tiny-ImageNet, train alone": ("cat/images/1.png cat/cat_boxes.txt dog/images/1.png dog/dog_boxes.txt", CLASSES),
    "Synology": ("cat/1.png cat/@eaDir/1.png/THUMB_M.png dog/1.png @eaDir/dog/THUMB.png", CLASSES),
    "Synology, splits": (
        "train/cat/1.png train/@eaDir/a.png test/cat/1.png @eaDir/train/a.png test/dog/1.png",
        {"train": {"cat": 1}, "test": {"cat": 1, "dog": 1}},
    ),
    "macOS": ("cat/1.png dog/1.png __MACOSX/cat/1.png .DS_Store.txt", CLASSES),
    "thumbnails": ("cat/1.png dog/1.png .thumbnails/1.png cat/.ipynb_checkpoints/1-checkpoint.png", CLASSES),
    "repository with its classes": (
        "README.txt .git/HEAD.txt cat/1.png dog/1.png node_modules/x/logo.png",
        CLASSES,
    ),
    "iNaturalist": (
        "train/00000_Animalia/1.png train/00001_Plantae/1.png val/00000_Animalia/1.png val/00001_Plantae/1.png",
        {"train": {"00000_Animalia": 1, "00001_Plantae": 1}, "validation": {"00000_Animalia": 1, "00001_Plantae": 1}},
    ),
    "CUB-200, images": ("001.Albatross/1.png 002.Auklet/1.png", {"train": {"001.Albatross": 1, "002.Auklet": 1}}),
    "folders inside classes": ("cat/a/1.png cat/2.png dog/1.png", {"train": {"cat": 2, "dog": 1}}),
}
REFUSED = {
    "Tiny-ImageNet": (
        "train/n01/images/1.png train/n02/images/1.png val/images/1.png val/val_annotations.txt test/images/1.png",
        "images without class folders: in 'images' of the test split and 'images' of the validation split; .*list of labels",
    ),
    "repository": (
        "README.txt .git/HEAD.txt scripts/a.txt data/cat/1.png data/dog/1.png",
        "give --data .*zoo/data,",
    ),
    "repository with a logo": ("docs/logo.png data/cat/1.png data/dog/1.png", "give --data .*zoo/data,"),
    "repository with splits": ("README.txt data/train/cat/1.png data/test/cat/1.png", "give --data .*zoo/data, put"),
    "CUB-200": (
        "images/001.A/1.png images/002.B/1.png parts/p.txt",
        "in the folders '001.A', '002.B'; give --data .*zoo/images,",
    ),
    "CUB-200, archive": (
        "CUB_200_2011/images/1.A/1.png CUB_200_2011/images/2.B/1.png",
        "--data .*zoo/CUB_200_2011/images,",
    ),
    "Caltech-101": (
        "101_ObjectCategories/ant/1.png 101_ObjectCategories/BACKGROUND_Google/1.png Annotations/ant/1.txt",
        "give --data .*zoo/101_ObjectCategories,",
    ),
    "Food-101": ("images/apple_pie/1.png images/baby_ribs/1.png meta/classes.txt", "give --data .*zoo/images,"),
    "DTD": ("images/banded/1.png images/blotchy/1.png labels/train1.txt", "give --data .*zoo/images,"),
    "EuroSAT": ("2750/AnnualCrop/1.png 2750/Forest/1.png", "give --data .*zoo/2750,"),
    "Oxford pets": (
        "images/beagle_1.png annotations/trimaps/beagle_1.png",
        "'images' of 'zoo' contains images without class folders",
    ),
    "Oxford flowers": ("jpg/image_1.png labels.txt", "'jpg' of 'zoo' contains images without class folders"),
    "Stanford cars": ("cars_train/1.png cars_test/1.png devkit/a.txt", "whose images have no class"),
    "ImageNet": (
        "ILSVRC/Data/CLS-LOC/train/n01/1.png ILSVRC/Data/CLS-LOC/val/1.png ILSVRC/Annotations/a.txt",
        "give --data .*zoo/ILSVRC/Data/CLS-LOC, put",
    ),
    "ImageNet, CLS-LOC": (
        "train/n01/1.png train/n02/1.png val/1.png test/1.png",
        "--layout classes or --layout splits",
    ),
    "SUN397": ("a/abbey/1.png a/airport/1.png b/bakery/shop/1.png", "as groups of .*: 'a' contains 'abbey', 'airport'"),
    "SUN397, splits": (
        "train/a/abbey/1.png train/a/airport/1.png train/b/bakery/1.png test/a/abbey/1.png test/b/bakery/1.png",
        "'zoo/test' can be read as .*: 'a' contains 'abbey'; .*--layout splits",
    ),
    "iNaturalist, one class each": (
        "train/Plantae/00001_a/1.png train/Aves/00003_c/1.png",
        "'zoo/train' can be read as .*: 'Aves' contains '00003_c'",
    ),
    "splits of images": (
        "train/images/cat/1.png train/images/dog/1.png test/images/cat/1.png",
        "'zoo/test' has its images in 'images', in the folders 'cat'; move these folders to '.*zoo/test'",
    ),
    "splits of a folder": (
        "train/photos/cat/1.png train/photos/dog/1.png",
        "'zoo/train' has its images in 'photos', in the folders 'cat', 'dog'",
    ),
    "one class": ("images/cat/1.png", "has its images in 'images', in the folders 'cat'; give --data .*zoo/images,"),
    "one class, deeper": ("data/images/cat/1.png", "give --data .*zoo/data/images,"),
    "one class and a cover": ("data/images/cat/1.png data/images/1.png", "in 'data/images', .*give --data .*zoo/data/images,"),
    "archive in an archive": ("photos/photos/cat/1.png photos/photos/dog/1.png", "give --data .*zoo/photos/photos,"),
    "repository with one split": (
        "data/train/cat/1.png data/train/dog/1.png docs/logo.png banner.png",
        "contains the splits 'train', .*give --data .*zoo/data,",
    ),
    "iNaturalist 2018": ("Aves/1/1.png Aves/2/1.png Insecta/3/1.png", "as groups of .*: 'Aves' contains '1', '2'"),
}


@pytest.mark.parametrize(("files", "expected"), READ.values(), ids=READ)
def test_trees_that_are_read(tmp_path: Path, files: str, expected: dict[str, dict[str, int]]) -> None:
    assert read(place(tmp_path / "zoo", *files.split())) == expected


@pytest.mark.parametrize(("files", "says"), REFUSED.values(), ids=REFUSED)
def test_trees_that_are_refused(tmp_path: Path, files: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(place(tmp_path / "zoo", *files.split()))


def test_what_the_refusals_say_to_type(tmp_path: Path) -> None:
    for name in ("CUB-200", "CUB-200, archive", "EuroSAT", "archive in an archive", "repository with a logo"):
        root = place(tmp_path / name / "zoo", *REFUSED[name][0].split())
        with pytest.raises(InputError) as caught:
            read(root)
        given = shlex.split(caught.value.fix.removeprefix("give --data ").partition(", or")[0])[0]
        assert len(read(Path(given))["train"]) == 2
        assert sum(read(root, "classes")["train"].values()) >= 2


def test_groups_in_splits_are_classes_where_chosen(tmp_path: Path) -> None:
    root = place(tmp_path / "zoo", *REFUSED["SUN397, splits"][0].split())
    assert read(root, "splits") == {"test": {"a": 1, "b": 1}, "train": {"a": 2, "b": 1}}
