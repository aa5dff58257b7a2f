"""Images that were trained on are found by their content, however they are stored and called."""

from __future__ import annotations

import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from stages.anchors.anchor_set import AnchorSet
from stages.attacks.spec import AttackPlan, parse_attack
from stages.classes import ClassGroups
from stages.data.image_hashes import image_hashes
from stages.data.image_set import ImageSet
from stages.data.load import load_images, open_images
from stages.data.request import ImageRequest
from stages.evaluation.attack_stage import attack_group
from stages.evaluation.evaluate import evaluate_classifiers
from stages.evaluation.groups import UNKNOWN, choose_classes
from stages.evaluation.protocol import Protocol
from stages.evaluation.saved_images import evaluate_saved
from stages.evaluation.task import Task
from stages.files import artifacts
from stages.models.checkpoint import read_checkpoint
from stages.models.classifier import Classifier
from stages.models.reference import find_reference
from stages.threat import ThreatModel
from stages.training.options import RunOptions
from stages.training.run import train_run
from tests.stages.data.pictures import class_folders
from tests.stages.training.synthetic import made_up_anchors, quick

NAMES = ("ant", "bee", "cat", "dog")
ANCHORS: AnchorSet = replace(made_up_anchors(NAMES), groups=ClassGroups((0, 1), (), (2, 3)))
THREAT = ThreatModel(Fraction(2, 255))


def train(folder: Path, out: Path, cache: str = "ram", objective: str = "laat", **more: Any) -> Path:
    images = open_images(ImageRequest(folder, resize=16), side="train", classes=NAMES[:2], cache=cache)[0]
    settings = quick(epochs=1, backbone="conv4-4", steps=1, objective=objective, tau=1.0)
    train_run(ANCHORS, images, settings, out, inputs={}, resize=16, **more)
    return out / "model.st"


