"""Benchmark of a step of adversarial querying against a step of adversarial training on as many images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from stages.data.episode_shape import HEADS
from stages.training.loop import StepDone, Trainer
from stages.training.settings import TrainSettings
from tests.benchmarks.reference import wait
from tests.benchmarks.task import Task
from tests.benchmarks.timing import Pair, alternate

SHOTS = (1, 5)
MOST = 1.15  # times the step on class batches
PUBLISHED = 15  # queries of each class (Goldblum et al., NeurIPS 2020)


def episodes(backbone: str, device: str, repeats: int, steps: int = 7, queries: int = PUBLISHED) -> list[Pair]:
    """Seconds per step: 4 episodes of 5 ways for each head and number of shots, in turns with `at` on as many images.

    The target holds for the published number of queries.
    """
    found = []
    for head in HEADS:
        for shots in SHOTS:
            settings = TrainSettings(
                backbone=backbone, objective="aq", head=head, shots=shots, queries=queries, steps=steps, precision="float32"
            )
            images = settings.episodes * settings.episode.images
            task = Task(backbone, images, steps, images=64 * (shots + queries))
            of_classes = replace(task.settings(), objective="at")
            name = f"AQ step, {backbone}, {head}, {shots}-shot, {images} images, PGD-{steps}"
            target = 1 / MOST if queries == PUBLISHED else None
            found.append(alternate(name, _timer(task, settings, device), _timer(task, of_classes, device), repeats, target))
    return found


def _timer(task: Task, settings: TrainSettings, device: str) -> Callable[[], float]:
    """Seconds of the next step."""
    trainer = Trainer(task.model(), task.anchors(), task.image_set(), settings, device)

    def endless() -> Iterator[StepDone]:
        while True:
            yield from trainer.steps()

    steps = endless()

    def seconds() -> float:
        wait(device)
        start = time.perf_counter()
        next(steps)
        wait(device)
        return time.perf_counter() - start

    return seconds
