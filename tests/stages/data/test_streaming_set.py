from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image

from stages.data.image_set import ImageSet
from stages.data.load import load_images, open_images
from stages.data.request import ImageRequest
from stages.data.streaming_set import StreamingImageSet
from stages.errors import InputError, MissingError, UsageError
from tests.stages.data.pictures import class_folders, noise, png

NAMES = ["cat", "dog", "owl"]
FEATURES = Features({"img": Image(), "label": ClassLabel(names=NAMES)})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache/images-v1"


def table(count: int, *, first: int = 0) -> Dataset:
    """Images 10 wide and 6 high, so that no axis is mistaken for another."""
    images = [{"bytes": png(noise(first + at, 10, 6)), "path": None} for at in range(count)]
    return Dataset.from_dict({"img": images, "label": [at % 3 for at in range(count)]}, features=FEATURES)


def write(root: Path, kind: str) -> str:
    if kind == "shapes":
        return "shapes"
    path = root / kind
    if kind == "folders":
        class_folders(path / "train", {"cat": 12, "dog": 20}, size=6)
        class_folders(path / "test", {"cat": 2, "dog": 3}, size=6)
    elif kind == "one parquet":
        path = root / "pets.parquet"
        table(90).to_parquet(path, batch_size=7)
    elif kind == "parquet":
        path.mkdir()
        table(20).to_parquet(path / "train-00000-of-00002.parquet")
        table(15, first=20).to_parquet(path / "train-00001-of-00002.parquet")
        table(10, first=50).to_parquet(path / "test.parquet")
    elif kind == "saved":
        DatasetDict({"train": table(30), "test": table(9, first=40)}).save_to_disk(path, num_shards={"train": 3, "test": 1})
    return str(path)


def asked(data: str, split: str | None = None, resize: int | None = None, **options: Any) -> dict[str, Any]:
    request = ImageRequest(data, split=split, resize=resize, skip_corrupt=options.pop("skip_corrupt", False))
    return {"request": request, "side": "train", **options}


def opened(data: str, **options: Any) -> StreamingImageSet:
    images, kept = open_images(**asked(data, **options), cache="none")
    assert (type(images), kept) == (StreamingImageSet, "none")
    assert isinstance(images, StreamingImageSet)
    return images


def check_alike(streamed: StreamingImageSet, images: ImageSet) -> None:
    assert len(streamed) == len(images)
    assert streamed.size == images.size
    assert streamed.classes == images.classes
    assert streamed.counts() == images.counts()
    assert streamed.provenance == images.provenance
    assert torch.equal(streamed.labels, images.labels)
    assert streamed.mean_std() == images.mean_std()
    assert streamed.channel_ranges() == images.channel_ranges()
    assert streamed.sha256() == images.sha256()
    loaded = streamed.loaded()
    assert torch.equal(loaded.images, images.images)
    assert torch.equal(loaded.labels, images.labels)
    assert loaded.loaded() is loaded


