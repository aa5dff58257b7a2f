from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.data.folders.splits import Side
from stages.data.image_set import ImageSet
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.data.summary import summary_of
from stages.errors import InputError, UsageError
from tests.stages.data.pictures import class_folders, class_names, noise, solid


def test_a_folder_of_class_folders_is_divided(tmp_path: Path) -> None:
    root = str(class_folders(tmp_path / "zoo", {"cat": 20, "dog": 10, "owl": 1}))
    train, test = load_images(ImageRequest(root), side="train"), load_images(ImageRequest(root), side="test")
    assert class_names(ImageRequest(root)) == ["cat", "dog", "owl"] == list(train.classes)
    assert train.counts() == [18, 9, 1]
    assert test.counts() == [2, 1, 0]
    assert (train.provenance.divided, test.provenance.divided) == ("train", "test")
    assert (train.provenance.source, train.provenance.splits) == ("zoo", ("train",))
    pixels = {image.tobytes() for image in [*train.images.numpy(), *test.images.numpy()]}
    assert len(pixels) == 31


def test_only_some_classes_of_a_single_split_are_divided(tmp_path: Path) -> None:
    request = ImageRequest(str(class_folders(tmp_path / "zoo", {"cat": 20, "dog": 10, "owl": 5})))

    def loaded(*names: str) -> ImageSet:
        return load_images(request, side="test", classes=names, divided=["Cat", "dog"])

    some, none, every = loaded("owl", "cat"), loaded("owl"), loaded("dog", "cat")
    assert (some.counts(), none.counts(), every.counts()) == ([5, 2], [5], [1, 2])
    assert (some.provenance.divided, some.provenance.divided_classes) == ("test", ("cat",))
    assert (none.provenance.divided, none.provenance.divided_classes) == ("", ())
    assert every.provenance.notes == ("one split only: these images are the test part of its 90/10 division by class",)
    assert some.provenance.notes == (
        "one split only: these images are the test part of its 90/10 division for the 1 classes that were trained on, and all "
        "images of the other 1",
    )
    assert none.provenance.notes == ("one split only: these are all images of the classes, none of which was trained on",)
    assert summary_of(some).startswith(
        "read 'zoo' (test part of its single split for 1 of 2 classes): 35 files, 2 of 3 classes, 7 of"
    )
    assert summary_of(none).startswith("read 'zoo' (split 'train'): ")


@pytest.mark.parametrize("side", ["train", "test"])
def test_both_parts_of_a_single_split(tmp_path: Path, side: Side) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 20, "dog": 10})
    images = load_images(ImageRequest(str(root), split="train+test"), side=side, divided=["cat"])
    assert images.counts() == [20, 10]
    assert images.provenance.divided == ""
    assert images.provenance.notes == ("one split only: these are all its images",)


def test_all_of_a_single_split_on_request(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 3, "dog": 2})
    images = load_images(ImageRequest(str(root), split="train"), side="test")
    assert images.counts() == [3, 2]
    assert images.provenance.divided == ""
    np.testing.assert_array_equal(images.images[4].permute(1, 2, 0), np.asarray(noise(1001)))


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_split_folders(tmp_path: Path, held_out: str) -> None:
    class_folders(tmp_path / "zoo" / "train", {"cat": 3, "dog": 2})
    class_folders(tmp_path / "zoo" / held_out, {"dog": 4})
    train = load_images(ImageRequest(str(tmp_path / "zoo")), side="train")
    test = load_images(ImageRequest(str(tmp_path / "zoo")), side="test")
    assert (train.counts(), test.counts()) == ([3, 2], [0, 4])
    assert train.classes == test.classes
    assert train.provenance.divided == ""
    assert load_images(ImageRequest(str(tmp_path / "zoo"), split=f"train+{held_out}"), side="train").counts() == [3, 6]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "vehicles", {"bus": 2, "train": 2})
    assert load_images(ImageRequest(str(root), split="train"), side="train").counts() == [2, 2]


