"""`laat train` with the objectives that tune a CLIP model: temperature, reference, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.anchors.anchor_set import AnchorSet
from stages.files import artifacts
from tests.laatcli.conftest import NAMES, class_folders
from tests.laatcli.inside import inside
from tests.laatcli.shell import Done

QUICK = ("--data", "photos", "--epochs", 1, "--steps", 1, "--batch-size", 8, "--no-augment", "--lr", 1e-4)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of the bundled tower's size; anchors of its text tower: raw, expanded, and as an earlier version wrote them."""
    folder = tmp_path_factory.mktemp("tuning")
    class_folders(folder / "photos/train", 3, size=32)
    assert inside(folder, "anchors", "--names", ",".join(NAMES), "--model", "demo").code == 0
    assert inside(folder, "expand", "anchors.st").code == 0
    raw = AnchorSet.from_artifact(artifacts.read(folder / "anchors.st", "anchors"), "")
    del raw.origin["logit_scale"]
    artifacts.write(raw.to_artifact(), folder / "old.st")
    np.save(folder / "features.npy", raw.vectors)
    return folder


def train(here: Path, *args: object, objective: str = "tecoa", anchors: str = "anchors.st") -> Done:
    backbone = () if "--backbone" in args else ("--backbone", "clip:demo")
    return inside(here, "train", *QUICK, *backbone, "--objective", objective, "--anchors", anchors, *args)


def settings(folder: Path) -> dict[str, Any]:
    return artifacts.read(folder / "model.st", "model").params["training"]["settings"]


def test_the_temperature_is_the_text_towers(here: Path) -> None:
    done = train(here, "--out", "raw")
    assert done.code == 0, done.stderr
    assert "tau 0.00333553, for the text tower's logit scale of 299.803" in done.stderr
    assert "warning: tecoa" not in done.stderr
    assert settings(here / "raw")["tau"] == pytest.approx(1 / 299.8028)
    done = train(here, "--out", "given", "--tau", 0.01)
    assert "tau 0.01\n" in done.stderr
    assert settings(here / "given")["tau"] == 0.01


def test_laat_on_the_same_tower_takes_expanded_anchors_at_its_own_temperature(here: Path) -> None:
    done = train(here, "--out", "laat", objective="laat", anchors="expanded.st")
    assert (done.code, "tau 1\n" in done.stderr, "warning: laat" in done.stderr) == (0, True, False)
    assert settings(here / "laat")["tau"] == 1


def test_expanded_anchors_and_another_tower_are_warned_of(here: Path) -> None:
    done = train(here, "--out", "expanded", anchors="expanded.st")
    assert "warning: tecoa is published with raw anchors, and these are expanded" in done.stderr
    done = train(here, "--out", "conv", "--backbone", "conv4-8", objective="fare")
    assert (
        "warning: fare keeps what its reference knows, and that has random weights: give --reference or --init" in done.stderr
    )
    assert "fare trains without labels; they select the best epoch and fit the calibration" in done.stderr


@pytest.mark.parametrize("objective", ["tecoa", "agft"])
def test_anchors_without_a_logit_scale_need_a_temperature(objective: str, here: Path) -> None:
    done = train(here, "--out", "old", objective=objective, anchors="old.st")
    assert done.code == 2
    assert f"{objective} uses the logit scale of the text tower, and these anchors have none" in done.stderr
    assert "Add --tau 0.01" in done.stderr
    assert "read" not in done.stderr  # before the images
    assert not (here / "old").exists()


def test_imported_features_can_name_it(here: Path) -> None:
    features = ("anchors", "--names", ",".join(NAMES), "--features", "features.npy")
    assert inside(here, *features, "--logit-scale", 50, "-o", "imported.st").code == 0
    assert artifacts.read(here / "imported.st", "anchors").params["origin"]["logit_scale"] == 50
    assert inside(here, *features, "-o", "bare.st").code == 0
    assert "they were imported without --logit-scale" in train(here, "--out", "bare", anchors="bare.st").stderr
    done = inside(here, "anchors", "--names", "a,b", "--model", "demo", "--logit-scale", 50, "-o", "other.st")
    assert (done.code, "--logit-scale has no effect without --features" in done.stderr) == (2, True)


