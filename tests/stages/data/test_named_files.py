"""Files that data name: only those inside the folder of the data are read, and only regular files."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Image

from stages.data.image_set import ImageSet
from stages.data.load import load_images
from stages.data.request import ImageRequest
from stages.data.tables.hub import hub_folders
from stages.errors import InputError
from tests.stages.data.pictures import class_folders, noise

FEATURES = Features({"img": Image(), "label": ClassLabel(names=["cat"])})
needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with an image and links, and an image outside it."""
    folder = tmp_path / "data"
    (folder / "inside").mkdir(parents=True)
    noise(1).save(folder / "inside/a.png")
    noise(2).save(tmp_path / "secret.png")
    (folder / "link.png").symlink_to("inside/a.png")
    (folder / "leaves.png").symlink_to("../secret.png")
    return folder


def naming(folder: Path, path: str) -> ImageSet:
    """The images of a parquet file in `folder` with one row, which has no bytes but this path."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array([{"bytes": None, "path": path}], kind), "label": ["x"]}), folder / "t.parquet")
    return load_images(ImageRequest(str(folder / "t.parquet"), split="train"), side="train")


def arrow_table(path: Path | str) -> Dataset:
    return Dataset.from_dict({"img": [str(path)], "label": [0]}, features=FEATURES)


def check_is_first(images: ImageSet) -> None:
    np.testing.assert_array_equal(images.images[0].permute(1, 2, 0), np.asarray(noise(1)))


@pytest.mark.parametrize("path", ["inside/a.png", "inside/../inside/a.png", "link.png", "{data}/inside/a.png"])
def test_images_inside_the_folder_are_read(data: Path, path: str) -> None:
    check_is_first(naming(data, path.format(data=data)))


OUTSIDE = ["../secret.png", "{data}/../secret.png", "leaves.png", "/dev/zero", "zero.png", "circle.png", "a\0b"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_other_files_are_refused(data: Path, path: str) -> None:
    (data / "circle.png").symlink_to("circle.png")
    (data / "zero.png").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"in row 0 of 't\.parquet' is the file '.*outside the folder of the data"):
        naming(data, path.format(data=data))


@needs_fifo
@pytest.mark.parametrize("path", ["pipe.png", "inside", "gone.png", "x" * 5000])
def test_only_regular_files_are_read(data: Path, path: str) -> None:
    os.mkfifo(data / "pipe.png")
    with pytest.raises(InputError, match=r"in row 0 of 't\.parquet' .*cannot be opened"):
        naming(data, path)


@needs_fifo
@pytest.mark.parametrize("kind", ["pipe", "device", "link to a pipe"])
def test_class_folders_may_link_to_images_but_not_to_devices(tmp_path: Path, data: Path, kind: str) -> None:
    folder = class_folders(tmp_path / "pets", {"cat": 2})
    (folder / "cat/000.png").unlink()
    (folder / "cat/000.png").symlink_to(data / "inside/a.png")
    request = ImageRequest(str(folder), split="train", skip_corrupt=True)
    check_is_first(load_images(request, side="train"))
    os.mkfifo(tmp_path / "pipe")
    odd = folder / "cat/odd.png"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to("/dev/zero" if kind == "device" else tmp_path / "pipe")
    with pytest.raises(InputError, match=r"'cat/odd\.png' .*cannot be opened \(it is not a regular file\)"):
        load_images(replace(request, skip_corrupt=False), side="train")
    assert load_images(request, side="train").provenance.skipped_corrupt == 1


def test_saved_datasets_read_nothing_elsewhere(tmp_path: Path, data: Path) -> None:
    arrow_table(data / "inside/a.png").save_to_disk(data)
    file, request = data / "data-00000-of-00001.arrow", ImageRequest(str(data), split="train", layout="tables")

    def write(path: str) -> None:  # save_to_disk embeds the bytes
        table = arrow_table(path).data.table
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)

    write("inside/a.png")
    check_is_first(load_images(request, side="train"))
    write(str(tmp_path / "secret.png"))
    with pytest.raises(InputError, match="outside the folder of the data 'data'"):
        load_images(request, side="train")
    file.rename(tmp_path / "moved.arrow")
    state = json.loads((data / "state.json").read_text())
    (data / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": "../moved.arrow"}]}))
    with pytest.raises(InputError, match=r"names the file '.*moved\.arrow', which is outside its folder"):
        load_images(request, side="train")


@needs_fifo
def test_a_pipe_in_a_saved_dataset_is_not_waited_for(data: Path) -> None:
    arrow_table(data / "inside/a.png").save_to_disk(data)
    (data / "data-00000-of-00001.arrow").unlink()
    os.mkfifo(data / "data-00000-of-00001.arrow")
    with pytest.raises(InputError, match=r"'data-00000-of-00001\.arrow', which is not a regular file"):
        load_images(ImageRequest(str(data), layout="tables"), side="train")


def test_hub_data_have_their_files_in_the_cache_of_the_hub(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    own, other = tmp_path / "hub/datasets--org--pets", tmp_path / "hub/datasets--org--private"
    for folder in (own / "blobs", own / "snapshots/45", other / "blobs"):
        folder.mkdir(parents=True)
    noise(1).save(own / "blobs/0123", "PNG")
    noise(2).save(other / "blobs/67", "PNG")
    image = own / "snapshots/45/a.png"
    image.symlink_to("../../blobs/0123")
    assert hub_folders("org/pets")[0] == own
    request = ImageRequest("org/pets", split="train")
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: arrow_table(image))
    check_is_first(load_images(request, side="train"))
    for path in (data / "inside/a.png", other / "blobs/67"):
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, path=path: arrow_table(path))
        with pytest.raises(InputError, match="outside the folder of the data 'org/pets'"):
            load_images(request, side="train")


def test_objects_of_the_caller_may_name_any_file(data: Path) -> None:
    check_is_first(load_images(ImageRequest(arrow_table(data / "inside/a.png")), side="train"))
