"""The rows of a report as a parquet file: one row per point and attack, with names of images, classes and attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from stages.data.source_rows import SourceRows
from stages.errors import InputError
from stages.reports.parquet import AGAIN, read_table, table_bytes
from stages.reports.rows import Judgement, PointRows

KIND = "laat-rows"
ENDING = ".rows.parquet"
# the attack in the rows of an evaluation without attacks
NO_ATTACK = "none"
_KEYS = ("model", "group", "protocol", "attack")
_CLASSES = ("true_class", "clean_prediction", "attacked_prediction")
_FLOATS = ("clean_margin", "attacked_margin", "norm")
# NaN unless seen and novel classes were candidates together
_LIMITS = ("clean_limit", "attacked_limit")
# not in files of the oldest schema version, whose `image` is a position in the evaluated images
_IN_SOURCE = ("split", "row", "key")
_BOUNDS = {
    "episode": (-1.0, np.inf),
    **dict.fromkeys(("image", "row"), (0.0, np.inf)),
    **dict.fromkeys(("clean_margin", "attacked_margin"), (-np.inf, np.inf)),
    "norm": (0.0, np.finfo(np.float32).max),
}


@dataclass(frozen=True, eq=False)
class RowPart:
    """The rows of one model, group and protocol.

    Attributes:
        model, group, protocol: names in the report.
        classes: class names, indexed by labels and predictions.
        rows: the points.
        images: the images that `rows` refers to in their source, None if unknown: their positions.
    """

    model: str
    group: str
    protocol: str
    classes: Sequence[str]
    rows: PointRows
    images: SourceRows | None = None

    def source_rows(self) -> SourceRows:
        """`images`, or their positions."""
        used = 1 + max(int(self.rows.image.max(initial=-1)), int(self.rows.support.max(initial=-1)))
        return self.images or SourceRows.counted(used)

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies a part."""
        return self.model, self.group, self.protocol


def default_rows_path(report: Path) -> Path:
    """Where the rows of a report go: report.rows.parquet beside report.json."""
    return report.parent / f"{report.stem}{ENDING}"


def row_schema() -> Any:
    """The columns: names are dictionaries; episode, image and row int32; margins, norm and limits float32.

    `row` is the image's row in its split before anything was left out, `image` the same counted on over several splits, and
    `key` its path or another name (see `SourceRows`).
    """
    import pyarrow as pa

    name = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            *((key, name) for key in _KEYS),
            ("episode", pa.int32()),
            ("image", pa.int32()),
            ("split", name),
            ("row", pa.int32()),
            ("key", name),
            *((key, name) for key in _CLASSES),
            *((key, pa.float32()) for key in (*_FLOATS, *_LIMITS)),
        ]
    )


