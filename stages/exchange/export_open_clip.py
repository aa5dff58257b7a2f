"""A classifier with a CLIP image tower as a folder that open_clip loads: local-dir:PATH."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from stages.anchors.anchor_set import AnchorSet
from stages.anchors.parts import provenance
from stages.clip_weights import CONFIG, WEIGHTS, Located, OptionNames, load_clip, locate, quiet
from stages.errors import ComputeError, InputError, UsageError
from stages.models.classifier import Classifier, unit
from stages.models.clip_tower import ClipTower, split_tower_name
from stages.models.embedding import EmbeddingModel

_OPTIONS = OptionNames("--text-tower", "--text-tower NAME/FILE.safetensors", "--text-tower local-dir:PATH", "--text-tower demo")
_OTHER = "export it with --format torch, or as .onnx or .pt2"
_TEXTS, _TEXT_TOLERANCE = 8, 1e-4


def is_clip(classifier: Classifier) -> bool:
    """Whether its embedding model is the image tower of a CLIP model."""
    return isinstance(classifier.embedding, EmbeddingModel) and isinstance(classifier.embedding.backbone, ClipTower)


def write_open_clip(classifier: Classifier, folder: Path, text_tower: str | None = None) -> None:
    """Write the configuration and the weights. The projection of the model is multiplied into that of its tower.

    Args:
        classifier: on the CPU.
        folder: exists.
        text_tower: the model whose text tower is taken, NAME/TAG, NAME/FILE, local-dir:PATH or hf-hub:ORG/NAME; None is the
            encoder of the anchors.

    Raises:
        UsageError: not a clip: tower.
        InputError: anchors that open_clip does not make from class names, or of another text tower.
        MissingError: a text tower that is not available.
    """
    embedding = classifier.embedding
    if not isinstance(embedding, EmbeddingModel) or not isinstance(tower := embedding.backbone, ClipTower):
        raise UsageError("only a clip: image tower can become an open_clip folder", _OTHER)
    located = _text_model(classifier.anchor_set, text_tower)
    source, sha256 = load_clip(located, _OPTIONS)
    _check_text(classifier.anchor_set, tower, located, sha256)
    config = {**located.config, "embed_dim": embedding.width, "vision_cfg": tower.record["vision_cfg"]}
    visual = _projected(tower.net.state_dict(), embedding.projection.weight)
    texts = {name: value for name, value in source.state_dict().items() if not name.startswith("visual.")}
    texts["logit_scale"] = torch.full_like(texts["logit_scale"], math.log(classifier.logit_scale))
    weights = texts | {f"visual.{name}": value for name, value in visual.items()}
    (folder / WEIGHTS).write_bytes(save_tensors({name: value.contiguous() for name, value in weights.items()}))
    mean, std = (value.flatten().tolist() for value in (embedding.mean, embedding.std))
    preprocessing = {"mean": mean, "std": std, "interpolation": "bicubic", "resize_mode": "shortest"}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}, indent=2)
    (folder / CONFIG).write_text(f"{text}\n", encoding="utf-8")


class OpenClipRun:
    """Logits of a folder as open_clip loads it. Raises ComputeError if its texts are not the anchors of the classifier."""

    def __init__(self, folder: Path, anchors: AnchorSet) -> None:
        from stages.anchors.encoder import load_encoder
        from stages.anchors.sources import text_anchors

        with quiet():
            import open_clip

            self.net: Any = open_clip.create_model(f"local-dir:{folder}").eval()
        self.cfg = open_clip.get_model_preprocess_cfg(self.net)
        some = anchors.take(range(min(_TEXTS, len(anchors.classes))))
        encoder = load_encoder(f"local-dir:{folder}")
        templates, cut = some.origin.get("templates", ()), bool(some.origin.get("allow_truncation", False))
        made = text_anchors(some.classes, some.groups, encoder, [*map(str, templates)], allow_truncation=cut)
        far = float(abs(made.vectors - some.vectors).max())
        if not far <= _TEXT_TOLERANCE:
            raise ComputeError(
                f"the text tower in the folder gives other anchors than the model has: they differ by {far:.2g}",
                "nothing was written; encode the class names again with `laat anchors`",
            )

    def __call__(self, images: Tensor, anchors: Tensor) -> Tensor:
        """Images uint8 (n, 3, S, S), anchors (C, D) -> logits (n, C)."""
        mean, std = (torch.tensor(self.cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
        features: Tensor = self.net.encode_image((images.float() / 255 - mean) / std)
        logits: Tensor = self.net.logit_scale.exp() * (unit(features) @ anchors.T)
        return logits


def _text_model(anchors: AnchorSet, given: str | None) -> Located:
    """Where the text tower is. Raises InputError for anchors that are not the texts' features, and as `locate`."""
    origin = anchors.origin
    if anchors.expansion is not None:
        raise InputError(
            f"the model was trained on {anchors.label} anchors, and open_clip classifies by the text features themselves",
            _OTHER,
        )
    if origin.get("source") != "text":
        raise InputError(f"the anchors {provenance(origin)}: they are not the features of the classes' names", _OTHER)
    if given is not None:
        model, tag = split_tower_name(given)
        return locate(model, tag or "", _OPTIONS)
    model, tag = str(origin.get("model", "")), str(origin.get("pretrained", ""))
    if model.startswith("local-dir:") or tag.startswith("file:"):
        name = tag.removeprefix("file:") if tag.startswith("file:") else model.removeprefix("local-dir:")
        raise InputError(
            f"the text tower was given as '{name}', and files do not record paths",
            "name it again: --text-tower local-dir:PATH or --text-tower NAME/FILE.safetensors",
        )
    return locate(model, tag, _OPTIONS)


def _check_text(anchors: AnchorSet, tower: ClipTower, located: Located, sha256: str) -> None:
    wanted = anchors.origin.get("weights_sha256")
    if wanted not in (None, sha256):
        raise InputError(
            f"the text tower of {located.model} has other weights than the encoder of the anchors: SHA-256 {sha256[:12]} and "
            f"{str(wanted)[:12]}",
            "name the encoder of the anchors with --text-tower",
        )
    if bool(located.config.get("quick_gelu", False)) != tower.record["quick_gelu"]:
        raise InputError("the two towers have different activations, and an open_clip model has one", _OTHER)


def _projected(state: dict[str, Tensor], projection: Tensor) -> dict[str, Tensor]:
    """The weights of an image tower, its last linear layer followed by `projection` (D, features).

    Raises InputError for a tower without such a layer.
    """
    if torch.equal(projection, torch.eye(*projection.shape)):
        return state
    found = dict(state)
    matrix = projection.double()
    if "proj" in state:  # open_clip's own transformer: features @ proj
        found["proj"] = (state["proj"].double() @ matrix.T).to(state["proj"].dtype)
        return found
    for layer in ("head.proj", "attnpool.c_proj"):  # of timm, and of the CLIP ResNets
        for name in (f"{layer}.weight", f"{layer}.bias"):
            if name in state:
                found[name] = (matrix @ state[name].double()).to(state[name].dtype)
        if f"{layer}.weight" in state:
            return found
    raise InputError("the model ends with a projection, and its tower has no linear layer to multiply it into", _OTHER)
