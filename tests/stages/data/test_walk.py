"""Which files of a folder are read, and that every other file is counted by its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stages.data.decoding import cache
from stages.data.image_set import ImageSet
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.data.summary import summary_of
from stages.errors import InputError
from tests.stages.data.pictures import class_folders, noise, solid

OUT = "linked to a folder above it or of the system"


def read(root: Path, **options: object) -> ImageSet:
    return load_images(ImageRequest(str(root), split="train", **options), side="train")  # type: ignore[arg-type]


def passed(images: ImageSet) -> dict[str, int]:
    assert images.provenance.contents is not None
    return images.provenance.contents.passed_over


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("__9.png", "PNG"),
        ("0.png?w=200", "PNG"),
        ("no suffix", "JPEG"),
        ("wrong.txt", "WEBP"),
        ("UPPER.PNG", "PNG"),
        ("small.apng", "PNG"),
        ("art.dat", "BMP"),
        ("scan.frame", "TIFF"),
        ("grey.pnm", "PPM"),
        ("photo.j2k", "JPEG2000"),
    ],
)
def test_an_image_is_read_whatever_its_name(tmp_path: Path, name: str, kind: str) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 1, "dog": 1})
    solid((200, 9, 90)).save(root / "dog" / name, kind)
    images = read(root)
    assert images.counts() == [1, 2]
    assert passed(images) == {}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (".hidden.png", b"x", "hidden"),
        (".cache/a/b.png", b"x", "hidden"),
        ("__MACOSX/1.png", b"x", "in a system folder"),
        ("@eaDir/1.png/thumb.jpg", b"x", "in a system folder"),
        *[
            (f"{folder}/deep/thumb.jpg", b"x", "in a system folder")
            for folder in ("#snapshot", "@tmp", "@Recently-Snapshot", "@SynoResource", "~snapshot", "FOUND.000", "#recycle")
        ],
        ("Thumbs.db", b"\xd0\xcf\x11\xe0", "not an image"),
        ("notes.txt", b"BMW and P3 are no images", "not an image"),
        ("P", b"P", "not an image"),
        ("rows.csv", b"P3 1", "not an image"),
        ("nothing", b"", "empty"),
        ("old.tga", b"\0\0\2", "in an unsupported format"),
    ],
)
def test_other_files_are_counted_by_reason(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 1, "dog": 1})
    for place in (root, root / "dog", root / "dog" / "deep"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    images = read(root)
    assert images.counts() == [1, 1]
    assert passed(images) == {reason: 3}


@pytest.mark.parametrize("name", ["0.png~", "0.png.~2~", "x.png.bak", "y.tmp", "z.jpg.ORIG", "w.old", "#0.png#", "v.bak2"])
def test_a_backup_copy_is_no_further_image(tmp_path: Path, name: str) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 1, "dog": 1})
    solid((200, 9, 90)).save(root / "dog" / name, "PNG")
    images = read(root)
    assert images.counts() == [1, 1]
    assert passed(images) == {"backup": 1}


def test_images_beside_the_class_folders_are_counted(tmp_path: Path) -> None:
    class_folders(tmp_path / "zoo" / "train", {"cat": 2})
    class_folders(tmp_path / "zoo" / "test", {"cat": 1})
    for name in ("cover.png", "train/cat/.DS_Store", "test/cat/.DS_Store"):
        noise(1).save(tmp_path / "zoo" / name, "PNG")
    assert passed(read(tmp_path / "zoo")) == {"hidden": 1, "outside a class folder": 1}


def test_linked_folders_are_read_once(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 2, "dog": 1})
    class_folders(tmp_path / "store", {"a": 3})
    (root / "dog" / "Again").symlink_to(root / "dog" / "more")  # sorts before the folder itself
    (root / "dog" / "more").symlink_to(tmp_path / "store" / "a")
    (root / "dog" / "up").symlink_to(root / "dog")
    (root / "dog" / "top").symlink_to(root)
    (root / "dog" / "friends").symlink_to(root / "cat")  # its images are cats
    (root / "dog" / "stored").symlink_to(class_folders(root / ".store", {"b": 2}) / "b")
    (root / "dog" / "5.png").mkdir()
    images = read(root)
    assert images.counts() == [2, 6]
    assert passed(images) == {"hidden": 2, OUT: 2, "linked to a folder that is read already": 2}


@pytest.mark.parametrize("target", ["/", "/proc", "/dev/fd", "..", "../.."])
def test_links_out_of_the_data_are_not_walked(tmp_path: Path, target: str) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 1, "dog": 1})
    (root / "out").symlink_to(target)
    (root / "cat" / "out").symlink_to(target)
    images = read(root)
    assert images.counts() == [1, 1]
    assert passed(images) == {OUT: 2}


def test_the_disk_cache_inside_the_data_is_no_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 1, "dog": 1})
    monkeypatch.setenv("LAAT_CACHE", str(root))
    folder = cache.cache_folder()
    assert folder is not None
    folder.mkdir()
    (folder / "pixels-0.st").touch()
    assert read(root).classes == ("cat", "dog")


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 1})
    os.mkfifo(root / "cat" / "pipe")
    (root / "cat" / "zero").symlink_to("/dev/zero")
    (root / "cat" / "circle").symlink_to("circle")
    (root / "cat" / "gone").symlink_to("nowhere")
    assert passed(read(root)) == {"linked to nothing": 2, "not a regular file": 2}


def test_a_missing_image_is_an_error_or_left_out_and_counted(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 1})
    (root / "cat" / "gone.png").symlink_to("nowhere")
    some = load_images(ImageRequest(str(root), split="train", skip_corrupt=True), side="train")
    assert summary_of(some).endswith("; 1 file passed over: 1 corrupt or unreadable")
    with pytest.raises(InputError, match=r"'cat/gone\.png' .*cannot be opened"):
        read(root)


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 1, "dog/inner": 1})
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"inner' cannot be read \(Permission denied\)"):
        read(root)


def test_the_line_after_reading(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "zoo", {"cat": 2, "dog": 3, "owl": 1})
    solid((0, 10, 255)).save(root / "cat" / "000.png")
    solid((4, 30, 254)).save(root / "cat" / "001.png")
    (root / "cat" / "notes.txt").write_text("x")
    (root / "cat" / ".DS_Store").write_text("x")
    (root / ".git").mkdir()
    (root / ".git" / "HEAD").write_text("x")
    whole = read(root)
    assert summary_of(whole).startswith("read 'zoo' (split 'train'): 9 files, 3 classes, 6 images of 8x8, levels ")
    assert summary_of(whole).endswith("; 3 files passed over: 2 hidden, 1 not an image")
    (root / "dog" / "000.png").write_bytes(b"broken")
    request = ImageRequest(str(root), split="train", skip_corrupt=True)
    some = summary_of(load_images(request, side="train", classes=["cat", "dog"]))
    assert "9 files, 2 of 3 classes, 4 of 6 images of 8x8, " in some
    assert some.endswith("; 4 files passed over: 2 hidden, 1 not an image, 1 corrupt or unreadable")
    cats = load_images(request, side="train", classes=["cat"])
    assert "9 files, 1 of 3 classes, 2 of 6 images of 8x8, levels 0-4, 10-30, 254-255; 3 files" in summary_of(cats)
    part = summary_of(load_images(ImageRequest(str(root)), side="train", classes=["cat"]))
    assert part.startswith("read 'zoo' (train part of its single split): 9 files, 1 of 3 classes, 1 of 6 images")
    assert whole.provenance.to_record()["contents"] == {
        "classes": 3,
        "files": 9,
        "images": 6,
        "other_splits": [],
        "passed_over": {"hidden": 2, "not an image": 1},
    }


def test_the_line_without_files() -> None:
    images = load_images(ImageRequest("shapes"), side="test", classes=["red circle"])
    assert summary_of(images).startswith("read 'shapes' (split 'test'): 1 of 64 classes, ")
    assert summary_of(images).endswith("50 of 3,200 images of 32x32, levels 93-185, 70-156, 71-158; other splits: train")
