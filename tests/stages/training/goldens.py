"""The ten-step lists of tests/golden/losses.json: what each is a list of, and the plain program that made them.

`python -m tests.stages.training.goldens > tests/golden/losses.json` makes the file again.
"""

from __future__ import annotations

import copy
import itertools
import json
import sys
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from stages.data.image_set import ImageSet
from stages.models.classifier import unit
from stages.models.embedding import EmbeddingModel
from stages.randomness import numpy_generator
from stages.training.settings import TrainSettings
from tests.stages.training.plain_step import PlainConv4, plain_training
from tests.stages.training.plain_tuning import Losses, PlainTower, plain_tuning
from tests.stages.training.synthetic import made_up_anchors, made_up_images, quick, small_model

STEPS = 10
IMAGES = made_up_images()
# those against anchors, and those that tune a CLIP tower; the others have plain programs of their own
ANCHORED = ("laat", "at", "trades", "clean", "cos", "acos", "l2")
TUNING = ("tecoa", "fare", "pmg-aft", "agft")
# beside one list for each of these
VARIANTS: dict[str, dict[str, Any]] = {
    "laat, no augmentation": {"augment": False},
    "laat, jitter": {"jitter": 0.4},
    "laat, tau 0.1, beta 3": {"tau": 0.1, "beta": 3.0},
    "laat, cosine, warm-up, clipping": {"schedule": "cosine", "warm_up": 1.5, "clip_norm": 0.5},
    "laat, awp": {"awp": 5e-3},
    "trades, awp": {"objective": "trades", "awp": 0.02},
    "laat, ema": {"ema": 0.7},
    "laat, n-fgsm": {"inner": "n-fgsm", "steps": 1},
}
NAMES = (*ANCHORED, *TUNING, *VARIANTS)


def settings_of(name: str) -> TrainSettings:
    """Four epochs of three steps: the eleventh and twelfth are not looked at, the tenth is after the rate has dropped. Tuning
    has twenty epochs: its rate does not drop."""
    if name in TUNING:
        tower = {"backbone": "clip:demo", "tau": 0.05, "lr": 1e-5 if name == "fare" else 1e-3, "batch_size": 5}
        return quick(epochs=20, objective=name, augment=False, eps=Fraction(1, 255), step_size=Fraction(1, 255), **tower)
    return quick(epochs=4, **({"objective": name} if name in ANCHORED else VARIANTS[name]))


def images_of(name: str) -> ImageSet:
    """The training images; for the bundled tower twelve of its size, of random pixels."""
    if name not in TUNING:
        return IMAGES
    pixels = numpy_generator(0, "tests/pixels").integers(0, 256, (12, 3, 32, 32))
    labels = torch.arange(12) % len(IMAGES.classes)
    return replace(IMAGES, images=torch.from_numpy(pixels.astype("uint8")), labels=labels)


def starting_model(name: str = "", seed: int = 0) -> EmbeddingModel:
    """The bundled tower, for tuning, or a conv4-8 with numpy's weights: every machine starts from the same, in float64."""
    if name in TUNING:
        return EmbeddingModel("clip:demo", 64, 32, mean=(0,) * 3, std=(1,) * 3).double()
    model = small_model().double()
    weights = numpy_generator(seed, "tests/weights")
    for parameter in model.parameters():
        if parameter.ndim > 1:
            drawn = weights.standard_normal(tuple(parameter.shape)) / parameter[0].numel() ** 0.5
            parameter.data = torch.from_numpy(drawn)
    return model


def anchors(name: str = "") -> Tensor:
    """Six anchors of width six, or of the bundled tower's for tuning; float64, of length one in that precision too."""
    made = made_up_anchors(width=64 if name in TUNING else 6)
    return torch.nn.functional.normalize(torch.from_numpy(made.vectors).double(), dim=1)


def judged(average: torch.nn.Module) -> float:
    """Cross-entropy of the averaged model on all images as they are, in eval mode."""
    average.eval()
    with torch.no_grad():
        logits = unit(average(IMAGES.images.float() / 255)).double() @ anchors().T
        return float(torch.nn.functional.cross_entropy(logits, IMAGES.labels))


def plain_list(name: str) -> list[float]:
    """Ten losses of the plain program, float64; with averaging, of the averaged model after each step (`judged`)."""
    settings = settings_of(name)
    if name in TUNING:
        tower = PlainTower(starting_model(name))
        formulas = Losses(name, copy.deepcopy(tower), anchors(name), 1 / settings.temperature)
        return list(itertools.islice(plain_tuning(tower, formulas, images_of(name), settings), STEPS))
    run = plain_training(PlainConv4(starting_model()), anchors(), IMAGES, settings)
    return [judged(average) if settings.ema else loss for loss, average in itertools.islice(run, STEPS)]


if __name__ == "__main__":
    made = {name: [round(loss, 12) for loss in plain_list(name)] for name in NAMES}
    head = {"made_by": "python -m tests.stages.training.goldens, float64", "torch": torch.__version__}
    sys.stdout.write(json.dumps({**head, **made}, indent=1) + "\n")
