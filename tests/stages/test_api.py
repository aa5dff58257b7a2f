"""The Python API as a user calls it: real checkpoints, real data sets, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

import stages as laat
from stages.errors import InputError, UsageError
from stages.evaluation.protocol import Protocol
from tests.stages.training.synthetic import NAMES, made_up_anchors, made_up_images, quick

IMAGES = made_up_images(per_class=12)
CHANGED = "drop Normalize, the classifier applies it"


class Pairs(Dataset[Any]):
    """A map-style data set of (image, label) in one of the ways that people write them."""

    def __init__(self, kind: str = "uint8", names: tuple[str, ...] = NAMES) -> None:
        at = [NAMES.index(name) for name in names]
        rows = [row for row, label in enumerate(IMAGES.labels.tolist()) if label in at]
        self.kind, self.classes = kind, list(names)
        self.images, self.labels = IMAGES.images[rows], [at.index(int(IMAGES.labels[row])) for row in rows]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> tuple[Any, int]:
        x, label = self.images[at], self.labels[at]
        shown = {
            "uint8": lambda: x,
            "float": lambda: x / 255,
            "PIL": lambda: Image.fromarray(x.permute(1, 2, 0).numpy()),
            "normalised": lambda: (x / 255 - 0.5) / 0.25,
            "levels": lambda: x.float(),
            "between": lambda: x / 255 * 0.999,
        }
        return shown[self.kind](), label


class Net(nn.Module):
    """A module of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.conv(x - 0.5)).relu().mean((2, 3)))


