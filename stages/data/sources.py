"""From what the user typed as DATA to images in memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stages.classes import check_unique, match_classes
from stages.data import cache
from stages.data.cache import digest_of, entry_name
from stages.data.decode import Decoded, Encoded, check_resize, decode_images
from stages.data.image_set import DataProvenance, ImageSet, check_no_class_empty
from stages.data.locate import locate, parquet_splits
from stages.data.splits import Choice, Side, choose_splits, part_of_division
from stages.errors import InputError, UsageError


class Source(Protocol):
    """Data whose labels can be read without decoding an image.

    Attributes:
        name: base name, hub id or bundled name.
        splits: split names.
        classes: class names.
        notes: what a reader of the result should know.
        elsewhere: whether an image was met in a file that `known_by` does not name.
    """

    name: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    elsewhere: bool

    @property
    def any_order(self) -> bool:
        """Whether `encoded` takes rows in any order, at a like speed."""

    def labels(self, split: str) -> np.ndarray:
        """Labels of a split, int64 (N,), positions in `classes`."""

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """The images at `rows` of a split, ascending unless `any_order`, not decoded."""

    def known_by(self, split: str, rows: np.ndarray) -> tuple[list[Path], str] | None:
        """The files that hold the images at `rows`, and where in them; None when they lie in no file."""


@dataclass(frozen=True)
class Selected:
    """Which images of a source were asked for, none decoded yet.

    Attributes:
        source: where they are.
        rows: split -> ascending rows, int64.
        labels: int64 (N,), over all splits in their order; positions in `names`.
        names: class names.
        checked: whether a class without an image is an error.
        choice: splits, and the part of a division.
        resize: side in pixels, or None.
        skip_corrupt: leave out and count images that cannot be decoded.
    """

    source: Source
    rows: dict[str, np.ndarray]
    labels: np.ndarray
    names: tuple[str, ...]
    checked: bool
    choice: Choice
    resize: int | None
    skip_corrupt: bool

    def encoded(self) -> Iterator[Encoded]:
        """The images in their order, not decoded."""
        return chain.from_iterable(self.source.encoded(split, rows) for split, rows in self.rows.items())

    def kept(self, kept: np.ndarray) -> tuple[np.ndarray, DataProvenance]:
        """The labels of those that could be decoded, and the provenance. Raises InputError when a class has none left."""
        labels, skipped = self.labels[kept], len(self.labels) - len(kept)
        if skipped and self.checked:
            self.check_classes(labels, " after skipping corrupt images")
        provenance = DataProvenance(
            source=self.source.name,
            splits=self.choice.splits,
            divided=self.choice.divided,
            resize=self.resize,
            skipped_corrupt=skipped,
            notes=(*self.source.notes, *_division_note(self.choice)),
        )
        return np.ascontiguousarray(labels, dtype=np.int64), provenance

    def check_classes(self, labels: np.ndarray, after: str = "") -> None:
        """Raise InputError when a class has no image among `labels`."""
        counts = np.bincount(labels, minlength=len(self.names)).tolist()
        check_no_class_empty(counts, self.names, source=self.source.name, part=_described(self.choice) + after)

    def entry_name(self, kind: str, **facts: Any) -> str | None:
        """The name by which something made of these images is kept, see `stages.data.cache`."""
        files: list[Path] = []
        inside: list[str] = []
        for split, rows in self.rows.items():
            known = self.source.known_by(split, rows)
            if known is None:
                return None
            files += known[0]
            inside.append(f"{known[1]} of {split}: {digest_of(rows)}")
        return entry_name(kind, files, inside=inside, resize=self.resize, skip=self.skip_corrupt, **facts)


def load_images(
    data: str,
    *,
    split: str | None = None,
    side: Side,
    classes: Sequence[str] | None = None,
    classes_from: str = "the anchors",
    resize: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    skip_corrupt: bool = False,
) -> ImageSet:
    """Read images into memory.

    Args:
        data: a folder of class folders (split into train/ and test/ or not), a parquet file or folder, a saved dataset,
            a hub id, or 'shapes'.
        split: 'train', 'test', 'train+test' …; None takes the one of `side` (test: validation where there is no test).
            A source with a single split is then divided 90/10 by class (`stages.data.splits.part_of_division`).
        side: 'train' or 'test'.
        classes: only these classes are decoded; labels are positions in this list. None takes all classes of the data.
        classes_from: what `classes` are, for messages.
        resize: shorter side to this many pixels, then the centre square; None takes the images as they are.
        image_column, label_column: columns of a table; None finds them by type.
        skip_corrupt: leave out and count images that cannot be decoded.

    Raises UsageError, InputError (images that cannot be decoded, of different sizes, classes without an image or not in
    the data) and MissingError (the hub cannot be reached).
    """
    return loaded(
        select_images(
            data,
            split=split,
            side=side,
            classes=classes,
            classes_from=classes_from,
            resize=resize,
            image_column=image_column,
            label_column=label_column,
            skip_corrupt=skip_corrupt,
        )
    )


def select_images(
    data: str,
    *,
    split: str | None,
    side: Side,
    classes: Sequence[str] | None,
    classes_from: str,
    resize: int | None,
    image_column: str | None,
    label_column: str | None,
    skip_corrupt: bool,
) -> Selected:
    """Which images are asked for; the arguments and the errors are those of `load_images`. No image is decoded."""
    check_resize(resize)
    source = _open(data, image_column=image_column, label_column=label_column, wanted=classes)
    choice = choose_splits(source.splits, split, side, source=source.name)
    positions = _positions(source, classes, classes_from)
    found = {name: _rows_of(source, name, choice, positions) for name in choice.splits}
    selected = Selected(
        source,
        {name: rows for name, (rows, _) in found.items()},
        np.concatenate([labels for _, labels in found.values()]),
        tuple(source.classes if classes is None else classes),
        classes is not None,
        choice,
        resize,
        skip_corrupt,
    )
    if not len(selected.labels):
        raise InputError(f"the data '{source.name}'{_described(choice)} holds no images", "choose another --split")
    if selected.checked:
        selected.check_classes(selected.labels)
    return selected


def loaded(selected: Selected) -> ImageSet:
    """The images in memory, decoded now or by an earlier run. Raises as `load_images` does."""
    import torch

    name = selected.entry_name("pixels")
    decoded = _fetch_decoded(name, len(selected.labels))
    if decoded is None:
        start = time.monotonic()
        decoded = decode_images(
            selected.encoded(),
            len(selected.labels),
            source=selected.source.name,
            resize=selected.resize,
            skip_corrupt=selected.skip_corrupt,
        )
        worth = time.monotonic() - start >= cache.WORTH_SECONDS and decoded.pixels.nbytes <= cache.PIXEL_BYTES
        if worth and not selected.source.elsewhere:
            cache.keep_tensors(name, {"pixels": decoded.pixels, "kept": decoded.kept})
    labels, provenance = selected.kept(decoded.kept)
    return ImageSet(torch.from_numpy(decoded.pixels), torch.from_numpy(labels), selected.names, provenance)


def _fetch_decoded(name: str | None, count: int) -> Decoded | None:
    tensors = cache.fetch_tensors(name)
    if tensors is None or set(tensors) != {"pixels", "kept"}:
        return None
    return Decoded(tensors["pixels"], tensors["kept"], count - len(tensors["kept"]))


def class_names(data: str, *, label_column: str | None = None) -> list[str]:
    """The class names of the data, in its own order; no image is decoded. Raises as `load_images` does."""
    return list(_open(data, image_column=None, label_column=label_column, wanted=None).classes)


def _open(data: str, *, image_column: str | None, label_column: str | None, wanted: Sequence[str] | None) -> Source:
    place = locate(data)
    if place.kind in ("shapes", "folders") and (image_column or label_column):
        raise UsageError(f"the data '{place.name}' has no columns", "leave --image-column and --label-column to tables")
    if place.kind == "shapes":
        from stages.data.bundled import ShapesSource

        return ShapesSource()
    if place.kind == "folders":
        from stages.data.folders import FolderSource

        return FolderSource(place.here, place.name)
    from stages.data.library import saved_tables
    from stages.data.table_source import ParquetTable, Table, TableSource

    tables: Mapping[str, Table]
    if place.kind == "parquet":
        tables = {split: ParquetTable(files) for split, files in parquet_splits(place.here).items()}
    elif place.kind == "saved":
        tables = saved_tables(place.here, place.name)
    else:
        from stages.data.hub import hub_tables

        tables = hub_tables(place.name)
    return TableSource(place.name, tables, image=image_column, label=label_column, wanted=wanted)


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
