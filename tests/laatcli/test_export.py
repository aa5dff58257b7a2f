from __future__ import annotations

import json
from pathlib import Path

import pytest

from stages.files import artifacts
from tests.laatcli.conftest import class_folders
from tests.laatcli.inside import inside
from tests.laatcli.shell import check_refusal, tree
from tests.stages.anchors.encoders import tiny_folder
from tests.stages.models.test_checkpoint import artifact_of, checkpoint
from tests.where import ROOT


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a checkpoint whose images have 16 px."""
    artifacts.write(artifact_of(checkpoint()), tmp_path / "model.st")
    return tmp_path


def test_export_says_what_it_wrote_and_how_it_compares(here: Path) -> None:
    class_folders(here / "photos", 3, size=24)
    done = inside(here, "export", "model.st", "-o", "out", "--data", "photos", "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["format"] == "torch"
    assert said["comparison"]["images"] == said["comparison"]["same"] + said["comparison"]["undecided"] == 18
    assert 0 <= said["comparison"]["largest"] <= said["comparison"]["tolerance"] == 1e-4
    assert said["bytes"] == sum(file.stat().st_size for file in (here / "out").iterdir())
    done = inside(here, "export", "model.st", "-o", "out", "--data", "photos", "--force")
    assert done.code == 0, done.stderr
    assert "out: weights, 5 classes (anchors.st" in done.stdout
    assert "18 of photos" in done.stdout


def test_the_bundled_model_compared_on_images_without_labels(tmp_path: Path) -> None:
    pictures = ROOT / "examples/demo_classifier/pictures"
    done = inside(tmp_path, "export", "demo", "-o", "out", "--data", pictures)
    assert done.code == 0, done.stderr
    assert "out: weights, 64 classes" in done.stdout
    assert "6 of pictures" in done.stdout


def test_a_zero_shot_model_becomes_a_folder_with_its_own_text_tower(tmp_path: Path) -> None:
    tiny_folder(tmp_path / "tiny")
    done = inside(tmp_path, "export", "local-dir:tiny", "--names", "okapi,pagoda", "-o", "out")
    assert done.code == 0, done.stderr
    assert "out: open_clip, 2 classes" in done.stdout
    assert "200 of shapes" in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("model.st", "-o", "model.st", "--format", "onnx", "--force"), 2, "would replace 'model.st', which MODEL reads"),
        (("model.st", "-o", "model.tflite"), 2, "a file that ends in .onnx or .pt2"),
        (("model.st", "-o", "-"), 2, "cannot go to standard output"),
        (("model.st", "-o", "missing.txt/model.onnx"), 4, "is not a folder"),
        (("model.st", "-o", "out", "--resize", "8"), 2, "the model takes images of 16 px, and --resize is 8"),
        (("missing.st", "-o", "model.onnx"), 3, "does not exist"),
    ],
)
def test_a_refused_export_changes_nothing(args: tuple[str, ...], code: int, says: str, here: Path) -> None:
    (here / "missing.txt").write_text("a file")
    before = tree(here)
    check_refusal(inside(here, "export", *args), code, says)
    assert tree(here) == before


def test_anchors_like_those_of_a_model(here: Path) -> None:
    assert inside(here, "anchors", "--names", "red star,blue ring,okapi", "--seen", 2, "--model", "demo").code == 0
    assert inside(here, "expand", "anchors.st").code == 0
    done = inside(here, "anchors", "--names", "okapi,red star", "--like", "expanded.st", "-o", "new.st", "--json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["groups"] == {"seen": 1, "val": 0, "novel": 1}
    old, new = (artifacts.read(here / f"{name}.st") for name in ("expanded", "new"))
    assert abs(new.tensors["vectors"] - old.tensors["vectors"][[2, 0]]).max() < 1e-6
    assert new.inputs["like"]["sha256"] == old.sha256
    for options, says in (
        (("--model", "demo"), "--model cannot be combined with --like"),
        (("--seen", 1), "--seen cannot be combined with --like"),
        (("--features", "x.npy"), "--features cannot be combined with --like"),
    ):
        check_refusal(inside(here, "anchors", "--names", "okapi", "--like", "expanded.st", *options), 2, says)
    check_refusal(inside(here, "anchors", "--names", "okapi", "--like", "model.st"), 4, "encoder is not available")
    assert inside(here, "anchors", "--names", "a,b", "--source", "random", "-o", "random.st").code == 0
    refused = inside(here, "anchors", "--names", "okapi", "--like", "random.st")
    check_refusal(refused, 3, "--like random.st: its anchors come from random, which cannot encode names")
    assert ("loading" in refused.stderr, "train with those of a text encoder" in refused.stderr) == (False, True)
