"""Writing and reading files: atomically, with ordinary permissions, to pipes and standard streams."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.errors import InputError, MissingError
from stages.files.artifacts import describe, read, to_bytes, write
from stages.files.writing import check_writable, write_file, write_files
from tests.stages.files.test_artifacts import small_artifact


def test_unreadable_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "none.st")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "file" / "below.st")


@pytest.mark.parametrize("broken", ["replace", "fsync", "chmod"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.st"
    target.write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(MissingError, match="No space left on device"):
        write(small_artifact(), target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.st"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.st"
    target.write_bytes(b"old")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(small_artifact(), target)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.st"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_follow_the_umask(mask: int, mode: int, tmp_path: Path) -> None:
    previous = os.umask(mask)
    try:
        write_file(tmp_path / "a", b"data")
        assert os.umask(mask) == mask, "the umask was changed"
    finally:
        os.umask(previous)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    for refuse in (check_writable, lambda path: write_file(path, b"")):
        with pytest.raises(MissingError, match="a folder is in the way"):
            refuse(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for refuse in (check_writable, lambda path: write_file(path, b"")):
        with pytest.raises(MissingError, match="cannot write"):
            refuse(tmp_path / "file" / "a.st")


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(MissingError, match="the folder is not writable"):
        check_writable(tmp_path / "new" / "a.st")


def test_writable_places(tmp_path: Path) -> None:
    check_writable(tmp_path / "not" / "made" / "yet.st")
    assert list(tmp_path.iterdir()) == []
    check_writable("-")


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        check_writable(pipe)
        write_file(pipe, b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        buffer = io.BytesIO()

    monkeypatch.setattr(sys, "stdout", Stream)
    written = write(small_artifact(), "-")
    assert Stream.buffer.getvalue() == to_bytes(small_artifact())
    Stream.buffer.seek(0)
    monkeypatch.setattr(sys, "stdin", Stream)
    assert read("-", "anchors").sha256 == written.sha256
    Stream.buffer = io.BytesIO(b"rubbish!")
    with pytest.raises(InputError, match="standard input"):
        read("-")


def test_describe() -> None:
    rows = describe({"b": np.array([1.0, 3.0]), "a": np.zeros((0, 2), np.uint8)})
    assert rows == [
        {"tensor": "a", "dtype": "uint8", "shape": [0, 2]},
        {"tensor": "b", "dtype": "float64", "shape": [2], "min": 1.0, "mean": 2.0, "max": 3.0},
    ]


def test_several_files_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MissingError, match=r"cannot write '.*folder': a folder is in the way"):
        write_files({tmp_path / "old": b"new", tmp_path / "more/new": b"new", tmp_path / "folder": b"new"})
    assert (tmp_path / "old").read_bytes() == b"old"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["old"]
    write_files({tmp_path / "old": b"new", tmp_path / "more/new": b"also"})
    assert (tmp_path / "old").read_bytes() == b"new"
    assert (tmp_path / "more/new").read_bytes() == b"also"
