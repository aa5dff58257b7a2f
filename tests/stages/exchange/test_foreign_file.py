"""Files with weights of other programs, and files that only look so. Nothing in them is executed."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from stages.errors import InputError
from stages.exchange import pickle_process
from stages.exchange.foreign_file import read_foreign
from stages.files.reading import sha256_of


def saved(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


CODE = r"asks for \w+\.mkdir, and only tensors, numbers and texts are read"


class Touch:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_is_read_in_another_process(tmp_path: Path) -> None:
    weight = torch.arange(6.0).view(2, 3)
    content = {
        "model": {"a": weight, "half": weight.half(), "same": weight.T},
        "epoch": 3,
        "best": torch.tensor(7),
        "accuracy": np.float64(0.5),
        "optimizer": {"state": {0: {"momentum": weight}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    }
    path = saved(content, tmp_path / "odd é name.pt")
    found = read_foreign(path)
    assert (found.name, found.sha256, found.limited) == (path.name, sha256_of(path), True)
    assert torch.equal(found.groups["model"]["a"], weight)
    assert torch.equal(found.groups["model"]["same"], weight.T)
    assert found.groups["model"]["half"].dtype is torch.float16
    assert found.groups[""] == {"best": torch.tensor(7)}
    assert found.counts == {"epoch": 1, "accuracy": 1, "optimizer": 3}


def test_code_is_refused_and_not_executed(tmp_path: Path) -> None:
    path = saved({"state_dict": {"a": torch.ones(1)}, "args": Touch(tmp_path / "made")}, tmp_path / "x.pt")
    with pytest.raises(InputError, match=CODE):
        read_foreign(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_pickles_of_other_kinds(protocol: int, tmp_path: Path) -> None:
    code = {"args": Touch(tmp_path / "made")}
    saved(code, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(code, protocol))
    with pytest.raises(InputError, match=CODE):
        read_foreign(tmp_path / "old.pt")
    with pytest.raises(InputError, match="was not read"):
        read_foreign(tmp_path / "bare.pt")
    assert not (tmp_path / "made").exists()


def test_a_file_that_takes_too_long_or_too_much_memory(tmp_path: Path) -> None:
    path = saved({"a": torch.ones(3)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="was not read within 0 s"):
        read_foreign(path, seconds=0.01)
    # a storage of 3 numbers becomes one of 2**31 - 1: 8 GiB, which are allocated before they are read
    data = path.read_bytes()
    assert data.count(b"K\x03N") == 1
    path.write_bytes(data.replace(b"K\x03N", b"J\xff\xff\xff\x7fN"))
    with pytest.raises(InputError, match="was not read: it needs too much memory for its size"):
        read_foreign(path)


def zipped(path: Path, name: str, data: bytes, how: int) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr(name, data)
    return path


def truncated(path: Path) -> Path:
    saved({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-300])
    return path


def text(data: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return write


def overlapping(path: Path) -> Path:
    """One entry that the directory of the archive lists three times."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", bytes(1000))
        archive.filelist += 2 * archive.filelist
    return path


FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "bomb": (lambda p: zipped(p, "x/data.pkl", bytes(10**7), zipfile.ZIP_DEFLATED), "is a compressed archive"),
    "overlapping": (overlapping, r"is a compressed archive \(3,000 bytes in 1,"),
    "zip": (lambda p: zipped(p, "a.txt", b"hi", zipfile.ZIP_STORED), "is a zip archive without a checkpoint"),
    "script": (lambda p: zipped(p, "x/constants.pkl", b"", zipfile.ZIP_STORED), "is a TorchScript program"),
    "expanded": (
        lambda p: saved({"a": torch.zeros(1).expand(10**10)}, p),
        "has 1,[0-9]* bytes and describes tensors of 40",
    ),
    "list": (lambda p: saved([torch.ones(1)], p), "holds a list, expected a dictionary"),
    "namespace": (lambda p: saved({"args": argparse.Namespace()}, p), "asks for argparse.Namespace"),
    "truncated": (truncated, "is damaged, truncated or no checkpoint of torch"),
    "text": (text(b"hello world, these are no weights"), "is damaged, truncated or no checkpoint of torch"),
    "html": (text(b"\n<!DOCTYPE html><title>Sign in"), r"is a web page \(HTML or XML\), not weights"),
    "pointer": (text(b"version https://git-lfs.github.com/spec/v1\noid sha256:1"), "is a pointer of Git LFS"),
    "json": (text(b'{"a": 1}'), "is JSON, not weights"),
    "empty": (text(b""), "is empty"),
}


@pytest.mark.usefixtures("no_child")
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_checkpoint(name: str, tmp_path: Path) -> None:
    make, says = FILES[name]
    with pytest.raises(InputError, match=f"x.pt' (was not read: it )?{says}"):
        read_foreign(make(tmp_path / "x.pt"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_safetensors_need_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("a process was started"))
    save_file({"a": torch.ones(2)}, tmp_path / "x.pt")  # whatever its name says
    found = read_foreign(tmp_path / "x.pt")
    assert (found.groups[""]["a"].tolist(), found.limited) == ([1, 1], None)
    (tmp_path / "y.safetensors").write_bytes((tmp_path / "x.pt").read_bytes()[:30])
    with pytest.raises(InputError, match="is not a safetensors file, or is truncated"):
        read_foreign(tmp_path / "y.safetensors")
    for path in (tmp_path, tmp_path / "nowhere.pt"):
        with pytest.raises(InputError, match=r"is a folder|does not exist"):
            read_foreign(path)


@pytest.mark.parametrize("length", [0x3C20, 0x7B20])
def test_a_header_whose_length_reads_like_a_web_page_or_json(length: int, tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode().ljust(length)
    path = tmp_path / "x.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + header + np.float32(2).tobytes())
    assert read_foreign(path).groups[""]["a"].tolist() == [2]


@pytest.mark.usefixtures("no_child")
def test_entries_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    itself: dict[str, Any] = {"a": {"w": torch.ones(1)}}
    itself["again"] = itself
    assert list(read_foreign(saved(itself, tmp_path / "x.pt")).groups) == ["a"]
    monkeypatch.setattr(pickle_process, "_MOST_ENTRIES", 10)
    with pytest.raises(InputError, match="more than 10 entries"):
        read_foreign(saved({"a": list(range(11))}, tmp_path / "x.pt"))