def test_images_may_lie_deeper_in_a_class_folder(tmp_path: Path) -> None:
    class_folders(tmp_path / "tiny" / "train", {"n01/images": 2, "n02/images": 3})
    class_folders(tmp_path / "tiny" / "test", {"n01/images": 1})
    assert load_images(ImageRequest(str(tmp_path / "tiny")), side="train").counts() == [2, 3]
    assert class_names(ImageRequest(str(tmp_path / "tiny"))) == ["n01", "n02"]


def test_classes_are_matched_by_name_and_labelled_in_the_order_asked(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 2, "polar_bear": 3, "zebra": 1})
    (root / "zebra" / "000.png").write_bytes(b"never looked at")
    images = load_images(ImageRequest(str(root), split="train"), side="train", classes=["Polar Bear", "CAT"])
    assert images.classes == ("Polar Bear", "CAT")
    assert images.counts() == [3, 2]
    np.testing.assert_array_equal(images.images[0].permute(1, 2, 0), np.asarray(noise(0)))
    assert images.labels.tolist() == [1, 1, 0, 0, 0]


def test_mixed_formats_and_modes(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / "zoo" / kind).mkdir(parents=True)
    noise(0).save(tmp_path / "zoo" / "cat" / "a.PNG")
    solid((9, 90, 190)).save(tmp_path / "zoo" / "cat" / "b.jpg", quality=95)
    noise(1).convert("L").save(tmp_path / "zoo" / "dog" / "c.png")
    noise(2).convert("RGBA").save(tmp_path / "zoo" / "dog" / "d.png")
    noise(3).quantize(8).save(tmp_path / "zoo" / "dog" / "e.gif")
    for stray in ("Thumbs.db", "notes.txt", ".hidden.png", "._a.png"):
        (tmp_path / "zoo" / "dog" / stray).write_bytes(b"stray")
    (tmp_path / "zoo" / "__MACOSX").mkdir()
    (tmp_path / "zoo" / ".git").mkdir()
    images = load_images(ImageRequest(str(tmp_path / "zoo"), split="train"), side="train")
    assert images.classes == ("cat", "dog")
    assert images.counts() == [2, 3]
    assert images.images[1, :, 0, 0].tolist() == pytest.approx([9, 90, 190], abs=4)
    assert bool((images.images[2, 0] == images.images[2, 2]).all())


def test_a_corrupt_image_is_named_or_skipped_and_counted(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 4, "dog": 2})
    (root / "cat" / "002.png").write_bytes((root / "cat" / "002.png").read_bytes()[:70])
    (root / "dog" / "notes.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"'cat/002\.png' of the data 'zoo'.*--skip-corrupt"):
        load_images(ImageRequest(str(root), split="train"), side="train")
    images = load_images(ImageRequest(str(root), split="train", skip_corrupt=True), side="train")
    assert images.counts() == [3, 2]
    assert images.provenance.skipped_corrupt == 2


def test_a_class_left_without_an_image_by_skipping_is_an_error(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 2, "dog": 1})
    (root / "dog" / "000.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="after skipping corrupt images has no image of 'dog'"):
        load_images(ImageRequest(str(root), split="train", skip_corrupt=True), side="train", classes=["cat", "dog"])


def test_a_requested_class_without_an_image_is_an_error(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 2, "dog": 0})
    with pytest.raises(InputError, match=r"\(split 'train'\) has no image of 'dog'"):
        load_images(ImageRequest(str(root), split="train"), side="train", classes=["cat", "dog"])
    with pytest.raises(InputError, match=r"test part of its 90/10 division.* has no image of 'owl'"):
        load_images(
            ImageRequest(str(class_folders(tmp_path / "birds", {"owl": 1, "hen": 9}))), side="test", classes=["hen", "owl"]
        )


