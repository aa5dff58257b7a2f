"""Files that cannot be used, through the installed command: artifacts, images, targets, devices."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.files import artifacts
from tests.laatcli.conftest import QUICK, Pipeline, class_folders
from tests.laatcli.shell import check_refusal, place_results, refused, run, run_on_full_disk, tree


@pytest.fixture
def here(pipeline: Pipeline, tmp_path: Path) -> Path:
    """A folder with the artifacts of the small pipeline, free to be spoilt."""
    for name in ("classes.txt", "anchors.st", "expanded.st", "adversarial.st", "run"):
        source = pipeline.folder / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    return tmp_path


def header_claims(data: bytes) -> bytes:
    return struct.pack("<Q", 10**15) + data[8:]


def tensor_claims(data: bytes) -> bytes:
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    name = next(key for key in header if key != "__metadata__")
    header[name]["shape"], header[name]["data_offsets"] = [10**15], [0, 4 * 10**15]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


SPOILT: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "is empty"),
    "truncated in its header": (lambda data: data[:100], "is truncated or not a safetensors file"),
    "truncated in its tensors": (lambda data: data[:-10], "was damaged or edited after it was written"),
    "random bytes": (lambda data: np.random.default_rng(0).bytes(500), "not a safetensors file"),
    "a header of 10^15 bytes": (header_claims, "its header claims 1,000,000,000,000,000 bytes"),
    "a tensor of 10^15 numbers": (tensor_claims, "was damaged or edited after it was written"),
}
READERS: dict[str, tuple[str, ...]] = {
    "anchors.st": ("expand", "anchors.st"),
    "expanded.st": ("train", "--data", "shapes", "--out", "other"),
    "run/model.st": ("attack", "run/model.st", "--data", "shapes"),
    "run/last.st": ("eval", "run/last.st", "--data", "shapes"),
    "adversarial.st": ("inspect", "adversarial.st"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_artifacts(here: Path, name: str, how: str) -> None:
    spoil, says = SPOILT[how]
    (here / name).write_bytes(spoil((here / name).read_bytes()))
    refused(here, *READERS[name], code=3, says=(f"'{name}'", says))


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("expand", "run/model.st"), ("is an artifact of kind model", "expected anchors", "`laat anchors`")),
        (("expand", "anchors.st", "--like", "adversarial.st"), ("of kind adversarial", "anchors or a checkpoint with --like")),
        (("train", "--anchors", "adversarial.st", "--data", "shapes", "--out", "o"), ("expected anchors",)),
        (("attack", "expanded.st", "--data", "shapes"), ("expected model", "`laat train`")),
        (("eval", "expanded.st", "--data", "shapes"), ("expected model", "`laat train`")),
        (("eval", "run/model.st", "--adversarial", "run/model.st"), ("expected adversarial", "`laat attack`")),
        (("expand", "expanded.st", "-o", "again.st"), ("expanded already",)),
    ],
)
def test_artifacts_of_the_wrong_kind(here: Path, args: tuple[str, ...], says: tuple[str, ...]) -> None:
    refused(here, *args, code=3, says=says)


def test_a_newer_format(here: Path) -> None:
    data = (here / "anchors.st").read_bytes()
    (here / "anchors.st").write_bytes(data.replace(b'\\"format\\":2', b'\\"format\\":4'))
    refused(here, "expand", "anchors.st", code=3, says=("has format 4", "reads up to 3", "Upgrade"))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (np.nan, "tensor 'vectors' in 'anchors.st' is not finite: it has nan at [2, 0]"),
        (0, "the anchor of 'green ring' in 'anchors.st' does not have unit length"),
    ],
)
def test_anchors_that_are_no_directions(here: Path, value: float, says: str) -> None:
    found = artifacts.read(here / "anchors.st")
    vectors = found.tensors["vectors"].copy()
    vectors[2] = value
    artifacts.write(replace(found, tensors={**found.tensors, "vectors": vectors}), here / "anchors.st")
    refused(here, "expand", "anchors.st", code=3, says=(says,))


def test_anchors_of_another_width_than_the_checkpoint(here: Path, pipeline: Pipeline) -> None:
    assert run("anchors", "--classes", "classes.txt", "--source", "random", "--dim", 8, "-o", "narrow.st", cwd=here).code == 0
    args = ("eval", "run/model.st", "--data", pipeline.photos, "--anchors", "narrow.st")
    refused(here, *args, code=3, says=("have width 8 and the checkpoint 16",))


def test_a_corrupt_image_is_named_or_skipped_and_counted(here: Path) -> None:
    photos = class_folders(here / "photos", 6)
    (photos / "red_circle/broken.png").write_bytes((photos / "red_circle/00.png").read_bytes()[:60])
    train = ("train", "--data", "photos", *QUICK, "--out", "other")
    # a single split is divided by class, so ask for all of it
    refused(here, *train, "--split", "train", code=3, says=("broken.png", "--skip-corrupt"))
    done = run(*train, "--split", "train", "--skip-corrupt", cwd=here)
    assert done.code == 0, done.stderr
    assert "37 files, 4 of 6 classes, 24 of 37 images of 16x16, levels " in done.stderr
    assert "; 1 file passed over: 1 corrupt or unreadable\n" in done.stderr
    held = json.loads(run("inspect", "other/model.st", "--json", cwd=here).stdout)
    assert held["params"]["training"]["data"]["skipped_corrupt"] == 1


def test_images_of_different_sizes_need_a_resize(here: Path) -> None:
    photos = class_folders(here / "photos", 4)
    Image.new("RGB", (20, 18)).save(photos / "blue_star/large.png")
    train = ("train", "--data", "photos", "--split", "train", *QUICK, "--out", "other")
    refused(here, *train, code=3, says=("large.png", "--resize"))
    assert run(*train, "--resize", 16, cwd=here).code == 0


def test_episodes_that_the_data_cannot_fill(here: Path, pipeline: Pipeline) -> None:
    episodes = ("eval", "run/model.st", "--data", pipeline.photos, "--protocol", "episodes", "--episodes", 3)
    refused(here, *episodes, "--ways", 5, code=2, says=("2 classes", "--ways"))
    refused(here, *episodes, "--ways", 2, "--queries", 7, code=2, says=("6 images", "--queries"))


def test_a_device_that_is_not_there(here: Path, pipeline: Pipeline) -> None:
    args = ("attack", "run/model.st", "--data", pipeline.photos, "--device", "cuda:99")
    refused(here, *args, code=4, says=("'cuda:99' is not available", "--device"))


def test_a_target_that_is_a_folder(here: Path) -> None:
    (here / "there.st").mkdir()
    refused(here, "expand", "anchors.st", "-o", "there.st", code=4, says=("'there.st'", "a folder is in the way"))


def test_a_read_only_target(here: Path) -> None:
    refused(here, "expand", "anchors.st", "-o", "/proc/there.st", code=4, says=("'/proc/there.st'", "-o / --out"))


def test_no_space_left(here: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails in the same place, half-way."""
    (here / "names.txt").write_text("\n".join(f"class {at}" for at in range(400)))
    place_results(here)
    before = tree(here)
    done = run_on_full_disk("anchors", "--classes", "names.txt", "--source", "random", cwd=here, room=20_000)
    check_refusal(done, 4, "cannot write 'anchors.st'")
    assert tree(here) == before


def test_a_loss_that_is_not_finite(here: Path, pipeline: Pipeline) -> None:
    train = ("train", "--data", pipeline.photos, *QUICK[:-1], 4, "--epochs", 3, "--lr", "1e30", "--out", "other")
    done = run(*train, cwd=here)
    assert done.code == 5, done
    assert "Traceback" not in done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: the loss became non-finite at step ")
    assert "--lr" in error
