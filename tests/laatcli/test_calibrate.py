"""`laat calibrate`: a new checkpoint with a calibration, of a checkpoint and of a CLIP model; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stages.files import artifacts
from stages.models.checkpoint import read_checkpoint
from tests.laatcli.conftest import NAMES, class_folders
from tests.laatcli.inside import inside

TRAIN = ("train", "--data", "photos", "--epochs", 1, "--steps", 1, "--backbone", "conv4-8", "--batch-size", 16, "--json")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three seen, two validation classes and a novel one; a run that held out images of the seen classes in `run`."""
    folder = tmp_path_factory.mktemp("calibrate")
    class_folders(folder / "photos/train", 12)
    class_folders(folder / "photos/test", 4, first=12)
    (folder / "classes.txt").write_text("\n".join(NAMES) + "\n")
    groups = ("--classes", "classes.txt", "--source", "random", "--dim", 16)
    done(folder, "anchors", *groups, "--seen", 3, "--val", 2)
    done(folder, "anchors", *groups, "--seen", 4, "-o", "no-val.st")
    done(folder, *TRAIN, "--anchors", "anchors.st")
    return folder


def done(cwd: Path, *args: object) -> str:
    found = inside(cwd, *args)
    assert found.code == 0, found.stderr
    return found.stdout


def record(cwd: Path, *args: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done(cwd, *args, "--json"))
    return found


def params(path: Path) -> dict[str, Any]:
    return artifacts.read(path, "model").params


def test_training_says_what_was_fitted(here: Path) -> None:
    found = params(here / "run/model.st")["calibration"]
    assert (found["source"], found["images"], found["classes"]) == ("validation classes", 24, 2)
    assert (found.get("bias") is None) == (found.get("bias_fit") is None)
    told = done(here, "inspect", "run/model.st")
    assert f"calibration: temperature {found['temperature']:.4g}, " in told
    assert "on the 24 images that it was fitted on" in told
    assert "bias on the seen classes: " in told


def test_a_checkpoint_gets_a_new_one(here: Path, tmp_path: Path) -> None:
    args = ("calibrate", "run/model.st", "--data", "photos", "-o", tmp_path / "c.st")
    said = record(here, *args)
    before, after = (artifacts.read(path, "model") for path in (here / "run/model.st", tmp_path / "c.st"))
    assert after.params["calibration"] == said["calibration"]
    assert said["calibration"]["source"] == "validation classes"
    # the images that training held out, and the same validation images: all are below the limits of training
    assert said["calibration"]["temperature"] == pytest.approx(before.params["calibration"]["temperature"], rel=1e-6)
    assert said["calibration"].get("bias") == pytest.approx(before.params["calibration"].get("bias"), rel=1e-6)
    assert after.inputs == {"model": before.lineage()}
    for name, value in before.tensors.items():
        assert name == "images.calibrated" or (value == after.tensors[name]).all()
    written = (tmp_path / "c.st").read_bytes()
    record(here, *args)
    assert (tmp_path / "c.st").read_bytes() == written


def test_without_a_record_of_the_trained_images_there_is_no_bias(here: Path, tmp_path: Path) -> None:
    artifact = artifacts.read(here / "run/model.st", "model")
    for name in [name for name in artifact.tensors if name.startswith("images.")]:
        del artifact.tensors[name]
    del artifact.params["calibration"]
    artifacts.write(artifact, tmp_path / "old.st")
    found = record(here, "calibrate", tmp_path / "old.st", "--data", "photos", "-o", tmp_path / "c.st")["calibration"]
    assert found["no_bias"] == "the checkpoint does not record which images it was trained on"
    assert not [name for name in artifacts.read(tmp_path / "c.st").tensors if name.startswith("images.")]


def test_novel_classes_are_used_only_if_asked_for_and_said(here: Path, tmp_path: Path) -> None:
    args = ("calibrate", "run/model.st", "--data", "photos", "-o", tmp_path / "c.st")
    asked = inside(here, *args, "--names", "red star,cyan cross", "--json")
    assert asked.code == 0, asked.stderr
    assert "1 of the 2 classes are novel ones" in asked.stderr
    assert json.loads(asked.stdout)["calibration"]["source"] == "classes that the user gave as validation"


