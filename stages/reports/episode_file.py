"""The episodes of a report as a parquet file, to be replayed: classes by name, images by index and key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.errors import InputError, note_unverified
from stages.reports.parquet import AGAIN, OLDEST_VERSION, read_table, table_bytes
from stages.reports.row_file import ENDING, RowPart

KIND = "laat-episodes"
_KEYS = ("support_keys", "query_keys")


@dataclass(frozen=True, eq=False)
class SavedEpisodes:
    """The episodes of one group and protocol.

    Attributes:
        group, protocol: names in the report.
        classes: the N class names of each of the E episodes, in order.
        support: the K support images of each class; int32 (E, N, K).
        query: the Q query images of each class; int32 (E, N, Q).

    Images are numbered as in `SourceRows.index`; in a file of the oldest schema version by their position in the evaluated
    images.
    """

    group: str
    protocol: str
    classes: list[list[str]]
    support: np.ndarray
    query: np.ndarray


def episodes_path(rows: Path) -> Path:
    """Where the episodes go: report.episodes.parquet beside report.rows.parquet."""
    stem = rows.name.removesuffix(ENDING) if rows.name.endswith(ENDING) else rows.stem
    return rows.parent / f"{stem}.episodes.parquet"


def episode_schema() -> Any:
    """One row per episode: group, protocol, its number, N class names, N lists of support and of query images, and their
    keys (see `SourceRows`)."""
    import pyarrow as pa

    name, index, keys = (
        pa.dictionary(pa.int32(), pa.string()),
        *(pa.list_(pa.list_(kind)) for kind in (pa.int32(), pa.string())),
    )
    return pa.schema(
        [
            ("group", name),
            ("protocol", name),
            ("episode", pa.int32()),
            ("classes", pa.list_(pa.string())),
            ("support", index),
            ("query", index),
            *((column, keys) for column in _KEYS),
        ]
    )


def episodes_bytes(parts: Sequence[RowPart], record: Mapping[str, Any]) -> bytes | None:
    """The parquet file of the episodes of `parts`, None without episodes. All models share them: each is written once."""
    import pyarrow as pa

    tables = []
    for part in {(part.group, part.protocol): part for part in parts if part.rows.episodes}.values():
        rows, count = part.rows, part.rows.episodes
        ways = rows.heads.shape[1]
        images = part.source_rows()
        sides = (rows.support, rows.image.reshape(count, ways, -1))
        names = np.array(images.names(), dtype=object)
        columns = [
            pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [part.group]),
            pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [part.protocol]),
            np.arange(count, dtype=np.int32),
            [[part.classes[at] for at in head] for head in rows.heads.tolist()],
            *(images.index[side].tolist() for side in sides),
            *(names[side].tolist() for side in sides),
        ]
        schema = episode_schema()
        arrays = [pa.array(column, field.type) for column, field in zip(columns[2:], list(schema)[2:], strict=True)]
        tables.append(pa.Table.from_arrays([*columns[:2], *arrays], schema=schema))
    return with_digest(pa.concat_tables(tables).unify_dictionaries(), record) if tables else None


def with_digest(table: Any, record: Mapping[str, Any]) -> bytes:
    """The parquet file of a table of episodes and its record, with a digest of both."""
    return table_bytes(table, KIND, {**record, "digest": _digest(table, record)})


def _digest(table: Any, record: Mapping[str, Any]) -> str:
    from stages.files.records import json_digest  # pydantic is slow to import, and `laat --help` imports this module

    given = {key: value for key, value in record.items() if key not in ("digest", "kind", "schema_version")}
    return json_digest(json.dumps({"episodes": table.to_pylist(), "record": given}))


def read_episodes(path: Path | str, sha256: str | None = None) -> tuple[list[SavedEpisodes], dict[str, Any]]:
    """Read what `episodes_bytes` wrote, with its record.

    Raises InputError (see `parquet.read_table`), also where the file was changed since it was written, or the episodes of one
    group and protocol are not all of one size. Warns with `UnverifiedWarning` about an older file, which has no digest.
    """
    from stages.reports.records import check_record

    table, record = read_table(path, episode_schema(), KIND, sha256, newer=_KEYS)
    check_record(record, f"'{path}'")
    if "digest" not in record and record["schema_version"] == OLDEST_VERSION:
        note_unverified(f"'{path}'")
    elif record.get("digest") != _digest(table, record):
        raise InputError(f"'{path}' was damaged or edited after it was written: its digest differs", AGAIN)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        found.setdefault((row["group"], row["protocol"]), []).append(row)
    try:
        return [_episodes(*key, rows) for key, rows in found.items()], record
    except (ValueError, TypeError):  # TypeError: an empty cell
        raise InputError(f"'{path}' has episodes of different sizes under one name", AGAIN) from None


def _episodes(group: str, protocol: str, rows: Sequence[Mapping[str, Any]]) -> SavedEpisodes:
    support, query = (np.array([row[key] for row in rows], dtype=np.int32) for key in ("support", "query"))
    classes = np.array([row["classes"] for row in rows], dtype=object)
    named = classes.ndim == 2 and all(isinstance(name, str) for name in classes.flat)
    if not named or not classes.shape == support.shape[:2] == query.shape[:2] or not support.ndim == query.ndim == 3:
        raise ValueError("classes, support and query do not fit together")
    return SavedEpisodes(group, protocol, classes.tolist(), support, query)
