"""The frozen reference model of a training, by its name: `--reference`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from stages.errors import UsageError
from stages.files import artifacts
from stages.models.checkpoint import KIND, read_checkpoint
from stages.models.clip_tower import PREFIX, split_tower_name, tower_configuration, tower_has_weights
from stages.models.embedding import EmbeddingModel
from stages.models.own_parts import output_width


def load_reference(name: str, image_size: int) -> tuple[nn.Module, dict[str, Any]]:
    """The embedding model of a checkpoint, or the image tower clip:NAME/TAG; and its lineage, {} of a tower.

    Raises:
        UsageError: a tower with random weights or for another image size.
        InputError, MissingError: a file or weights that cannot be read.
    """
    if not name.startswith(PREFIX):
        artifact = artifacts.read(Path(name), KIND)
        return read_checkpoint(artifact, f"'{name}'").embedding, {"reference": artifact.lineage()}
    config, (mean, std) = tower_configuration(*split_tower_name(name))
    if not tower_has_weights(name):
        raise UsageError(f"--reference {name} names no weights", f"name them: {name}/TAG")
    return EmbeddingModel(name, int(config["embed_dim"]), image_size, mean=mean, std=std), {}


def check_reference(reference: nn.Module, image_size: int, width: int) -> None:
    """Raise UsageError unless `reference` gives embeddings of the anchors' `width` for images of `image_size` px."""
    found = output_width(reference, image_size, "the reference")
    if found != width:
        raise UsageError(
            f"the reference gives embeddings of width {found}, the anchors have width {width}",
            "give a --reference of the anchors' width, or leave it out: the reference is then the initial weights",
        )
