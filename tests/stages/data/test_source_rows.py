"""Every image keeps its row in the source and its key, whatever is sampled, restricted, divided, skipped or cached."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from stages.data.decoding import cache
from stages.data.image_set import DataProvenance, ImageSet
from stages.data.load import load_images, open_images
from stages.data.request import ImageRequest
from tests.stages.data.pictures import class_folders, noise
from tests.stages.data.test_table_source import table


def split_folders(root: Path) -> Path:
    class_folders(root / "train", {"ant": 4, "bee": 3, "cat": 5})
    class_folders(root / "test", {"ant": 2, "bee": 4, "cat": 3}, size=8)
    return root


def check_keys(images: ImageSet, root: Path) -> None:
    """The file of each key has the pixels of the image, and the row is that of the file among all of its split."""
    rows = images.source_rows
    files = {split: sorted(path.relative_to(root).as_posix() for path in root.glob(f"{split}/*/*")) for split in rows.splits}
    for at, (split, row, key) in enumerate(zip(rows.split_of(), rows.rows(), rows.names(), strict=True)):
        assert key == files[rows.splits[split]][row]
        assert np.array_equal(np.asarray(Image.open(root / key)), images.images[at].permute(1, 2, 0))
        assert Path(key).parent.name == images.classes[images.labels[at]]


@pytest.mark.parametrize("split", ["test", "train+test", "test+train"])
@pytest.mark.parametrize("streamed", [False, True])
def test_folders(split: str, streamed: bool, tmp_path: Path) -> None:
    root = split_folders(tmp_path)
    for name in ("train/ant/001.png", "test/ant/000.png"):
        (root / name).write_bytes(b"not an image")
    request = ImageRequest(root, split=split, skip_corrupt=True)
    opened = open_images(request, side="test", classes=("cat", "ant"), cache="none" if streamed else "ram")[0]
    chosen = opened.take(torch.tensor([3, 0, 2, 0])).restricted_to(("ant", "cat"), names_from="the test")
    assert chosen.loaded().source_rows.names() == chosen.source_rows.names()
    for images in (opened.loaded(), chosen.loaded()):
        check_keys(images, root)
    rows = opened.source_rows
    assert rows.splits == tuple(split.split("+"))
    assert len(set(rows.index.tolist())) == len(rows) == len(opened)


def test_a_divided_split_and_cached_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "MIN_SECONDS", 0)
    class_folders(tmp_path / "data/train", {"ant": 20, "bee": 30})
    request = ImageRequest(tmp_path / "data")
    first, again = (load_images(request, side="test") for _ in range(2))
    assert len(first) == 5
    assert first.source_rows.names() == again.source_rows.names()
    check_keys(again, tmp_path / "data")


@pytest.mark.parametrize("streamed", [False, True])
def test_parquet_files(streamed: bool, tmp_path: Path) -> None:
    table([0, 1, 2]).to_parquet(tmp_path / "test-00000-of-00002.parquet")
    table([2, 0, 2, 1], first=3).to_parquet(tmp_path / "test-00001-of-00002.parquet")
    request = ImageRequest(tmp_path, split="test")
    opened = open_images(request, side="test", classes=("dog",), cache="none" if streamed else "ram")[0]
    rows = opened.source_rows
    assert rows.names() == [f"test-00000-of-00002.parquet:{2}", *(f"test-00001-of-00002.parquet:{row}" for row in (0, 2))]
    assert rows.index.tolist() == rows.rows().tolist() == [2, 3, 5]
    for at, row in enumerate(rows.rows().tolist()):
        assert np.array_equal(np.asarray(noise(row)), opened.loaded().images[at].permute(1, 2, 0))


def test_keys_are_inside_the_data(tmp_path: Path) -> None:
    for name in ("train/a", "test/b"):
        (tmp_path / name).parent.mkdir()
        pq.write_table(pq.read_table(_one(tmp_path)), tmp_path / f"{name}.parquet")
    (tmp_path / "one.parquet").unlink()
    both = load_images(ImageRequest(tmp_path, split="train+test"), side="test")
    assert both.source_rows.names() == ["train/a.parquet:0", "train/a.parquet:1", "test/b.parquet:0", "test/b.parquet:1"]
    assert both.source_rows.index.tolist() == [0, 1, 2, 3]
    assert both.source_rows.rows().tolist() == [0, 1, 0, 1]


def _one(folder: Path) -> Path:
    table([0, 1]).to_parquet(folder / "one.parquet")
    return folder / "one.parquet"


class Pairs(Dataset):  # type: ignore[type-arg]
    classes = ("ant", "bee")

    def __len__(self) -> int:
        return 6

    def __getitem__(self, at: int) -> tuple[Image.Image, int]:
        return noise(at), at % 2


def test_python_data_and_tensors_have_indices() -> None:
    assert load_images(ImageRequest(Pairs()), side="test", classes=("bee",)).source_rows.names() == ["1", "3", "5"]
    unnamed = load_images(ImageRequest(table([2, 0, 2])), side="test", classes=("dog",)).source_rows
    assert unnamed.names() == ["0", "2"]
    tensors = ImageSet(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.arange(4), tuple("abcd"), DataProvenance("made up"))
    assert tensors.take([3, 1]).restricted_to(("d",), names_from="the test").source_rows.names() == ["3"]
    assert load_images(ImageRequest("shapes"), side="test", classes=("red ring",)).source_rows.names()[0].startswith("test:")


@pytest.mark.skipif(os.name == "nt", reason="file names are bytes elsewhere")
def test_file_names_that_are_not_text(tmp_path: Path) -> None:
    class_folders(tmp_path, {"ant": 1})
    os.rename(tmp_path / "ant/000.png", os.fsencode(tmp_path / "ant") + b"/caf\xe9.png")
    (key,) = load_images(ImageRequest(tmp_path, split="train"), side="test").source_rows.names()
    assert key.encode() == b"ant/caf\\xe9.png"
