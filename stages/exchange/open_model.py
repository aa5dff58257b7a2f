"""Any MODEL as a classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from torch import nn

from stages.anchors.anchor_set import KIND as ANCHORS
from stages.anchors.anchor_set import AnchorSet
from stages.errors import MissingError
from stages.exchange.model_request import ModelRequest
from stages.files import artifacts
from stages.models.checkpoint import KIND, read_checkpoint
from stages.models.classifier import Classifier
from stages.models.embedding import place
from stages.text import as_text

DEMO = "demo"


@dataclass(frozen=True)
class Opened:
    """An opened model.

    Attributes:
        classifier: in eval mode.
        lineage: of the model, and of its anchors if they are from elsewhere: name -> kind, SHA-256, inputs.
        name: what reports call it.
    """

    classifier: Classifier
    lineage: dict[str, Any]
    name: str


def open_model(
    spec: str,
    request: ModelRequest | None = None,
    *,
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
    module: nn.Module | None = None,
) -> Opened:
    """Open a model.

    Args:
        spec: a checkpoint, or 'demo', the bundled one.
        request: its classes and architecture.
        device: torch device.
        progress: called with what is being loaded, for what takes long.
        module: the module that a checkpoint of custom code was trained with.

    Raises InputError, UsageError and MissingError.
    """
    request = request or ModelRequest()
    opened = _open_checkpoint(_demo() if spec == DEMO else Path(spec), request, progress, module)
    place(opened.classifier, device)
    return opened


def report_names(specs: Sequence[str]) -> list[str]:
    """What reports call the models, without local paths: a checkpoint by its run folder or its file.

    Where these are not unique, checkpoints get their folder too, and otherwise numbers.
    """
    for name in (
        lambda p: p.resolve().parent.name if p.name == "model.st" else p.stem,
        lambda p: f"{p.resolve().parent.name}/{p.stem}",
    ):
        names = [as_text(name(Path(spec))) for spec in specs]
        if len(set(names)) == len(specs):
            return names
    return [str(at + 1) for at in range(len(specs))]


def _demo() -> Path:
    """The bundled checkpoint."""
    path = Path(str(resources.files("stages.exchange").joinpath("demo/model.st")))
    if not path.is_file():
        raise MissingError(
            "this installation has no bundled checkpoint 'demo'", "train one: `laat demo`, then demo/run/model.st"
        )
    return path


def _open_checkpoint(
    path: Path, request: ModelRequest, progress: Callable[[str], None] | None, module: nn.Module | None
) -> Opened:
    artifact = artifacts.read(path, KIND)
    lineage: dict[str, Any] = {"model": artifact.lineage()}
    anchors = None if request.anchors is None else artifacts.read(request.anchors, ANCHORS)
    classifier = read_checkpoint(artifact, f"'{path}'", request.backbone if module is None else module)
    if anchors is not None:
        where = f"'{request.anchors}'"
        classifier = classifier.over(AnchorSet.from_artifact(anchors, where), where=where)
        lineage["anchors"] = anchors.lineage()
    elif (given := request.read_names()) is not None:
        names, where = given
        if progress is not None:
            progress(f"loading {classifier.trained.origin.get('model', 'the encoder')}")
        classifier = classifier.over(names, where=where)
        lineage["anchors"] = lineage_of(classifier.anchor_set)
    return Opened(classifier, lineage, report_names([str(path)])[0])


def lineage_of(anchors: AnchorSet) -> Mapping[str, Any]:
    """The lineage of anchors that are in no file: that of the file that `laat anchors` would write."""
    return artifacts.from_bytes(artifacts.to_bytes(anchors.to_artifact()), where="the anchors").lineage()
