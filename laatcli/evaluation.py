"""What attack and eval have in common: reading checkpoints, choosing classes, reading their images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laatcli.console import Console
from stages import artifacts
from stages.errors import InputError, UsageError

if TYPE_CHECKING:
    from stages.data.image_set import ImageSet
    from stages.evaluate.groups import ClassChoice
    from stages.models.checkpoint import Checkpoint


def load_checkpoint(path: Path, anchors: Path | None) -> tuple[Checkpoint, dict[str, Any]]:
    """A checkpoint, with the anchors of another file if one is given, and the lineage of both. Raises InputError."""
    artifact = artifacts.read(path, "model")
    lineage = {"model": artifact.lineage()}
    other = None if anchors is None else artifacts.read(anchors, "anchors")
    from stages.anchors.anchor_set import AnchorSet
    from stages.models.checkpoint import Checkpoint

    checkpoint = Checkpoint.from_artifact(artifact, f"'{path}'")
    if other is not None:
        lineage["anchors"] = other.lineage()
        checkpoint = checkpoint.with_anchors(AnchorSet.from_artifact(other, f"'{anchors}'"), f"'{anchors}'")
    return checkpoint, lineage


def load_group_images(
    console: Console,
    checkpoints: Sequence[Checkpoint],
    groups: Sequence[str | None],
    data: str | None,
    split: str | None,
    resize: int | None,
    image_column: str | None,
    label_column: str | None,
    skip_corrupt: bool,
) -> tuple[list[ClassChoice], ImageSet]:
    """The chosen groups of classes, and the images of all of them in the size that the checkpoints were trained at.

    Raises UsageError for missing data, InputError for checkpoints of different classes or images of another size.
    """
    from stages.data.sources import load_images
    from stages.evaluate.groups import choose_classes

    first = checkpoints[0]
    choices = [choose_classes(first.anchors, group) for group in dict.fromkeys(groups)]
    if any(other.anchors.classes != first.anchors.classes or other.anchors.groups != first.anchors.groups for other in checkpoints):
        raise InputError("the checkpoints were trained on different classes", "evaluate them one by one")
    source = data or _bundled_data_of(first)
    names = list(dict.fromkeys(name for choice in choices for name in choice.names(first.anchors)))
    console.note(f"reading {source}")
    images = load_images(
        source,
        split=split,
        side="test",
        classes=names,
        resize=resize or first.training.get("resize"),
        image_column=image_column,
        label_column=label_column,
        skip_corrupt=skip_corrupt,
    )
    if images.provenance.skipped_corrupt:
        console.warn(f"{images.provenance.skipped_corrupt} corrupt images skipped")
    sizes = {checkpoint.model.image_size for checkpoint in checkpoints}
    if sizes != {images.size[0]} or images.size[0] != images.size[1]:
        wanted = first.model.image_size
        raise InputError(
            f"the images are {images.size[1]}x{images.size[0]} and the checkpoint was trained at {wanted}x{wanted}",
            f"add --resize {wanted}",
        )
    return choices, images


def _bundled_data_of(checkpoint: Checkpoint) -> str:
    """A checkpoint trained on the bundled data needs no --data."""
    if checkpoint.training.get("data", {}).get("source") == "shapes":
        return "shapes"
    raise UsageError("option --data is missing", "name the images with --data: a folder of class folders, a parquet file, …")
