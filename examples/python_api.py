"""The Python API: load a classifier, embed, attack, evaluate, train your own module, and use the classifier elsewhere.

    python examples/python_api.py run/model.st

takes a checkpoint that was trained on the bundled `shapes` (`laat demo` writes three of them). The last part trains a small
network of its own and takes about half a minute on two cores.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

import stages as laat
from stages.data.load import load_images
from stages.data.request import ImageRequest


class Shapes(Dataset):
    """A map-style data set of your own: items are (image, label), `classes` are the names."""

    def __init__(self, side: str, names: tuple[str, ...]) -> None:
        found = load_images(ImageRequest("shapes"), side=side, classes=names)  # type: ignore[arg-type]
        self.classes, self.images, self.targets = names, found.images, found.labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return self.images[at], int(self.targets[at])


class SmallNet(nn.Module):
    """Any module will do: images (N, 3, H, W) in [0, 1] in, embeddings (N, D) out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()
        )
        self.out = nn.Linear(32, width)

    def forward(self, x: Tensor) -> Tensor:
        """Images to embeddings; normalisation belongs inside."""
        return self.out(self.features(x - 0.5).mean((2, 3)))


class PlainCrossEntropy(laat.Objective):
    """An objective of your own: cross-entropy on clean and on attacked images."""

    def outer(self, embed: Callable[[Tensor], Tensor], x: Tensor, x_adv: Tensor, labels: Tensor) -> laat.Outcome:
        """The loss of each image, as terms by name, and the logits of both sides."""
        clean, attacked = self.logits(embed(x)), self.logits(embed(x_adv))
        loss = nn.functional.cross_entropy
        both = loss(clean, labels, reduction="none") + loss(attacked, labels, reduction="none")
        return laat.Outcome({self.terms[0]: both}, clean, attacked)


def use(path: Path) -> laat.Classifier:
    """Load a checkpoint, look at embeddings and logits, attack, evaluate."""
    classifier = laat.load(path).over("novel")
    test = Shapes("test", classifier.classes)
    x, y = test.images[:64], test.targets[:64]
    print(f"{len(classifier.classes)} novel classes, trained under {classifier.threat}")
    print("embeddings", tuple(classifier.embed(x).shape), "logits", tuple(classifier(x).shape))
    adversarial = laat.attack(classifier, x, y, "pgd-20", eps="8/255")
    for name, images in (("clean", x), ("PGD-20", adversarial)):
        print(f"{name}: {(classifier(images).argmax(1) == y).float().mean():.1%} of {len(y)} images correct")
    print(laat.evaluate(classifier, test, suite="quick", max_images=64))
    return classifier


def train_your_own(classifier: laat.Classifier, out: Path) -> None:
    """Train your own module with your own objective on your own data set, against the anchors of the classifier."""
    anchors = classifier.trained
    seen = Shapes("train", tuple(anchors.names("seen") + anchors.names("val")))
    network = SmallNet(anchors.vectors.shape[1])
    settings = laat.TrainSettings(epochs=1, steps=1, lr=0.1, schedule="one-cycle")
    run = laat.train(network, anchors, seen, settings, objective=PlainCrossEntropy, out=out)
    again = laat.load(run.model, module=SmallNet(anchors.vectors.shape[1]))
    print(f"{run.model}: best epoch {run.best_epoch}, {len(again.classes)} classes")


def use_elsewhere(classifier: laat.Classifier) -> None:
    """The classifier is a plain module from pixels to logits: hand it to any library."""
    test = Shapes("test", classifier.classes)
    x, y = test.images[:16] / 255, test.targets[:16]
    try:
        import foolbox
    except ImportError:
        print("foolbox is not installed: pip install foolbox")
    else:
        model = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")
        _, adversarial, success = foolbox.attacks.LinfPGD(steps=10)(model, x, y, epsilons=8 / 255)
        print(f"foolbox: {1 - success.float().mean():.1%} correct under its PGD-10, {adversarial.shape[0]} images")
    try:
        import torchattacks
    except ImportError:
        print("torchattacks is not installed: pip install --no-deps torchattacks")
    else:
        adversarial = torchattacks.PGD(classifier, eps=8 / 255, steps=10)(x, y)
        print(f"torchattacks: {(classifier(adversarial).argmax(1) == y).float().mean():.1%} correct under its PGD-10")


if __name__ == "__main__":
    torch.manual_seed(0)
    novel = use(Path(sys.argv[1]))
    use_elsewhere(novel)
    with tempfile.TemporaryDirectory() as folder:
        train_your_own(novel, Path(folder) / "own")
