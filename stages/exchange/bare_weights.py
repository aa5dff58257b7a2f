"""Weights in a safetensors file without a record: what they are is said by --architecture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.sources import resolve_templates
from stages.errors import InputError, UsageError
from stages.exchange.clip_layout import LOGIT_SCALE, SCALES, check_logit_scale
from stages.exchange.foreign import Line, anchors_of_file, foreign_classifier, require_classes
from stages.exchange.model_request import ModelRequest
from stages.exchange.zero_shot import (
    LoadedClip,
    assumed,
    clip_anchors,
    has_no_configuration,
    load_whole,
    open_zero_shot,
    tower_of,
)
from stages.files.artifact_record import METADATA_KEY
from stages.files.reading import sha256_of
from stages.models.backbones import NAMES, NetBackbone, check_backbone_name
from stages.models.classifier import Classifier
from stages.models.clip_tower import PREFIX, ClipTower, split_tower_name, tower_has_weights
from stages.models.embedding import EmbeddingModel
from stages.models.fit import Kind, on_meta, require_fit
from stages.models.own_parts import is_own_backbone
from stages.uninitialised import Uninitialised

CLIP_SCALE = 100.0  # the limit that CLIP training puts on its logit scale, and published models reach
_FLOATS = ("F64", "F32", "F16", "BF16")
_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_OWN, _VISUAL = "projection.weight", "visual."


def is_bare(path: Path) -> bool:
    """Whether a file is safetensors without a record of laat. Reads the header alone."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "np") as file:
            return METADATA_KEY not in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def open_weights(path: Path, shown: str, request: ModelRequest, line: Line | None = None) -> tuple[Classifier, dict[str, Any]]:
    """Bare weights as a classifier, and their lineage.

    The file has the tensors of the image tower alone, of a whole open_clip model, or of our `EmbeddingModel`. A tower alone of
    another architecture than clip: gets images in [0, 1] without normalization.

    Logits are scale * cosine, with the scale of the file or of the model of the text tower. Without either it is 100 for clip:
    and 1 for other architectures.

    Args:
        path: the file.
        shown: its name in reports.
        request: the architecture, and class names (with clip:NAME/TAG, or a whole clip: model) or anchors.
        line: called with what is being loaded, and with what is assumed because the file does not say it.

    Raises UsageError without an architecture or classes, InputError for weights that do not fit (naming the first tensor that
    differs) or anchors of another width.
    """
    architecture = _architecture(path, request)
    kinds = _kinds(path)
    clip = architecture.startswith(PREFIX)
    require_classes(request, shown)
    if clip and _has_text(kinds) and not tower_has_weights(architecture):  # it has a text tower of its own
        return open_zero_shot(f"{architecture}/{path}", shown, request, line)
    if request.anchors is None and not (clip and tower_has_weights(architecture)):
        fix = "add the tag of its text tower, clip:NAME/TAG, or give" if clip else "give"
        raise UsageError(f"--architecture {architecture} has no text tower to encode class names", f"{fix} --anchors FILE.st")
    templates = resolve_templates(request.template or [], request.templates)
    if line is not None:
        line(f"loading {shown}")
    text = load_whole(*split_tower_name(architecture)) if clip and tower_has_weights(architecture) else None
    anchors, lineage = anchors_of_file(request) if text is None else clip_anchors(text, request, templates, shown)
    embedding, known = _loaded(architecture, path, kinds, text, anchors)
    scale = known if known is not None else CLIP_SCALE if clip else 1.0
    if line is not None:
        if known is None:
            line(f"{path.name} has no logit scale: {scale:g} is assumed")
        if clip and (text is None or has_no_configuration(text.located)):
            line(assumed(path.name, split_tower_name(architecture)[0]))
        if _OWN not in kinds and not embedding.mean.any() and bool((embedding.std == 1).all()):
            line(f"{path.name} has no mean and standard deviation: it gets images in [0, 1], without normalization")
    sha256 = sha256_of(path)
    about = {"kind": "weights", "architecture": embedding.architecture, "logit_scale": scale}
    size = embedding.image_size if architecture.startswith((PREFIX, "timm:")) else None  # the others take any
    classifier = foreign_classifier(embedding, anchors, shown, sha256, about, scale, image_size=size)
    return classifier, {"model": {"kind": "weights", "sha256": sha256, "inputs": {}}, "anchors": lineage}


