"""The training loop: the order of the images, the random numbers of every step, and the position in the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from stages.data.batches.augment import Augmentation
from stages.data.batches.loader import open_loader
from stages.data.image_set import ImageSet
from stages.data.streaming_set import StreamingImageSet
from stages.devices import keep_freed_memory, send
from stages.errors import UsageError
from stages.models.backbones import NetBackbone
from stages.models.embedding import EmbeddingModel, feature_width, place
from stages.models.norms import synchronise_norms
from stages.models.recompute import can_recompute
from stages.randomness import derive_seed, torch_generator
from stages.training.batches import Batches, EpisodeBatches
from stages.training.build_objective import build_objective
from stages.training.clean_embeddings import clean_embeddings
from stages.training.embed import check_tokens
from stages.training.objectives import Objective
from stages.training.schedules import learning_rate
from stages.training.settings import TrainSettings
from stages.training.sums import Sums
from stages.training.training_step import MicroBatch, TrainingStep
from stages.world import World


@dataclass(frozen=True)
class StepDone:
    """A finished training step: its number over the whole run (from 1), its number of images, and its mean loss (a tensor on
    the device: reading it waits)."""

    number: int
    images: int
    loss: Tensor


class Trainer:
    """Trains a model with an objective.

    All random numbers are a function of the seed, the purpose and the epoch or step, generated on the CPU for the whole global
    batch. A run can therefore be resumed exactly at any step, on any device, with any number of processes; no generator is
    saved.

    Args:
        model: any module, images (N, 3, H, W) float in [0, 1] -> embeddings (N, D); moved to `device`.
        anchors: (C, D) unit anchors of the classes that `images` are labelled with.
        images: the training images, in memory or streamed.
        settings: see `TrainSettings`.
        device: torch device.
        world: the processes that share each batch.
        cache: where images in memory are kept: 'device' or 'ram'; streamed images are read when they are needed.
        objective: replaces the one of the settings; see `build_objective`.
        reference: the frozen model of objectives that have one, moved to `device`; None is a copy of `model`.

    Raises UsageError for gradient checkpointing with a model that does not support it, and for patch tokens of one without.
    """

    def __init__(
        self,
        model: nn.Module,
        anchors: Tensor,
        images: ImageSet | StreamingImageSet,
        settings: TrainSettings,
        device: str,
        *,
        world: World | None = None,
        cache: str = "device",
        objective: Objective | type[Objective] | None = None,
        reference: nn.Module | None = None,
    ) -> None:
        keep_freed_memory(device)
        self.settings, self.device, self.world = settings, device, world or World()
        self.model = model
        place(model, device)
        if settings.grad_checkpointing and not can_recompute(model):
            raise UsageError(
                f"{settings.backbone} does not support gradient checkpointing: no module of it has a flag 'grad_checkpointing'",
                "leave out --grad-checkpointing; --accumulate and a smaller --batch-size need less memory too",
            )
        self._objective = build_objective(settings, anchors.to(device), objective)
        self._objective.prepare(settings, feature_width(model, anchors.shape[1]))
        if self._objective.module is not None:
            self._objective.module.to(device, anchors.dtype)
        if reference is not None:
            place(reference, device)
        if self._objective.tokens:
            check_tokens(model, images.size[0], settings.backbone)
            if reference is not None:
                check_tokens(reference, images.size[0], "the reference")
        self.training_step = TrainingStep(model, self._objective, settings, self.world, reference)
        if self.world.size > 1:
            synchronise_norms(model, self.world.group)
        self._loader = open_loader(images, cache, device)
        self._augmentation = augmentation(settings)
        self._image_size = images.size
        self._known: Tensor | None = None  # (images, D) by the reference
        self.images = len(images)
        self._batches = self._planned(images)
        self.steps_per_epoch = self._batches.steps_per_epoch
        self.step = 0
        self.sums = self._no_sums()

    @property
    def epoch(self) -> int:
        """The epoch (from 1) of the next step."""
        return self.step // self.steps_per_epoch + 1

    @property
    def batch_size(self) -> int:
        """Images in a global batch."""
        return self._batches.size

    @property
    def unit(self) -> int:
        """Images that stay together in a micro-batch: those of an episode, else one."""
        return self._batches.unit

    @property
    def images_done(self) -> int:
        """Number of images trained on over the whole run, repeated ones included."""
        return self._batches.images_before(self.step)

    @property
    def scored_model(self) -> nn.Module:
        """The model to score and save: the averaged one if there is one."""
        average, learnt = self.training_step.average, self._objective.module
        if average is None:
            return self.model
        return average.module if learnt is None else average.module.get_submodule("model")

    @property
    def scored_head(self) -> nn.Module | None:
        """What is learnt besides the model, to score and save: the averaged one if there is one."""
        average, learnt = self.training_step.average, self._objective.module
        return learnt if average is None or learnt is None else average.module.get_submodule("head")

    @property
    def attacks(self) -> bool:
        """Whether the objective uses adversarial images."""
        return self._objective.attacks

    def steps(self) -> Iterator[StepDone]:
        """Take the remaining steps of the current epoch, one per iteration; afterwards `sums` are those of the epoch."""
        if self.step % self.steps_per_epoch == 0:
            self.sums = self._no_sums()
        batches = self._batches.rest_of_epoch(self.step)
        own = [self._own_rows(len(batch)) for batch in batches]
        own_images = [torch.cat([batch[part] for part in rows]) for batch, rows in zip(batches, own, strict=True)]
        known = self._known_embeddings()
        with closing(self._loader.batches(own_images)) as loader:
            for batch, rows, at, (images, labels) in zip(batches, own, own_images, loader, strict=True):
                yield self._take(images, labels, rows, len(batch), None if known is None else known[at.to(known.device)])

    def try_batch(self, count: int) -> None:
        """The attack and the gradient of a step on `count` black images, for its need of memory; no parameter changes."""
        x = torch.zeros(count, 3, *self._image_size, device=self.device).contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(count, dtype=torch.int64, device=self.device)
        noise = torch.full_like(x, 0.5) if self._objective.attacks else None
        self.training_step.try_batch(MicroBatch(x, noise, labels, slice(0, count)), self._generator("masks", 0))

    def close(self) -> None:
        """Stop the workers that read images."""
        self._loader.close()

    def _own_rows(self, total: int) -> list[slice]:
        """The rows of a batch of `total` images that this process takes of each micro-batch.

        A micro-batch has the same images, or the same whole episodes, for any number of processes. A process may have none of
        them, but it makes the same passes as the others.
        """
        unit = self._batches.unit
        total //= unit
        count = min(self.settings.accumulate, total)
        bounds = [total * at // count for at in range(count + 1)]
        shares = [(start, self.world.share(stop - start)) for start, stop in pairwise(bounds)]
        return [slice(unit * (start + share.start), unit * (start + share.stop)) for start, share in shares]

    def _planned(self, images: ImageSet | StreamingImageSet) -> Batches:
        settings = self.settings
        if not self._objective.episodic:
            return Batches(self.images, settings.batch_size, settings.seed)
        shape, steps = self._objective.shape, settings.steps_per_epoch
        return EpisodeBatches(images.labels, images.classes, shape, settings.episodes, steps, settings.seed)

    def _known_embeddings(self) -> Tensor | None:
        """The reference's embeddings (images, D), where the images are the same in every epoch; streamed ones are read once
        more, as other batches would round differently. With `tokens`, the objective wants more than the embeddings."""
        reference, settings = self.training_step.reference, self.settings
        if reference is None or self._objective.tokens or settings.augment:
            return None
        if self._known is None:
            shape = self.images, self._objective.anchors.shape[1]
            size, half = -(-settings.batch_size // settings.accumulate), settings.precision == "bf16"
            self._known = clean_embeddings(reference, self._loader, shape, self.world, self.device, batch_size=size, half=half)
        return self._known

    def _take(self, images: Tensor, labels: Tensor, rows: list[slice], total: int, known: Tensor | None) -> StepDone:
        settings = self.settings
        rate = learning_rate(
            settings.schedule, settings.lr, self.step, self.steps_per_epoch, settings.epochs, warm_up=settings.warm_up
        )
        micro_batches = self._micro_batches(images, labels, rows, total, known)
        with self._seeded():
            sums = self.training_step.take(micro_batches, total, rate, self._generator("masks", self.step))
        self.step += 1
        count = self._objective.loss_count(total)
        self.sums.add(sums, count, self.step)
        return StepDone(self.step, total, sums[0] / count)

    def _micro_batches(
        self, images: Tensor, labels: Tensor, rows: list[slice], total: int, known: Tensor | None
    ) -> list[MicroBatch]:
        """This process's images, augmented, with the random starts of their attacks and the embeddings that are known."""
        transforms = self._augmentation.sample(total, self._generator("augment", self.step))
        noise: Tensor | None = None
        if self._objective.attacks:
            # on the CPU: the same start on every device
            noise = torch.rand((total, *images.shape[1:]), generator=self._generator("attack", self.step))
        sizes = [part.stop - part.start for part in rows]
        found = [None] * len(sizes) if known is None else known.split(sizes)
        micro_batches = []
        for part, own, own_labels, own_known in zip(rows, images.split(sizes), labels.split(sizes), found, strict=True):
            x = self._augmentation.apply_parameters(own, transforms.part(part)).contiguous(memory_format=torch.channels_last)
            start = None
            if noise is not None:
                start = send(noise[part], self.device).contiguous(memory_format=torch.channels_last)
            micro_batches.append(MicroBatch(x, start, own_labels, part, own_known))
        return micro_batches

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """Within: torch's global generator is seeded for this step, so that runs with dropout in their model can be resumed."""
        if isinstance(self.model, EmbeddingModel) and not isinstance(self.model.backbone, NetBackbone):
            yield  # our backbones and image towers use no random numbers
            return
        with torch.random.fork_rng([self.device] if self.device.startswith("cuda") else []):
            torch.manual_seed(derive_seed(self.settings.seed, f"train/module/{self.step}/{self.world.rank}"))
            yield

    def _generator(self, purpose: str, number: int) -> torch.Generator:
        return torch_generator(self.settings.seed, f"train/{purpose}/{number}")

    def _no_sums(self) -> Sums:
        return Sums(self.device, self._objective.terms, (self._objective.clean, self._objective.attacks))


def augmentation(settings: TrainSettings) -> Augmentation:
    """The augmentation that the settings ask for."""
    if not settings.augment:
        return Augmentation.off()
    return Augmentation(crop_padding=settings.crop_padding, rotation_degrees=settings.rotation, jitter=settings.jitter)
