"""The images of a source that were asked for: which splits, classes and rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stages.classes import check_unique, match_classes
from stages.data.cache import digest_of, entry_name
from stages.data.decode import Decoded, Encoded, decode_each, decode_images
from stages.data.image_set import DataProvenance, check_no_class_empty
from stages.data.request import ImageRequest
from stages.data.sources import Source, open_source
from stages.data.splits import Choice, Side, choose_splits, part_of_division
from stages.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Subset:
    """Which images of a source were asked for, none decoded yet.

    Attributes:
        source: where they are.
        rows: split -> ascending rows, int64.
        labels: int64 (N,), over all splits in their order; positions in `names`.
        names: class names.
        checked: whether a class without an image is an error.
        choice: splits, and the part of a division.
        request: what was asked for.
    """

    source: Source
    rows: dict[str, np.ndarray]
    labels: np.ndarray
    names: tuple[str, ...]
    checked: bool
    choice: Choice
    request: ImageRequest

    def __len__(self) -> int:
        return len(self.labels)

    def random_access(self) -> Subset:
        """The same images, readable in any order. Raises InputError on broken files, MissingError without disk space."""
        return replace(self, source=self.source.random_access(self.rows))

    def encoded(self, positions: np.ndarray | None = None) -> Iterator[Encoded]:
        """The images, not decoded.

        Args:
            positions: int64 (n,), of the wanted images, ascending or after `random_access` in any order; None takes all.
        """
        if positions is None:
            positions = np.arange(len(self))
        lengths = [len(rows) for rows in self.rows.values()]
        part = np.searchsorted(np.cumsum(lengths), positions, side="right")
        streams = []
        for at, (split, rows) in enumerate(self.rows.items()):
            streams.append(self.source.encoded(split, rows[positions[part == at] - sum(lengths[:at])]))
        for at in part:
            yield next(streams[at])

    def decode(self, positions: np.ndarray | None = None, *, skip_corrupt: bool = False) -> Decoded:
        """Decode images into memory; `positions` as for `encoded`, errors as of `stages.data.decode.decode_each`."""
        count = len(self) if positions is None else len(positions)
        name, encoded = self.source.name, self.encoded(positions)
        return decode_images(encoded, count, source=name, resize=self.request.resize, skip_corrupt=skip_corrupt)

    def decode_each(
        self, positions: np.ndarray | None, then: Callable[[np.ndarray], T], **options: Any
    ) -> Iterator[tuple[int, T]]:
        """See `stages.data.decode.decode_each`; `positions` as for `encoded`."""
        return decode_each(self.encoded(positions), then, source=self.source.name, resize=self.request.resize, **options)

    def kept(self, kept: np.ndarray) -> tuple[np.ndarray, DataProvenance]:
        """The labels of those that could be decoded, and the provenance. Raises InputError when a class has none left."""
        labels, skipped = self.labels[kept], len(self.labels) - len(kept)
        if skipped and self.checked:
            self.check_classes(labels, " after skipping corrupt images")
        provenance = DataProvenance(
            source=self.source.name,
            splits=self.choice.splits,
            divided=self.choice.divided,
            resize=self.request.resize,
            skipped_corrupt=skipped,
            notes=(*self.source.notes, *_division_note(self.choice)),
        )
        return np.ascontiguousarray(labels, dtype=np.int64), provenance

    def check_classes(self, labels: np.ndarray, after: str = "") -> None:
        """Raise InputError when a class has no image among `labels`."""
        counts = np.bincount(labels, minlength=len(self.names)).tolist()
        check_no_class_empty(counts, self.names, source=self.source.name, part=_described(self.choice) + after)

    def entry_name(self, kind: str, **facts: Any) -> str | None:
        """The name of a cache entry made from these images, see `stages.data.cache`; None when they are not in files."""
        files: list[Path] = []
        inside: list[str] = []
        for split, rows in self.rows.items():
            known = self.source.cache_key(split, rows)
            if known is None:
                return None
            files += known[0]
            inside.append(f"{known[1]} of {split}: {digest_of(rows)}")
        return entry_name(kind, files, inside=inside, resize=self.request.resize, skip=self.request.skip_corrupt, **facts)


def select_images(request: ImageRequest, *, side: Side, classes: Sequence[str] | None, classes_from: str) -> Subset:
    """Which images are asked for; the arguments and the errors are those of `load_images`. No image is decoded."""
    source = open_source(request, wanted=classes)
    choice = choose_splits(source.splits, request.split, side, source=source.name)
    positions = _positions(source, classes, classes_from)
    found = {name: _rows_of(source, name, choice, positions) for name in choice.splits}
    subset = Subset(
        source,
        {name: rows for name, (rows, _) in found.items()},
        np.concatenate([labels for _, labels in found.values()]),
        tuple(source.classes if classes is None else classes),
        classes is not None,
        choice,
        request,
    )
    if not len(subset.labels):
        raise InputError(f"the data '{source.name}'{_described(choice)} holds no images", "choose another --split")
    if subset.checked:
        subset.check_classes(subset.labels)
    return subset


def _positions(source: Source, classes: Sequence[str] | None, classes_from: str) -> np.ndarray:
    """For each class of the source its label in the result, or -1 when it is not wanted."""
    if classes is None:
        return np.arange(len(source.classes))
    check_unique(classes, where=classes_from)
    wanted = match_classes(classes, source.classes, wanted_from=classes_from, available_from=f"the data '{source.name}'")
    positions = np.full(len(source.classes), -1, dtype=np.int64)
    positions[wanted] = np.arange(len(wanted))
    return positions


def _rows_of(source: Source, split: str, choice: Choice, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The wanted rows of a split, ascending, and their labels in the result."""
    labels = source.labels(split)
    rows = part_of_division(labels, source.classes, choice.divided) if choice.divided else np.arange(len(labels))
    rows = rows[positions[labels[rows]] >= 0]
    return rows, positions[labels[rows]]


def _described(choice: Choice) -> str:
    if choice.divided:
        return f" ({choice.divided} part of its 90/10 division)"
    return f" (split '{'+'.join(choice.splits)}')"


def _division_note(choice: Choice) -> tuple[str, ...]:
    part = f"one split only: these images are the {choice.divided} part of its 90/10 division by class"
    return (part,) if choice.divided else ()