def test_the_split_that_has_a_missing_class_is_named(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    for split, name in (("train", "cat"), ("val", "dog"), ("test", "owl")):
        class_folders(root / split, {name: 2})
    request = ImageRequest(str(root))
    with pytest.raises(InputError, match=r"has no image of 'dog'; read these too with --split train\+validation$"):
        load_images(request, side="train", classes=["cat", "dog"])
    read = load_images(replace(request, split="train+validation"), side="train", classes=["cat", "dog"])
    assert read.counts() == [2, 2]


def test_a_class_that_is_not_there_shows_the_nearest(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"leopard": 1, "lion": 1})
    with pytest.raises(InputError, match=r"the seen classes.*the data 'zoo'.*'leopart' \(nearest: 'leopard'"):
        load_images(ImageRequest(str(root)), side="train", classes=["leopart"], classes_from="the seen classes")


def test_different_sizes_need_a_resize(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 2})
    noise(9, 12, 10).save(root / "cat" / "wide.png")
    with pytest.raises(InputError, match=r"'cat/000\.png' is 8x8, 'cat/wide\.png' is 12x10.*--resize 8"):
        load_images(ImageRequest(str(root), split="train"), side="train")
    images = load_images(ImageRequest(str(root), split="train", resize=6), side="train")
    assert images.size == (6, 6)
    assert images.provenance.resize == 6


def test_class_folders_that_fold_alike_are_an_error(tmp_path: Path) -> None:
    class_folders(tmp_path / "zoo", {"polar_bear": 1, "polar bear": 1})
    with pytest.raises(InputError, match="'zoo' has a class twice"):
        class_names(ImageRequest(str(tmp_path / "zoo")))


def test_a_class_folder_whose_name_is_no_text_is_an_error(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 1, os.fsdecode(b"caf\xe9"): 1})
    with pytest.raises(InputError, match=r"class folder 'caf\udce9' of '.*' is not UTF-8; .* in Latin-1 it reads 'café'"):
        class_names(ImageRequest(str(tmp_path)))


def test_a_split_given_twice_is_an_error(tmp_path: Path) -> None:
    for split in ("train", "val", "valid"):
        class_folders(tmp_path / "zoo" / split, {"cat": 1})
    with pytest.raises(InputError, match="validation split twice"):
        class_names(ImageRequest(str(tmp_path / "zoo")))


def test_folders_that_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty"):
        class_names(ImageRequest(str(tmp_path)))
    for name in ("x_train.npy", ".hidden", "shard-0.tar"):
        (tmp_path / name).touch()
    with pytest.raises(
        InputError, match=r"no class folders, only '\.hidden', 'shard-0\.tar', 'x_train\.npy'; unpack the archives"
    ):
        class_names(ImageRequest(str(tmp_path)))
    Image.new("RGB", (4, 4)).save(tmp_path / "loose.png")
    with pytest.raises(InputError, match="images, but not in class folders"):
        class_names(ImageRequest(str(tmp_path)))
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match="has no images, only 2 empty, 1 hidden, 1 outside a class folder"):
        class_names(ImageRequest(str(tmp_path)))


def test_columns_are_for_tables(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 2})
    with pytest.raises(UsageError, match="'zoo' has no columns"):
        load_images(ImageRequest(str(root), label_column="label"), side="train")


def test_class_folders_may_be_links(tmp_path: Path) -> None:
    class_folders(tmp_path / "store", {"cat": 2})
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "kitten").symlink_to(tmp_path / "store" / "cat")
    assert load_images(ImageRequest(str(tmp_path / "zoo"), split="train"), side="train").counts() == [2]


def test_the_same_bytes_again(tmp_path: Path) -> None:
    root = str(class_folders(tmp_path / "zoo", {"cat": 30, "dog": 30}))
    assert load_images(ImageRequest(root), side="train").sha256() == load_images(ImageRequest(root), side="train").sha256()