def test_a_reference_is_named_checked_and_part_of_the_run(here: Path) -> None:
    assert train(here, "--out", "first", objective="fare").code == 0
    done = train(here, "--out", "second", "--reference", "first/model.st", objective="fare")
    assert (done.code, "reference: first/model.st" in done.stderr) == (0, True)
    model = artifacts.read(here / "second/model.st", "model")
    assert model.inputs["reference"]["sha256"] == artifacts.read(here / "first/model.st").sha256
    done = train(here, "--out", "second", "--reference", "clip:demo", objective="fare")
    assert (done.code, "the reference" in done.stderr) == (2, True)
    assert train(here, "--out", "tower", "--reference", "clip:demo", objective="fare").code == 0
    tower = artifacts.read(here / "tower/model.st", "model")
    assert (tower.params["training"]["reference"], list(tower.inputs)) == ({"tower": "clip:demo"}, ["anchors"])
    done = train(here, "--out", "third", "--reference", "clip:demo", objective="laat")
    assert (done.code, "--objective laat has no reference" in done.stderr) == (2, True)
    random = ("--source", "random", "--dim", 16)
    assert inside(here, "anchors", "--names", ",".join(NAMES), *random, "-o", "narrow.st").code == 0
    narrow = ("--backbone", "conv4-8", "--tau", 0.1, "--reference", "clip:demo")
    done = train(here, "--out", "narrow", *narrow, objective="fare", anchors="narrow.st")
    assert (done.code, "embeddings of width 64, the anchors have width 16" in done.stderr) == (2, True)
    assert not (here / "narrow").exists()


@pytest.mark.parametrize(
    ("objective", "args", "says"),
    [
        ("fare", ("--reference", "clip:ViT-B-32"), "--reference clip:ViT-B-32 names no weights"),
        ("fare", ("--reference", "clip:ViT-B-33/openai"), "unknown backbone 'clip:ViT-B-33/openai'"),
        ("fare", ("--reference", "clip:local-dir:nowhere"), "nowhere"),
        ("fare", ("--reference", "."), "is a folder"),
        ("fare", ("--reference", "anchors.st"), "an artifact of kind anchors, expected model"),
        ("tga-zsr", ("--backbone", "conv4-64"), "conv4-64 has no patch tokens"),
    ],
)
def test_what_cannot_be_used_is_refused_before_the_images_are_read(
    objective: str, args: tuple[str, ...], says: str, here: Path
) -> None:
    done = train(here, "--out", "early", *args, objective=objective)
    assert (done.code > 0, says in done.stderr, "read " in done.stderr) == (True, True, False), done.stderr
    assert not (here / "early").exists()


def test_a_model_without_anchors_has_no_confidences_to_calibrate(here: Path) -> None:
    class_folders(here / "more/train", 14, size=8)
    episodes = ("--objective", "aq", "--ways", 2, "--shots", 1, "--queries", 1, "--steps-per-epoch", 1)
    small = ("--data", "more", "--backbone", "conv4-8", "--epochs", 1, "--steps", 1, "--resize", 16)
    done = inside(here, "train", *small, *episodes, "--anchors", "anchors.st", "--out", "episodes")
    shown = inside(here, "inspect", "episodes/model.st")
    assert (done.code, shown.code) == (0, 0), done.stderr
    assert "calibration" not in done.stdout + shown.stdout


def test_a_dry_run_shows_the_defaults_of_the_objective(here: Path) -> None:
    names = ("tau", "beta", "head", "ways", "shots", "queries", "episodes-per-step")

    def shown(objective: str, *options: object) -> list[object]:
        done = train(here, "--batch-size", 128, "--dry-run", "--json", *options, objective=objective)
        return [json.loads(done.stdout)["settings"][name] for name in names]

    assert shown("at") == [1.0, None, None, None, None, None, None]
    assert shown("tecoa")[0] is None
    assert shown("aq", "--shots", 3) == [None, None, "protonet", 5, 3, 15, 4]
