"""The frozen reference model of a training, by its name: `--reference`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from stages.errors import UsageError
from stages.files import artifacts
from stages.files.artifacts import Artifact
from stages.files.training_params import is_anchored
from stages.models.checkpoint import KIND, read_checkpoint
from stages.models.clip_tower import (
    PREFIX,
    check_tower_name,
    recorded_tower,
    split_tower_name,
    tower_configuration,
    tower_has_weights,
)
from stages.models.embedding import EmbeddingModel
from stages.models.own_parts import output_width


@dataclass(frozen=True)
class NamedReference:
    """A frozen reference model by its name: a checkpoint, or the image tower clip:NAME/TAG. See `find_reference`.

    Attributes:
        name: a path or clip:NAME/TAG.
        artifact: the checkpoint; None of a tower.
    """

    name: str
    artifact: Artifact | None

    @property
    def inputs(self) -> dict[str, Any]:
        """The lineage of a checkpoint, {} of a tower."""
        return {} if self.artifact is None else {"reference": self.artifact.lineage()}

    @property
    def record(self) -> dict[str, Any]:
        """What a checkpoint records of its training with this tower; {} of a checkpoint, which is an input."""
        return {"reference": {"tower": recorded_tower(self.name)}} if self.artifact is None else {}

    def build(self, image_size: int) -> nn.Module:
        """The embedding model.

        Raises:
            UsageError: a tower for another image size.
            InputError, MissingError: weights that cannot be read.
        """
        if self.artifact is not None:
            return read_checkpoint(self.artifact, f"'{self.name}'").embedding
        config, (mean, std) = tower_configuration(*split_tower_name(self.name))
        return EmbeddingModel(self.name, int(config["embed_dim"]), image_size, mean=mean, std=std)


def find_reference(name: str) -> NamedReference:
    """The checkpoint, or the image tower clip:NAME/TAG, whose weights are not read yet.

    Raises:
        UsageError: an unknown tower, or one with random weights; a model that was trained without anchors.
        InputError, MissingError: a file or the tower's configuration cannot be read.
    """
    if not name.startswith(PREFIX):
        artifact = artifacts.read(Path(name), KIND)
        if not is_anchored(artifact.params["training"]):
            raise UsageError(
                f"--reference '{name}' was trained without the anchors: its projection to them is random",
                "give a model that was trained against anchors, or clip:NAME/TAG",
            )
        return NamedReference(name, artifact)
    check_tower_name(name)
    if not tower_has_weights(name):
        raise UsageError(f"--reference {name} names no weights", f"name them: {name}/TAG")
    tower_configuration(*split_tower_name(name))
    return NamedReference(name, None)


def check_reference(reference: nn.Module, image_size: int, width: int) -> None:
    """Raise UsageError unless `reference` gives embeddings of the anchors' `width` for images of `image_size` px."""
    found = output_width(reference, image_size, "the reference")
    if found != width:
        raise UsageError(
            f"the reference gives embeddings of width {found}, the anchors have width {width}",
            "give a --reference of the anchors' width, or leave it out: the reference is then the initial weights",
        )
