"""The labels of a table: from the cells of its label column to class names and positions among them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from stages.classes import is_blank, spelled
from stages.data.tables.columns import NUMBERS, kind_of, not_utf8
from stages.errors import InputError
from stages.text import counted

_EXACT = 2**53  # up to here every whole number is a float of its own


class Labels(NamedTuple):
    """The class names, the label of each row of each split (int64, -1: none), and what a reader should know."""

    classes: tuple[str, ...]
    labels: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()


def read_labels(cells: Mapping[str, Iterable[Any]], feature: Any, *, where: str) -> Labels:
    """Read a label column.

    The classes are those of a ClassLabel, or the values of a column of text, numbers or booleans over all splits: numbers in
    their order, all others sorted by name as `stages.classes.spelled`. Numbers must be whole; as in pandas, NaN is no label.

    Args:
        cells: split -> the column in pyarrow arrays.
        feature: of the column.
        where: names the column and its data in messages.

    Raises InputError for a label that a ClassLabel does not name, for a number that is not whole, and for text that is not
    UTF-8.
    """
    if hasattr(feature, "names"):
        return _of_class_label({split: _joined(map(_positions, parts)) for split, parts in cells.items()}, feature, where)
    found = {split: list(_each_named(parts, split, where)) for split, parts in cells.items()}
    distinct = {name for parts in found.values() for names, _ in parts for name in names if name is not None}
    numbers = kind_of(feature) in NUMBERS
    classes = tuple(sorted(distinct, key=int if numbers else None))
    number: dict[str | None, int] = {name: at for at, name in enumerate(classes)} | {None: -1}
    labels = {
        split: _joined(np.array([*(number[name] for name in names), -1], dtype=np.int64)[at] for names, at in parts)
        for split, parts in found.items()
    }
    how = "number" if numbers else "value" if kind_of(feature) == "bool" else ""
    return Labels(classes, labels, (f"classes are named by their {how}",) if how else ())


def _of_class_label(labels: dict[str, np.ndarray], feature: Any, where: str) -> Labels:
    highest = max((int(values.max()) for values in labels.values() if len(values)), default=-1)
    if highest >= len(feature.names):
        raise InputError(
            f"{where} has the label {highest}, but names only {counted(len(feature.names), 'class', 'classes')}",
            "write the data again with all its class names",
        )
    return Labels(tuple(map(spelled, feature.names)), labels)


def _each_named(parts: Iterable[Any], split: str, where: str) -> Iterator[tuple[list[str | None], np.ndarray]]:
    """Of each array the names of its distinct values, None for no label, and the position of each cell among them, -1: none."""
    import pyarrow as pa

    start = 0
    for part in parts:
        plain = part.cast(pa.float32()) if pa.types.is_float16(part.type) else part  # pyarrow has no dictionaries of float16
        encoded = plain if pa.types.is_dictionary(plain.type) else plain.dictionary_encode()
        positions = _positions(encoded.indices)
        names: list[str | None] = []
        for at, value in enumerate(encoded.dictionary):
            try:
                names.append(_name(value.as_py(), where))
            except UnicodeDecodeError as error:
                row = start + int(np.argmax(positions == at))
                raise not_utf8(f"{where} in row {row} of split '{split}'", error) from None
        yield names, positions
        start += len(part)


def _name(value: Any, where: str) -> str | None:
    """The class name of a value; None for null, NaN and text of which nothing shows."""
    if isinstance(value, str | bool | int | None):
        return None if value is None or is_blank(str(value)) else spelled(str(value))
    if math.isnan(value):
        return None
    if not abs(value) <= _EXACT or value != int(value):
        raise InputError(
            f"{where} has the value {value}, which is no whole number",
            "write labels as text or whole numbers, or choose another column with --label-column",
        )
    return str(int(value))


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def _positions(array: Any) -> np.ndarray:
    """int64 values of an array of integers; -1 for null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole = pc.fill_null((array.dictionary_decode() if pa.types.is_dictionary(array.type) else array).cast(pa.int64()), -1)
    return np.array(whole.to_numpy(zero_copy_only=False), dtype=np.int64)  # a copy of mapped memory