def rows_bytes(parts: Sequence[RowPart], record: Mapping[str, Any]) -> bytes:
    """The parquet file of `parts`; `record` (JSON-able) goes into its metadata. The same rows give the same bytes."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for part in parts for name in part.classes))
    tables = [table for part in parts for table in _tables(part, names)]
    return table_bytes(pa.concat_tables(tables).unify_dictionaries(), KIND, record)


def _tables(part: RowPart, names: Sequence[str]) -> list[Any]:
    """One table per attack."""
    import pyarrow as pa

    rows, images = part.rows, part.source_rows()
    position = {name: at for at, name in enumerate(names)}
    where = np.array([position[name] for name in part.classes], dtype=np.int32)

    def constant(name: str) -> Any:
        return pa.DictionaryArray.from_arrays(np.zeros(len(rows), np.int32), [name])

    def classes(codes: np.ndarray) -> Any:
        return pa.DictionaryArray.from_arrays(where[codes], pa.array(names, pa.string()))

    in_source = (
        pa.array(images.index[rows.image].astype(np.int32)),
        pa.DictionaryArray.from_arrays(images.split_of()[rows.image], pa.array(images.splits, pa.string())),
        pa.array(images.rows()[rows.image]),
        pa.DictionaryArray.from_arrays(rows.image, pa.array(images.names(), pa.string())),
    )
    tables = []
    none = np.full(len(rows), np.nan, np.float32)
    for attack, found in (rows.attacks or {NO_ATTACK: rows.clean}).items():
        columns = [
            *(constant(name) for name in (*part.key, attack)),
            pa.array(rows.episode),
            *in_source,
            *(classes(codes) for codes in (rows.label, rows.clean.predicted, found.predicted)),
            *(pa.array(column) for column in (rows.clean.margin, found.margin, found.norm)),
            *(pa.array(none if one.limit is None else one.limit) for one in (rows.clean, found)),
        ]
        tables.append(pa.Table.from_arrays(columns, schema=row_schema()))
    return tables


def read_rows(path: Path | str, sha256: str | None = None) -> tuple[list[RowPart], dict[str, Any]]:
    """Read what `rows_bytes` wrote, with its record. The classes of all parts are the same list of names.

    Args:
        path: of the file.
        sha256: of its bytes, if it is known.

    Raises InputError (see `parquet.read_table`), also when the rows of two attacks are not of the same points.
    """
    from stages.reports.records import check_record  # pydantic is slow to import, and `laat --help` imports this module

    table, record = read_table(path, row_schema(), KIND, sha256, newer=_IN_SOURCE)
    where = f"'{path}'"
    check_record(record, where)
    _check_numbers(table, where)
    keys = [_names(table, key) for key in _KEYS]
    codes = np.stack([codes for codes, _ in keys])
    change = np.flatnonzero((codes[:, 1:] != codes[:, :-1]).any(0)) + 1
    bounds = [0, *change.tolist(), len(table)] if len(table) else [0]
    classes = list(dict.fromkeys(name for key in _CLASSES for name in _names(table, key)[1]))
    columns = {key: table[key].to_numpy() for key in ("episode", "image", *_FLOATS, *_LIMITS)} | {
        key: _recoded(table, key, classes) for key in _CLASSES
    }
    names: dict[str, list[str]] = {}
    if "key" in table.schema.names:
        columns["row"] = table["row"].to_numpy()
        for key in ("split", "key"):
            columns[key], names[key] = _names(table, key)
    found: dict[tuple[str, str, str], dict[str, dict[str, np.ndarray]]] = {}
    for start, end in pairwise(bounds):
        model, group, protocol, attack = (values[codes[start]] for codes, values in keys)
        attacks = found.setdefault((model, group, protocol), {})
        if attack in attacks:
            raise InputError(f"{where} has rows of {model}, {group}, {attack} in two places", AGAIN)
        attacks[attack] = {key: column[start:end] for key, column in columns.items()}
    try:
        return [_part(key, classes, _points(attacks), attacks, names) for key, attacks in found.items()], record
    except ValueError as error:
        raise InputError(f"{where} is inconsistent: {error}", AGAIN) from None


def _check_numbers(table: Any, where: str) -> None:
    """Raise InputError for a number that no evaluation gives. Limits can be any: NaN is none."""
    for name, (lowest, highest) in _BOUNDS.items():
        if name in table.schema.names:
            values = table[name].to_numpy()
            wrong = ~((values >= lowest) & (values <= highest))
            if wrong.any():
                at = int(np.argmax(wrong))
                raise InputError(f"{where} has the {name} {values[at]} in row {at}", AGAIN)


def _part(
    key: tuple[str, str, str],
    classes: Sequence[str],
    rows: PointRows,
    attacks: Mapping[str, Mapping[str, np.ndarray]],
    names: Mapping[str, Sequence[str]],
) -> RowPart:
    """A part, with its images where the file names them by the `names` of the columns 'split' and 'key'."""
    if not names:
        return RowPart(*key, classes, rows)
    columns = next(iter(attacks.values()))
    index, first, image = np.unique(rows.image, return_index=True, return_inverse=True)
    split_of, row, named = (columns[name][first].tolist() for name in _IN_SOURCE)
    if any((columns[name][first][image] != columns[name]).any() for name in _IN_SOURCE):
        raise ValueError("an image has two places in its source")
    starts = {names["split"][split]: start for split, start in zip(split_of, (index - row).tolist(), strict=True)}
    if [starts[names["split"][split]] for split in split_of] != (index - row).tolist():
        raise ValueError("the rows of a split do not follow each other")
    images = SourceRows.named(index.astype(np.int64), starts, [names["key"][code] for code in named])
    return RowPart(*key, classes, replace(rows, image=image.astype(np.int32)), images)


def _names(table: Any, key: str) -> tuple[np.ndarray, list[str]]:
    """A dictionary column as codes (P,) and the names that they index."""
    column = table[key].unify_dictionaries().combine_chunks()
    return column.indices.to_numpy(), column.dictionary.to_pylist()


def _recoded(table: Any, key: str, classes: Sequence[str]) -> np.ndarray:
    """A column of class names as int32 indices into `classes`."""
    codes, names = _names(table, key)
    position = {name: at for at, name in enumerate(classes)}
    return np.array([position[name] for name in names], dtype=np.int32)[codes]


def _points(attacks: Mapping[str, Mapping[str, np.ndarray]]) -> PointRows:
    first = next(iter(attacks.values()))
    shared = {"episode", "image", *_IN_SOURCE, "true_class", "clean_prediction", "clean_margin"} & set(first)
    for name, other in attacks.items():
        if not all(np.array_equal(first[key], other[key]) for key in shared):
            raise ValueError(f"the attack {name} has other points than the first one")
    numbers, counts = np.unique(first["episode"], return_counts=True)
    in_order = np.array_equal(first["episode"], np.repeat(numbers, counts))
    if numbers.tolist() not in ([-1], list(range(len(numbers)))) or not in_order or len(set(counts.tolist())) > 1:
        raise ValueError("the episodes do not count from 0 with as many points in each")
    none = np.zeros(len(first["image"]), np.float32)
    clean = Judgement(first["clean_prediction"], first["clean_margin"], none, _limits(first["clean_limit"]))
    after = {
        name: Judgement(part["attacked_prediction"], part["attacked_margin"], part["norm"], _limits(part["attacked_limit"]))
        for name, part in attacks.items()
        if name != NO_ATTACK
    }
    return PointRows(first["image"], first["true_class"], first["episode"], clean, after)


def _limits(column: np.ndarray) -> np.ndarray | None:
    """The limits of a part's points, None if it has none."""
    return None if np.isnan(column).all() else column
