from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.attacks.png_folder import check_png_folder, folder_names, write_png_folder
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.errors import InputError, MissingError, UsageError

CLASSES = ("red circle", "blue star", "green ring")
LABELS = np.array([2, 0, 0, 2])
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6), dtype=np.uint8)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_pixel_survives_and_the_folder_is_read_as_data(tmp_path: Path) -> None:
    folder = tmp_path / "deep/pictures"
    write_png_folder(folder, IMAGES[..., :5], LABELS, CLASSES, force=False)
    assert names(folder) == ["green_ring/00000.png", "green_ring/00003.png", "red_circle/00001.png", "red_circle/00002.png"]
    picture = np.asarray(Image.open(folder / "red_circle/00001.png"))
    assert np.array_equal(picture, IMAGES[1, :, :, :5].transpose(1, 2, 0))
    found = load_images(ImageRequest(str(folder), split="train"), side="test", classes=("green ring", "red circle"))
    read = {(classes, image.tobytes()) for classes, image in zip(found.labels.tolist(), found.images.numpy(), strict=True)}
    written = zip((0, 1, 1, 0), IMAGES[..., :5], strict=True)
    assert read == {(classes, np.ascontiguousarray(image).tobytes()) for classes, image in written}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["pictures"]
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777


def test_pictures_are_replaced_on_demand_only_and_nothing_old_stays(tmp_path: Path) -> None:
    write_png_folder(tmp_path / "p", IMAGES, LABELS, CLASSES, force=False)
    with pytest.raises(UsageError, match=r"'.*p' is not empty; .*--force"):
        write_png_folder(tmp_path / "p", IMAGES[:1], LABELS[:1], CLASSES, force=False)
    assert len(names(tmp_path / "p")) == 4
    write_png_folder(tmp_path / "p", IMAGES[:1], LABELS[:1], CLASSES, force=True)
    assert names(tmp_path) == ["p/green_ring/00000.png"]


def test_an_empty_folder_is_filled_and_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_png_folder(tmp_path / "link", IMAGES, LABELS, CLASSES, force=False)
    assert (tmp_path / "link").is_symlink()
    assert len(names(tmp_path / "real")) == 4


@pytest.mark.parametrize("stray", ["notes.txt", "red_circle/holiday.jpg", "red_circle/me.png", "red_circle/deep/1.png"])
def test_a_folder_of_anything_else_is_never_replaced(tmp_path: Path, stray: str) -> None:
    write_png_folder(tmp_path / "p", IMAGES, LABELS, CLASSES, force=False)
    (tmp_path / "p" / stray).parent.mkdir(exist_ok=True)
    (tmp_path / "p" / stray).write_text("the only copy")
    before = names(tmp_path)
    with pytest.raises(UsageError, match="has other files than images of an attack"):
        write_png_folder(tmp_path / "p", IMAGES, LABELS, CLASSES, force=True)
    assert names(tmp_path) == before


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("a file")
    for folder in ("p", "p/q"):
        with pytest.raises(MissingError, match="cannot write"):
            check_png_folder(tmp_path / folder, force=True)


def test_a_failure_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    write_png_folder(tmp_path / "p", IMAGES, LABELS, CLASSES, force=False)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with pytest.raises(ValueError, match="zip"):
        write_png_folder(tmp_path / "p", IMAGES[:3], LABELS, CLASSES, force=True)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_folder_names() -> None:
    assert folder_names(["red circle", "AC/DC", "..", "a:b", "été"]) == ["red_circle", "AC_DC", "_", "a_b", "été"]
    with pytest.raises(InputError, match=r"the classes 'a/b' and 'A\?b' would share the folder 'A_b'"):
        folder_names(["a/b", "A?b"])


def test_importing_it_needs_no_torch() -> None:
    code = "import sys, stages.attacks.png_folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_that_a_folder_cannot_have() -> None:
    assert folder_names(["..", "con", "NUL.txt", "a/b", "x" * 255]) == ["_", "con_", "NUL.txt_", "a_b", "x" * 255]
    with pytest.raises(InputError, match="is too long for a folder; leave --png out"):
        folder_names(["é" * 128])
    with pytest.raises(InputError, match="would share the folder"):
        folder_names(["Bear", "bear."])


def test_the_same_pictures_again_are_left_alone(tmp_path: Path) -> None:
    write_png_folder(tmp_path / "p", IMAGES, LABELS, CLASSES, force=False)
    before = (tmp_path / "p").stat().st_ino
    write_png_folder(tmp_path / "p", IMAGES, LABELS, CLASSES, force=False)
    assert (tmp_path / "p").stat().st_ino == before
    assert names(tmp_path) == [f"p/{name}" for name in names(tmp_path / "p")]
    with pytest.raises(UsageError, match="is not empty"):
        write_png_folder(tmp_path / "p", 255 - IMAGES, LABELS, CLASSES, force=False)
    assert names(tmp_path) == [f"p/{name}" for name in names(tmp_path / "p")]
