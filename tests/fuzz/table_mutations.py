"""Mutations of parquet files: the record in their metadata, their cells, rows and columns; digests are made anew."""

from __future__ import annotations

import contextlib
import io
import json
import random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stages.reports import episode_file
from tests.fuzz.file_mutations import NUMBERS
from tests.fuzz.json_mutations import mutated_bytes, mutated_json


def _table(data: bytes) -> Any:
    return pq.read_table(pa.BufferReader(data))


def _as_parquet(table: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", write_page_checksum=True)
    return stream.getvalue()


def parquet_record(data: bytes, draw: random.Random) -> bytes:
    """Mutate the record in the metadata of rows or episodes."""
    table = _table(data)
    record = json.loads(table.schema.metadata[b"laat"])
    text = mutated_json(record, draw, often=2)
    if "digest" in record:
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            text = text.replace(record["digest"], episode_file._digest(table, json.loads(text)))
    return _as_parquet(table.replace_schema_metadata({b"laat": text.encode("utf-8", "surrogatepass")}))


def parquet_cells(data: bytes, draw: random.Random) -> bytes:
    """Mutate cells, rows or columns of a table."""
    table = _table(data)
    for _ in range(draw.choice((1, 1, 2))):
        table = _mutate_table(table, draw)
    metadata = table.schema.metadata or {}
    if b"laat" in metadata and b'"digest"' in metadata[b"laat"]:
        record = json.loads(metadata[b"laat"])
        with contextlib.suppress(ValueError):
            text = json.dumps({**record, "digest": episode_file._digest(table, record)})
            table = table.replace_schema_metadata({b"laat": text.encode()})
    return _as_parquet(table)


def _mutate_table(table: Any, draw: random.Random) -> Any:
    how, name = draw.randrange(9), draw.choice(table.column_names)
    at, field = table.column_names.index(name), table.schema.field(name)
    rows = list(range(len(table)))
    if how == 0:
        return table.drop_columns([name]) if table.num_columns > 1 else table
    if how == 1:
        draw.shuffle(rows)
        return table.take(pa.array(rows, pa.int64()))
    if how == 2:
        return table.take(pa.array(draw.sample(rows, draw.randrange(len(rows) + 1)), pa.int64()))
    if how == 3:
        return pa.concat_tables([table, table.slice(draw.randrange(len(rows) + 1))])
    values = table[name].to_pylist()
    with contextlib.suppress(pa.ArrowException, ValueError, TypeError, OverflowError):
        if how == 4:
            kind = draw.choice((pa.int64(), pa.float32(), pa.string(), pa.bool_(), pa.large_string(), pa.binary()))
            return table.set_column(at, name, table[name].cast(kind))
        for _ in range(draw.choice((1, 2, len(values)))):
            if values:
                values[draw.randrange(len(values))] = _cell(values, draw, 0)
        return table.set_column(
            at,
            field,
            pa.array(values, field.type)
            if not pa.types.is_dictionary(field.type)
            else pa.array(values).dictionary_encode().cast(field.type),
        )
    return table


def _cell(values: list[Any], draw: random.Random, depth: int) -> Any:
    """Another cell of the type of the others."""
    one = draw.choice(values)
    if isinstance(one, list) and depth < 3 and draw.random() < 0.9:
        new = list(one)
        how = draw.randrange(3)
        if new and how == 0:
            new[draw.randrange(len(new))] = _cell(new, draw, depth + 1)
        elif how == 1:
            new = new[1:]
        else:
            new += new[:1]
        return new
    if isinstance(one, bytes):
        return mutated_bytes(one, draw)
    if isinstance(one, str):
        return draw.choice(("", "\0", "a", one * 2, "none", "clean", "worst", "é" * 300, None))
    if isinstance(one, float):
        return draw.choice((*map(float, NUMBERS), one + 0.1, None))
    if isinstance(one, int):
        return draw.choice((-1, 0, one + 1, one - 1, 2**31 - 1, -(2**31), 10**6, None))
    return draw.choice((None, one))
