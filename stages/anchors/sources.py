"""The anchors stage: class names in, an AnchorSet out; from a text encoder, imported features, or without language."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.anchors.anchor_set import AnchorSet, normalised
from stages.anchors.encoder import TextEncoder
from stages.anchors.features import read_features
from stages.classes import ClassGroups, check_unique, match_classes, spelled
from stages.cosines import Progress
from stages.errors import InputError, UsageError, require_at_least
from stages.files.text_lists import read_list
from stages.randomness import numpy_generator
from stages.text import as_text, counted

PUBLISHED = "This is a photo of a {}"
_BATCH = 256
_SHOWN = 500  # characters of a prompt in an error
_MOST_NUMBERS = 2**31  # in anchors without language, 8 GiB


def text_anchors(
    classes: Sequence[str],
    groups: ClassGroups,
    encoder: TextEncoder,
    templates: Sequence[str],
    *,
    allow_truncation: bool = False,
    progress: Progress | None = None,
) -> AnchorSet:
    """Encode class names into normalized text features; several templates are normalized, averaged and normalized again.

    Args:
        classes: C names.
        groups: seen, validation and novel classes.
        encoder: a loaded text tower.
        templates: prompts with one `{}`.
        allow_truncation: truncate prompts that are longer than the tokenizer's context.
        progress: called with (prompts encoded, in total).

    Raises:
        InputError: a prompt that would be truncated, or a feature that is zero or not finite.

    Source: Li et al., CVPR 2024, Sec. 3.1; the template ensemble is CLIP's (Radford et al., ICML 2021).
    """
    if not allow_truncation:  # before the long part
        for template in templates:
            check_length([prompt(template, name) for name in classes], encoder)
    names, everything = tuple(classes), len(classes) * len(templates)
    total: np.ndarray | None = None
    for at, template in enumerate(templates):
        parts = []
        for rows in batches(len(names)):
            parts.append(encoded([prompt(template, name) for name in names[rows]], encoder))
            if progress is not None:
                progress(at * len(names) + min(rows.stop, len(names)), everything)
        unit = normalised(np.concatenate(parts), names, f"the encoder {encoder.model}")
        total = unit if total is None else np.add(total, unit, dtype=np.float64)
    assert total is not None
    origin = {"source": "text", "templates": list(templates), **encoder.record}
    if allow_truncation:
        origin["allow_truncation"] = True
    return AnchorSet(normalised(total, names, "the average over templates"), names, groups, origin)


def imported_anchors(classes: Sequence[str], groups: ClassGroups, spec: str, logit_scale: float | None = None) -> AnchorSet:
    """Anchors from existing text features (see `features.read_features`): the rows of these classes where the file names its
    classes, otherwise one row per class, in order.

    `logit_scale` is that of their text tower, if it is known.

    Raises InputError if a class has no row, the numbers of rows and names differ, or a row is zero or not finite.
    """
    values, tensor, sha256, named = read_features(spec)
    if named is not None:
        check_unique(named, where=f"the header of '{spec}'")
        wanted_from, available_from = "the class names", f"the header of '{spec}', which names its rows"
        fix = "rename the classes as there, or give features of these classes"
        values = values[match_classes(classes, named, wanted_from=wanted_from, available_from=available_from, fix=fix)]
    elif len(values) != len(classes):
        raise InputError(
            f"the features '{spec}' have {counted(len(values), 'row')} for {counted(len(classes), 'class', 'classes')}",
            "give one row per class, in the order of the names",
        )
    origin: dict[str, Any] = {"source": "features", "features_sha256": sha256}
    if tensor:
        origin["tensor"] = tensor
    if logit_scale is not None:
        origin["logit_scale"] = logit_scale
    return AnchorSet(normalised(values, tuple(classes), f"'{spec}'"), tuple(classes), groups, origin)


def constructed_anchors(classes: Sequence[str], groups: ClassGroups, source: str, width: int, seed: int) -> AnchorSet:
    """Anchors without language: `source` 'simplex' (maximal separation) or 'random' (from `seed`), of `width` dimensions.

    Raises UsageError for a width that does not fit the classes or the memory.
    """
    if len(classes) * width > _MOST_NUMBERS:
        size = len(classes) * width / 2**28
        raise UsageError(f"{len(classes)} anchors of width {width} need {size:.0f} GiB of memory", "choose a smaller --dim")
    if source == "simplex":
        return AnchorSet(simplex_anchors(len(classes), width), tuple(classes), groups, {"source": "simplex"})
    return AnchorSet(random_anchors(len(classes), width, seed), tuple(classes), groups, {"source": "random", "seed": seed})


def simplex_anchors(classes: int, width: int) -> np.ndarray:
    """Maximal-separation centres (MMC): unit vectors with pairwise cosine -1/(C-1), a regular simplex.

    Args:
        classes: C >= 2.
        width: D >= C - 1.

    Returns:
        (C, D) float32 unit rows, lower triangular.

    Raises:
        UsageError: C < 2, or D < C - 1.

    Source: the MMC anchors of Li et al., CVPR 2024, Sec. 4; Pang et al., ICML 2018, Alg. 1.
    """
    if classes < 2:
        raise UsageError("a simplex needs at least 2 classes", "add class names")
    if classes > width + 1:
        raise UsageError(
            f"{classes} classes do not fit a simplex in {width} dimensions", f"choose --dim of at least {classes - 1}"
        )
    left = np.arange(classes, 1, -1, dtype=np.float64)  # C - k of column k
    diagonal = np.sqrt(classes / (classes - 1) * (left - 1) / left)
    rows = np.zeros((classes, width), np.float32)
    rows[:, : classes - 1] = np.tril(np.broadcast_to((-diagonal / (left - 1)).astype(np.float32), (classes, classes - 1)), -1)
    np.fill_diagonal(rows[:, : classes - 1], diagonal)
    return rows


def random_anchors(classes: int, width: int, seed: int) -> np.ndarray:
    """Unit vectors (C, D) float32 in uniformly random directions. Raises UsageError for D < 1."""
    require_at_least("--dim", width, 1)
    values = numpy_generator(seed, "anchors/random").standard_normal((classes, width))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values.astype(np.float32)


def resolve_templates(given: Sequence[str], preset: str | None) -> list[str]:
    """The given templates, then those of the preset ('openai' or a file); the published one if there are none.

    Raises UsageError for a template without `{}`, InputError for an unreadable file.
    """
    templates = [as_text(template) for template in given]
    if preset == "openai":
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        templates += [make("{}") for make in OPENAI_IMAGENET_TEMPLATES]
    elif preset is not None:
        templates += _read_template_file(Path(preset))
    for template in templates:
        if template.count("{}") != 1:
            raise UsageError(f"template '{template}' needs exactly one {{}}", "put {} where the class name goes")
    return templates or [PUBLISHED]


def prompt(template: str, name: str) -> str:
    """The template with the class name, as `spelled`, underscores replaced by spaces (Li et al., CVPR 2024, Sec. 4.1)."""
    return unicodedata.normalize("NFC", template.replace("{}", spelled(name).replace("_", " ")))


def _read_template_file(path: Path) -> list[str]:
    templates = [line for _, line in read_list(path, "template file", "template")]
    if not templates:
        raise InputError(f"template file '{path}' has no template", "write one template per line, with {} in it")
    return templates


def batches(prompts: int) -> Iterator[slice]:
    """Slices of so many prompts, in order, that are encoded at once."""
    return (slice(start, start + _BATCH) for start in range(0, prompts, _BATCH))


def encoded(prompts: Sequence[str], encoder: TextEncoder) -> np.ndarray:
    """The features (n, D) of a batch of prompts, float32."""
    features: np.ndarray = encoder.encode(encoder.tokenize(list(prompts))).cpu().numpy()
    return features


def check_length(prompts: Sequence[str], encoder: TextEncoder, shorten: str = "shorten the class name or the template") -> None:
    """Raise InputError, with the fix `shorten`, for a prompt that the tokenizer would truncate."""
    for rows in batches(len(prompts)):
        some = list(prompts[rows])
        # no tokenizer makes more tokens than bytes, except for start, end and class tokens: nothing is truncated in `room`
        room = encoder.context_length + max(len(text.encode()) for text in some) + 8
        kept, whole = encoder.tokenize(some), encoder.tokenize(some, context_length=room)
        for text, one, two in zip(some, kept.tolist(), whole.tolist(), strict=True):
            if _loses(one, two):
                shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
                raise InputError(
                    f"the prompt '{shown}' is longer than the {encoder.context_length} tokens that {encoder.model} reads",
                    f"{shorten}, or accept the cut with `laat anchors --allow-truncation`",
                )


def _loses(kept: list[int], whole: list[int]) -> bool:
    """Whether `whole` has more than `kept` and padding: one token, which tokenizers choose and place differently."""
    if whole[: len(kept)] == kept and len(set(whole[len(kept) :])) <= 1:  # the usual case, without counting
        return False
    return len(Counter(whole) - Counter(kept)) > 1 or bool(Counter(kept) - Counter(whole))
