"""Checkpoints of fine-tuned CLIP models.

- tecoa (Mao et al., ICLR 2023): `{"vision_encoder_state_dict": …, "optimizer": …}`, the image tower of OpenAI's program.
- fare (Schlarmann et al., ICML 2024): the state dict of an open_clip image tower, which replaces the whole tower.
- open_clip: `{"state_dict": {"module.visual.…": …}, "optimizer": …}` or a plain state dict of a whole model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.errors import InputError, UsageError
from stages.exchange.foreign_file import ForeignFile
from stages.exchange.foreign_weights import ForeignWeights, as_weights, check_fit, group_of, guess, ignored_of
from stages.exchange.import_request import FARE, OPEN_CLIP, TECOA
from stages.models.clip_tower import PREFIX
from stages.models.embedding import EmbeddingModel
from stages.text import counted
from stages.uninitialised import Uninitialised

_KEYS = {TECOA: "vision_encoder_state_dict", FARE: "state_dict", OPEN_CLIP: "state_dict"}
_VISUAL = "visual."
_SCALES = ("logit_scale", "logit_bias")
# OpenAI's image towers, which both programs fine-tune: patch embedding and positions -> architecture
_OPENAI: dict[tuple[tuple[int, ...], ...], str] = {
    ((768, 3, 32, 32), (50, 768)): "ViT-B-32",
    ((768, 3, 16, 16), (197, 768)): "ViT-B-16",
    ((1024, 3, 14, 14), (257, 1024)): "ViT-L-14",
    ((1024, 3, 14, 14), (577, 1024)): "ViT-L-14-336",
}


@dataclass(frozen=True)
class ClipParts:
    """The tensors of a file, by what they belong to.

    Attributes:
        visual: of the image tower, by their names in it.
        text: of the text tower, by their names in the whole model.
        scale: exp(logit_scale), or None.
        prefix: of the names of `visual` in the file.
        ignored: see `ForeignWeights`.
    """

    visual: dict[str, Tensor]
    text: dict[str, Tensor]
    scale: float | None
    prefix: str
    ignored: dict[str, int]


def split_clip(file: ForeignFile, layout: str) -> ClipParts:
    """The towers in a file of the layout tecoa, fare or open_clip. Raises InputError for a file of another layout."""
    where, key = f"'{file.name}'", _KEYS[layout]
    given = group_of(file, key, f"the layout {layout}", where)
    ignored = ignored_of(file, key if key in file.groups else "")
    if layout != OPEN_CLIP:
        if any(name.startswith(_VISUAL) for name in given):
            raise InputError(f"{where} is no checkpoint of the layout {layout}: it has a whole model", guess(file))
        return ClipParts(given, {}, None, "", ignored)
    visual = {name.removeprefix(_VISUAL): one for name, one in given.items() if name.startswith(_VISUAL)}
    if not visual:
        shown = next(iter(given))
        what = f"{where} is no checkpoint of the layout open_clip: none of its names, such as '{shown}', begins with 'visual.'"
        raise InputError(what, guess(file))
    text = {name: one for name, one in given.items() if is_text(name)}
    if "logit_bias" in given:
        ignored["logit_bias"] = 1
    return ClipParts(visual, text, _scale_in(given, where), _VISUAL, ignored)


def recognised(parts: ClipParts) -> str | None:
    """The model of OpenAI whose image tower was fine-tuned, as clip:NAME/openai, from the shapes of two tensors."""
    shapes = tuple(tuple(parts.visual[name].shape) for name in ("conv1.weight", "positional_embedding") if name in parts.visual)
    name = _OPENAI.get(shapes)
    return None if name is None else f"{PREFIX}{name}/openai"


def clip_weights(
    file: ForeignFile,
    parts: ClipParts,
    architecture: str,
    record: Mapping[str, Any],
    normalization: tuple[list[float], list[float]],
) -> tuple[EmbeddingModel, ForeignWeights]:
    """The embedding model with the image tower of a file and an identity projection.

    Args:
        file: that `parts` are of.
        parts: see `split_clip`.
        architecture: clip:NAME/TAG.
        record: of the tower, see `ClipTower`.
        normalization: mean and std per channel, of pixels in [0, 1].

    Returns:
        The model, whose weights are not loaded yet, and the weights.

    Raises:
        InputError: names or shapes differ from those of the architecture; names the first tensor.
        UsageError: a configuration without an image tower.
    """
    where = f"'{file.name}'"
    side, width = record["vision_cfg"]["image_size"], record["embed_dim"]

    def build() -> EmbeddingModel:
        mean, std = normalization
        return EmbeddingModel(architecture, width, side, mean=mean, std=std, tower=dict(record))

    with torch.device("meta"), Uninitialised():
        shapes = {name: tuple(one.shape) for name, one in build().backbone.net.state_dict().items()}  # type: ignore[union-attr]
    given = {f"{parts.prefix}{name}": one for name, one in parts.visual.items()}
    expected = {f"{parts.prefix}{name}": shape for name, shape in shapes.items()}
    check_fit(
        given, expected, f"the image tower of {architecture}", where, "name the model that was fine-tuned with --architecture"
    )
    with Uninitialised():
        model = build()
    state = {f"backbone.net.{name}": as_weights(one, name, where) for name, one in parts.visual.items()}
    mean, std = (torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1) for values in normalization)
    state |= {"projection.weight": torch.eye(width), "mean": mean, "std": std}
    change = f"image tower of {architecture} replaced: {counted(len(given), 'tensor')}"
    return model, ForeignWeights(architecture, state, tuple(given), (change,), dict(parts.ignored))


def is_visual(name: str) -> bool:
    """Whether a tensor of a whole model belongs to its image tower."""
    return name.startswith(_VISUAL)


def is_text(name: str) -> bool:
    """Whether a tensor of a whole model belongs to its text tower."""
    return not is_visual(name) and name not in _SCALES


def _scale_in(given: Mapping[str, Tensor], where: str) -> float | None:
    """exp(logit_scale). Raises InputError for one that is no number or not finite."""
    found = given.get("logit_scale")
    if found is None:
        return None
    if found.numel() != 1 or not math.isfinite(scale := math.exp(min(float(found), 700.0))) or scale <= 0:
        raise InputError(
            f"the logit scale in {where} is {found.tolist()}, expected one number", "give the temperature with --tau"
        )
    return scale


def scale_of(weights: Mapping[str, Tensor], where: str) -> float:
    """exp(logit_scale) of a model. Raises UsageError if it has none."""
    found = _scale_in(weights, where)
    if found is None:
        raise UsageError(f"{where} has no logit scale", "give the temperature with --tau")
    return found
