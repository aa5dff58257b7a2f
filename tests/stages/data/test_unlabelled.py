"""Paths of unlabelled images: order, folders, patterns, lists, and what is missing."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from stages.data.unlabelled import ImagePaths, describe_passed
from stages.errors import InputError, UsageError


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/{b.png,c/d.png,c/e/f.jpg,a.txt,.hidden.png}, relative to the working folder."""
    for name in ("b.png", "c/d.png", "c/e/f.jpg", "a.txt", ".hidden.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return Path("photos")


def test_a_folder_is_walked_by_name_and_files_keep_their_order(photos: Path) -> None:
    inside = ["photos/b.png", "photos/c/d.png", "photos/c/e/f.jpg"]
    paths = ImagePaths(["photos/c/d.png", "photos", "photos/c/d.png"])
    assert list(paths) == ["photos/c/d.png", *inside, "photos/c/d.png"]
    assert dict(paths.passed_over) == {"hidden": 1, "not an image": 1}
    assert describe_passed(paths.passed_over) == "2 files passed over: 1 hidden, 1 not an image"
    assert paths.found == paths.expected == 5


def test_patterns(photos: Path) -> None:
    assert list(ImagePaths(["photos/*.png"])) == ["photos/b.png"]
    assert list(ImagePaths(["photos/**/*.[pj]*g"])) == ["photos/b.png", "photos/c/d.png", "photos/c/e/f.jpg"]
    (photos / "[1].png").write_bytes(b"x")
    assert list(ImagePaths(["photos/[1].png"])) == ["photos/[1].png"]


@pytest.mark.parametrize("null", [False, True])
def test_lists(photos: Path, null: bool) -> None:
    end = b"\0" if null else b"\n"
    name = b"a\nb.png" if null else b"a b.png"
    (photos / os.fsdecode(name)).write_bytes(b"x")
    stream = io.BytesIO(end.join([b"photos/" + name, b"missing.png", b"photos/c"]))
    found = list(ImagePaths(["-", "photos/b.png"], stream, null=null))
    assert found == [f"photos/{os.fsdecode(name)}", "missing.png", "photos/c/d.png", "photos/c/e/f.jpg", "photos/b.png"]


@pytest.mark.parametrize(
    ("inputs", "known_from"),
    [
        (["b.png", "c/d.png"], 0),  # the total is known before the first of these images is read
        (["*.png", "c/d.png"], 1),
        (["c/e", "b.png", "c/d.png"], 1),
        (["b.png", "c/e", "c/d.png"], 2),
        (["."], 4),
        (["c/*"], 3),
        (["b.png", "-"], 5),
        (["*.png", "c/empty"], 2),
    ],
)
def test_the_total_is_right_or_none(photos: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], known_from: int) -> None:
    (photos / "c/empty").mkdir()
    monkeypatch.chdir(photos)
    paths = ImagePaths(inputs, io.BytesIO(b"b.png\nc") if "-" in inputs else None)
    said = [paths.expected, *(paths.expected for _ in paths), paths.expected]
    total = paths.found
    assert said == [None] * known_from + [total] * (len(said) - known_from)


def test_a_folder_that_cannot_be_read_is_a_path_of_its_own(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def refuse(path: Path) -> object:
        if str(path) == "photos/c":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(ImagePaths(["photos"])) == ["photos/b.png", "photos/c/"]


def test_what_is_missing(photos: Path) -> None:
    with pytest.raises(UsageError, match="no images are named"):
        ImagePaths([])
    with pytest.raises(InputError, match="'photo' does not exist"):
        ImagePaths(["photos", "photo"])
    with pytest.raises(InputError, match=r"no file matches 'photos/\*.gif'"):
        ImagePaths(["photos/*.gif"])
    with pytest.raises(UsageError, match="'-' stands for one list"):
        ImagePaths(["-", "-"], io.BytesIO())
    (photos / "empty").mkdir()
    with pytest.raises(InputError, match="there are no images in 'photos/empty'"):
        list(ImagePaths(["photos/empty"]))
    with pytest.raises(InputError, match="there are no images in standard input"):
        list(ImagePaths(["-"], io.BytesIO(b"\n\n")))
    for path in ("b.png", "c/d.png", "c/e/f.jpg"):
        os.remove(photos / path)
    with pytest.raises(InputError, match=r"no images in 'photos' \(2 files passed over: 1 hidden, 1 not an image\)"):
        list(ImagePaths(["photos"]))
