"""The anchors stage: class names in, an AnchorSet out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.anchors.anchor_set import AnchorSet, normalised
from stages.anchors.constructed import random_anchors, simplex_anchors
from stages.anchors.encoder import TextEncoder
from stages.anchors.features import read_features
from stages.anchors.templates import prompt
from stages.classes import ClassGroups
from stages.errors import InputError

_BATCH = 256


def text_anchors(
    classes: Sequence[str],
    groups: ClassGroups,
    encoder: TextEncoder,
    templates: Sequence[str],
    *,
    allow_truncation: bool = False,
) -> AnchorSet:
    """Encode class names: text feature / its L2 norm; with several templates, normalise each, average, normalise again.

    Args:
        classes: C names.
        groups: seen, validation and novel classes.
        encoder: a loaded text tower.
        templates: prompts with one `{}`.
        allow_truncation: accept prompts longer than the tokenizer's context, which are then cut.

    Raises:
        InputError: a prompt that would be cut (it is named), or a feature that is zero or not finite.

    Source: Li et al., CVPR 2024, Sec. 3.1; the template ensemble is CLIP's (Radford et al., ICML 2021).
    """
    total = np.zeros((0, 0))
    for template in templates:
        prompts = [prompt(template, name) for name in classes]
        cut = _cut_prompts(prompts, encoder)
        if cut and not allow_truncation:
            raise InputError(
                f"the prompt '{cut[0]}' is longer than the {encoder.context_length} tokens that {encoder.model} reads",
                "shorten the class name or the template, or accept the cut with --allow-truncation",
            )
        features = _encode(prompts, encoder)
        unit = normalised(features, tuple(classes), f"the encoder {encoder.model}").astype(np.float64)
        total = unit if not total.size else total + unit
    origin = {"source": "text", "templates": list(templates), **encoder.to_record()}
    if allow_truncation:
        origin["allow_truncation"] = True
    return AnchorSet(normalised(total, tuple(classes), "the average over templates"), tuple(classes), groups, origin)


def imported_anchors(classes: Sequence[str], groups: ClassGroups, spec: str) -> AnchorSet:
    """Anchors from text features that somebody already has (see `features.read_features`), one row a class, in order.

    Raises InputError when rows and names differ in number, or a row is zero or not finite.
    """
    values, tensor, sha256 = read_features(spec)
    if len(values) != len(classes):
        raise InputError(
            f"the features have {len(values)} rows for {len(classes)} classes",
            "give one row per class, in the order of the names",
        )
    origin: dict[str, Any] = {"source": "features", "features_sha256": sha256}
    if tensor:
        origin["tensor"] = tensor
    return AnchorSet(normalised(values, tuple(classes), "the features"), tuple(classes), groups, origin)


def constructed_anchors(classes: Sequence[str], groups: ClassGroups, source: str, width: int, seed: int) -> AnchorSet:
    """Anchors without language: `source` 'simplex' (maximal separation) or 'random' (from `seed`), of `width` dimensions."""
    if source == "simplex":
        return AnchorSet(simplex_anchors(len(classes), width), tuple(classes), groups, {"source": "simplex"})
    return AnchorSet(random_anchors(len(classes), width, seed), tuple(classes), groups, {"source": "random", "seed": seed})


def _cut_prompts(prompts: Sequence[str], encoder: TextEncoder) -> list[str]:
    """The prompts that the tokenizer would cut silently: tokenised with room to spare, they have more in them."""
    # no tokenizer makes more tokens than bytes, start, end and class tokens aside, so nothing is cut in `room`
    room = encoder.context_length + max(len(text.encode()) for text in prompts) + 8
    kept, whole = encoder.tokenize(list(prompts)), encoder.tokenize(list(prompts), context_length=room)
    return [text for text, one, two in zip(prompts, kept.tolist(), whole.tolist(), strict=True) if _loses(one, two)]


def _loses(kept: list[int], whole: list[int]) -> bool:
    """Whether `whole` has more than `kept` and padding. The padding is one token, but which and where the tokenizers differ."""
    return len(Counter(whole) - Counter(kept)) > 1 or bool(Counter(kept) - Counter(whole))


def _encode(prompts: Sequence[str], encoder: TextEncoder) -> np.ndarray:
    blocks = [
        encoder.encode(encoder.tokenize(list(prompts[at : at + _BATCH]))).cpu().numpy() for at in range(0, len(prompts), _BATCH)
    ]
    return np.concatenate(blocks)
