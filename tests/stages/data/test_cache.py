from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image
from safetensors.numpy import save_file

from stages.data.decoding import cache
from stages.data.load import load_images, open_images
from stages.data.request import ImageRequest
from stages.errors import InputError
from tests.stages.data.pictures import bmp, class_folders, noise, solid


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that keeps whatever was decoded, however fast."""
    monkeypatch.setenv("LAAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "MIN_SECONDS", 0.0)
    return tmp_path / "cache/images-v1"


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.st"))


def test_the_second_run_decodes_nothing(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 5, "dog": 5})
    first = load_images(ImageRequest(str(data), split="train"), side="train")
    monkeypatch.setattr("stages.data.decoding.decode.decode", lambda *_: pytest.fail("decoded"))
    again = load_images(ImageRequest(str(data), split="train"), side="train")
    assert again.sha256() == first.sha256()
    assert again.provenance == first.provenance
    data.rename(tmp_path / "moved")
    for path in (tmp_path / "moved").rglob("*.png"):
        os.utime(path, (1, 1))
    assert load_images(ImageRequest(str(tmp_path / "moved"), split="train"), side="train").sha256() == first.sha256()
    assert len(entries(folder)) == 1


def exchange(one: Path, other: Path) -> None:
    """Exchange the content of two files of one size, and nothing that `stat` shows but ctime and inode."""
    contents = [(other.read_bytes(), one.stat()), (one.read_bytes(), other.stat())]
    for path, (content, before) in zip((one, other), contents, strict=True):
        assert len(content) == before.st_size
        path.write_bytes(content)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


LABELS = Features({"img": Image(), "label": ClassLabel(names=["cat", "dog"])})


def written(path: Path, kind: str, colours: tuple[int, int]) -> Path:
    """Images of two classes in two colours; the sizes of files do not depend on the colours."""
    plain = [solid((colour,) * 3) for colour in colours for _ in range(3)]
    if kind == "folders":
        for at, image in enumerate(plain):
            (path / ("cat", "dog")[at // 3]).mkdir(parents=True, exist_ok=True)
            image.save(path / ("cat", "dog")[at // 3] / f"{at % 3}.bmp")
        return path
    images = [{"bytes": bmp(image), "path": None} for image in plain]
    table = Dataset.from_dict({"img": images, "label": [0] * 3 + [1] * 3}, features=LABELS)
    path.mkdir()
    if kind == "saved":
        table.save_to_disk(path)
    else:
        pq.write_table(table.data.table, path / "train.parquet", compression="none", use_dictionary=False)
    return path


@pytest.mark.parametrize("kind", ["folders", "parquet", "saved"])
@pytest.mark.parametrize("streamed", [False, True])
def test_other_content_behind_the_same_name_size_and_time_is_seen(
    tmp_path: Path, folder: Path, kind: str, streamed: bool
) -> None:
    data, other = written(tmp_path / "pets", kind, (50, 200)), written(tmp_path / "other", kind, (200, 20))
    request = ImageRequest(str(data), split="train")
    cache_kind = "none" if streamed else "ram"
    for red, mean in ((50, 125), (200, 110)):
        images, _ = open_images(request, side="train", cache=cache_kind)
        assert int(images.loaded().images[0, 0, 0, 0]) == red
        assert images.mean_std()[0][0] * 255 == pytest.approx(mean)
        assert images.sha256() == images.loaded().sha256()
        for path in (path for path in data.rglob("*") if path.suffix in (".bmp", ".parquet", ".arrow")):
            exchange(path, other / path.relative_to(data))
    assert len(entries(folder)) == 2


def test_an_image_that_changes_while_it_is_read_makes_no_wrong_entry(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 2})
    request = ImageRequest(str(data), split="train")
    first = load_images(request, side="train").sha256()
    (entry,) = entries(folder)
    entry.write_bytes(b"damaged")
    with monkeypatch.context() as patch:
        patch.setattr(cache, "load_tensors", lambda *_: noise(77).save(data / "cat/000.png"))  # after the digest
        other = load_images(request, side="train").sha256()
    assert load_images(request, side="train").sha256() == other
    noise(0).save(data / "cat/000.png")
    assert load_images(request, side="train").sha256() == first


def test_an_entry_under_the_name_of_another_is_not_used(tmp_path: Path, folder: Path) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 2})
    request = ImageRequest(str(data), split="train")
    load_images(request, side="train")
    (entry,) = entries(folder)
    kept = entry.read_bytes()
    noise(77).save(data / "cat/000.png")
    other = load_images(request, side="train").sha256()
    (renamed,) = set(entries(folder)) - {entry}
    renamed.write_bytes(kept)
    assert load_images(request, side="train").sha256() == other


@pytest.mark.parametrize("damage", ["flipped", "truncated", "other", "link"])
def test_a_damaged_copy_of_parquet_files_is_made_again(tmp_path: Path, folder: Path, damage: str) -> None:
    data, other = written(tmp_path / "pets", "parquet", (50, 200)), written(tmp_path / "other", "parquet", (200, 20))
    first, _ = open_images(ImageRequest(str(data), split="train"), side="train", cache="none")
    (copy,) = folder.glob("*.arrow")
    content = copy.read_bytes()
    if damage == "flipped":
        at = content.index(bytes([50] * 12))
        copy.write_bytes(content[:at] + b"\0" + content[at + 1 :])
    elif damage == "truncated":
        copy.write_bytes(content[:300])
    else:
        open_images(ImageRequest(str(other), split="train"), side="train", cache="none")
        (wrong,) = set(folder.glob("*.arrow")) - {copy}
        wrong.replace(copy) if damage == "other" else (copy.unlink(), copy.symlink_to(wrong))
    again, _ = open_images(ImageRequest(str(data), split="train"), side="train", cache="none")
    assert again.loaded().sha256() == first.sha256()
    assert copy.read_bytes() == content


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
    assert cache.cache_folder() == tmp_path / ".cache/laat/images-v1"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg/laat/images-v1"
    monkeypatch.setenv("LAAT_CACHE", "~/here")
    assert cache.cache_folder() == tmp_path / "here/images-v1"


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path, folder: Path) -> None:
    folder.parent.write_text("a file where the folder should be")
    images = load_images(ImageRequest(str(class_folders(tmp_path / "pets", {"cat": 3})), split="train"), side="train")
    assert len(images) == 3
    assert folder.parent.read_text() == "a file where the folder should be"


def test_a_full_disk_is_no_error_and_leaves_nothing_half_written(tmp_path: Path, folder: Path) -> None:
    data = class_folders(tmp_path / "pets", {"cat": 20}, size=32)
    code = (
        "import resource, sys; from stages.data.decoding import cache; from stages.data.load import load_images\n"
        "from stages.data.request import ImageRequest\n"
        "import torch, PIL\ncache.MIN_SECONDS = 0\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        "print(len(load_images(ImageRequest(sys.argv[1], split='train'), side='train')))"
    )
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(data)], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("20\n", "")
    assert not [path for path in folder.iterdir() if path.stat().st_size]


def name(letter: str) -> str:
    return f"pixels-{letter * 16}-{letter * 64}"


def test_the_least_recently_used_go_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "TOTAL_BYTES", 3500)
    for at, letter in enumerate("abc"):
        cache.save_tensors(name(letter), {"x": np.zeros(800, dtype=np.uint8)})
        os.utime(folder / f"{name(letter)}.st", (1000 + at, 1000 + at))
    assert cache.load_tensors(name("a"), {"x"}) is not None  # used just now
    cache.save_tensors(name("d"), {"x": np.zeros(1500, dtype=np.uint8)})
    assert [path.stem for path in entries(folder)] == [name("a"), name("d")]
    cache.save_tensors(name("e"), {"x": np.zeros(9000, dtype=np.uint8)})
    assert [path.stem for path in entries(folder)] == [name("e")]


def test_what_killed_processes_left_is_cleared(folder: Path) -> None:
    folder.mkdir(parents=True)
    group = f"scan-{'b' * 16}"
    old, new = f".{group}.abcd_123.part", f".{group}.abcd1234.part"
    for file, age in ((old, 2 * 24 * 3600), (f"{group}.lock", 2 * 24 * 3600), (new, 60)):
        (folder / file).write_bytes(b"half")
        os.utime(folder / file, ((folder / file).stat().st_mtime - age,) * 2)
    cache.save_tensors(name("a"), {"x": np.zeros(1)})
    assert sorted(path.name for path in folder.iterdir()) == [new, f"{name('a')}.st"]


def test_nothing_but_entries_is_counted_or_removed(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "TOTAL_BYTES", 3000)
    folder.mkdir(parents=True)
    outside = tmp_path / f"{name('0')}.st"
    foreign = [folder.parent / "my-best-model.st", folder.parent / "old.lock", folder.parent / f"{name('1')}.st", outside]
    foreign += [folder / file for file in ("model.st", f"{name('2')}.st.bak", "pixels-1.arrow", ".x.part", "x.lock")]
    for path in foreign:
        path.write_bytes(bytes(5000))
        os.utime(path, (1000, 1000))
    link = folder / f"{name('3')}.st"
    link.symlink_to(outside)
    (folder / f"{name('4')}.arrow").mkdir()
    for letter in "ab":
        cache.save_tensors(name(letter), {"x": np.zeros(500, dtype=np.uint8)})
    assert all(path.read_bytes() == bytes(5000) for path in [*foreign, link])
    assert all((folder / f"{name(letter)}.st").is_file() for letter in "ab")
    cache.save_tensors(name("3"), {"x": np.zeros(9000, dtype=np.uint8)})
    assert outside.read_bytes() == bytes(5000)
    assert [path.stem for path in folder.glob("pixels-*.st")] == [name("3")]


def test_what_is_decoded_at_once_is_not_kept(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MIN_SECONDS", 3600.0)
    load_images(ImageRequest(str(class_folders(tmp_path / "pets", {"cat": 3})), split="train"), side="train")
    assert not folder.exists()
