"""The first ten losses of each objective, pinned: a change of the method, of a random stream or of their order shows here."""

from __future__ import annotations

import json

import pytest
import torch

from stages.randomness import numpy_generator
from stages.train.loop import Trainer
from stages.train.settings import OBJECTIVES
from tests.stages.train.synthetic import made_up_anchors, made_up_images, quick, small_model
from tests.where import GOLDEN


def ten_losses(objective: str, seed: int = 0, precision: torch.dtype = torch.float64) -> list[float]:
    """Ten steps of conv4-8 on 48 made-up images, batch 16, PGD-2 at 8/255, lr 0.05, augmentation on, on the CPU.

    Float64 and numpy's weights, so that every processor finds the same: in float32 the sign of a gradient that is nearly
    zero differs between them, and a step of the attack with it.
    """
    model = small_model()
    weights = numpy_generator(seed, "tests/weights")
    for parameter in model.parameters():
        if parameter.ndim > 1:
            drawn = weights.standard_normal(tuple(parameter.shape)) / parameter[0].numel() ** 0.5
            parameter.data = torch.from_numpy(drawn)
    anchors = torch.from_numpy(made_up_anchors().vectors).to(precision)
    trainer = Trainer(model.to(precision), anchors, made_up_images(), quick(objective=objective, seed=seed), "cpu")
    rows = torch.arange(160) * 7 % 48
    return [float(trainer.train_batch(part)[0].loss.detach()) for part in rows.split(16)]


def pinned(objective: str) -> list[float]:
    return json.loads((GOLDEN / "losses.json").read_text(encoding="utf-8"))[objective]


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ten_losses(objective: str) -> None:
    assert ten_losses(objective) == pytest.approx(pinned(objective), rel=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_ten_losses_in_the_precision_of_a_run(objective: str) -> None:
    assert ten_losses(objective, precision=torch.float32) == pytest.approx(pinned(objective), rel=3e-3)


def test_the_losses_follow_from_the_seed() -> None:
    one = ten_losses("laat", seed=1)
    assert one == ten_losses("laat", seed=1)
    assert one[0] != pytest.approx(ten_losses("laat", seed=2)[0], rel=1e-4)
