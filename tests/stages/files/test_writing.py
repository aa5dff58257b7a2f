"""Temporary files of killed writers are removed by the next one; those of living writers stay."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from stages.attacks.png_folder import check_png_folder, write_png_folder
from stages.errors import MissingError
from stages.files.writing import check_writable, new_part, write_file, write_files

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no locks of files")
IMAGES, LABELS = np.zeros((2, 3, 4, 4), np.uint8), np.array([0, 1])


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("name", ["e.st", "x" * 255, "é" * 127])
def test_parts_of_dead_writers_are_removed(tmp_path: Path, name: str) -> None:
    target, other = tmp_path / name, tmp_path / "other.st"
    dead, alive, foreign = new_part(target)[0], new_part(target), new_part(other)
    os.close(dead)
    (tmp_path / f".{name[:100]}.my own.part").touch()
    write_file(target, b"data")
    assert target.read_bytes() == b"data"
    left = {f".{name[:100]}.my own.part", name, alive[1].name, foreign[1].name}
    assert set(names(tmp_path)) == left
    for descriptor, _ in (alive, foreign):
        os.close(descriptor)
    write_files({target: b"new", other: b"new"})
    assert set(names(tmp_path)) == {f".{name[:100]}.my own.part", name, "other.st"}


def test_files_and_their_names_are_on_the_disk_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, rename = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        sync(descriptor)

    def replace(one: Path, two: Path) -> None:
        done.append(two.name)
        rename(one, two)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_files({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert done == ["file", "file", "a", "folder", "b", "folder"]


def test_a_killed_replacement_of_pictures_is_put_back_and_removed(tmp_path: Path) -> None:
    folder = tmp_path / "png"
    write_png_folder(folder, IMAGES, LABELS, ["cat", "dog"], force=False)
    descriptor, part = new_part(folder, folder=True)
    os.rename(folder, part / "old")
    os.close(descriptor)  # as if killed here: the images are in `part`
    new_part_of_another = new_part(tmp_path / "elsewhere", folder=True)
    write_png_folder(folder, IMAGES[:1], LABELS[:1], ["cat", "dog"], force=True)
    assert names(tmp_path) == [new_part_of_another[1].name, "png"]
    assert names(folder) == ["cat"]
    os.close(new_part_of_another[0])


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_a_link_and_its_target_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "link").symlink_to("deep/target")
    if there:
        (tmp_path / "deep").mkdir()
        (tmp_path / "deep/target").write_bytes(b"old")
    check_writable(tmp_path / "link")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "deep/target").read_bytes() == b"new"
    assert (names(tmp_path), names(tmp_path / "deep")) == (["deep", "link"], ["target"])


@pytest.mark.parametrize(("name", "says"), [("file/a.st", "file' is not a folder"), ("x" * 256, "File name too long")])
def test_what_is_in_the_way_is_said(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "file").touch()
    for refuse in (check_writable, lambda path: write_file(path, b""), lambda path: check_png_folder(path, force=True)):
        with pytest.raises(MissingError, match=rf"cannot write '.*': .*{says}; .*choose another place"):
            refuse(tmp_path / name)