class CleanOnly(laat.Objective):
    """An objective of the user's own."""

    attacks = False

    def outer(self, embed: Any, x: Tensor, x_adv: Tensor, labels: Tensor) -> laat.Outcome:
        logits = self.logits(embed(x))
        return laat.Outcome({self.terms[0]: nn.functional.cross_entropy(logits, labels, reduction="none")}, logits, None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, trained through the API."""
    folder = tmp_path_factory.mktemp("api") / "run"
    done = laat.train("conv4-8", made_up_anchors(seen=4), Pairs(), quick(epochs=3), out=folder, device="cpu")
    assert done.model == folder / "model.st"
    assert len(done.reports) == 3
    return folder


@pytest.fixture(scope="module")
def classifier(run: Path) -> laat.Classifier:
    return laat.load(run / "model.st", device="cpu")


def test_importing_it_loads_no_torch() -> None:
    code = "import stages, sys; assert 'torch' not in sys.modules; print(sorted(set(stages.__all__) - set(dir(stages))))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    for name in laat.__all__:
        assert getattr(laat, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        laat.nothing  # noqa: B018


def test_a_loaded_classifier_knows_where_it_comes_from(classifier: laat.Classifier) -> None:
    assert classifier.classes == NAMES
    assert classifier.over("novel").classes == NAMES[4:]
    assert classifier.threat == laat.ThreatModel("linf", "8/255")
    assert classifier.image_size == 16
    assert not classifier.training


def test_attack_returns_what_it_was_given(classifier: laat.Classifier) -> None:
    x, y = IMAGES.images[::6], IMAGES.labels[::6]
    adversarial = laat.attack(classifier, x / 255, y, "pgd-5", eps="8/255")
    assert adversarial.dtype == torch.float32
    assert 0 <= adversarial.min() <= adversarial.max() <= 1
    moved = (adversarial - x / 255).abs().flatten(1).amax(1)
    assert moved.max() <= 8 / 255 + 1e-6  # a float image is not divided by 255 again
    wrong = classifier(x).argmax(1) != y
    assert wrong.any()
    assert not moved[wrong].any()  # misclassified images stay as they are
    everything = laat.attack(classifier, x / 255, y, "pgd-5", eps=8 / 255, early_stop=False)
    assert ((everything - x / 255).abs().flatten(1).amax(1) > 0.03).all()
    assert torch.equal(laat.attack(classifier, x, y, "pgd-5"), adversarial)
    with torch.no_grad():
        assert (classifier(adversarial).argmax(1) == y).sum() < (~wrong).sum()


def test_attack_refuses_what_it_cannot_mean(classifier: laat.Classifier) -> None:
    x, y = IMAGES.images[:4] / 255, IMAGES.labels[:4]
    for images, labels, error, says in (
        ((x - 0.5) / 0.2, y, InputError, CHANGED),
        (x * 255, y, InputError, "divide by 255"),
        (x, y[:3], InputError, r"labels are torch.int64 \(3,\), expected int64 \(4,\)"),
        (x, y + 90, InputError, "labels span .* and the classifier has 6 classes"),
    ):
        with pytest.raises(error, match=says):
            laat.attack(classifier, images, labels)
    with pytest.raises(UsageError, match="unknown attack 'pdg-20'"):
        laat.attack(classifier, x, y, "pdg-20")
    with pytest.raises(UsageError, match="did you mean 8/255"):
        laat.attack(classifier, x, y, eps=8)


@pytest.mark.parametrize("kind", ["uint8", "float", "PIL"])
def test_evaluate_takes_data_sets_of_images_and_labels(classifier: laat.Classifier, kind: str) -> None:
    expected = laat.evaluate(classifier, Pairs(), attacks=["fgsm"], checks=False)
    found = laat.evaluate(classifier, Pairs(kind), attacks=["fgsm"], checks=False)
    assert found.report == expected.report
    assert "| model | all |" in str(found)
    with torch.no_grad():
        right = (classifier(IMAGES.images).argmax(1) == IMAGES.labels).double().mean()
    assert found.results[0].clean.accuracy == pytest.approx(float(right))


def write_folders(root: Path) -> None:
    for at, x in enumerate(IMAGES.images):
        place = root / NAMES[int(IMAGES.labels[at])].replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x.permute(1, 2, 0).numpy()).save(place / f"{at:03}.png")


def test_only_classes_that_were_trained_on_are_divided(classifier: laat.Classifier, tmp_path: Path) -> None:
    write_folders(tmp_path)

    def images(which: laat.Classifier, **options: Any) -> tuple[int, list[str], list[str]]:
        found = laat.evaluate(which, tmp_path, attacks=[], **options)
        return found.results[0].images, found.report.to_record()["data"]["divided_classes"], found.report.notes

    said = "one split only: these images are the test part of its 90/10 division"
    assert images(classifier.over("novel"))[:2] == (24, [])
    count, divided, notes = images(classifier.over("seen"))
    assert (count, divided) == (4, list(NAMES[:4]))
    assert notes[0] == f"{said} by class"
    count, divided, notes = images(classifier, protocol="gzsl")
    assert (count, divided) == (4 + 24, list(NAMES[:4]))
    assert notes[0] == f"{said} for the 4 classes that were trained on, and all images of the other 2"
    assert images(classifier, split="train+test")[:2] == (72, [])


def test_evaluate_takes_a_datasets_dataset_and_a_folder(classifier: laat.Classifier, tmp_path: Path) -> None:
    import datasets

    pictures = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in IMAGES.images]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    table = datasets.Dataset.from_dict({"image": pictures, "label": IMAGES.labels.tolist()}, features=features)
    split_table = datasets.DatasetDict({"test": table})
    write_folders(tmp_path / "test")
    folder = str(tmp_path)
    given = ((Pairs(), None), (table, None), (split_table, None), (folder, "test"), (tmp_path, "test"))
    found = [laat.evaluate(classifier.over("novel"), data, attacks=[], split=split).results[0] for data, split in given]
    assert all(result == found[0] for result in found)
    assert (found[0].group, found[0].images) == ("novel", 24)


def test_a_report_can_be_saved(classifier: laat.Classifier, tmp_path: Path) -> None:
    protocol = Protocol("episodes", ways=2, queries=3, episodes=5)
    report = laat.evaluate(classifier.over("novel"), Pairs(), attacks=["fgsm"], protocol=protocol, checks=False)
    report.save(tmp_path / "report.json")
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "report.rows.parquet", "report.episodes.parquet"}
    assert json.loads((tmp_path / "report.json").read_text())["results"] == report.report.to_record()["results"]
    gzsl = laat.evaluate(classifier, Pairs(), attacks=["fgsm"], protocol="gzsl", checks=False)
    assert gzsl.results[0].gzsl.seen_classes == 4


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (Pairs("normalised"), CHANGED),
        (Pairs("levels"), "divide by 255, or give uint8"),
        (Pairs("between"), "image 0 of 'Pairs' has float pixels between the 8-bit grey levels"),
        ([(torch.zeros(3, 16, 16), 0)], "data of type list is no data set"),
        (Pairs(names=NAMES[:2]), "4 of the 6 classes of the classifier are not in the data 'Pairs'"),
    ],
)
def test_data_that_cannot_be_evaluated_is_refused(classifier: laat.Classifier, data: Any, says: str) -> None:
    with pytest.raises((InputError, UsageError), match=says):
        laat.evaluate(classifier, data)


def test_labels_are_those_after_the_transform_of_targets(classifier: laat.Classifier) -> None:
    found = []
    for transform in (None, lambda label: label):
        pairs = Pairs()
        pairs.targets = [(label + 1) % len(NAMES) for label in pairs.labels]  # type: ignore[attr-defined]
        pairs.target_transform = transform  # type: ignore[attr-defined]
        found.append(laat.evaluate(classifier.over("all"), pairs, attacks=[], checks=False).rows[0].result.rows.label)
    assert found[0].tolist() == pairs.targets
    assert found[1].tolist() == pairs.labels
    pairs.targets, pairs.target_transform = [0.5] * len(pairs), None  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="labels that are no whole numbers"):
        laat.evaluate(classifier, pairs)


def test_images_of_another_size_are_refused(classifier: laat.Classifier) -> None:
    larger = Pairs()
    larger.images = larger.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with pytest.raises(InputError, match="images are 32x32 and the classifier was trained at 16x16; give resize=16"):
        laat.evaluate(classifier, larger, attacks=[])
    assert laat.evaluate(classifier, larger, attacks=[], resize=16).results[0].images == 72


def test_train_takes_a_module_and_an_objective(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Net()
    before = net.out.weight.detach().clone()
    told: list[int] = []
    done = laat.train(
        net,
        made_up_anchors(seen=4),
        Pairs(),
        quick(epochs=2),
        objective=CleanOnly,
        out=tmp_path / "run",
        device="cpu",
        on_epoch=lambda report: told.append(report.epoch),
    )
    assert told == [1, 2]
    assert not torch.equal(net.out.weight, before)
    with pytest.raises(InputError, match=r"has the weights of your own module .*Net; give it: laat.load\(path, module="):
        laat.load(done.model)
    again = laat.load(done.model, module=Net(), device="cpu")
    last = laat.load(done.folder / "last.st", module=Net(), device="cpu")
    torch.testing.assert_close(
        last.embed(IMAGES.images[:4]), laat.Classifier(net.eval(), made_up_anchors()).embed(IMAGES.images[:4])
    )
    assert again.classes == NAMES
    with pytest.raises(InputError, match="lacks the tensor"):
        laat.load(done.model, module=nn.Linear(3, 6))


def test_a_finished_run_is_returned_again(run: Path) -> None:
    again = laat.train("conv4-8", made_up_anchors(seen=4), Pairs(), quick(epochs=3), out=run, device="cpu")
    assert [report.epoch for report in again.reports] == [1, 2, 3]
    with pytest.raises(UsageError, match="already has a run"):
        laat.train("conv4-8", made_up_anchors(seen=4), Pairs(), quick(epochs=2), out=run, device="cpu")


def test_train_refuses_a_module_of_another_width(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the anchors have width 6; end it with nn\.Linear\(5, 6\)"):
        laat.train(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)), made_up_anchors(), Pairs(), quick(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_numbers_of_episodes_are_those_asked_for(classifier: laat.Classifier) -> None:
    protocol = Protocol("episodes", ways=2, queries=3, episodes=5)
    result = laat.evaluate(classifier.over("novel"), Pairs(), attacks=[], protocol=protocol).results[0]
    assert (result.episodes, result.points, result.ways) == (5, 30, 2)
