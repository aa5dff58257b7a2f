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
from stages.exchange.foreign_weights import ForeignWeights, as_weights, group_of, guess, ignored_of
from stages.exchange.import_request import FARE, OPEN_CLIP, TECOA
from stages.models.clip_tower import PREFIX
from stages.models.embedding import EmbeddingModel
from stages.models.fit import kinds_of, require_fit
from stages.parameters import MOST_SCALE
from stages.text import counted
from stages.uninitialised import Uninitialised

_KEYS = {TECOA: "vision_encoder_state_dict", FARE: "state_dict", OPEN_CLIP: "state_dict"}
_VISUAL = "visual."
LOGIT_SCALE = "logit_scale"
SCALES = (LOGIT_SCALE, "logit_bias")  # tensors of a whole model that are in none of its towers
NAME_BASE = "name the model that was fine-tuned with --architecture"
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
        logit_scale: its logarithm as the file has it, or None.
        prefix: of the names of `visual` in the file.
        ignored: see `ForeignWeights`.
    """

    visual: dict[str, Tensor]
    text: dict[str, Tensor]
    logit_scale: Tensor | None
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
    return ClipParts(visual, text, given.get(LOGIT_SCALE), _VISUAL, ignored)


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
        own = build().backbone.net.state_dict()  # type: ignore[union-attr]
    given = {f"{parts.prefix}{name}": one for name, one in parts.visual.items()}
    expected = {f"{parts.prefix}{name}": one for name, one in own.items()}
    require_fit(expected, kinds_of(given), name=f"the image tower of {architecture}", where=where, fix=NAME_BASE)
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
    return not is_visual(name) and name not in SCALES


def check_logit_scale(found: Tensor, where: str, fix: str) -> None:
    """Raise InputError unless `found` is the logarithm of a logit scale, and 1 / scale a temperature as --tau takes it."""
    most = math.log(MOST_SCALE)
    if found.numel() != 1 or not abs(float(found)) <= most:  # NaN too
        value = f"has shape {tuple(found.shape)}" if found.numel() != 1 else f"is {float(found):g}"
        raise InputError(f"'{LOGIT_SCALE}' in {where} {value}, expected one number from {-most:.1f} to {most:.1f}", fix)


def scale_of(found: Tensor | None, where: str) -> float:
    """exp(logit_scale) of a model. Raises UsageError if it has none, and as `check_logit_scale`."""
    fix = "give the temperature with --tau"
    if found is None:
        raise UsageError(f"{where} has no logit scale", fix)
    check_logit_scale(found, where, fix)
    return math.exp(float(found))
