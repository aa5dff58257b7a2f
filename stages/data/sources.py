"""From what the user typed as DATA to images in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Protocol

import numpy as np

from stages.classes import check_unique, match_classes
from stages.data.decode import Decoded, Encoded, decode_images
from stages.data.image_set import DataProvenance, ImageSet, check_no_class_empty
from stages.data.locate import locate, parquet_splits
from stages.data.splits import Choice, Side, choose_splits, part_of_division
from stages.errors import InputError, UsageError


class Source(Protocol):
    """Data whose labels can be read without decoding an image."""

    name: str
    splits: tuple[str, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]

    def labels(self, split: str) -> np.ndarray:
        """Labels of a split, int64 (N,), positions in `classes`."""

    def encoded(self, split: str, rows: np.ndarray) -> Iterator[Encoded]:
        """The images at ascending `rows` of a split, not decoded."""


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
    source = _open(data, image_column=image_column, label_column=label_column, wanted=classes)
    choice = choose_splits(source.splits, split, side, source=source.name)
    names = tuple(source.classes if classes is None else classes)
    positions = _positions(source, classes, classes_from)
    rows: dict[str, np.ndarray] = {}
    labels: list[np.ndarray] = []
    for name in choice.splits:
        rows[name], own = _rows_of(source, name, choice, positions)
        labels.append(own)
    part = _described(choice)
    label = np.concatenate(labels)
    if not len(label):
        raise InputError(f"the data '{source.name}'{part} holds no images", "choose another --split")
    if classes is not None:
        check_no_class_empty(np.bincount(label, minlength=len(names)).tolist(), names, source=source.name, part=part)
    decoded = decode_images(
        chain.from_iterable(source.encoded(name, own) for name, own in rows.items()),
        len(label),
        source=source.name,
        resize=resize,
        skip_corrupt=skip_corrupt,
    )
    label = label[decoded.kept]
    if decoded.skipped and classes is not None:
        part += " after skipping corrupt images"
        check_no_class_empty(np.bincount(label, minlength=len(names)).tolist(), names, source=source.name, part=part)
    provenance = DataProvenance(
        source=source.name,
        splits=choice.splits,
        divided=choice.divided,
        resize=resize,
        skipped_corrupt=decoded.skipped,
        notes=(*source.notes, *_division_note(choice)),
    )
    return _image_set(decoded, label, names, provenance)


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
    from stages.data.tables import ParquetTable, Table, TableSource, saved_tables

    tables: dict[str, Table]
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


def _image_set(decoded: Decoded, label: np.ndarray, names: tuple[str, ...], provenance: DataProvenance) -> ImageSet:
    import torch

    return ImageSet(
        images=torch.from_numpy(decoded.pixels),
        labels=torch.from_numpy(np.ascontiguousarray(label, dtype=np.int64)),
        classes=names,
        provenance=provenance,
    )