def _architecture(path: Path, request: ModelRequest) -> str:
    name = request.architecture
    if name is None:
        raise UsageError(
            f"'{path}' has weights, and no laat record of what they are",
            f"add --architecture: clip:NAME, clip:NAME/TAG, {', '.join(NAMES)} or timm:NAME",
        )
    if is_own_backbone(name):
        raise UsageError(f"--architecture {name} is your own module", "give it as MODEL, and load the weights in it")
    check_backbone_name(name)
    return name


def _has_text(names: Mapping[str, Any]) -> bool:
    """Whether the tensors are those of a whole CLIP model: under visual. and elsewhere."""
    elsewhere = [name for name in names if not name.startswith(_VISUAL) and name not in SCALES]
    return 0 < len(elsewhere) < len(names) and any(name.startswith(_VISUAL) for name in names)


def _kinds(path: Path) -> dict[str, Kind]:
    """Shape and type of each tensor in the file. Raises InputError for a damaged one."""
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            return {
                name: Kind(tuple(one.get_shape()), _TYPES.get(one.get_dtype(), one.get_dtype()), one.get_dtype() in _FLOATS)
                for name, one in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise InputError(f"'{path}' is damaged: {error}", "take an intact copy") from None


def _loaded(
    architecture: str, path: Path, kinds: Mapping[str, Kind], text: LoadedClip | None, anchors: AnchorSet
) -> tuple[EmbeddingModel, float | None]:
    """The embedding model with the weights of the file, and the scale of its logits if it is known."""
    width = anchors.vectors.shape[1]

    def build() -> EmbeddingModel:
        if architecture.startswith(PREFIX):
            return tower_of(*split_tower_name(architecture), None if text is None else text.located)
        size, mean, std = _images_of(architecture)
        return EmbeddingModel(architecture, width, size, mean=mean, std=std)

    shapes = on_meta(build)
    with Uninitialised():
        made = build() if shapes is None else None
    model = shapes or made
    assert isinstance(model, EmbeddingModel)
    prefix, target = _part(model, kinds)
    own = {f"{prefix}{name}": one for name, one in target.state_dict().items()}
    taken = {name: kind for name, kind in kinds.items() if name.startswith(prefix) and name not in SCALES}
    where, fix = f"'{path}'", "name the architecture of the weights with --architecture"
    features = int(model.backbone.features)  # type: ignore[arg-type]
    given = kinds[_OWN].shape[0] if target is model and len(kinds[_OWN].shape) else features
    if given != width:
        raise InputError(
            f"the anchors have width {width} and the embeddings of '{path}' {given}",
            "give anchors of the text encoder that the weights were trained with",
        )
    require_fit(own, taken, name=architecture, where=where, fix=fix)
    if made is None:
        with Uninitialised():
            made = build()
    tensors = _tensors(path)
    _, target = _part(made, kinds)
    target.load_state_dict({name.removeprefix(prefix): tensors[name] for name in own})
    if target is not made:
        nn.init.eye_(made.projection.weight)
    if LOGIT_SCALE in tensors:
        check_logit_scale(tensors[LOGIT_SCALE], where, f"correct the tensor '{LOGIT_SCALE}', or leave it out")
        return made, float(tensors[LOGIT_SCALE].exp())
    return made, None if text is None else text.logit_scale


def _part(model: EmbeddingModel, names: Mapping[str, Any]) -> tuple[str, nn.Module]:
    """The part of the model that the tensors belong to, and what their names begin with."""
    if _OWN in names:
        return "", model
    backbone = model.backbone
    net = backbone.net if isinstance(backbone, NetBackbone | ClipTower) else backbone
    return _VISUAL if any(name.startswith(_VISUAL) for name in names) else "", net


def _images_of(architecture: str) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
    """Size, mean and std of the images of an architecture: those of timm's configuration, else none in particular."""
    if not architecture.startswith("timm:"):
        return 32, (0.0,) * 3, (1.0,) * 3
    import timm

    found = timm.get_pretrained_cfg(architecture.removeprefix("timm:"), allow_unregistered=True)
    if found is None:
        return 224, (0.0,) * 3, (1.0,) * 3
    return found.input_size[-1], tuple(found.mean), tuple(found.std)


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of the file, in float32 where they are of another floating type."""
    from safetensors.torch import load_file

    found = load_file(path)
    return {name: one.float() if one.is_floating_point() else one for name, one in found.items()}