def test_seen_classes_and_the_images_that_were_used(here: Path, tmp_path: Path) -> None:
    names = ("--names", ",".join((NAMES[0], NAMES[-1])))
    found = record(here, "calibrate", "run/model.st", "--data", "photos", *names, "-o", tmp_path / "c.st")["calibration"]
    assert found["no_bias"] == "the temperature is fitted on seen classes"
    before, after = (
        artifacts.read(path, "model").tensors["images.calibrated"] for path in (here / "run/model.st", tmp_path / "c.st")
    )
    assert len(after) == found["images"] != len(before)


def test_a_checkpoint_without_validation_classes_is_refused(here: Path, tmp_path: Path) -> None:
    done(here, *TRAIN, "--anchors", "no-val.st", "--out", tmp_path / "run")
    refused = inside(here, "calibrate", tmp_path / "run/model.st", "--data", "photos", "-o", tmp_path / "c.st")
    assert refused.code == 3
    assert "the checkpoint has no validation classes" in refused.stderr
    assert not (tmp_path / "c.st").exists()


def test_test_images_are_refused(here: Path, tmp_path: Path) -> None:
    refused = inside(here, "calibrate", "run/model.st", "--data", "photos", "--split", "test", "-o", tmp_path / "c.st")
    assert (refused.code, "test images are for evaluation" in refused.stderr) == (2, True)


def test_it_replaces_nothing_but_the_same_calibration(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.st"
    line = ("calibrate", "run/model.st", "--data", "photos", "-o", out)
    out.write_text("my predictions")
    refused = inside(here, *line)
    assert (refused.code, out.read_text()) == (3, "my predictions")
    out.write_bytes((here / "run/model.st").read_bytes())
    refused = inside(here, *line)
    assert (refused.code, "is not an earlier calibration of this model" in refused.stderr) == (2, True)
    done(here, *line, "--force")
    written = out.read_bytes()
    assert written != (here / "run/model.st").read_bytes()
    assert "is up to date" in done(here, *line)
    fewer = artifacts.from_bytes(written, where="it")
    fewer.params["calibration"]["images"] -= 1
    artifacts.write(fewer, out)
    other = inside(here, *line)
    assert (other.code, "with other images or parameters" in other.stderr) == (2, True)
    assert out.read_bytes() != written


def test_without_images_that_were_held_out_it_says_how_to_get_a_bias(here: Path, tmp_path: Path) -> None:
    done(here, *TRAIN, "--anchors", "anchors.st", "--no-seen-bias", "--out", tmp_path / "run")
    line = ("calibrate", tmp_path / "run/model.st", "--data", "photos", "-o", tmp_path / "c.st", "--json")
    found = inside(here, *line)
    assert found.code == 0
    assert "were trained on" in json.loads(found.stdout)["calibration"]["no_bias"]
    assert "for a bias train with --seen-bias" in found.stderr


def test_it_does_not_replace_its_input(here: Path) -> None:
    refused = inside(here, "calibrate", "run/model.st", "--data", "photos", "-o", "run/model.st")
    assert (refused.code, "would replace 'run/model.st'" in refused.stderr) == (2, True)


def test_a_clip_model_becomes_a_whole_checkpoint(here: Path, tmp_path: Path) -> None:
    args = ("calibrate", "clip:demo", "--data", "photos", "--resize", 32, "--names", "red circle,blue star,green ring")
    said = record(here, *args, "-o", tmp_path / "c.st")
    assert said["calibration"]["no_bias"] == "what the model was trained on is unknown"
    assert said["calibration"]["source"] == "classes that the user gave as validation"
    artifact = artifacts.read(tmp_path / "c.st", "model")
    made = read_checkpoint(artifact, "it")
    assert made.classes == ("red circle", "blue star", "green ring")
    assert made.calibration is not None
    assert set(artifact.inputs) == {"model", "anchors"}
    # the figures of both are the same
    data = ("--data", "photos", "--resize", 32, "--attack", "none")
    models = (("clip:demo", "--names", "red circle,blue star,green ring"), (tmp_path / "c.st",))
    results = [record(here, "eval", *one, *data, "-o", tmp_path / f"{at}.json")["results"] for at, one in enumerate(models)]
    assert results[0][0]["clean"] == results[1][0]["clean"]
