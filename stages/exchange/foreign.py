"""What models from elsewhere have in common: anchors without groups, and where they are from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from stages.anchors.anchor_set import KIND as ANCHORS
from stages.anchors.anchor_set import AnchorSet
from stages.classes import ClassGroups
from stages.errors import UsageError
from stages.exchange.model_request import ImportedModel, ModelRequest
from stages.files import artifacts
from stages.models.classifier import Classifier
from stages.models.embedding import EmbeddingModel
from stages.models.origin import Origin

Line = Callable[[str], None]  # is told what is being loaded


def read_anchors(path: Path | str) -> tuple[AnchorSet, dict[str, Any]]:
    """The anchors in a file, and their lineage. Raises InputError."""
    artifact = artifacts.read(path, ANCHORS)
    return AnchorSet.from_artifact(artifact, f"'{path}'"), artifact.lineage()


def anchors_of_file(request: ImportedModel) -> tuple[AnchorSet, dict[str, Any]]:
    """The anchors in the file of the request, without groups, and their lineage. Raises InputError."""
    anchors, lineage = read_anchors(str(request.anchors))
    return replace(anchors, groups=no_groups(len(anchors.classes))), lineage


def lineage_of(anchors: AnchorSet) -> dict[str, Any]:
    """The lineage of anchors that are in no file: that of the file that `laat anchors` would write."""
    return artifacts.from_bytes(artifacts.to_bytes(anchors.to_artifact()), where="the anchors").lineage()


def no_groups(count: int) -> ClassGroups:
    """Of a model of which nobody knows what it was trained on: no class is seen."""
    return ClassGroups((), (), tuple(range(count)))


def require_classes(request: ModelRequest, shown: str) -> None:
    """Raise UsageError unless the request has class names or anchors; InputError for a file of names that cannot be read."""
    if request.anchors is None and request.read_names() is None:
        raise UsageError(f"'{shown}' has no class names", "give --classes FILE, --names okapi,pagoda or --anchors FILE.st")


def foreign_classifier(
    embedding: nn.Module,
    anchors: AnchorSet,
    shown: str,
    sha256: str,
    about: dict[str, Any],
    logit_scale: float = 1.0,
    *,
    image_size: int | None = None,
    closed: bool = False,
) -> Classifier:
    """A model from elsewhere as a classifier in eval mode.

    Args:
        embedding, anchors, logit_scale, closed: see `Classifier`.
        shown: its name in reports.
        sha256: of its weights.
        about: what else determines its outputs, see `Origin.foreign`.
        image_size: side of its images; None is any.
    """
    if isinstance(embedding, EmbeddingModel):
        about = {**about, "mean": embedding.mean.flatten().tolist(), "std": embedding.std.flatten().tolist()}
    origin = Origin(sha256=sha256, foreign={"name": shown, "image_size": image_size, **about})
    made = Classifier(embedding, anchors, logit_scale=logit_scale, image_size=image_size, origin=origin, closed=closed)
    return made.eval()
