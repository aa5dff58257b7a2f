"""Splits: their names, the default for training and evaluation, and the 90/10 division of a source with a single split."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Literal

import numpy as np

from stages.classes import fold
from stages.data.by_class import rows_by_class
from stages.errors import InputError, UsageError
from stages.randomness import numpy_generator
from stages.text import as_text, listed

Side = Literal["train", "test"]

# The words for each split in file and folder names, as in the datasets library.
_WORDS = {"train": "train training", "validation": "validation valid val dev", "test": "test testing eval evaluation"}
KEYWORDS = {word: split for split, words in _WORDS.items() for word in words.split()}
# Words that say nothing more beside the word for a split: 'training_set', 'trainImages', 'testdata'.
FILLERS = ["dataset", "data", "sets", "set", "images", "image", "imgs", "img", "split"]
_FILLED = re.compile(r"(?:{1})?({0})(?:{1})?".format("|".join(KEYWORDS), "|".join(FILLERS)))
_CAPITAL = re.compile(r"(?<=[^\WA-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
SHARD = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<count>\d{5})[^/]*")
DIVISION_SEED = 0  # fixed: the division belongs to the data, not to a run


@dataclass(frozen=True)
class Choice:
    """The splits to read, and which part of a divided single split ('' when it is not divided).

    `joined`: both parts of a single split were asked for by name, 'train+test'.
    """

    splits: tuple[str, ...]
    divided: Literal["", "train", "test"] = ""
    joined: bool = False

    @property
    def described(self) -> str:
        """For messages, for example " (split 'test')"."""
        return f" ({self.divided} part of its 90/10 division)" if self.divided else f" (split '{'+'.join(self.splits)}')"


def splits_of_stems(stems: Sequence[str], *, last: bool = False) -> list[str | None]:
    """The split that each of some file names (without suffix) names: 'train-00000-of-00002' -> 'train'; None for none.

    In a name with words for two splits ('lab-test-images-train'), the words that all names share do not count.

    Args:
        stems: the names of all files of the data.
        last: of two splits in a name, take the last one.

    Raises InputError when a name still has words for two splits, unless `last`.
    """
    named = [SHARD.fullmatch(stem) for stem in stems]
    words = [_split_words(shard["name"] if shard else stem) for stem, shard in zip(stems, named, strict=True)]
    if last:
        words = [own[-1:] for own in words]
    elif any(len(set(own)) > 1 for own in words):
        shared = reduce(and_, map(Counter, words))
        distinct = [list((Counter(own) - shared).elements()) for own in words]
        twice = next((at for at, own in enumerate(distinct) if len(set(own)) > 1), None)
        if twice is not None or not any(distinct):
            at = twice or 0
            raise InputError(
                f"the name '{stems[at]}' names two splits, {' and '.join(dict.fromkeys(words[at]))}",
                "rename the file so that it names one, for example train.parquet",
            )
        words = distinct
    return [own[0] if own else shard["name"] if shard else None for own, shard in zip(words, named, strict=True)]


def words_of(name: str) -> list[str]:
    """The words of a name in lower case; a word for a split also when a capital or another word such as 'set' ends it.

    Everything but letters ends a word: 'cifar(train2017)' is 'cifar' and 'train'. 'trainset' is 'train', 'valImages' is 'val'.
    """
    words: list[str] = []
    for run in re.findall(r"[^\W\d_]+", name):
        whole = _without_filler(run)
        parts = [_without_filler(part) for part in _CAPITAL.split(run)]
        words += parts if whole not in KEYWORDS and KEYWORDS.keys() & set(parts) else [whole]
    return words


def split_of_folder(name: str) -> str | None:
    """The split that a folder is by its name: the name is a word for it and nothing more, as in 'test_set' or 'val2017'."""
    words = [word for word in words_of(name) if word not in FILLERS]
    return KEYWORDS.get(words[0]) if len(words) == 1 else None


def _without_filler(word: str) -> str:
    filled = _FILLED.fullmatch(word.casefold())
    return filled[1] if filled else word.casefold()


def _split_words(name: str) -> list[str]:
    """The splits that the words of a name stand for."""
    return [KEYWORDS[word] for word in words_of(name) if word in KEYWORDS]


def choose_splits(available: Sequence[str], split: str | None, side: Side, *, source: str) -> Choice:
    """Which of the `available` splits to read.

    Args:
        available: the split names of the source.
        split: 'train', 'test', 'train+test' or the like; None chooses by `side`. 'train+test' is all of a single split.
        side: 'train' takes train; 'test' takes test where there is one and validation otherwise.
        source: name of the data, for the message.

    Raises UsageError on a split that is not there, and when `side` has none or several.
    """
    by_kind: dict[str, list[str]] = {}
    for name in available:
        by_kind.setdefault(split_kind(name), []).append(name)
    split = None if split is None else as_text(split)
    if split is not None and len(available) == 1 and _kinds(split) == ["test", "train"]:
        return Choice((available[0],), joined=True)
    if split is not None:
        return Choice(tuple(_named(split, available, by_kind, source)))
    if len(available) == 1:
        return Choice((available[0],), side)
    for kind in ("train",) if side == "train" else ("test", "validation"):
        if kind in by_kind:
            return Choice((_only(by_kind[kind], kind, source),))
    raise UsageError(
        f"the data '{source}' has no {side} split, only {listed(available)}",
        f"choose with --split, for example --split {available[0]}",
    )


def _kinds(split: str) -> list[str]:
    """The kinds of splits that --split joins."""
    return sorted(split_kind(part.strip()) for part in split.split("+"))


def split_kind(name: str) -> str:
    """'train', 'validation' or 'test' for a word for one of these, such as 'val'; else the name itself."""
    return KEYWORDS.get(name.casefold(), name)


def _only(names: Sequence[str], kind: str, source: str) -> str:
    """The split of a kind: the one of that very name, or the only one."""
    if len(names) > 1 and kind not in names:
        raise UsageError(f"the data '{source}' has several {kind} splits: {listed(names)}", "choose one with --split")
    return kind if kind in names else names[0]


def _named(split: str, available: Sequence[str], by_kind: dict[str, list[str]], source: str) -> list[str]:
    chosen: list[str] = []
    for part in (part.strip() for part in split.split("+")):
        kind = split_kind(part)
        if part not in available and kind not in by_kind:
            raise UsageError(
                f"the data '{source}' has no split '{part}'",
                f"choose --split from {listed(available)}, or join several with +",
            )
        name = part if part in available else _only(by_kind[kind], kind, source)
        if name in chosen:
            raise UsageError(f"--split {split} names '{name}' twice", "name each split once")
        chosen.append(name)
    return chosen


def part_of_division(
    labels: np.ndarray, classes: Sequence[str], part: Side, *, divided: Sequence[str] | None = None
) -> np.ndarray:
    """Rows (int64, ascending) of one part of a 90/10 division by class.

    Each class is divided by a generator of its own name, so that the division does not change with the other classes.
    The test part gets a tenth, rounded, at least one image where a class has two; the train part gets the rest.

    Args:
        labels: int64 (N,), positions in `classes`.
        classes: class names.
        part: 'train' or 'test'.
        divided: the classes to divide, compared folded; both parts get all images of the others. None divides all.
    """
    keys = None if divided is None else {fold(name) for name in divided}
    rows: list[np.ndarray] = []
    for name, own in zip(classes, rows_by_class(labels, len(classes)), strict=True):
        if not len(own):
            continue
        if keys is not None and fold(name) not in keys:
            rows.append(own)
            continue
        # Ordered by raw random words: unlike numpy's permutation, these are the same in every numpy version.
        words = numpy_generator(DIVISION_SEED, f"split/{fold(name)}").bit_generator.random_raw(len(own))
        shuffled = own[np.argsort(words, kind="stable")]
        held_out = max(1, (len(own) + 5) // 10) if len(own) > 1 else 0
        rows.append(shuffled[:held_out] if part == "test" else shuffled[held_out:])
    return np.sort(np.concatenate(rows)) if rows else np.empty(0, dtype=np.int64)
