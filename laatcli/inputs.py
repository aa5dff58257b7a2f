"""What train, attack and eval have in common: the images asked for, checkpoints, and groups of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from laatcli.console import Console
from stages import artifacts
from stages.errors import InputError, UsageError

if TYPE_CHECKING:
    from stages.data.image_set import DataProvenance, ImageSet
    from stages.data.memory import CacheKind
    from stages.data.streaming_set import StreamingImageSet
    from stages.evaluate.groups import ClassChoice
    from stages.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class ImageRequest:
    """The options that say which images: see `stages.data.load.load_images`. `data` None means the bundled images."""

    data: str | None
    split: str | None
    resize: int | None
    image_column: str | None
    label_column: str | None
    skip_corrupt: bool

    def load(
        self,
        console: Console,
        *,
        side: Literal["train", "test"],
        classes: Sequence[str],
        bundled: bool,
        resize: int | None = None,
    ) -> ImageSet:
        """Read the images of `classes` into memory, and say what was left out.

        Args:
            console: where notes go.
            side: 'train' or 'test', which split is taken when none was asked for.
            classes: the names; labels are positions among them.
            bundled: whether the bundled images fit when no data was named.
            resize: the size to use when none was asked for.

        Raises:
            UsageError: no data named where the bundled images do not fit, and what `load_images` raises.
        """
        from stages.data.load import load_images

        source = self._source(bundled)
        console.note(f"reading {source}")
        images = load_images(source, **self._options(side, classes, resize))
        _say(console, images.provenance)
        return images

    def open(
        self,
        console: Console,
        *,
        side: Literal["train", "test"],
        classes: Sequence[str],
        bundled: bool,
        cache: str,
        device: str,
    ) -> tuple[ImageSet | StreamingImageSet, CacheKind]:
        """As `load`, in memory or streamed from disk, and which of these.

        Args:
            console, side, classes, bundled: as for `load`.
            cache: device, ram, none, or auto: by size, and said.
            device: torch device that trains.
        """
        from stages.data.load import open_images

        source = self._source(bundled)
        console.note(f"reading {source}")
        with console.progress("read") as bar:
            images, kept = open_images(
                source,
                **self._options(side, classes, None),
                cache=cache,
                device=device,
                on_choice=bar.line,
                on_progress=lambda done, total: bar.update(done, total, "every image once, before it is streamed"),
            )
        _say(console, images.provenance)
        return images, kept

    def _source(self, bundled: bool) -> str:
        if self.data is None and not bundled:
            raise UsageError(
                "option --data is missing",
                "name the images with --data: a folder of class folders, a parquet file, a saved dataset or a hub id",
            )
        return self.data or "shapes"

    def _options(self, side: Literal["train", "test"], classes: Sequence[str], resize: int | None) -> dict[str, Any]:
        return {
            "split": self.split,
            "side": side,
            "classes": classes,
            "resize": resize if self.resize is None else self.resize,
            "image_column": self.image_column,
            "label_column": self.label_column,
            "skip_corrupt": self.skip_corrupt,
        }


def _say(console: Console, provenance: DataProvenance) -> None:
    if provenance.skipped_corrupt:
        console.warn(f"{provenance.skipped_corrupt} corrupt images skipped")
    for note in provenance.notes:
        console.note(note)


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
    request: ImageRequest,
    *,
    gzsl: bool = False,
) -> tuple[list[ClassChoice], ImageSet]:
    """The chosen groups of classes, and the images of all of them in the size that the checkpoints were trained at.

    With `gzsl` there is one group, the seen and the novel classes together, and `groups` does not count.

    Raises UsageError for missing data, InputError for checkpoints of different classes or images of another size.
    """
    from stages.evaluate.groups import choose_classes, seen_and_novel

    first = checkpoints[0]
    for other in checkpoints:
        if other.anchors.classes != first.anchors.classes or other.anchors.groups != first.anchors.groups:
            raise InputError("the checkpoints were trained on different classes", "evaluate them one by one")
    chosen = dict.fromkeys(groups)
    choices = [seen_and_novel(first.anchors)] if gzsl else [choose_classes(first.anchors, group) for group in chosen]
    images = request.load(
        console,
        side="test",
        classes=list(dict.fromkeys(name for choice in choices for name in choice.names(first.anchors))),
        bundled=first.training.get("data", {}).get("source") == "shapes",
        resize=first.training.get("resize"),
    )
    for checkpoint in checkpoints:
        wanted = checkpoint.model.image_size
        if images.size != (wanted, wanted):
            raise InputError(
                f"the images are {images.size[1]}x{images.size[0]} and the checkpoint was trained at {wanted}x{wanted}",
                f"add --resize {wanted}",
            )
    return choices, images
