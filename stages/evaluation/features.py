"""Embeddings of clean images, each computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.data.image_set import ImageSet
from stages.models.classifier import Classifier
from stages.pixels import filled, to_pixels


class CleanFeatures:
    """The raw embeddings of clean images, for every number of shots of a sweep.

    Args:
        classifier: frozen while they are computed, see `inference`.
        images: the images.
        batch_size: images in one forward pass.
    """

    def __init__(self, classifier: Classifier, images: ImageSet, batch_size: int) -> None:
        self._classifier, self._images, self._batch_size = classifier, images, batch_size
        self._known = torch.zeros(len(images), dtype=torch.bool)
        self._table = torch.empty(0)

    def of(self, used: Tensor) -> Tensor:
        """Embeddings (images, D) on the model's device, computed for the rows `used` (at least one, distinct) at least."""
        device, embedding = self._classifier.device, self._classifier.embedding
        for rows in used[~self._known[used]].split(self._batch_size):
            if not len(rows):
                continue
            found = embedding(filled(to_pixels(self._images.images, rows, device))).float()[: len(rows)]
            if not self._table.numel():
                self._table = torch.zeros((len(self._images), found.shape[1]), device=device)
            self._table[rows.to(device)] = found
            self._known[rows] = True
        return self._table
