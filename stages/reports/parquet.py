"""Parquet files beside a report: deterministic bytes, strict reading. pyarrow is imported when a file is read or written."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.errors import InputError
from stages.files.reading import read_file
from stages.files.strict_json import parse_json_object
from stages.version import __version__

# of report.json, its rows and its episodes together
SCHEMA_VERSION = 4
OLDEST_VERSION = 2  # that is still read
AGAIN = "evaluate again with `laat eval`"
_KEY = b"laat"
# what every file may have; beyond that, at most one row and 100 unpacked bytes for each byte of the file
_ROWS_ALLOWED, _BYTES_ALLOWED = 10**6, 256 * 2**20


def table_bytes(table: Any, kind: str, record: Mapping[str, Any]) -> bytes:
    """A pyarrow table as the bytes of a parquet file, with `record` (JSON-able), kind and schema version in its schema."""
    import pyarrow.parquet as pq

    text = json.dumps({**record, "kind": kind, "schema_version": SCHEMA_VERSION}, sort_keys=True, ensure_ascii=False)
    stream = io.BytesIO()
    labelled = table.replace_schema_metadata({_KEY: text.encode()})
    pq.write_table(labelled, stream, compression="zstd", write_page_checksum=True)
    return stream.getvalue()


def read_table(
    path: Path | str, schema: Any, kind: str, sha256: str | None = None, *, newer: Sequence[str] = ()
) -> tuple[Any, dict[str, Any]]:
    """Read what `table_bytes` wrote.

    Args:
        path: of the file.
        schema: the pyarrow schema that it must have; metadata aside.
        kind: that it must be.
        sha256: of its bytes, if known.
        newer: columns of the schema that files of the oldest schema version lack.

    Returns:
        The table and the record.

    Raises:
        InputError: missing, truncated, damaged, another digest than `sha256`, another kind, schema version or schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    data, where = read_file(path), f"'{path}'"
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise InputError(f"{where} is not the file written with the report: its SHA-256 differs", AGAIN)
    try:
        # no threads of Arrow, no Python file: a thread that outlives the interpreter aborts the process (apache/arrow 33975)
        source = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True, pre_buffer=False)
        _check_size(source.metadata, len(data))
        table = source.read(use_threads=False)
        if table.nbytes > max(_BYTES_ALLOWED, 100 * len(data)):  # lists of equal values take no space in the file
            raise ValueError(f"{table.nbytes:,} bytes of values, in a file of {len(data):,} bytes")
        table.validate(full=True)  # text in UTF-8, positions inside dictionaries
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is not UTF-8
        reason = (str(error).strip().splitlines() or ["not parquet"])[0]
        raise InputError(f"{where} is cut short, damaged or no parquet file: {reason}", AGAIN) from None
    record = _record(table.schema.metadata, where, kind)
    if record["schema_version"] == OLDEST_VERSION:
        schema = pa.schema([field for field in schema if field.name not in newer])
    if not table.schema.equals(schema, check_metadata=False):
        raise InputError(f"{where} has other columns than a {kind} file of schema version {record['schema_version']}", AGAIN)
    if any(column.null_count for column in table.columns):
        raise InputError(f"{where} has empty cells", AGAIN)
    return table, record


def _check_size(about: Any, size: int) -> None:
    """Raise ValueError for a file of `size` bytes that would fill the memory: equal rows take no space.

    The metadata of a column is never asked for: where it is damaged, pyarrow aborts the process.
    """
    unpacked = sum(about.row_group(at).total_byte_size for at in range(about.num_row_groups))
    if about.num_rows > max(_ROWS_ALLOWED, size) or unpacked > max(_BYTES_ALLOWED, 100 * size):
        raise ValueError(f"{about.num_rows:,} rows and {unpacked:,} bytes, in a file of {size:,} bytes")


def evaluation_of(path: Path) -> str | None:
    """The digest of the identity of the evaluation that wrote a file, from its metadata; None if it has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(pa.BufferReader(read_file(path)))
        found = parse_json_object((schema.metadata or {})[_KEY])["evaluation"]
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None
    return found if isinstance(found, str) else None


def _record(metadata: Mapping[bytes, bytes] | None, where: str, kind: str) -> dict[str, Any]:
    try:
        record = parse_json_object((metadata or {})[_KEY])
        found, version = record["kind"], record["schema_version"]
    except KeyError:
        raise InputError(f"{where} is a parquet file, but not written by laat: it has no laat record", AGAIN) from None
    except ValueError as error:
        raise InputError(f"{where} has a damaged laat record: {error}", AGAIN) from None
    if found != kind:
        raise InputError(f"{where} is a {found} file, expected {kind}", f"give the {kind} file of the report")
    check_version(version, where)
    return record


def check_version(version: Any, where: str) -> None:
    """Raise InputError unless this laat reads the schema version; `where` names the file in errors."""
    if type(version) is int and OLDEST_VERSION <= version <= SCHEMA_VERSION:
        return
    newer = type(version) is int and version > SCHEMA_VERSION
    raise InputError(
        f"{where} has schema version {version}, this laat ({__version__}) reads {OLDEST_VERSION} to {SCHEMA_VERSION}",
        "upgrade laat: pip install -U laat" if newer else AGAIN,
    )
