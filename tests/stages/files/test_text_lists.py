"""Lists in text files: what ends a line, what is a comment, and which files are no list."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from stages.errors import InputError
from stages.files import text_lists
from stages.files.artifacts import read
from stages.files.reading import read_file
from stages.files.text_lists import read_list

needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")


def entries(folder: Path, content: bytes | str, name: str = "list.txt") -> list[str]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [line for _, line in read_list(path, "class file", "class name")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_ends_of_lines_of_all_systems(tmp_path: Path, end: str) -> None:
    assert entries(tmp_path, end.join(["\ufeffbear ", "", "  wolf", ""])) == ["bear", "wolf"]


@pytest.mark.parametrize("sign", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_nothing_else_ends_a_line(tmp_path: Path, sign: str) -> None:
    assert entries(tmp_path, f"sea{sign}lion\nbear\n") == [f"sea{sign}lion", "bear"]


@pytest.mark.parametrize("line", ["#", "##", "#####", "# animals", "#\tanimals", "  # animals", "## animals", "#\u00a0animals"])
def test_comments(tmp_path: Path, line: str) -> None:
    assert entries(tmp_path, f"{line}\nbear\n\ufeff{line}\n") == ["bear"]


@pytest.mark.parametrize("line", ["#1 dad mug", "#bear", "C# major", "bear # not a comment", "##bear", "//", "; bear"])
def test_what_is_no_comment(tmp_path: Path, line: str) -> None:
    assert entries(tmp_path, f"{line}\n# bear\n") == [line]


@pytest.mark.parametrize("name", ["c.csv", "c.TSV", "c.json", "c.yaml", "c.jsonl"])
def test_other_formats_are_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"is (CSV|TSV|JSON|YAML) by its name, not a list; write a text"):
        entries(tmp_path, "bear\n", name)


def test_columns_are_refused_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 2 of the class file '.*list\.txt' has several columns, separated by a tab"):
        entries(tmp_path, "# x\nn01\tbear\n")


@pytest.mark.parametrize(
    ("content", "why"), [(b"b\xe4r", "not UTF-8"), ("bär".encode("utf-16-le"), "not UTF-8|binary"), (b"a\0b", "binary")]
)
def test_other_text_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(InputError, match=why):
        entries(tmp_path, content)


def test_a_large_file_is_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lists, "MAX_BYTES", 2**20)
    with pytest.raises(InputError, match="has more than 1 MiB"):
        entries(tmp_path, "bear\n" * 2**18)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices")
def test_devices_are_not_read() -> None:
    for reader in (read_file, read, lambda path: read_list(path, "class file", "class name")):
        with pytest.raises(InputError, match="'/dev/zero' is a device, expected a file"):
            reader("/dev/zero")


def endless(path: Path) -> threading.Thread:
    """A writer that fills a pipe until its reader goes away."""

    def write() -> None:
        try:
            with path.open("wb", buffering=0) as pipe:
                while True:
                    pipe.write(bytes(2**16))
        except BrokenPipeError:
            pass

    writer = threading.Thread(target=write)
    writer.start()
    return writer


@needs_fifo
def test_a_pipe_without_an_end_is_not_read_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lists, "MAX_BYTES", 2**20)
    monkeypatch.setattr("stages.files.reading._PIPE_BYTES", 2**20)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    for reader in (read_file, read, lambda path: read_list(path, "class file", "class name")):
        writer = endless(path)
        with pytest.raises(InputError, match=r"more than 1 MiB|not a safetensors file"):
            reader(path)
        writer.join(10)
        assert not writer.is_alive()


@needs_fifo
def test_a_pipe_with_an_end_is_read_whole(tmp_path: Path) -> None:
    path, whole = tmp_path / "pipe", Path("tests/golden/anchors.st").read_bytes()
    os.mkfifo(path)
    for content in (whole, whole + b"x", whole[:-1]):
        writer = threading.Thread(target=path.write_bytes, args=(content,))
        writer.start()
        if content == whole:
            assert read(path).lineage() == read("tests/golden/anchors.st").lineage()
        else:
            with pytest.raises(InputError, match=r"'.*pipe'"):
                read(path)
        writer.join(10)