@pytest.mark.parametrize("kind", ["folders", "one parquet", "parquet", "saved"])
@pytest.mark.parametrize(
    "options",
    [{}, {"side": "test"}, {"resize": 5}, {"classes": ["Dog", "cat"]}, {"split": "test+train"}],
    ids=["all", "test", "resize", "classes", "splits"],
)
def test_a_streamed_set_is_the_loaded_one(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    if kind == "one parquet" and "split" in options:
        options = {"split": "train"}
    data, wanted = write(tmp_path, kind), {"side": "train", **options}
    images = load_images(**asked(data, **wanted))
    for _ in range(2):  # made, and kept from before
        streamed = opened(data, **wanted)
        check_alike(streamed, images)
        rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))[: len(images) // 2]
        check_alike(streamed.take(rows), images.take(rows))
        check_alike(streamed.take([2, 2, 0]), images.take([2, 2, 0]))
        one = [["dog"], ["cat"]][rows[0] % 2]
        part, expected = (given.restricted_to(one, names_from="the anchors") for given in (streamed, images))
        check_alike(part, expected)
        check_alike(part.take([1, 0]), expected.take([1, 0]))


def test_bundled_images_can_be_streamed() -> None:
    names = ["red circle", "blue star"]
    check_alike(opened("shapes", side="test", classes=names), load_images(ImageRequest("shapes"), side="test", classes=names))


def test_a_hub_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = datasets.load_from_disk(write(tmp_path, "saved"))
    request = ImageRequest("org/pets", split="train")
    for answer in (whole, DatasetDict({"train": whole["train"].select([5, 2, 9, 0])}), DatasetDict({"train": table(9)})):
        monkeypatch.setattr(datasets, "load_dataset", lambda *_, answer=answer, **__: answer)
        check_alike(opened("org/pets", side="train", split="train"), load_images(request, side="train"))


def test_an_empty_part() -> None:
    part = opened("shapes", side="test", classes=["red circle"]).take([])
    assert (len(part), len(part.loaded()), part.loaded().size) == (0, 0, (32, 32))
    assert part.channel_ranges() == []
    with pytest.raises(InputError, match="no image"):
        part.mean_std()


def test_restricting_fails_as_in_memory(tmp_path: Path) -> None:
    streamed = opened(write(tmp_path, "saved"), side="train")
    with pytest.raises(InputError, match=r"the anchors.*the data 'saved'.*'cow'"):
        streamed.restricted_to(["cow"], names_from="the anchors")
    with pytest.raises(InputError, match=r"'saved' has no image of 'owl'"):
        streamed.take([0, 1]).restricted_to(["cat", "owl"], names_from="the anchors")


@pytest.mark.parametrize("wrong", ["corrupt", "size", "missing"])
def test_bad_images_are_named_as_in_memory(tmp_path: Path, wrong: str) -> None:
    path = class_folders(tmp_path / "pets", {"cat": 6, "dog": 6}) / "dog/003.png"
    if wrong == "corrupt":
        path.write_bytes(path.read_bytes()[:60])
    elif wrong == "size":
        noise(0, 9, 8).save(path)
    else:
        path.unlink()
        path.symlink_to(tmp_path / "nowhere")
    options = {"side": "train", "split": "train"}
    errors = []
    for cache in ("ram", "none"):
        with pytest.raises(InputError, match=r"dog/003\.png") as caught:
            open_images(**asked(str(tmp_path / "pets"), **options), cache=cache)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("kind", ["folders", "parquet"])
def test_corrupt_images_can_be_skipped(tmp_path: Path, kind: str) -> None:
    data = tmp_path / "pets"
    if kind == "folders":
        class_folders(data, {"cat": 6, "dog": 6})
        for name in ("cat/000", "dog/003"):
            (data / f"{name}.png").write_bytes(b"broken")
    else:
        data.mkdir()
        content = [b"broken" if at in (0, 9) else png(noise(at)) for at in range(12)]
        images = pa.array([{"bytes": one, "path": None} for one in content])
        pq.write_table(pa.table({"image": images, "label": ["cat", "dog"] * 6}), data / "train.parquet")
    options = {"side": "train", "split": "train", "skip_corrupt": True, "classes": ["dog", "cat"]}
    images = load_images(**asked(str(data), **options))
    assert (images.counts(), images.provenance.skipped_corrupt) == ([5, 5], 2)
    for _ in range(2):
        check_alike(opened(str(data), **options), images)
    with pytest.raises(InputError, match="cannot be decoded"):
        opened(str(data), **{**options, "skip_corrupt": False})


def test_images_in_files_of_their_own_are_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path / "files", {"cat": 3, "dog": 3})
    paths = sorted(str(path) for path in (tmp_path / "files").rglob("*.png"))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": path} for path in paths], kind)
    pq.write_table(pa.table({"image": images, "label": ["cat"] * 3 + ["dog"] * 3}), tmp_path / "train.parquet")
    monkeypatch.setattr("stages.data.decoding.cache.MIN_SECONDS", 0.0)
    options = {"side": "train", "split": "train"}
    first = load_images(**asked(str(tmp_path / "train.parquet"), **options))
    check_alike(opened(str(tmp_path / "train.parquet"), **options), first)
    noise(500).save(paths[0])
    again = load_images(**asked(str(tmp_path / "train.parquet"), **options))
    assert again.sha256() != first.sha256()
    check_alike(opened(str(tmp_path / "train.parquet"), **options), again)


