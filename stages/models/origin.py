"""Where a classifier is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.files.training_params import is_anchored
from stages.identity import digest_of


@dataclass(frozen=True)
class Origin:
    """Where a classifier is from: a training run and its file, or elsewhere.

    Attributes:
        training: settings, data and selection of the training run; JSON-able, empty if unknown.
        inputs: lineage of the checkpoint.
        sha256: of the checkpoint file, or of the weights of another model; or empty.
        images: 'trained', 'selected', 'calibrated' -> the hashes (see `stages.data.image_hashes`), ascending, of the images
            that were trained on or used to select the epoch or to fit the calibration; empty if unknown.
        head: what the objective learnt besides the model, by name, such as the parameters of a few-shot head; empty for
            nothing.
        foreign: of a model that is not a checkpoint of ours: what it is ('name', 'kind') and all that determines its outputs
            besides its weights; JSON-able. It has no groups of classes: what it was trained on is unknown.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    foreign: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def anchored(self) -> bool:
        """See `is_anchored`."""
        return is_anchored(self.training)

    @property
    def reading(self) -> Mapping[str, Any]:
        """How images are read, see `ImageRequest.as_in`: as in training, or in the size that a foreign model takes."""
        size = self.foreign.get("image_size")
        return self.training if size is None else {"resize": size}

    @property
    def digest(self) -> str:
        """What identifies the model: `sha256`, of a foreign model together with its architecture and scale."""
        return digest_of([self.sha256, self.foreign]) if self.foreign else self.sha256
