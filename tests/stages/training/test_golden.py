"""The first ten losses of each objective and of what wraps it: the loop, a plain program and the pinned values agree.

A change of the method, of a random stream or of their order shows here.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import cache

import pytest
import torch

from stages.training.loop import Trainer
from tests.stages.training.goldens import (
    NAMES,
    STEPS,
    anchors,
    images_of,
    judged,
    plain_list,
    settings_of,
    starting_model,
)
from tests.where import GOLDEN


def ten_losses(name: str, seed: int = 0, precision: torch.dtype = torch.float64) -> list[float]:
    """Ten steps of the training loop on the CPU, three epochs and the first step of a fourth.

    Float64 and numpy's weights, so that every processor finds the same: in float32 the sign of a gradient that is nearly
    zero differs between them, and a step of the attack with it.
    """
    settings = replace(settings_of(name), seed=seed)
    model, text = starting_model(name, seed).to(precision), anchors(name).to(precision)
    trainer = Trainer(model, text, images_of(name), settings, "cpu")
    epochs = (trainer.steps() for _ in range(settings.epochs))
    done = itertools.islice(itertools.chain.from_iterable(epochs), STEPS)
    return [judged(trainer.scored_model) if settings.ema else float(step.loss) for step in done]


@cache
def pinned() -> dict[str, list[float]]:
    return json.loads((GOLDEN / "losses.json").read_text(encoding="utf-8"))


def test_every_list_is_pinned() -> None:
    assert {*pinned()} - {"made_by", "torch"} == {*NAMES}
    assert all(len(pinned()[name]) == STEPS for name in NAMES)
    assert len({tuple(pinned()[name]) for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_ten_losses(name: str) -> None:
    found = ten_losses(name)
    assert found == pytest.approx(plain_list(name), rel=1e-9, abs=1e-10)
    assert found == pytest.approx(pinned()[name], rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_ten_losses_in_the_precision_of_a_run(name: str) -> None:
    assert ten_losses(name, precision=torch.float32) == pytest.approx(pinned()[name], rel=3e-3, abs=1e-3)


def test_the_losses_follow_from_the_seed() -> None:
    one = ten_losses("laat", seed=1)
    assert one == ten_losses("laat", seed=1)
    assert one[0] != pytest.approx(ten_losses("laat", seed=2)[0], rel=1e-4)
