"""Small files that would unpack to much memory are refused, or read in parts."""

from __future__ import annotations

import io
import tracemalloc
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from stages.data.decoding import parallel
from stages.data.decoding.encoded import Encoded
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.data.tables.parquet_table import ParquetTable
from stages.data.tables.table_source import TableSource
from stages.errors import InputError
from tests.stages.data.pictures import bmp, chunk, noise, png, png_header

TRAIN = {"split": "train"}


def folder_of(root: Path, content: bytes, suffix: str = "png") -> Path:
    (root / "cat").mkdir(parents=True)
    (root / f"cat/a.{suffix}").write_bytes(content)
    return root


def load(data: Path, **options: Any) -> int:
    return len(load_images(ImageRequest(str(data), **{**TRAIN, **options}), side="train"))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "BMP", "JPEG", "WEBP"])
def test_an_image_above_the_limit_is_refused_with_its_size(tmp_path: Path, kind: str) -> None:
    data = folder_of(tmp_path, saved(noise(0, 40, 30), kind), kind.lower())
    assert load(data, max_pixels=1200) == 1
    with pytest.raises(InputError, match=r"40x30 pixels, more than --max-pixels 1199\); read it with --max-pixels 1200"):
        load(data, max_pixels=1199)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_only_the_first_frame_counts(tmp_path: Path, kind: str) -> None:
    frames = [noise(at, 40, 30) for at in range(3)]
    data = folder_of(tmp_path, saved(frames[0], kind, save_all=True, append_images=frames[1:]), kind.lower())
    assert load(data, max_pixels=1200) == 1


def test_a_small_file_with_a_huge_image_takes_no_memory(tmp_path: Path) -> None:
    rows = zlib.compressobj(9)
    content = b"".join(rows.compress(bytes(26_601)) for _ in range(13_300)) + rows.flush()
    huge = png_header(13_300, 13_300, 16, 0) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    data = folder_of(tmp_path / "data", huge)
    with pytest.raises(InputError, match="13300x13300 pixels, more than --max-pixels 90000000"):
        load(data)
    for number, (width, height) in enumerate([(2**31 - 1, 2**31 - 1), (10**9, 1)]):
        absurd = png_header(width, height, 8, 2) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        with pytest.raises(InputError, match=f"{width}x{height} pixels"):
            load(folder_of(tmp_path / f"{number}", absurd))
    assert Image.MAX_IMAGE_PIXELS == 89_478_485


def test_a_long_strip_is_not_blown_up_by_resizing(tmp_path: Path) -> None:
    data = folder_of(tmp_path, png(noise(0, 5000, 1)))
    with pytest.raises(InputError, match="5000000x1000 pixels, resized, more than"):
        load(data, resize=1000)


def test_a_bomb_in_another_chunk_is_not_unpacked(tmp_path: Path) -> None:
    whole = png(noise(0))
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000), 9))
    data = folder_of(tmp_path, whole[:33] + text + whole[33:])
    tracemalloc.start()
    assert load(data) == 1
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


def test_a_large_image_does_not_warn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(folder_of(tmp_path, png(noise(0, 40, 40)))) == 1


@pytest.mark.parametrize("heavy", [0, 10, 100])
def test_reading_ahead_stays_within_bounds(monkeypatch: pytest.MonkeyPatch, heavy: int) -> None:
    monkeypatch.setattr(parallel, "WAITING_BYTES", 300)
    monkeypatch.setattr(parallel, "CHUNK_BYTES", 50)
    read = [0]

    def images() -> Any:
        for at in range(1000):
            read[0] += 1
            yield Encoded(str(at), None)

    ahead = []
    for at, (image, result) in enumerate(parallel.in_parallel(images(), lambda image: image.where, lambda _: heavy)):
        assert image.where == result == str(at)
        ahead.append(read[0] - at)
    assert max(ahead) <= {0: 1, 10: 40, 100: 4}[heavy]


def write(path: Path, images: Any, labels: Any, **options: Any) -> Path:
    path.mkdir()
    pq.write_table(pa.table({"image": images, "label": labels}), path / "train.parquet", **options)
    return path


def repeated(value: Any, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([value]))


def test_cells_and_labels_that_occur_often_are_unpacked_once(tmp_path: Path) -> None:
    """2 kB of parquet: 50 images of 10 MB, and as many labels of 10 MB, 1 GB in all."""
    image = png(noise(0)) + bytes(10**7)
    data = write(tmp_path / "data", repeated(image, 50), repeated("x" * 10**7, 50), compression="zstd")
    assert (data / "train.parquet").stat().st_size < 5000
    before = pa.total_allocated_bytes()
    table = ParquetTable([data / "train.parquet"])
    for cell in table.cells("image", np.arange(50)):
        assert len(cell) == len(image)
        assert pa.total_allocated_bytes() - before < 10**8
    assert sum(len(part) for part in table.column("label")) == 50
    source = TableSource("data", {"train": table})
    assert source.labels("train").tolist() == [0] * 50
    assert pa.total_allocated_bytes() - before < 10**8


def test_a_row_group_that_unpacks_to_far_more_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.data.tables.parquet_table.UNPACKED_BYTES", 2**20)
    cells = [bytes([at]) + bytes(100_000) for at in range(20)]
    for column in ("image", "label"):
        images = cells if column == "image" else [png(noise(0))] * 20
        labels = ["x"] * 20 if column == "image" else [cell.decode("latin-1") for cell in cells]
        data = write(tmp_path / column, images, labels, compression="zstd", use_dictionary=False)
        with pytest.raises(InputError, match=r"'train\.parquet' has a row group of 2,0.* bytes"):
            load(data)
    data = write(tmp_path / "plain", [bmp(noise(at, 200, 200)) for at in range(20)], ["x"] * 20, compression="zstd")
    assert load(data) == 20


def test_more_rows_than_bytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "data", pa.nulls(10_000, pa.binary()), ["x"] * 10_000)
    monkeypatch.setattr("stages.data.tables.parquet_table.FEWEST_ROWS", 1000)
    with pytest.raises(InputError, match=r"'train\.parquet' has 10,000 rows in .* bytes, which cannot be images"):
        load(data)


def test_large_cells_are_read_in_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.data.tables.parquet_table.BATCH_BYTES", 30_000)
    data = write(tmp_path / "data", [bmp(noise(at, 40, 40)) for at in range(30)], ["x"] * 30, row_group_size=10)
    images = load_images(ImageRequest(str(data), split="train"), side="train")
    for at in (0, 9, 10, 29):
        np.testing.assert_array_equal(images.images[at].permute(1, 2, 0), np.asarray(noise(at, 40, 40)))


def test_a_compressed_saved_dataset_is_refused(tmp_path: Path) -> None:
    Dataset.from_dict({"image": [{"bytes": png(noise(0))}], "label": ["x"]}).save_to_disk(tmp_path / "data")
    assert load(tmp_path / "data") == 1
    file = tmp_path / "data/data-00000-of-00001.arrow"
    with pa.OSFile(str(file)) as opened:
        table = pa.ipc.open_stream(opened).read_all()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(table)
    with pytest.raises(InputError, match=r"'data-00000-of-00001\.arrow' of the saved dataset 'data' is compressed"):
        load(tmp_path / "data")