@pytest.mark.parametrize("cached", ["off", "here"])
def test_parquet_is_unpacked_where_it_can_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, cached: str
) -> None:
    data = write(tmp_path, "parquet")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    if cached == "off":
        monkeypatch.setenv("LAAT_CACHE", "off")
    images = opened(data, side="train")
    check_alike(images, load_images(ImageRequest(data), side="train"))
    if cached == "here":
        (kept,) = folder.glob("*.arrow")
        kept.write_bytes(kept.read_bytes()[:300])
        check_alike(opened(data, side="train"), load_images(ImageRequest(data), side="train"))
        assert not list((tmp_path / "tmp").iterdir())
    else:
        assert not folder.exists()
        assert list((tmp_path / "tmp").iterdir())
        del images
        assert not list((tmp_path / "tmp").iterdir())


def test_no_room_to_unpack_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path, "parquet")
    monkeypatch.setenv("LAAT_CACHE", "off")
    folder = tmp_path / "full"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stages.data.tables.parquet_table.ParquetTable._write", no_room)
    with pytest.raises(MissingError, match=r"'parquet' cannot be unpacked.*No space left.*LAAT_CACHE"):
        opened(data, side="train")
    assert not list(folder.iterdir())


def test_the_choice_is_made_from_the_size_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    options = {"side": "test", "classes": ["red circle", "blue star"], "on_choice": said.append}
    images, kept = open_images(ImageRequest("shapes"), **options)
    assert (type(images), kept) == (ImageSet, "ram")
    need = images.images.numel()
    monkeypatch.setattr("stages.data.memory.available_ram", lambda: 3 * need - 1)
    images, kept = open_images(ImageRequest("shapes"), **options)
    assert (type(images), kept) == (StreamingImageSet, "none")
    assert said[0].startswith("images are kept in memory: ")
    assert said[1].startswith("images are streamed from disk: ")
    assert open_images(ImageRequest("shapes"), cache="ram", **options)[1] == "ram"
    assert len(said) == 2
    with pytest.raises(UsageError, match="unknown --cache 'disk'"):
        open_images(ImageRequest("shapes"), cache="disk", **options)


def test_the_first_pass_reports_and_happens_once(tmp_path: Path) -> None:
    data = write(tmp_path, "saved")
    heard: list[tuple[int, int]] = []
    for _ in range(2):
        opened(data, side="train", on_progress=lambda *at: heard.append(at))
    assert heard == [(0, 30)]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_mapped_files_do_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read through, a file of 60 MB adds little more than the bound to what the process has mapped."""
    monkeypatch.setattr("stages.data.tables.arrow_table.RESIDENT_BYTES", 8 * 2**20)
    content = [{"bytes": os.urandom(30_000), "path": None} for _ in range(2000)]
    Dataset.from_dict({"img": content, "label": [0] * 2000}, features=FEATURES).save_to_disk(tmp_path / "saved")
    del content
    from stages.data.tables.arrow_table import ArrowTable
    from stages.data.tables.hub import load_saved

    table = ArrowTable(load_saved(tmp_path / "saved", "saved")["train"], "train")

    def mapped() -> int:
        return int(Path("/proc/self/statm").read_text().split()[2]) * os.sysconf("SC_PAGE_SIZE")

    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0)).numpy()
    peaks, seen = [], 0
    before = mapped()
    for start in range(0, 2000, 50):
        seen += sum(len(cell["bytes"]) for cell in table.cells("img", order[start : start + 50]))
        peaks.append(mapped() - before)
    assert seen == 2000 * 30_000
    assert max(peaks) < 30 * 2**20
