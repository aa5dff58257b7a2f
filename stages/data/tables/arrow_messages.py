"""Whether an Arrow stream is compressed, seen without unpacking it; pyarrow does not tell."""

from __future__ import annotations

import struct
from pathlib import Path

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3  # values of MessageHeader in Arrow's Message.fbs
_HEADER_TYPE, _HEADER = 1, 2  # fields of Message
_DATA = 1  # field of DictionaryBatch: a RecordBatch
_COMPRESSION = 3  # field of RecordBatch


def is_compressed(file: Path) -> bool:
    """Whether a file is an Arrow stream with compressed record batches.

    Reading a mapped stream takes no memory unless it is compressed: then `datasets` unpacks all of it at once.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(file)) as mapped:
            messages = pa.ipc.MessageReader.open_stream(mapped)
            return any(_has_compression(message.metadata.to_pybytes()) for message in messages)
    except (pa.ArrowException, OSError, ValueError, struct.error):  # opening it will say what is wrong
        return False


def _has_compression(metadata: bytes) -> bool:
    message = _target(metadata, 0)
    at = _field(metadata, message, _HEADER_TYPE)
    kind = metadata[at] if at else 0
    header = _field(metadata, message, _HEADER)
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or not header:
        return False
    batch = _target(metadata, header)
    if kind == _DICTIONARY_BATCH:
        batch = _target(metadata, _field(metadata, batch, _DATA))
    return bool(_field(metadata, batch, _COMPRESSION))


def _field(flat: bytes, table: int, number: int) -> int:
    """Where a field of a flatbuffers table is; 0 when it is absent."""
    (back,) = struct.unpack_from("<i", flat, table)
    size, entry = struct.unpack_from("<H", flat, table - back)[0], 4 + 2 * number
    offset = struct.unpack_from("<H", flat, table - back + entry)[0] if entry < size else 0
    return table + offset if offset else 0


def _target(flat: bytes, at: int) -> int:
    """Where a reference leads."""
    return int(at + struct.unpack_from("<I", flat, at)[0])
