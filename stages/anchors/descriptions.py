"""Descriptions: a file with sentences for each class, as CuPL and others publish them; an anchor is their mean."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.anchors.anchor_set import AnchorSet, normalised
from stages.anchors.encoder import TextEncoder
from stages.anchors.sources import batches, check_length, encoded
from stages.classes import ClassGroups, check_unique, fold, is_blank, match_classes, spelled
from stages.cosines import Progress
from stages.errors import InputError
from stages.files.reading import read_file
from stages.files.strict_json import parse_json
from stages.files.text_lists import MAX_BYTES
from stages.randomness import numpy_generator
from stages.text import decode_text

SOURCE = "descriptions"
MOST_CHARACTERS = 10_000
_LAYOUT = 'write {"class name": ["A sentence about it.", "Another one."], ...}'


@dataclass(frozen=True)
class Descriptions:
    """What a file says of classes.

    Attributes:
        sentences: class name, as in the file -> its sentences, as `spelled`.
        sha256: of the file.
        where: the file, for errors.
    """

    sentences: Mapping[str, tuple[str, ...]]
    sha256: str
    where: str

    def of(self, classes: Sequence[str], per_class: int | None = None, seed: int = 0) -> Described:
        """The sentences of `classes`, whose names are compared with `fold`.

        Args:
            classes: unique names.
            per_class: how many to sample for each class, without replacement; all those of a class that has fewer. The sample
                of a class depends on its name and the seed alone, and that of a smaller number is part of it.
            seed: of the sample.

        Raises InputError for classes that are not in the file, or have no sentence in it.
        """
        entries = list(self.sentences)
        fix = "add sentences for them to the file, or leave the classes out"
        found = match_classes(classes, entries, wanted_from="the class names", available_from=self.where, fix=fix)
        given = [self.sentences[entries[at]] for at in found]
        empty = [name for name, some in zip(classes, given, strict=True) if not some]
        if empty:
            raise InputError(
                f"{self.where} has no sentence for '{empty[0]}': its list is empty", "write one, or leave the class out"
            )
        chosen = [_sample(name, some, per_class, seed) for name, some in zip(classes, given, strict=True)]
        record: dict[str, Any] = {"source": SOURCE, "sentences": sum(map(len, chosen))}
        if per_class is not None:
            record |= {"per_class": per_class, "seed": seed}
        taken = set(found)
        unused = tuple(name for at, name in enumerate(entries) if at not in taken)
        return Described(tuple(classes), tuple(chosen), tuple(map(len, given)), unused, record, self.sha256)


@dataclass(frozen=True)
class Described:
    """Classes with the sentences that make their anchors.

    Attributes:
        classes: C names.
        sentences: of each class, one or more.
        given: how many the file has for each.
        unused: entries of the file for no class.
        record: what the anchors record as their origin, besides the encoder.
        sha256: of the file.
    """

    classes: tuple[str, ...]
    sentences: tuple[tuple[str, ...], ...]
    given: tuple[int, ...]
    unused: tuple[str, ...]
    record: dict[str, Any]
    sha256: str

    @property
    def repeated(self) -> int:
        """How many sentences are there again for the same class; each counts as often as it is given."""
        return sum(len(some) - len({*some}) for some in self.sentences)

    @property
    def nameless(self) -> int:
        """How many sentences do not have the name of their class in them."""
        pairs = zip(self.classes, self.sentences, strict=True)
        return sum(fold(name) not in fold(text) for name, some in pairs for text in some)

    def lineage(self) -> dict[str, Any]:
        """The entry of the file in the lineage of the anchors."""
        return {"descriptions": {"kind": SOURCE, "sha256": self.sha256, "inputs": {}}}


def read_descriptions(path: Path | str) -> Descriptions:
    """Read a JSON object of class names, each with a list of sentences.

    Raises InputError for another layout, class names that are the same (see `fold`), and sentences that are empty or longer
    than `MOST_CHARACTERS`.
    """
    data, where = read_file(path, most=MAX_BYTES), f"'{path}'"
    try:
        found = parse_json(decode_text(data, "file of descriptions", path))
    except ValueError as error:
        raise InputError(f"{where} is no file of descriptions: {error}", _LAYOUT) from None
    if not isinstance(found, dict) or not found:
        raise InputError(f"{where} is no file of descriptions: it is not a JSON object of class names", _LAYOUT)
    check_unique(list(found), where=where)
    sentences = {name: _sentences(some, f"'{name}' in {where}") for name, some in found.items()}
    return Descriptions(sentences, hashlib.sha256(data).hexdigest(), where)


def description_anchors(
    described: Described,
    groups: ClassGroups,
    encoder: TextEncoder,
    *,
    allow_truncation: bool = False,
    progress: Progress | None = None,
) -> AnchorSet:
    """The mean of the normalized features of each class's sentences, normalized.

    Args:
        described: classes and their sentences.
        groups: seen, validation and novel classes.
        encoder: a loaded text tower.
        allow_truncation: truncate sentences that are longer than the tokenizer's context.
        progress: called with (sentences encoded, in total).

    Raises:
        InputError: a sentence that would be truncated, or a feature that is zero or not finite.

    Source: Pratt et al., ICCV 2023 (CuPL).
    """
    texts = [text for some in described.sentences for text in some]
    of_class = np.repeat(np.arange(len(described.classes)), [len(some) for some in described.sentences])
    if not allow_truncation:  # before the long part
        check_length(texts, encoder, "shorten the sentence")
    total: np.ndarray | None = None
    for rows in batches(len(texts)):
        names = tuple(described.classes[at] for at in of_class[rows])
        unit = normalised(encoded(texts[rows], encoder), names, f"the encoder {encoder.model}")
        if total is None:
            total = np.zeros((len(described.classes), unit.shape[1]))
        np.add.at(total, of_class[rows], unit)
        if progress is not None:
            progress(min(rows.stop, len(texts)), len(texts))
    assert total is not None
    origin = {**described.record, **encoder.record} | ({"allow_truncation": True} if allow_truncation else {})
    vectors = normalised(total, described.classes, "the average over descriptions")
    return AnchorSet(vectors, described.classes, groups, origin, inputs=described.lineage())


def _sample(name: str, sentences: tuple[str, ...], count: int | None, seed: int) -> tuple[str, ...]:
    """In the order of the file."""
    if count is None or count >= len(sentences):
        return sentences
    order = numpy_generator(seed, f"anchors/descriptions/{fold(name)}").permutation(len(sentences))
    return tuple(sentences[at] for at in sorted(order[:count]))


def _sentences(found: Any, where: str) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise InputError(f"the entry {where} is not a list of sentences", _LAYOUT)
    texts = tuple(map(spelled, found))
    for number, text in enumerate(texts, 1):
        if is_blank(text) or len(text) > MOST_CHARACTERS:
            what = f"longer than {MOST_CHARACTERS:,} characters" if len(text) > MOST_CHARACTERS else "empty"
            raise InputError(f"sentence {number} of {where} is {what}", "remove it from the list")
    return texts
