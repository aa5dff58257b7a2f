"""Published checkpoints of other programs as checkpoints of laat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.sources import resolve_templates
from stages.clip_weights import includes_weights
from stages.errors import InputError, UsageError
from stages.exchange.clip_layout import clip_weights, recognised, scale_of, split_clip
from stages.exchange.clip_text import BaseModel, encoder_for, name_anchors
from stages.exchange.foreign import anchors_of_file, read_anchors
from stages.exchange.foreign_file import ForeignFile, read_foreign
from stages.exchange.foreign_weights import ForeignWeights
from stages.exchange.import_request import LAAT, OPEN_CLIP, ImportRequest
from stages.exchange.laat_layout import read_laat
from stages.exchange.model_request import ImportedModel
from stages.files import artifacts
from stages.files.artifacts import Artifact
from stages.models.checkpoint import checkpoint_of, read_checkpoint
from stages.models.classifier import Classifier
from stages.models.clip_tower import (
    PREFIX,
    check_tower_name,
    recorded_tower,
    split_tower_name,
    tower_configuration,
    tower_has_weights,
)
from stages.models.embedding import EmbeddingModel
from stages.text import as_text
from stages.uninitialised import Uninitialised

# called with what is being done
Said = Callable[[str], None]


@dataclass(frozen=True)
class Converted:
    """A converted checkpoint.

    Attributes:
        artifact: of kind 'model', not written yet.
        file: what was read.
        weights: what was taken from it.
        tau: temperature of the logits.
        image_size: side of the images.
        parameters: number of weights, without a projection that is the identity.
    """

    artifact: Artifact
    file: ForeignFile
    weights: ForeignWeights
    tau: float
    image_size: int
    parameters: int


def import_checkpoint(
    file: str | Path,
    layout: str,
    out: str | Path | None = None,
    *,
    anchors: str | Path | None = None,
    classes: str | None = None,
    names: Sequence[str] | None = None,
    template: Sequence[str] | None = None,
    templates: str | None = None,
    architecture: str | None = None,
    tau: float | None = None,
    image_size: int | None = None,
    normalization: str | None = None,
) -> Classifier:
    """Convert a published checkpoint, as `laat import` does.

    Args:
        file: with the weights. A pickle is opened in a process of its own, see `read_foreign`.
        layout: laat, tecoa, fare or open_clip.
        out: where the checkpoint is written; None writes none.
        anchors, classes, names, template, templates: the classes, see `ImportedModel`.
        architecture: conv4-512, clip:ViT-B-32/openai …
        tau, image_size, normalization: see `ImportRequest`.

    Returns:
        The classifier, in eval mode, on the CPU.

    Raises UsageError, InputError and MissingError.
    """
    request = ImportedModel(
        classes=classes,
        names=None if names is None else tuple(names),
        anchors=None if anchors is None else Path(anchors),
        template=None if template is None else list(template),
        templates=templates,
        architecture=architecture,
    )
    made = convert_checkpoint(Path(file), ImportRequest(layout, image_size, normalization, tau), request).artifact
    if out is not None:
        artifacts.write(made, out)
    where = f"'{file}'"
    return read_checkpoint(artifacts.from_bytes(artifacts.to_bytes(made), where=where), where)


def convert_checkpoint(path: Path, what: ImportRequest, model: ImportedModel, *, said: Said | None = None) -> Converted:
    """Read a file of another program and build the checkpoint of the same classifier.

    Args:
        path: of the file.
        what: its layout.
        model: architecture and classes.
        said: called with what is being done, for what takes long.

    Raises:
        UsageError: options that do not fit the layout.
        InputError: a file that cannot be read or is in another layout, naming the first tensor that differs; anchors of another
            width.
        MissingError: weights of a text tower that cannot be downloaded.
    """
    said = said or (lambda text: None)
    return _convert_laat(path, what, model, said) if what.layout == LAAT else _convert_clip(path, what, model, said)


def _convert_laat(path: Path, what: ImportRequest, model: ImportedModel, said: Said) -> Converted:
    anchors, lineage = _given_anchors(model)
    image_size, normalization = what.resolved
    said(f"reading {path.name}")
    file = read_foreign(path)
    weights = read_laat(file, anchors.vectors.shape[1], image_size, normalization, model.architecture)
    with Uninitialised():
        embedding = EmbeddingModel(weights.architecture, anchors.vectors.shape[1], image_size, mean=(0, 0, 0), std=(1, 1, 1))
    known = {"layout": LAAT, "groups_known": True, "normalization": normalization}
    return _made(embedding, anchors, lineage, file, weights, what.tau or 1.0, known)


def _convert_clip(path: Path, what: ImportRequest, model: ImportedModel, said: Said) -> Converted:
    given = model.read_names()
    if given is None and model.anchors is None:
        raise UsageError(
            "the classes are not given", "name them with --classes FILE or --names okapi,pagoda, or give --anchors FILE.st"
        )
    templates = resolve_templates(model.template or [], model.templates)
    said(f"reading {path.name}")
    file = read_foreign(path)
    parts = split_clip(file, str(what.layout))
    spec = _base(model.architecture or (None if what.layout == OPEN_CLIP else recognised(parts)))
    recorded, (name, tag) = recorded_tower(spec), split_tower_name(spec)
    record, normalization = tower_configuration(name, tag)
    embedding, weights = clip_weights(file, parts, recorded, record, normalization)
    scale, changes, base = None if what.tau is None else 1 / what.tau, list(weights.changes), None
    if scale is None and parts.logit_scale is not None:
        scale = scale_of(parts.logit_scale, f"'{file.name}'")
    if given is not None or scale is None:
        said(f"loading {recorded}")
        base = BaseModel.find(name, tag or "")
    if scale is None:
        assert base is not None
        scale = base.scale
    lineage = None
    if given is None:
        anchors, lineage = anchors_of_file(model)
        if (found := anchors.vectors.shape[1]) != embedding.width:
            widths = f"width {found}, the image tower {embedding.width}"
            raise InputError(f"the anchors in '{model.anchors}' have {widths}", "use its own text encoder")
        changes += _other_encoder(anchors, recorded)
    else:
        assert base is not None
        encoder, text = encoder_for(base, file, parts)
        anchors = name_anchors(given[0], encoder, templates)
        changes.append(text)
    if parts.text and given is None:
        weights.ignored["text tower"] = len(parts.text)
    known = {"layout": what.layout, "groups_known": False}
    return _made(embedding, anchors, lineage, file, replace(weights, changes=tuple(changes)), 1 / scale, known)


def _base(architecture: str | None) -> str:
    """The CLIP model that was fine-tuned, as clip:NAME/TAG. Raises UsageError for what is none, or names no weights."""
    fix = "name it with --architecture clip:NAME/TAG, such as clip:ViT-B-32/openai, or clip:local-dir:PATH"
    if architecture is None:
        raise UsageError("the model that was fine-tuned is not given, and the shapes do not tell it", fix)
    if not architecture.startswith(PREFIX) and not includes_weights(architecture):
        raise UsageError(f"--architecture {architecture} is no CLIP model", fix)
    spec = architecture if architecture.startswith(PREFIX) else f"{PREFIX}{architecture}"
    check_tower_name(spec)
    if not tower_has_weights(spec):
        what = (
            f"--architecture {architecture} names no weights: they decide the activation, the text tower and the normalization"
        )
        raise UsageError(what, fix)
    return spec


def _other_encoder(anchors: AnchorSet, recorded: str) -> list[str]:
    """A note if anchors are not from the text tower of the model that was fine-tuned."""
    origin = anchors.origin
    name = "/".join(filter(None, (str(origin.get("model") or ""), str(origin.get("pretrained") or ""))))
    if name.replace("-quickgelu", "") == recorded.removeprefix(PREFIX).replace("-quickgelu", ""):
        return []
    return [f"the anchors are from {name or origin.get('source', 'an unknown source')}, not from the text tower of {recorded}"]


def _given_anchors(model: ImportedModel) -> tuple[AnchorSet, dict[str, Any]]:
    """The training anchors of a checkpoint of the published LAAT program, and their lineage."""
    for option in ("classes", "names", "template", "templates"):
        if getattr(model, option) is not None:
            what = f"--{option} cannot be combined with --as laat"
            raise UsageError(what, "give the training anchors with --anchors FILE.st")
    if model.anchors is None:
        raise UsageError(
            "--as laat needs the anchors that the model was trained with",
            "give them with --anchors FILE.st; `laat anchors --features FILE.npy` reads the published ones",
        )
    return read_anchors(model.anchors)


def _made(
    embedding: EmbeddingModel,
    anchors: AnchorSet,
    lineage: dict[str, Any] | None,
    file: ForeignFile,
    weights: ForeignWeights,
    tau: float,
    known: dict[str, Any],
) -> Converted:
    """The checkpoint of an embedding model with the given weights."""
    embedding.load_state_dict(weights.state)
    projection = embedding.projection.weight
    parameters = sum(one.numel() for one in embedding.backbone.parameters())
    if projection.shape[0] != projection.shape[1] or not torch.equal(projection, torch.eye(len(projection))):
        parameters += projection.numel()
    record = {
        **known,
        "file": as_text(file.name),
        "sha256": file.sha256,
        "tensors": len(weights.sources),
        "parameters": parameters,
        "changes": list(weights.changes),
        "ignored": weights.ignored,
    }
    training = {"settings": {"tau": tau}, "imported": record, "resize": embedding.image_size}
    inputs: dict[str, Any] = {"weights": {"kind": f"{known['layout']} checkpoint", "sha256": file.sha256, "inputs": {}}}
    if lineage is not None:
        inputs["anchors"] = lineage
    with torch.no_grad():
        artifact = checkpoint_of(embedding, anchors, training, inputs, image_size=embedding.image_size)
    return Converted(artifact, file, weights, tau, embedding.image_size, parameters)
