"""A CLIP model as a zero-shot classifier: its image tower, anchors from its own text tower, and its own logit scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.descriptions import SOURCE as DESCRIPTIONS
from stages.anchors.encoder import encoder_of, encoder_record
from stages.anchors.parts import difference
from stages.anchors.sources import resolve_templates, text_anchors
from stages.clip_weights import FILE_TAG, Located, OptionNames, check_names, includes_weights, load_clip, locate
from stages.errors import InputError, UsageError
from stages.exchange.clip_layout import check_logit_scale
from stages.exchange.foreign import Line, anchors_of_file, foreign_classifier, lineage_of, no_groups, require_classes
from stages.exchange.model_request import ModelRequest
from stages.models.classifier import Classifier
from stages.models.clip_tower import (
    PREFIX,
    recorded_tower,
    split_tower_name,
    tower_configuration,
    tower_image_size,
    tower_resize_mode,
)
from stages.models.embedding import EmbeddingModel
from stages.uninitialised import Uninitialised

OPTIONS = OptionNames("MODEL", "clip:NAME/FILE.safetensors", "local-dir:PATH", "clip:demo")


@dataclass(frozen=True)
class LoadedClip:
    """A CLIP model in memory, image and text tower.

    Attributes:
        located: its architecture and weights.
        net: the open_clip model.
        sha256: of the weights file.
    """

    located: Located
    net: Any
    sha256: str

    @property
    def logit_scale(self) -> float:
        """By which it multiplies cosines. Raises InputError for one that cannot be."""
        found = self.net.logit_scale.detach()
        check_logit_scale(found, self.located.model, "choose another model")
        return float(found.exp())

    @property
    def logit_bias(self) -> float | None:
        """What a SigLIP model adds to all logits; None for others."""
        bias = getattr(self.net, "logit_bias", None)
        return None if bias is None else float(bias.detach())

    @property
    def encoder(self) -> dict[str, Any]:
        """What its anchors record of it."""
        return encoder_record(self.net, self.located, self.sha256)


def open_zero_shot(name: str, shown: str, request: ModelRequest, line: Line | None = None) -> tuple[Classifier, dict[str, Any]]:
    """The CLIP model `name` as a classifier of the names or anchors of the request, and its lineage.

    Logits are exp(logit_scale) * cosine. A SigLIP model's logit_bias, the same for all classes, is left out: softmax and
    predictions do not depend on it. All classes are candidates: what the model was trained on is unknown.

    Args:
        name: clip:NAME/TAG, clip:demo, local-dir:PATH or hf-hub:ORG/NAME.
        shown: its name in reports.
        request: classes, prompts.
        line: called with what is being loaded.

    Raises:
        UsageError: no tag, no class names, unknown names.
        InputError, MissingError: as `locate`, `load_clip` and `text_anchors`.
    """
    model, tag = split_tower_name(name if name.startswith(PREFIX) else PREFIX + name)
    if not includes_weights(model):
        check_names(model, tag)
    if not includes_weights(model) and not tag:
        from open_clip import list_pretrained_tags_by_model

        tags = ", ".join(f"'{one}'" for one in list_pretrained_tags_by_model(model)[:6])
        raise UsageError(f"'{shown}' names no weights", f"add a tag, as {PREFIX}{model}/TAG: {tags}, or a safetensors file")
    require_classes(request, shown)
    templates = resolve_templates(request.template or [], request.templates)
    if line is not None:
        line(f"loading {shown}")
    clip = load_whole(model, tag)
    if line is not None and has_no_configuration(clip.located):
        line(assumed(clip.located.weights.name, model))
    mode = tower_resize_mode(model, tag)
    if line is not None and mode != "shortest":
        line(f"{shown} was made for images resized with '{mode}'; here the shorter side is resized and the centre is cropped")
    embedding = tower_of(model, tag, clip.located)
    embedding.backbone.net.load_state_dict(clip.net.visual.state_dict())  # type: ignore[union-attr]
    anchors, lineage = clip_anchors(clip, request, templates, shown)
    about = {"kind": "clip", "encoder": clip.encoder, "logit_scale": clip.logit_scale, "logit_bias": clip.logit_bias}
    size, scale = embedding.image_size, clip.logit_scale
    classifier = foreign_classifier(embedding, anchors, shown, clip.sha256, about, scale, image_size=size)
    return classifier, {"model": {"kind": "clip", "sha256": clip.sha256, "inputs": {}}, "anchors": lineage}


def has_no_configuration(located: Located) -> bool:
    """Whether weights are a file of the user's, which goes by the configuration of the architecture that the user names."""
    return located.tag.startswith(FILE_TAG)


def assumed(file: str, model: str) -> str:
    """What weights without a configuration do not say; OpenAI's have another activation than open_clip's of the same name."""
    from open_clip import list_models

    quick = f"{model}-quickgelu"
    openai = f"; if they are OpenAI's or tuned from them, name {PREFIX}{quick}" if quick in list_models() else ""
    return f"{file} does not say its activation and normalization: those of {PREFIX}{model} are assumed{openai}"


def load_whole(model: str, tag: str | None) -> LoadedClip:
    """Load both towers. Raises as `locate` and `load_clip`."""
    located = locate(model, tag or "", OPTIONS)
    return LoadedClip(located, *load_clip(located, OPTIONS))


def tower_of(model: str, tag: str | None, located: Located | None) -> EmbeddingModel:
    """The image tower with random weights and its own normalization; its projection is the identity."""
    config, (mean, std) = tower_configuration(model, tag)
    config = located.config if located is not None else config
    name = "/".join(filter(None, (PREFIX + model, tag)))
    size = tower_image_size(name)
    with Uninitialised():
        made = EmbeddingModel(recorded_tower(name), int(config["embed_dim"]), size, mean=mean, std=std, tower=config)
    nn.init.eye_(made.projection.weight)
    return made


def clip_anchors(clip: LoadedClip, request: ModelRequest, templates: list[str], shown: str) -> tuple[AnchorSet, dict[str, Any]]:
    """The anchors of the request, encoded by the model's text tower or from a file that it encoded, and their lineage.

    Raises InputError for anchors of another encoder, expanded anchors, and what `text_anchors` raises.
    """
    if request.anchors is not None:
        anchors, lineage = anchors_of_file(request)
        source = DESCRIPTIONS if anchors.origin.get("source") == DESCRIPTIONS else "text"
        given = AnchorSet(anchors.vectors, anchors.classes, anchors.groups, {"source": source, **clip.encoder})
        found = difference(anchors, given, ("source", *clip.encoder))
        if found is not None:
            raise InputError(
                f"the anchors of '{request.anchors}' are from another encoder than {shown}: {found.what} is "
                f"{found.own!r} there and {found.other!r} here",
                "encode the class names with this model: --classes FILE or --names",
            )
        if anchors.expansion is not None:
            raise InputError(
                f"the anchors of '{request.anchors}' are {anchors.label}, and {shown} was trained with the raw ones",
                "give the anchors that `laat anchors` wrote",
            )
        return anchors, lineage
    names, _ = request.read_names() or ([], "")
    encoder = encoder_of(clip.net, clip.located, clip.sha256)
    anchors = text_anchors(names, no_groups(len(names)), encoder, templates)
    return anchors, lineage_of(anchors)
