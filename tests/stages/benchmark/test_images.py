"""Which images of a data set are read."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from stages.benchmark.images import SharedImages
from stages.benchmark.presence import find_data
from stages.benchmark.spec import DataSet


def copy(root: Path, *splits: str) -> None:
    """ROOT/d with two classes; each split has another number of images."""
    for count, split in enumerate(splits, 1):
        for name in ("red", "blue"):
            (root / "d" / split / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (count, number, len(name))).save(root / "d" / split / name / f"{number}.png")


@pytest.mark.parametrize(
    ("split", "folders", "images"),
    [
        ("train+test", ("train", "val", "test"), 8),
        ("train+test", ("",), 2),
        ("validation", ("train", "val", "test"), 4),
        ("validation", ("train", "test"), 4),
        ("test", ("train", "val", "test"), 6),
        ("test", ("",), 2),
        (None, ("train", "test"), 4),
    ],
)
def test_a_copy_is_read_in_the_split_of_the_benchmark_where_it_has_it(
    split: str | None, folders: tuple[str, ...], images: int, tmp_path: Path
) -> None:
    copy(tmp_path, *folders)
    found = find_data(DataSet("d", "org/table", split=split, image_column="img"), tmp_path)
    assert len(SharedImages(found).read({}, ())) == images
