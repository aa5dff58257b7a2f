"""The training loop: where the run stands, which images a step takes, and what is drawn for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from stages.data.augment import Augmentation
from stages.data.image_set import ImageSet
from stages.data.loader import open_loader
from stages.data.streaming_set import StreamingImageSet
from stages.devices import keep_freed_memory, send
from stages.models.embedding import EmbeddingModel, place
from stages.models.norms import synchronise_norms
from stages.randomness import torch_generator
from stages.train.objectives import build_objective
from stages.train.schedules import learning_rate
from stages.train.settings import TrainSettings
from stages.train.sums import Sums
from stages.train.training_step import Piece, Stepper
from stages.world import World


@dataclass(frozen=True)
class StepDone:
    """A finished step: its number over the whole run (from 1), the images it took, and its loss, a mean over them (a tensor
    on the device: reading it waits)."""

    number: int
    images: int
    loss: Tensor


class Trainer:
    """Trains a model against fixed anchors.

    What is random is a function of the seed, the purpose and the epoch or step, drawn on the CPU for the whole global batch. So
    a run goes on exactly from any step, on any device, with any number of processes; there is no generator to save.

    Args:
        model: moved to `device`; channels last is set here.
        anchors: (C, D) unit anchors of the classes that `images` are labelled with.
        images: the training images, in memory or streamed.
        settings: see `TrainSettings`.
        device: torch device.
        world: the processes that share each batch.
        cache: where images in memory live: 'device' or 'ram'; streamed ones are read as they are needed.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        anchors: Tensor,
        images: ImageSet | StreamingImageSet,
        settings: TrainSettings,
        device: str,
        *,
        world: World | None = None,
        cache: str = "device",
    ) -> None:
        keep_freed_memory(device)
        self.settings, self.device, self.world = settings, device, world or World()
        self.model = model
        place(model, device)
        self._objective = build_objective(settings, anchors.to(device))
        self.stepper = Stepper(model, self._objective, settings, self.world)
        if self.world.size > 1:
            synchronise_norms(model, self.world.group)
        self._loader = open_loader(images, cache, device)
        self._augmentation = augmentation(settings)
        self.images = len(images)
        self.steps_per_epoch = -(-self.images // settings.batch_size)
        self.step = 0
        self.sums = self._no_sums()

    @property
    def epoch(self) -> int:
        """The epoch (from 1) of the next step."""
        return self.step // self.steps_per_epoch + 1

    @property
    def images_done(self) -> int:
        """Images that went through the model over the whole run."""
        epochs, steps = divmod(self.step, self.steps_per_epoch)
        return epochs * self.images + steps * self.settings.batch_size

    @property
    def scored_model(self) -> EmbeddingModel:
        """The model that is judged and saved: the average if there is one."""
        return self.model if self.stepper.average is None else self.stepper.average.model

    def steps(self) -> Iterator[StepDone]:
        """Take the remaining steps of the current epoch, one each time it is asked; at the end `sums` hold the epoch."""
        if self.step % self.steps_per_epoch == 0:
            self.sums = self._no_sums()
        order = torch.randperm(self.images, generator=self._generator("order", self.epoch))
        batches = order.split(self.settings.batch_size)[self.step % self.steps_per_epoch :]
        shares = [self._shares(len(batch)) for batch in batches]
        mine = [torch.cat([batch[rows] for rows in parts]) for batch, parts in zip(batches, shares, strict=True)]
        with closing(self._loader.batches(mine)) as loader:
            for batch, parts, (images, labels) in zip(batches, shares, loader, strict=True):
                yield self._take(images, labels, parts, len(batch))

    def rehearse(self, count: int) -> None:
        """Attack and gradient on `count` black images at once, as a step would; no weight moves."""
        x = torch.zeros(count, 3, self.model.image_size, self.model.image_size, device=self.device)
        labels = torch.zeros(count, dtype=torch.int64, device=self.device)
        x = x.contiguous(memory_format=torch.channels_last)
        noise = torch.full_like(x, 0.5) if self._objective.attacks else None
        self.stepper.rehearse(Piece(x, noise, labels, slice(0, count)), self._generator("masks", 0))

    def close(self) -> None:
        """Let the workers that read images go."""
        self._loader.close()

    def _shares(self, total: int) -> list[slice]:
        """This process's part of each piece of a batch of `total` images. A piece is the same set of images for any number of
        processes. Parts may be empty, but every process has one of each piece: they make the same passes."""
        count = min(self.settings.accumulate, total)
        cuts = [total * at // count for at in range(count + 1)]
        own = [(start, self.world.share(stop - start)) for start, stop in pairwise(cuts)]
        return [slice(start + share.start, start + share.stop) for start, share in own]

    def _take(self, images: Tensor, labels: Tensor, parts: list[slice], total: int) -> StepDone:
        settings = self.settings
        rate = learning_rate(
            settings.schedule, settings.lr, self.step, self.steps_per_epoch, settings.epochs, warm_up=settings.warm_up
        )
        pieces = self._pieces(images, labels, parts, total)
        sums = self.stepper.step(pieces, total, rate, self._generator("masks", self.step))
        self.step += 1
        self.sums.add(sums, total, self.step)
        return StepDone(self.step, total, sums[0] / total)

    def _pieces(self, images: Tensor, labels: Tensor, parts: list[slice], total: int) -> list[Piece]:
        """This process's images, augmented, and what else they need, in the pieces that go through the model at once."""
        drawn = self._augmentation.draw(total, self._generator("augment", self.step))
        everyone: Tensor | None = None
        if self._objective.attacks:
            # drawn on the CPU: the same start on every device
            everyone = torch.rand((total, *images.shape[1:]), generator=self._generator("attack", self.step))
        sizes = [rows.stop - rows.start for rows in parts]
        pieces = []
        for rows, own, own_labels in zip(parts, images.split(sizes), labels.split(sizes), strict=True):
            x = self._augmentation.apply_drawn(own, drawn.part(rows)).contiguous(memory_format=torch.channels_last)
            noise = None
            if everyone is not None:
                noise = send(everyone[rows], self.device).contiguous(memory_format=torch.channels_last)
            pieces.append(Piece(x, noise, own_labels, rows))
        return pieces

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        return torch_generator(self.settings.seed, f"train/{purpose}/{number}")

    def _no_sums(self) -> Sums:
        return Sums(self.device, self._objective.terms, (self._objective.clean, self._objective.attacks))


def augmentation(settings: TrainSettings) -> Augmentation:
    """The augmentation that the settings ask for."""
    if not settings.augment:
        return Augmentation.off()
    return Augmentation(crop_padding=settings.crop_padding, rotation_degrees=settings.rotation, jitter=settings.jitter)
