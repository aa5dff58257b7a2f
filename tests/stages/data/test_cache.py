from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from stages.data import cache
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.errors import InputError
from tests.stages.data.pictures import class_folders, noise


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that keeps whatever was decoded, however fast."""
    monkeypatch.setenv("LAAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "MIN_SECONDS", 0.0)
    return tmp_path / "cache"


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.st"))


def change_unseen(path: Path) -> None:
    """Other pixels behind the same name, size and time: only what was kept still shows the old ones."""
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_second_run_decodes_nothing(tmp_path: Path, folder: Path) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 5, "dog": 5})
    first = load_images(ImageRequest(str(data), split="train"), side="train")
    for path in data.rglob("*.png"):
        change_unseen(path)
    again = load_images(ImageRequest(str(data), split="train"), side="train")
    assert again.sha256() == first.sha256()
    assert again.provenance == first.provenance
    assert len(entries(folder)) == 1


def test_other_files_options_or_rows_are_decoded_anew(tmp_path: Path, folder: Path) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 5, "dog": 5})
    whole = load_images(ImageRequest(str(data), split="train"), side="train")
    assert load_images(ImageRequest(str(data), split="train", resize=4), side="train").size == (4, 4)
    assert load_images(ImageRequest(str(data), split="train"), side="train", classes=["dog"]).counts() == [5]
    assert len(load_images(ImageRequest(str(data)), side="test")) == 2
    noise(77).save(data / "cat/000.png")
    other = load_images(ImageRequest(str(data), split="train"), side="train")
    assert other.sha256() != whole.sha256()
    np.testing.assert_array_equal(other.images[0].permute(1, 2, 0), np.asarray(noise(77)))
    assert len(entries(folder)) == 5


def test_labels_do_not_come_from_the_cache(tmp_path: Path, folder: Path) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 2, "dog": 2})
    request = ImageRequest(str(data), split="train")
    assert load_images(request, side="train", classes=["cat", "dog"]).labels.tolist() == [0, 0, 1, 1]
    assert load_images(request, side="train", classes=["dog", "cat"]).labels.tolist() == [1, 1, 0, 0]
    assert len(entries(folder)) == 1


def test_corrupt_images_are_still_counted(tmp_path: Path, folder: Path) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 3, "dog": 3})
    (data / "cat/001.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"'cat/001\.png'"):
        load_images(ImageRequest(str(data), split="train"), side="train")
    for _ in range(2):
        images = load_images(ImageRequest(str(data), split="train", skip_corrupt=True), side="train")
        assert (images.counts(), images.provenance.skipped_corrupt) == ([2, 3], 1)
    with pytest.raises(InputError, match=r"'cat/001\.png'"):
        load_images(ImageRequest(str(data), split="train"), side="train")


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "foreign", "folder"])
def test_a_damaged_entry_is_made_again(tmp_path: Path, folder: Path, damage: str) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 5, "dog": 5})
    first = load_images(ImageRequest(str(data), split="train"), side="train").sha256()
    (entry,) = entries(folder)
    content = entry.read_bytes()
    if damage == "flipped":
        entry.write_bytes(content[:-100] + bytes([content[-100] ^ 1]) + content[-99:])
    elif damage == "foreign":
        save_file({"pixels": np.zeros(3)}, entry)
    elif damage == "folder":
        entry.unlink()
        entry.mkdir()
    else:
        entry.write_bytes(content[: {"empty": 0, "truncated": len(content) // 2}[damage]])
    assert load_images(ImageRequest(str(data), split="train"), side="train").sha256() == first
    if damage != "folder":
        assert entry.read_bytes() == content


@pytest.mark.parametrize("value", ["", "off", "OFF"])
def test_switched_off_nothing_is_written(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LAAT_CACHE", value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    load_images(ImageRequest(str(class_folders(tmp_path / "pets", {"cat": 3})), split="train"), side="train")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets"]


def test_where_entries_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LAAT_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.cache_folder() == tmp_path / ".cache/laat"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg/laat"
    monkeypatch.setenv("LAAT_CACHE", "~/here")
    assert cache.cache_folder() == tmp_path / "here"


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path, folder: Path) -> None:
    folder.write_text("a file where the folder should be")
    images = load_images(ImageRequest(str(class_folders(tmp_path / "pets", {"cat": 3})), split="train"), side="train")
    assert len(images) == 3
    assert folder.read_text() == "a file where the folder should be"


def test_a_full_disk_is_no_error_and_leaves_nothing_half_written(tmp_path: Path, folder: Path) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 20}, size=32)
    code = (
        "import resource, sys; from stages.data import cache; from stages.data.load import load_images\n"
        "from stages.data.request import ImageRequest\n"
        "import torch, PIL\ncache.MIN_SECONDS = 0\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        "print(len(load_images(ImageRequest(sys.argv[1], split='train'), side='train')))"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(data)], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("20\n", "")
    assert not [path for path in folder.iterdir() if path.stat().st_size]


def test_the_least_recently_used_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "TOTAL_BYTES", 3500)
    for at, name in enumerate("abc"):
        cache.save_tensors(name, {"x": np.zeros(800, dtype=np.uint8)})
        os.utime(folder / f"{name}.st", (1000 + at, 1000 + at))
    assert cache.load_tensors("a", {"x"}) is not None  # used just now
    cache.save_tensors("d", {"x": np.zeros(1500, dtype=np.uint8)})
    assert sorted(path.name for path in entries(folder)) == ["a.st", "d.st"]
    cache.save_tensors("e", {"x": np.zeros(9000, dtype=np.uint8)})
    assert [path.name for path in entries(folder)] == ["e.st"]


def test_what_killed_processes_left_is_cleared(folder: Path) -> None:
    folder.mkdir()
    for name, age in (("old", 2 * 24 * 3600), ("new", 60)):
        path = folder / f".{name}.st.x.part"
        path.write_bytes(b"half")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    cache.save_tensors("a", {"x": np.zeros(1)})
    assert sorted(path.name for path in folder.iterdir()) == [".new.st.x.part", "a.st"]


def test_what_is_decoded_at_once_is_not_kept(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MIN_SECONDS", 3600.0)
    load_images(ImageRequest(str(class_folders(tmp_path / "pets", {"cat": 3})), split="train"), side="train")
    assert not folder.exists()
