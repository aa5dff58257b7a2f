"""The training loop: one for all objectives."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.attacks.gradient import frozen, maximise
from stages.data.augment import Augmentation
from stages.data.image_set import ImageSet
from stages.errors import ComputeError
from stages.models.embedding import EmbeddingModel
from stages.randomness import torch_generator
from stages.train.objectives import Outcome, build_objective
from stages.train.schedules import learning_rate
from stages.train.settings import TrainSettings

_REPORT_EVERY_SECONDS = 0.25


@dataclass(frozen=True)
class Figures:
    """Means over the images of an epoch (so far).

    Attributes:
        loss: the objective's loss.
        clean_accuracy, robust_accuracy: of the training batches as they were met, model in training mode; None where the
            objective does not look at that side.
    """

    loss: float
    clean_accuracy: float | None
    robust_accuracy: float | None


@dataclass(frozen=True)
class Progress:
    """Where the run is: epoch (from 1), steps over the whole run, images per second in this epoch, figures so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    images_per_second: float
    figures: Figures


class Trainer:
    """Trains a model against fixed anchors.

    Args:
        model: on `device`, channels last is set here.
        anchors: (C, D) unit anchors of the classes that `images` are labelled with.
        images: the training images; they live on `device` as uint8.
        settings: see `TrainSettings`.
        device: torch device.
    """

    def __init__(self, model: EmbeddingModel, anchors: Tensor, images: ImageSet, settings: TrainSettings, device: str) -> None:
        self.model = model.placed(device)
        self.settings, self.device = settings, device
        self._images = images.images.to(device)
        self._labels = images.labels.to(device)
        self._objective = build_objective(settings, anchors.to(device))
        self._augmentation = Augmentation() if settings.augment else Augmentation.off()
        self._optimizer = torch.optim.SGD(
            model.parameters(), lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self._order, self._augment, self._noise = (
            torch_generator(settings.seed, f"train/{purpose}") for purpose in ("order", "augment", "attack")
        )
        self.steps_per_epoch = -(-len(images) // settings.batch_size)
        self._step = 0

    def epoch(self, number: int, report: Callable[[Progress], None] | None = None) -> Figures:
        """Train one epoch (`number` counts from 1) over all images in a new random order.

        Raises ComputeError on a non-finite loss, naming the epoch and the step.
        """
        order = torch.randperm(len(self._labels), generator=self._order)
        sums = _Sums(self.device)
        start = reported = time.monotonic()
        for rows in order.split(self.settings.batch_size):
            sums.add(*self.train_batch(rows.to(self.device)))
            now = time.monotonic()
            if now - reported >= _REPORT_EVERY_SECONDS and report is not None:
                reported = now
                figures = self._checked(sums, number)
                report(self._progress(number, figures, sums.images / (now - start)))
        return self._checked(sums, number)

    def train_batch(self, rows: Tensor) -> tuple[Outcome, Tensor]:
        """One step on the images `rows` (n,): augment, attack, descend. Returns the outcome and the labels (n,)."""
        settings = self.settings
        x = self._augmentation.apply(self._images[rows], self._augment).contiguous(memory_format=torch.channels_last)
        labels = self._labels[rows]
        x_adv = self._attacked(x, labels) if self._objective.attacks else x
        self.model.train()
        outcome = self._objective.outer(self.model, x, x_adv, labels)
        rate = learning_rate(settings.schedule, settings.lr, self._step, self.steps_per_epoch, settings.epochs)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        outcome.loss.backward()
        self._optimizer.step()
        self._step += 1
        return outcome, labels

    def _attacked(self, x: Tensor, labels: Tensor) -> Tensor:
        """The inner maximisation: model in eval mode, parameters frozen, uniform random start in the ball."""
        settings = self.settings
        # drawn on the CPU: the same start on every device
        noise = torch.rand(x.shape, generator=self._noise).to(x.device).contiguous(memory_format=torch.channels_last)
        with frozen(self.model):
            loss = self._objective.inner(self.model, labels)
            return maximise(loss, x, settings.threat, steps=settings.steps, step_size=float(settings.step), noise=noise)

    def _checked(self, sums: _Sums, epoch: int) -> Figures:
        figures = sums.figures()
        if not figures.loss - figures.loss == 0:  # infinite or NaN
            raise ComputeError(
                f"the loss became non-finite in epoch {epoch}, at or before step {self._step}",
                "lower --lr; what finished epochs wrote is untouched",
            )
        return figures

    def _progress(self, epoch: int, figures: Figures, rate: float) -> Progress:
        return Progress(epoch, self.settings.epochs, self._step, self.steps_per_epoch * self.settings.epochs, rate, figures)


class _Sums:
    """Sums over the images met so far, kept on the device: nothing waits for it until figures are asked for."""

    def __init__(self, device: str) -> None:
        self.images = 0
        self._sums = torch.zeros(3, dtype=torch.float32 if device.startswith("mps") else torch.float64, device=device)
        self._has_clean = self._has_robust = False

    def add(self, outcome: Outcome, labels: Tensor) -> None:
        """Count one batch."""
        self.images += len(labels)
        self._sums[0] += outcome.loss.detach() * len(labels)
        self._has_clean, self._has_robust = outcome.clean is not None, outcome.attacked is not None
        for at, logits in ((1, outcome.clean), (2, outcome.attacked)):
            if logits is not None:
                self._sums[at] += (logits.detach().argmax(1) == labels).sum()

    def figures(self) -> Figures:
        """The means so far."""
        loss, clean, robust = (self._sums / max(self.images, 1)).tolist()
        return Figures(loss, clean if self._has_clean else None, robust if self._has_robust else None)
