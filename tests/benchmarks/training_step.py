"""Benchmark of a whole training step: augmentation, inner attack, outer step, SGD."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from stages.models.classifier import unit
from stages.models.embedding import EmbeddingModel
from stages.training.loop import StepDone, Trainer
from tests.benchmarks.elsewhere import Ask, elsewhere
from tests.benchmarks.reference import PlainProgram, wait
from tests.benchmarks.task import Task
from tests.benchmarks.timing import Pair, alternate

AGREE = 1e-5  # the two networks' embeddings of the same images, float32 on the CPU
AGREE_ON_A_DEVICE = 2e-3  # matrix units round their inputs


class Ours:
    """`laat` on a task: a Trainer that runs steps."""

    def __init__(self, task: Task, device: str) -> None:
        self._device = device
        self.trainer = Trainer(task.model(), task.anchors(), task.image_set(), task.settings(), device)
        self._steps = self._endless()

    def _endless(self) -> Iterator[StepDone]:
        while True:
            yield from self.trainer.steps()

    def seconds(self, steps: int) -> float:
        """Seconds that `steps` steps take."""
        wait(self._device)
        start = time.perf_counter()
        for _ in range(steps):
            next(self._steps)
        wait(self._device)
        return time.perf_counter() - start


def training_step(task: Task, device: str, *, repeats: int, a_turn: int, workers: int, target: float | None) -> Pair:
    """Seconds per step, `a_turn` steps in each turn, after checking that both networks agree.

    Raises AssertionError when they do not.
    """
    with elsewhere(PlainProgram, task, device, workers) as plain:
        check_agreement(task, Ours(task, device).trainer.model, plain, device)
        return step_beside(plain, task, device, repeats=repeats, a_turn=a_turn, target=target)


def step_beside(
    plain: Ask,
    task: Task,
    device: str,
    *,
    repeats: int,
    a_turn: int = 1,
    target: float | None = None,
    published: bool = False,
) -> Pair:
    """As `training_step`, beside a plain program that runs already, unchecked; `published`: which attacks as the published one
    does."""
    ours = Ours(task, device)
    return alternate(
        f"{task.title}, to the published step" if published else task.title,
        lambda: ours.seconds(a_turn) / a_turn,
        lambda: float(plain("seconds", a_turn, published)) / a_turn,
        repeats,
        target,
    )


def check_agreement(task: Task, model: EmbeddingModel, plain: Ask, device: str) -> float:
    """Largest difference between the embeddings of the first images by both programs, in eval mode."""
    x = task.image_set().images[:16].float() / 255
    model.eval()
    with torch.no_grad():
        found = unit(model(x.to(device))).cpu()
    far = float((found - torch.from_numpy(plain("embeddings", x.numpy()))).abs().max())
    allowed = AGREE if device == "cpu" else AGREE_ON_A_DEVICE
    assert far <= allowed, f"{task.backbone}: the reference's embeddings differ from ours by {far:.2g}, over {allowed:g}"
    return far
