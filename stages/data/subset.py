"""The images that a request selects from a source: splits, classes and rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np

from stages.classes import fold
from stages.data.decoding import cache
from stages.data.decoding.decode import Decoded, decode_each, decode_images
from stages.data.decoding.encoded import Encoded
from stages.data.decoding.parallel import content_digest
from stages.data.decoding.rgb import Picture
from stages.data.folders.splits import Choice, Side, choose_splits, part_of_division
from stages.data.image_set import DataProvenance, check_no_class_empty, class_positions
from stages.data.request import ImageRequest
from stages.data.source import Source
from stages.data.source_rows import SourceRows, starts_of
from stages.data.sources import open_source
from stages.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Subset:
    """Some images of a source, not decoded.

    Attributes:
        source: contains the images.
        rows: split -> ascending rows, int64.
        labels: int64 (N,), over all splits in their order; positions in `names`.
        names: class names.
        checked: whether a class without an image is an error.
        choice: splits, and the part of a division.
        divided: which of `names` are divided; the others have all their images.
        request: what the user asked for.
    """

    source: Source
    rows: dict[str, np.ndarray]
    labels: np.ndarray
    names: tuple[str, ...]
    checked: bool
    choice: Choice
    divided: tuple[str, ...]
    request: ImageRequest

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def source_rows(self) -> SourceRows:
        """The rows of these images in their source."""
        starts = starts_of({split: self.source.image_count(split) for split in self.rows})
        index = np.concatenate([rows + starts[split] for split, rows in self.rows.items()])
        return SourceRows(index, starts, self.source.keys)

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

    def decode(self, positions: np.ndarray | None = None, **options: Any) -> Decoded:
        """See `stages.data.decoding.decode.decode_images`; `positions` as for `encoded`."""
        count = len(self) if positions is None else len(positions)
        name, encoded = self.source.name, self.encoded(positions)
        return decode_images(encoded, count, source=name, options=self.request.decoding, **options)

    def decode_each(
        self, positions: np.ndarray | None, then: Callable[[Picture], T], **options: Any
    ) -> Iterator[tuple[int, T]]:
        """See `stages.data.decoding.decode.decode_each`; `positions` as for `encoded`."""
        return decode_each(self.encoded(positions), then, source=self.source.name, options=self.request.decoding, **options)

    def kept(self, kept: np.ndarray, notes: tuple[str, ...] = (), *, resized: bool) -> tuple[np.ndarray, DataProvenance]:
        """The labels of those that could be decoded, and the provenance.

        Args:
            kept: int64 (n,), their positions.
            notes: on their pixels.
            resized: whether one had another size than that of the request.

        Raises InputError when a class has none left.
        """
        labels, skipped = self.labels[kept], len(self.labels) - len(kept)
        if skipped and self.checked:
            self.check_classes(labels, " after skipping corrupt images")
        provenance = DataProvenance(
            source=self.source.name,
            splits=self.choice.splits,
            divided=self.choice.divided if self.divided else "",
            divided_classes=self.divided,
            resize=self.request.resize if resized else None,
            white=self.request.white,
            skipped_corrupt=skipped,
            contents=self.source.contents(self.choice.splits),
            notes=(*self.source.notes, *self._division_notes(), *notes),
        )
        return np.ascontiguousarray(labels, dtype=np.int64), provenance

    def _division_notes(self) -> list[str]:
        """What a single split means for these images."""
        part, count, rest = self.choice.divided, len(self.divided), len(self.names) - len(self.divided)
        if self.choice.joined:
            return ["one split only: these are all its images"]
        if part and not count:
            return ["one split only: these are all images of the classes, none of which was trained on"]
        if part and rest:
            return [
                f"one split only: these images are the {part} part of its 90/10 division for the {count} classes that were "
                f"trained on, and all images of the other {rest}"
            ]
        return [f"one split only: these images are the {part} part of its 90/10 division by class"] if part else []

    def check_classes(self, labels: np.ndarray, after: str = "") -> None:
        """Raise InputError when a class has no image among `labels`."""
        counts = np.bincount(labels, minlength=len(self.names)).tolist()
        empty = {fold(name) for name, count in zip(self.names, counts, strict=True) if not count}
        elsewhere = [split for split in self.source.splits if split not in self.choice.splits and empty & self._names_in(split)]
        fix = f"read these too with --split {'+'.join([*self.choice.splits, *elsewhere])}" if elsewhere else ""
        check_no_class_empty(counts, self.names, source=self.source.name, part=self.choice.described + after, fix=fix)

    def _names_in(self, split: str) -> set[str]:
        """The folded names of the classes that have images in a split."""
        return {fold(self.source.classes[at]) for at in np.unique(self.source.labels(split))}

    def entry_group(self, kind: str, **facts: Any) -> str | None:
        """The group of cache entries made from such images, see `stages.data.decoding.cache`; None where nothing is decoded."""
        if self.source.decoded:
            return None
        options = {**asdict(self.request.decoding), "skip": self.request.skip_corrupt}
        return cache.entry_group(kind, images=len(self), **options, **facts)

    def entry_name(self, group: str | None) -> str | None:
        """The name of an entry of a group that is made from these images; None if there can be none."""
        return cache.find_name(group, lambda: content_digest(self.encoded()))


def select_images(
    request: ImageRequest,
    *,
    side: Side,
    classes: Sequence[str] | None,
    classes_from: str,
    divided: Sequence[str] | None = None,
) -> Subset:
    """The images that a request selects; arguments and errors are those of `load_images`. No image is decoded."""
    source = open_source(request, wanted=classes)
    split = source.splits[0] if source.whole and len(source.splits) == 1 else request.split
    choice = choose_splits(source.splits, split, side, source=source.name)
    names = source.classes if classes is None else tuple(classes)
    label_of = class_positions(source.classes, names, names_from=classes_from, source=source.name)
    selected: dict[str, np.ndarray] = {}
    labels = []
    for split in choice.splits:
        found = source.labels(split)
        rows = np.arange(len(found))
        if choice.divided:
            rows = part_of_division(found, source.classes, choice.divided, divided=divided)
        selected[split] = rows[label_of[found[rows]] >= 0]
        labels.append(label_of[found[selected[split]]])
    keys = {fold(name) for name in (names if divided is None else divided)} if choice.divided else ()
    own = tuple(name for name in names if fold(name) in keys)
    subset = Subset(source, selected, np.concatenate(labels), names, classes is not None, choice, own, request)
    if not len(subset):
        raise InputError(f"the data '{source.name}'{choice.described} has no images", "choose another --split")
    if subset.checked:
        subset.check_classes(subset.labels)
    return subset
