"""Which images each training step gets: a permutation of all images in batches, or sampled episodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stages.data.episode_shape import EpisodeShape
from stages.data.episodes import check_episodes, sample_episodes
from stages.randomness import numpy_generator, torch_generator


class Batches:
    """A new permutation of all images in every epoch, in batches; the last one may be smaller.

    Args:
        images: their number.
        size: images in a batch.
        seed: the batches follow from it and the step.

    Attributes:
        unit: images that stay together when a batch is shared among processes or split into micro-batches.
        size: images in a batch.
        steps_per_epoch: batches.
    """

    unit = 1

    def __init__(self, images: int, size: int, seed: int) -> None:
        self._images, self._seed = images, seed
        self.size, self.steps_per_epoch = size, -(-images // size)

    def rest_of_epoch(self, step: int) -> Sequence[Tensor]:
        """The batches from step `step` (from 0, over the whole run) to the end of its epoch: rows int64 on the CPU."""
        epoch, within = divmod(step, self.steps_per_epoch)
        order = torch.randperm(self._images, generator=torch_generator(self._seed, f"train/order/{epoch + 1}"))
        return order.split(self.size)[within:]

    def images_before(self, step: int) -> int:
        """Images in the batches before step `step`, repeated ones included."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * self._images + steps * self.size


class EpisodeBatches(Batches):
    """Episodes sampled for each step, see `EpisodeShape` for the order of a batch.

    Args:
        labels: (N,) int64, the class of each image.
        classes: names of the classes, for errors.
        shape: of the episodes.
        per_step: episodes in a batch.
        steps: steps of an epoch; None for as many as have as many images as there are.
        seed: the episodes follow from it and the step.

    Raises UsageError for more ways than classes, and for classes with too few images.
    """

    def __init__(
        self, labels: Tensor, classes: Sequence[str], shape: EpisodeShape, per_step: int, steps: int | None, seed: int
    ) -> None:
        super().__init__(len(labels), per_step * shape.images, seed)
        self.unit = shape.images
        self.steps_per_epoch = steps or self.steps_per_epoch
        self._numbers = {"episodes": per_step, "ways": shape.ways, "shots": shape.shots, "queries": shape.queries}
        self._members: list[np.ndarray] = check_episodes(labels, classes, **self._numbers)

    def rest_of_epoch(self, step: int) -> Sequence[Tensor]:
        """See `Batches`."""
        end = (step // self.steps_per_epoch + 1) * self.steps_per_epoch
        return [self._batch(at) for at in range(step, end)]

    def images_before(self, step: int) -> int:
        """See `Batches`."""
        return step * self.size

    def _batch(self, step: int) -> Tensor:
        generator = numpy_generator(self._seed, f"train/episodes/{step}")
        episodes = sample_episodes(self._members, generator, **self._numbers)
        return torch.cat((episodes.support, episodes.query), 2).flatten()
