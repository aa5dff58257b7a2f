"""Faster must not mean other: the training loop's losses are those of the obvious program on the same draws.

In float64 both run freely and agree to the last digits. In float32 two programs that add in another order
part: the sign of a gradient near zero, or which of four pixels is the largest, changes here and there, and what the attack
does with it grows from step to step (two plain programs, one channels first and one channels last, part as far). There each
step of the obvious program starts from the weights that ours had.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stages.data.batches.augment import Augmentation
from stages.models.embedding import EmbeddingModel
from stages.randomness import torch_generator
from stages.training.loop import Trainer
from tests.benchmarks.reference import plain_network
from tests.benchmarks.task import Task
from tests.stages.training.plain_step import plain_attack, plain_laat_loss

STEPS = 20
CONV4 = Task("conv4-64", batch=32, steps=7, images=160, size=16)
RESNET12 = Task("resnet12", batch=4, steps=2, images=20, size=16)


class InFloat64(Task):
    """The same, in float64: pixels are float32 and are widened by the model's own normalisation."""

    def model(self) -> EmbeddingModel:
        return super().model().double()

    def anchors(self) -> Tensor:
        return super().anchors().double()


class Plain:
    """The losses of the obvious program: channels first, batch norm a layer of its own, nothing frozen; the same draws."""

    def __init__(self, task: Task, **changes: Any) -> None:
        self._task, self._settings = task, replace(task.settings(), **changes)
        self._images, self._anchors = task.image_set(), task.anchors()

    def loss(self, network: nn.Module, step: int) -> Tensor:
        """Of step `step` (from 0) with the weights of `network`; its batch norms move as they do in training."""
        seed, a_batch = self._settings.seed, self._task.batch
        epoch, at = divmod(step * a_batch, self._task.images)
        order = torch.randperm(self._task.images, generator=torch_generator(seed, f"train/order/{epoch + 1}"))
        rows = order[at : at + a_batch]
        x = Augmentation().apply(self._images.images[rows], torch_generator(seed, f"train/augment/{step}"))
        noise = torch.rand(x.shape, generator=torch_generator(seed, f"train/attack/{step}"))
        y, sizes = self._images.labels[rows], self._settings
        x_adv = plain_attack(
            network, self._anchors, x, y, noise, eps=float(sizes.eps), steps=sizes.steps, step=float(sizes.step)
        )
        return plain_laat_loss(network, self._anchors, x, x_adv, y)

    def freely(self, steps: int = STEPS) -> Iterator[float]:
        """The losses of a training."""
        network, sizes = plain_network(self._task.model()), self._settings
        optimizer = torch.optim.SGD(network.parameters(), lr=sizes.lr, momentum=sizes.momentum, weight_decay=sizes.weight_decay)
        for step in range(steps):
            loss = self.loss(network, step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield float(loss.detach())


def fast_losses(trainer: Trainer, steps: int = STEPS) -> Iterator[float]:
    while trainer.step < steps:
        for done in trainer.steps():
            yield float(done.loss)
    trainer.close()


def trainer_on(task: Task, **changes: Any) -> Trainer:
    return Trainer(task.model(), task.anchors(), task.image_set(), replace(task.settings(), **changes), "cpu")


@pytest.mark.parametrize(
    ("task", "steps"),
    [(replace(CONV4, batch=16, images=80), STEPS), (replace(RESNET12, batch=2, images=10, steps=1), STEPS // 2)],
    ids=["conv4-64", "resnet12"],
)
def test_in_float64_training_loses_what_the_obvious_program_loses(task: Task, steps: int) -> None:
    exact = InFloat64(**vars(task))
    fast, plain = list(fast_losses(trainer_on(exact), steps)), list(Plain(exact).freely(steps))
    assert len(fast) == steps
    assert fast == pytest.approx(plain, abs=1e-9)
    assert max(fast) - min(fast) > 1e-3  # it is a training: something moves


@pytest.mark.parametrize("task", [CONV4, RESNET12], ids=["conv4-64", "resnet12"])
def test_in_float32_each_of_twenty_steps_loses_what_the_obvious_program_loses(task: Task) -> None:
    trainer, plain = trainer_on(task), Plain(task)
    fast = fast_losses(trainer)
    expected, found = [], []
    for step in range(STEPS):
        expected.append(float(plain.loss(plain_network(trainer.model), step).detach()))
        found.append(next(fast))
    trainer.close()
    assert found == pytest.approx(expected, abs=1e-3)  # at most 3e-4 with AVX2, 1e-4 with AVX-512


def test_in_float32_both_run_freely_where_little_hangs_on_a_sign() -> None:
    """A small radius and rate, and a batch that averages."""
    task = replace(CONV4, batch=64, images=320)
    gentle: dict[str, Any] = {"eps": Fraction(1, 255), "lr": 0.01}
    fast, plain = list(fast_losses(trainer_on(task, **gentle))), list(Plain(task, **gentle).freely())
    assert fast == pytest.approx(plain, abs=1e-4)
