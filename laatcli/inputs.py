"""What the commands read: images, models and the anchors of --like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laatcli.console import Console
from stages.anchors.anchor_set import KIND, AnchorSet
from stages.data.request import BUNDLED_DATA, ImageRequest
from stages.errors import InputError
from stages.exchange.model_request import ModelRequest
from stages.files.artifacts import Artifact, read

if TYPE_CHECKING:
    from stages.data.image_set import ImageSet, LabelledImages
    from stages.data.memory import CacheKind
    from stages.data.streaming_set import StreamingImageSet
    from stages.evaluation.groups import ClassChoice
    from stages.exchange.open_model import Opened
    from stages.models.classifier import Classifier


def read_like(path: Path) -> tuple[Artifact, AnchorSet]:
    """The anchors that `--like` names, or those of a checkpoint, and their artifact. Raises InputError for another kind."""
    artifact = read(path)
    if artifact.kind not in (KIND, "model"):
        raise InputError(f"'{path}' is an artifact of kind {artifact.kind}", "give anchors or a checkpoint with --like")
    return artifact, AnchorSet.from_artifact(artifact, f"'{path}'")


def read_images(
    console: Console,
    request: ImageRequest,
    *,
    classes: Sequence[str],
    divided: Sequence[str],
    training: Mapping[str, Any],
) -> ImageSet:
    """Read the images of `classes` into memory for evaluation, and print what was read.

    Args:
        console: where notes go.
        request: which images.
        classes: the names; labels are positions among them.
        divided: the classes that were trained on: of data with a single split, only a tenth of their images is read.
        training: the record of the training, in whose size they are read, and whose data is taken where it is a bundled one,
            unless the request says otherwise.

    Raises UsageError when no data is named and the bundled images do not fit, and what `load_images` raises.
    """
    from stages.data.load import load_images

    request = _named(console, request.as_in(training), bundled_data(training))
    images = load_images(request, side="test", classes=classes, divided=divided)
    _print_summary(console, images)
    return images


def open_training_images(
    console: Console, request: ImageRequest, *, classes: Sequence[str], bundled: str | None, cache: str, device: str
) -> tuple[ImageSet | StreamingImageSet, CacheKind]:
    """As `read_images`, for training: in memory or streamed from disk, and which of these.

    Args:
        console, request, classes: as for `read_images`.
        bundled: the bundled images that fit when no data was named, if any do.
        cache: device, ram, none, or auto: by size, and printed.
        device: torch device that trains.
    """
    from stages.data.load import open_images

    request = _named(console, request, bundled)
    with console.progress("read") as bar:
        images, kept = open_images(
            request,
            side="train",
            classes=classes,
            cache=cache,
            device=device,
            on_choice=bar.line,
            on_progress=lambda done, total: bar.update(done, total, "reading every image once before streaming"),
        )
    _print_summary(console, images)
    return images, kept


def bundled_data(training: Mapping[str, Any]) -> str | None:
    """The bundled images that were trained on, by the record of the training; None for other ones."""
    source = training.get("data", {}).get("source")
    return source if source in BUNDLED_DATA else None


def _named(console: Console, request: ImageRequest, bundled: str | None) -> ImageRequest:
    """The request, for the bundled images that fit where no data is named."""
    if request.data is None and bundled:
        request = replace(request, data=bundled)
    if request.data is not None:
        console.note(f"reading {request.data}")
    return request


def _print_summary(console: Console, images: LabelledImages) -> None:
    from stages.data.summary import summary_of

    console.note(summary_of(images))
    for note in images.provenance.notes:
        console.note(note)


def load_classifier(console: Console, spec: str, request: ModelRequest) -> Opened:
    """Open a MODEL, see `open_model`, that has anchors, see `require_anchored`; notes on the console what takes long."""
    from stages.exchange.open_model import open_model
    from stages.models.require import require_anchored

    opened = open_model(spec, request, progress=console.note)
    require_anchored(opened.classifier, opened.name)
    return opened


def load_classifiers(
    console: Console, specs: Sequence[str], request: ModelRequest, names: Sequence[str] = ()
) -> dict[str, Opened]:
    """Open each MODEL of a table, see `open_models`: by their names in the report."""
    from stages.exchange.open_model import open_models

    return {one.name: one for one in open_models(specs, request, names=names, progress=console.note)}


def load_group_images(
    console: Console,
    classifiers: Sequence[Classifier],
    groups: Sequence[str | None],
    request: ImageRequest,
    *,
    gzsl: bool = False,
) -> tuple[list[ClassChoice], ImageSet]:
    """The chosen groups of classes, and the images of all of them, in the size that the first checkpoint was trained at.

    Models from elsewhere have no groups: those of the first checkpoint count, and all classes where there is none. With `gzsl`
    there is one group, the seen and the novel classes together, and `groups` does not count.

    Raises UsageError for missing data, InputError for models without the classes or images of a size that one does not take.
    """
    from stages.evaluation.groups import candidates
    from stages.models.image_size import require_size
    from stages.models.wrapped import reading_of

    choices = candidates(classifiers, None if gzsl else groups)
    images = read_images(
        console,
        request,
        classes=list(dict.fromkeys(name for choice in choices for name in choice.classes)),
        divided=[name for one in classifiers for name in one.trained.names("seen")],
        training=next((reading_of(one) for one in classifiers if one.origin.reading), {}),
    )
    alone = len(classifiers) == 1 or len({one.image_size for one in classifiers}) == 1
    fix = "add --resize {}" if alone else "the models of a table get the same images: evaluate it in a table of its own"
    for classifier in classifiers:
        require_size(classifier, images.size, f"the images of '{images.provenance.source}'", fix)
    return choices, images
