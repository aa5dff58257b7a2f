"""The objectives that tune a CLIP model: equal to a plain program, labels that change nothing, the reference."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.encoder import load_encoder
from stages.anchors.sources import text_anchors
from stages.classes import ClassGroups
from stages.data.image_set import DataProvenance, ImageSet
from stages.data.shapes import render
from stages.models.embedding import EmbeddingModel
from stages.randomness import numpy_generator
from stages.training.loop import Trainer
from stages.training.objectives import OBJECTIVES
from stages.training.settings import TrainSettings
from stages.training.temperature import with_tau
from tests.stages.training.plain_tuning import Losses, PlainTower, plain_tuning
from tests.stages.training.synthetic import quick

NAMES = ("tecoa", "fare", "pmg-aft", "agft")
CLASSES = ("red circle", "blue star", "green ring", "yellow heart", "cyan cross", "red star")


def pictures(per_class: int = 2) -> ImageSet:
    """Bundled shapes of another colour or shape per label."""
    labels = np.repeat(np.arange(len(CLASSES)), per_class)
    drawn = render(labels % 4, labels, numpy_generator(0, "tests/pictures"))
    return ImageSet(torch.from_numpy(drawn), torch.from_numpy(labels), CLASSES, DataProvenance("drawn"))


@pytest.fixture(scope="module")
def anchors() -> AnchorSet:
    return text_anchors(CLASSES, ClassGroups.from_counts(len(CLASSES), None, 0), load_encoder("demo"), ["a {}"])


def tower() -> EmbeddingModel:
    """The bundled image tower."""
    return EmbeddingModel("clip:demo", 64, 32, mean=(0,) * 3, std=(1,) * 3)


def settings_of(name: str, **changes: Any) -> TrainSettings:
    """Steps that train and stay finite; FARE's gradients are large."""
    lr, small = 1e-4 if name == "fare" else 1e-3, Fraction(1, 255)
    given = {"eps": small, "step_size": small, "augment": False, "tau": 0.05, "lr": lr, "weight_decay": 1e-4, **changes}
    return quick(backbone="clip:demo", objective=name, epochs=20, batch_size=5, **given)


def losses(loop: Trainer, count: int = 20) -> list[float]:
    found: list[float] = []
    while len(found) < count:
        found += [float(step.loss) for step in loop.steps()]
    return found[:count]


# in float32, the sign of a gradient near zero is a matter of rounding: there, in the Euclidean ball
BALLS = {
    torch.float32: {"norm": "l2", "eps": Fraction(1, 2), "step_size": Fraction(1, 4)},
    torch.float64: {"norm": "linf"},
}


@pytest.mark.parametrize(("dtype", "far"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("name", NAMES)
def test_twenty_steps_are_those_of_the_plain_program(name: str, dtype: torch.dtype, far: float, anchors: AnchorSet) -> None:
    model, text = tower().to(dtype), normalize(torch.from_numpy(anchors.vectors).to(dtype), dim=1)
    anchors = replace(anchors, origin={**anchors.origin, "logit_scale": 20.0})
    plain, settings = PlainTower(model), with_tau(settings_of(name, tau=None, **BALLS[dtype]), anchors)
    formulas = Losses(name, copy.deepcopy(plain), text, anchors.origin["logit_scale"])
    expected = list(itertools.islice(plain_tuning(plain, formulas, pictures(), settings), 20))
    assert losses(Trainer(model, text, pictures(), settings, "cpu")) == pytest.approx(expected, rel=far, abs=far)
    assert abs(expected[-1] - expected[0]) > 100 * far  # the steps do something


@pytest.mark.parametrize("name", ["fare", "agft"])
def test_labels_change_nothing_where_they_are_not_used(name: str, anchors: AnchorSet) -> None:
    text, images = torch.from_numpy(anchors.vectors), pictures()
    permuted = replace(images, labels=images.labels.flip(0))
    trained = [Trainer(tower(), text, one, settings_of(name), "cpu") for one in (images, permuted)]
    assert losses(trained[0], 6) == losses(trained[1], 6)
    for one, other in zip(trained[0].model.parameters(), trained[1].model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not OBJECTIVES[name].labelled
    assert [name for name, kind in OBJECTIVES.items() if not kind.labelled] == ["fare", "agft"]


def counted(model: torch.nn.Module) -> list[int]:
    """The number of images of each later forward pass."""
    seen: list[int] = []
    model.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    return seen


@pytest.mark.parametrize(("changes", "an_epoch"), [({}, 0), ({"augment": True}, 12), ({"augment": True, "awp": 0.01}, 12)])
def test_the_reference_sees_a_clean_image_once(changes: dict[str, Any], an_epoch: int, anchors: AnchorSet) -> None:
    loop = Trainer(tower(), torch.from_numpy(anchors.vectors), pictures(), settings_of("fare", **changes), "cpu")
    seen = counted(loop.training_step.reference)
    losses(loop, 3)
    assert sum(seen) == 12
    losses(loop, 3)
    assert sum(seen) == 12 + an_epoch


def test_the_reference_keeps_its_weights_and_is_the_given_one(anchors: AnchorSet) -> None:
    text, given = torch.from_numpy(anchors.vectors), tower()
    with torch.no_grad():
        given.projection.weight.mul_(2)
    loops = [Trainer(tower(), text, pictures(), settings_of("fare"), "cpu", reference=one) for one in (None, given)]
    for loop in loops:
        losses(loop, 3)
        assert not torch.equal(loop.model.projection.weight, torch.eye(64))
    assert torch.equal(loops[0].training_step.reference.projection.weight, torch.eye(64))
    assert torch.equal(loops[1].training_step.reference.projection.weight, 2 * torch.eye(64))
    assert torch.equal(given.projection.weight, 2 * torch.eye(64))