def checkpoint(path: Path) -> Classifier:
    return read_checkpoint(artifacts.read(path, "model"), "it")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `pets` with test and training images, and a run on the latter."""
    folder = tmp_path_factory.mktemp("trained")
    class_folders(folder / "pets/train", {"ant": 10, "bee": 10}, size=20)
    for name, count in (("ant", 3), ("bee", 3), ("cat", 4), ("dog", 2)):
        class_folders(folder / f"test-{name}", {name: count}, size=21)
        shutil.move(folder / f"test-{name}/{name}", folder / "pets/test" / name)
    train(folder / "pets", folder / "run")
    return folder


def notes(model: Path | Classifier, images: ImageSet, group: str = "seen") -> list[str]:
    """Those on images."""
    classifier = model if isinstance(model, Classifier) else checkpoint(model)
    choice = choose_classes(classifier.anchor_set, group)
    found = evaluate_classifiers(Task({"run": classifier}, [choice], images, Protocol(), (), THREAT))
    return [note for note in found.report.notes if "image" in note and "classes named" not in note]


def read(data: Any, split: str, classes: tuple[str, ...] = NAMES[:2]) -> ImageSet:
    return load_images(ImageRequest(data, split=split, resize=16), side="test", classes=classes)


SEEN = ["seen: 16 of 20 evaluated images were trained on", "seen: 4 of 20 evaluated images were used to select the epoch"]


def as_parquet(folder: Path, path: Path) -> Path:
    rows = sorted((folder / "train").rglob("*.png"))
    contents = [{"bytes": file.read_bytes(), "path": None} for file in rows]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    table = datasets.Dataset.from_dict({"image": contents, "label": [file.parent.name for file in rows]}, features=features)
    table.to_parquet(path)
    return path


def test_the_same_images_are_found_wherever_they_are(trained: Path, tmp_path: Path) -> None:
    assert notes(trained / "run/model.st", read(trained / "pets", "train")) == SEEN
    shutil.copytree(trained / "pets/train", tmp_path / "elsewhere/test")
    assert notes(trained / "run/model.st", read(tmp_path / "elsewhere", "test")) == SEEN
    assert notes(trained / "run/model.st", read(as_parquet(trained / "pets", tmp_path / "data.parquet"), "train")) == SEEN


def test_other_images_of_the_same_name_are_not_accused(trained: Path, tmp_path: Path) -> None:
    assert notes(trained / "run/model.st", read(trained / "pets", "test")) == []
    for number, name in enumerate(NAMES[:2]):
        (tmp_path / "pets/train" / name).mkdir(parents=True)
        for at in range(4):
            pixels = np.random.default_rng(50 + 10 * number + at).integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"pets/train/{name}/{at:03}.png")
    assert notes(trained / "run/model.st", read(tmp_path / "pets", "train")) == []


def test_some_of_the_images_are_counted_also_as_another_class(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "pets/test", tmp_path / "test")
    for at in range(3):
        shutil.copy(trained / f"pets/train/ant/00{at}.png", tmp_path / f"test/cat/trained-{at}.png")
    found = notes(trained / "run/model.st", read(tmp_path, "test", NAMES[2:]), "novel")
    assert all(" of 9 evaluated images were " in note for note in found)
    assert sum(int(note.split()[1]) for note in found) == 3


def test_streamed_training_knows_the_same_images(trained: Path, tmp_path: Path) -> None:
    streamed = train(trained / "pets", tmp_path / "run", "none")
    assert streamed.read_bytes() == (trained / "run/model.st").read_bytes()


def test_images_of_the_checkpoint_that_a_run_starts_from_count(trained: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "more/train", {"ant": 1, "bee": 8}, size=24)
    start = artifacts.read(trained / "run/model.st", "model")
    for init, known in ((start, True), (without_hashes(start), False)):
        path = train(tmp_path / "more", tmp_path / f"run-{known}", init=init)
        assert notes(path, read(trained / "pets", "train")) == (SEEN if known else [f"seen: {UNKNOWN}"])


def test_images_of_the_reference_that_a_run_learns_from_count(trained: Path, tmp_path: Path) -> None:
    class_folders(tmp_path / "more/train", {"ant": 1, "bee": 8}, size=24)
    artifacts.write(without_hashes(artifacts.read(trained / "run/model.st", "model")), tmp_path / "old.st")
    for reference, said in ((trained / "run/model.st", SEEN), (tmp_path / "old.st", [f"seen: {UNKNOWN}"])):
        path = train(tmp_path / "more", tmp_path / said[0], objective="fare", reference=find_reference(str(reference)))
        assert notes(path, read(trained / "pets", "train")) == said


@pytest.mark.parametrize("reference", [True, False])
def test_other_classes_of_a_checkpoint_that_a_run_learns_from_are_named(reference: bool, trained: Path, tmp_path: Path) -> None:
    path = trained / "run/model.st"
    start = {"reference": find_reference(str(path))} if reference else {"init": artifacts.read(path, "model")}
    class_folders(tmp_path / "more/train", {"ant": 8, "cat": 8}, size=24)
    said: list[str] = []
    images = open_images(ImageRequest(tmp_path / "more", resize=16), side="train", classes=("ant", "cat"), cache="ram")[0]
    anchors = replace(ANCHORS, groups=ClassGroups((0, 2), (), (1, 3)))
    settings = quick(epochs=1, backbone="conv4-4", steps=1, objective="fare", tau=1.0)
    train_run(anchors, images, settings, tmp_path / "run", inputs={}, options=RunOptions(on_warning=said.append), **start)
    what = "the reference" if reference else "the --init checkpoint"
    assert f"{what} was trained on classes that are not seen ones here: 'bee'" in said


def without_hashes(artifact: artifacts.Artifact) -> artifacts.Artifact:
    """As older versions wrote it."""
    return replace(artifact, tensors={name: one for name, one in artifact.tensors.items() if not name.startswith("images.")})


def test_older_checkpoints_open_and_say_that_it_is_unknown(trained: Path) -> None:
    old = read_checkpoint(without_hashes(artifacts.read(trained / "run/model.st", "model")), "it")
    assert notes(old, read(trained / "pets", "train")) == [f"seen: {UNKNOWN}"]
    assert notes(old, read(trained / "pets", "test", NAMES[2:]), "novel") == []


def test_saved_adversarial_images_are_recognised_by_the_clean_ones(trained: Path) -> None:
    classifier, images = checkpoint(trained / "run/model.st"), read(trained / "pets", "train")
    own = classifier.over(images.classes)
    made = attack_group(own, "seen", images, AttackPlan(parse_attack("fgsm"), THREAT, seed=0, batch_size=8))
    found = evaluate_saved({"run": classifier}, made.saved, {"sha256": "ab"}, where="it").report.notes
    assert [note for note in found if "evaluated images" in note] == SEEN


def test_the_hash_is_of_size_and_pixels() -> None:
    plain = torch.zeros(1, 3, 2, 8, dtype=torch.uint8).numpy()
    found = {
        int(image_hashes(images)[0]) for images in (plain, plain.reshape(1, 3, 4, 4), plain + 1, plain.transpose(0, 1, 3, 2))
    }
    assert len(found) == 4
    last = np.ascontiguousarray(plain.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert image_hashes(last).tolist() == image_hashes(plain).tolist()
